"""Two processes that train together (gloo, CPU) do what one does with the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from gradients import step_and_validate
from training.data.depth_files import read_png16
from training.data.synthetic import DriveOptions, write_street_drive

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "test" / "support" / "gradients.py"


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Five frames of which different shares have depth, so that the processes' batches do not weigh the same."""
    root = tmp_path / "data"
    write_street_drive(root / "street", 4, DriveOptions(width=96, height=64, frames=5, step=1.0))
    for index, path in enumerate(sorted((root / "street" / "depth").iterdir())):
        depth = read_png16(path)
        depth[: 12 * index] = 0
        cv2.imwrite(str(path), depth)
    return root


@pytest.mark.filterwarnings("ignore:Found .* module.s. in eval mode", "ignore:The '.*_dataloader' does not have many")
@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:The `srun` command is available")
def test_gradients_and_errors_are_those_of_one_process(drive: Path, tmp_path: Path) -> None:
    """Five validation frames cannot be shared out evenly; the mean over all of them comes out all the same."""
    result = tmp_path / "gradients.pt"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*launcher, str(SCRIPT), str(drive), "2", str(result)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    together = torch.load(result, weights_only=True)
    alone = step_and_validate(drive, batch_size=4, processes=1)
    assert together.keys() == alone.keys()
    assert tasks(alone) == {"supervised", "self_supervised"}
    scale = {task: max(float(v.norm()) for k, v in alone.items() if k.startswith(f"{task}.")) for task in tasks(alone)}
    for name, expected in alone.items():
        if "/" in name:
            assert float(together[name]) == pytest.approx(float(expected), rel=1e-5), name
        else:
            difference = float((together[name] - expected).norm())
            assert difference < 1e-5 * scale[name.partition(".")[0]], name


def tasks(gradients: dict[str, torch.Tensor]) -> set[str]:
    return {name.partition(".")[0] for name in gradients if "/" not in name}
