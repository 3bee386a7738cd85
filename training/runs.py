"""Commands of this package in processes of their own, above all trainings, which go on where they were stopped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from training.errors import TrainingError

RECIPE, LOG, DONE = "recipe.yaml", "train.log", "trained"
VERSION = "version_0"
CHECKPOINT = Path(VERSION) / "checkpoints" / "last.ckpt"
LAST_LINES = 15


def train_run(folder: Path, recipe: str) -> None:
    """Train what `recipe` says into `folder`, from its last checkpoint on where there is one; nothing where it is done.

    recipe: YAML whose `runs` and `name` lead to `folder`.

    Raises:
        TrainingError: the training failed, or `folder` holds a run of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RECIPE
    if file.exists() and yaml.safe_load(file.read_text()) != yaml.safe_load(recipe):
        raise TrainingError(f"{folder} holds a run of another recipe: choose another output, or delete the folder")
    file.write_text(recipe)
    if (folder / DONE).exists():
        return
    # A run that goes on has its weights.
    resume = ["--weights", "null", "--resume", str(folder / CHECKPOINT)] if (folder / CHECKPOINT).exists() else []
    if not resume:
        shutil.rmtree(folder / VERSION, ignore_errors=True)  # stopped before its first checkpoint
    run_command("train", ["--config", str(file), *resume], folder / LOG)
    (folder / DONE).touch()


def run_command(command: str, arguments: Sequence[str], log: Path) -> None:
    """`python -m training COMMAND`, with its output added to `log`.

    Raises:
        TrainingError: it failed; the message has the last lines of its output.
    """
    code = run_process([sys.executable, "-m", "training", command, *arguments], log)
    if code != 0:
        last = "\n".join(log.read_text().splitlines()[-LAST_LINES:])
        raise TrainingError(f"{command}, logged in {log}, ended with code {code}:\n{last}")


def run_process(command: Sequence[str], log: Path) -> int:
    """Exit code of a command, whose output is added to `log`."""
    with log.open("a") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
