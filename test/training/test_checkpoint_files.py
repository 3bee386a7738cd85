"""Checkpoints on the disk: whole or as before, whatever happens while one is written."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.checkpoint_files import AtomicCheckpointIO

REPOSITORY = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from training.checkpoint_files import AtomicCheckpointIO

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying:  # a file that is killed in the middle of its bytes
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        die()

files, open_file = AtomicCheckpointIO(), Path.open
for moment in ("half", "written"):
    path = Path(sys.argv[1]) / moment / "last.ckpt"
    child = os.fork()
    if child == 0:
        files.save_checkpoint({"step": 1, "weights": torch.ones(1000)}, path)
        if moment == "half":
            Path.open = lambda self, mode: Dying(open_file(self, mode))
        else:  # the system has all bytes, the file has not its name yet
            os.fsync = die
        files.save_checkpoint({"step": 2, "weights": torch.ones(1000)}, path)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


def test_kill_while_saving_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, check=True)
    for moment in ("half", "written"):
        path = tmp_path / moment / "last.ckpt"
        partial = path.with_name(".last.ckpt.partial")
        size = path.stat().st_size
        assert partial.stat().st_size == (size if moment == "written" else size // 2)
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["step"] == 1
        assert checkpoint["weights"].sum() == 1000
        AtomicCheckpointIO().save_checkpoint({"step": 3}, path)
        assert torch.load(path, weights_only=True) == {"step": 3}
        assert list(path.parent.iterdir()) == [path]


def test_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "last.ckpt"
    files = AtomicCheckpointIO()
    files.save_checkpoint({"step": 1}, path)
    (path.parent / ".last.ckpt.partial").symlink_to("/dev/full")  # whatever is written there: no space left
    with pytest.raises(OSError, match="No space left") as caught:
        files.save_checkpoint({"step": 2, "weights": torch.ones(100_000)}, path)
    assert caught.value.errno == errno.ENOSPC
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(path.parent.iterdir()) == [path]
