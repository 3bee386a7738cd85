"""A run that is killed goes on as if nothing had been: the same losses and weights, to the last bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training import cli
from training.checkpoint_files import AtomicCheckpointIO
from training.checkpoints import read_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    pytest.mark.filterwarnings("ignore:.ModelCheckpoint.*could not find the monitored key"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS_OF_EPOCH = 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def recipe(streets: Path, runs: Path) -> Path:
    """Everything random that there is: order, crops, flips, colours, ties of the auto-mask. Two epochs of six steps."""
    content = {
        "name": "run",
        "runs": str(runs),
        "checkpoint": {"steps": 1, "minutes": 0},
        "model": {
            "class_path": "SelfSupervisedDepth",
            "init_args": {
                "network": {"encoder": "mobilenetv3_small_050"},
                "pose_encoder": "mobilenetv3_small_050",
                "pretrained": False,
                "source_offsets": [-1],
                "optimization": {"learning_rate": 1e-3, "schedule": "one_cycle"},
            },
        },
        "data": {
            "root": str(streets),
            "train": [{"kind": "synthetic", "repeat": 2}],
            "validation": [{"kind": "synthetic", "select": ["street_1"]}],
            "width": 96,
            "height": 64,
            "batch_size": 2,
            "workers": 0,
            "source_offsets": [-1],
            "min_crop": 0.7,
        },
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    path = runs / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path, runs: Path) -> Path:
    """An uninterrupted run; `kept/N_NAME.ckpt` in its folder are copies of all checkpoints, N the steps until then."""
    kept = runs / "run" / "version_0" / "kept"
    save = AtomicCheckpointIO.save_checkpoint

    def save_and_copy(files: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str, **options: Any) -> None:
        save(files, checkpoint, path, **options)
        kept.mkdir(parents=True, exist_ok=True)
        number = len(list(kept.iterdir()))
        shutil.copy(path, kept / f"{number:02d}_step_{checkpoint['global_step']}_{Path(path).name}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
        train(recipe)
    return kept.parent


def train(recipe: Path, *options: str) -> None:
    assert cli.main(["train", "--config", str(recipe), *options]) == 0


def newest(runs: Path) -> Path:
    return max((runs / "run").iterdir(), key=lambda folder: int(folder.name.removeprefix("version_")))


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Step -> value of each curve of a run."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def kill_after_step(process: subprocess.Popen[bytes], step: int, last: Path) -> None:
    """`kill -9` as soon as a checkpoint of that step is there."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1].decode()
        if last.is_file() and read_checkpoint(last)["global_step"] >= step:
            process.kill()
            assert process.wait() == -signal.SIGKILL
            process.communicate()
            return
        time.sleep(0.02)
    raise TimeoutError(f"no checkpoint of step {step} at {last}")


def assert_same_state(a: Any, b: Any, place: str = "") -> None:
    """Equal to the last bit, through dictionaries and lists."""
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_same_state(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same_state(x, y, f"{place}.{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    else:
        assert a == b, place


def assert_same_end(whole: Path, resumed: Path) -> None:
    """Two runs end in the same state."""
    ends = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, resumed)]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "DepthData", "global_step", "epoch"):
        assert_same_state(ends[0][part], ends[1][part], part)


def test_every_step_differs(whole: Path) -> None:
    """Otherwise the other tests would prove nothing."""
    losses = curves(whole)["train/loss"]
    assert sorted(losses) == list(range(2 * STEPS_OF_EPOCH))
    assert len(set(losses.values())) == len(losses)


def test_a_killed_run_goes_on_to_the_last_bit(whole: Path, recipe: Path, runs: Path) -> None:
    """Killed in mid-epoch with two workers; resumed with none, and from another seed."""
    command = [sys.executable, "-m", "training", "train", "--config", str(recipe), "--data.workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = runs / "run" / f"version_{1 + int(newest(runs).name.removeprefix('version_'))}"
    last = folder / "checkpoints" / "last.ckpt"
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE) as process:
        kill_after_step(process, 2, last)
    stopped_at = read_checkpoint(last)["global_step"]
    assert 2 <= stopped_at < 2 * STEPS_OF_EPOCH
    train(recipe, "--resume", str(last), "--seed_everything", "7")
    assert newest(runs) == folder
    assert curves(folder) == curves(whole)
    assert_same_end(whole, folder)
    best = [read_checkpoint(run / "checkpoints" / "best.ckpt")["global_step"] for run in (whole, folder)]
    assert best[0] == best[1]


@pytest.mark.parametrize("limit", [[], ["--trainer.max_epochs", "-1", "--trainer.max_steps", "12"]])
@pytest.mark.parametrize("name", ["step_4_last", "step_6_best", "step_6_last"])
def test_a_run_goes_on_from_any_checkpoint(whole: Path, recipe: Path, runs: Path, name: str, limit: list[str]) -> None:
    """In mid-epoch, after validation, after the epoch; from a copy, in a folder of its own."""
    chosen = next(path for path in (whole / "kept").iterdir() if path.stem.endswith(name))
    train(recipe, "--resume", str(chosen), *limit)
    step = read_checkpoint(chosen)["global_step"]
    expected = {k: v for k, v in curves(whole)["train/loss"].items() if k >= step}
    assert curves(newest(runs))["train/loss"] == expected
    assert_same_end(whole, newest(runs))
