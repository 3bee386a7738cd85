"""A run that is killed goes on as if nothing had been: the same losses and weights, to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.checkpoints import read_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(streets: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a training with everything random that there is: order, crops, flips, colours, ties of the auto-mask."""
    recipe = {
        "name": "run",
        "runs": str(tmp_path),
        "checkpoint": {"steps": 1, "minutes": 0},
        "model": {
            "class_path": "SelfSupervisedDepth",
            "init_args": {
                "encoder": "mobilenetv3_small_050",
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
            "source_offsets": [-1],
            "min_crop": 0.7,
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1, "enable_progress_bar": False},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))

    def run(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "training", "train", "--config", str(path), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE)

    return run


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error.decode()


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


def test_a_killed_run_goes_on_to_the_last_bit(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Uninterrupted without workers; killed in mid-epoch with two of them, and resumed with none, from another seed."""
    finish(start("--data.workers", "0"))
    whole = tmp_path / "run" / "version_0"
    killed = start("--data.workers", "2")
    last = tmp_path / "run" / "version_1" / "checkpoints" / "last.ckpt"
    kill_after_step(killed, 2, last)
    stopped_at = read_checkpoint(last)["global_step"]
    finish(start("--data.workers", "0", "--resume", str(last), "--seed_everything", "7"))

    expected, resumed = curves(whole), curves(tmp_path / "run" / "version_2")
    steps = sorted(expected["train/loss"])
    assert steps == list(range(12))
    assert 2 <= stopped_at < 11
    assert len(set(expected["train/loss"].values())) == 12
    assert expected.keys() == resumed.keys()
    for name in expected:
        assert resumed[name] == {k: v for k, v in expected[name].items() if k >= stopped_at}, name
    before = curves(tmp_path / "run" / "version_1")["train/loss"]
    assert all(expected["train/loss"][step] == before[step] for step in before)
    states = [
        read_checkpoint(tmp_path / "run" / version / "checkpoints" / "last.ckpt")
        for version in ("version_0", "version_2")
    ]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "DepthData", "global_step", "epoch"):
        assert_same_state(states[0][part], states[1][part], part)
