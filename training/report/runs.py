"""What a report is about: trainings, single checkpoints and model files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

MODEL_SUFFIX, CHECKPOINT_SUFFIX = ".onnx", ".ckpt"
CHECKPOINTS = ("best.ckpt", "last.ckpt")


@dataclass(frozen=True)
class Run:
    """A row of the tables: a network, and the log of its training where there is one.

    file: checkpoint or model file. log: folder with TensorBoard event files.
    """

    name: str
    file: Path
    log: Path | None = None

    @property
    def is_model_file(self) -> bool:
        """Whether the node runs `file` as it is."""
        return self.file.suffix == MODEL_SUFFIX


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs at `paths`, with names that differ.

    Raises:
        DataError: a path is neither a training's folder, a checkpoint nor a model file.
    """
    runs = [_find_run(path) for path in paths]
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else Run(str(path), run.file, run.log)
        for run, path in zip(runs, paths, strict=True)
    ]


def _find_run(path: Path) -> Run:
    if path.is_file() and path.suffix in (MODEL_SUFFIX, CHECKPOINT_SUFFIX):
        return Run(path.name, path)
    for name in CHECKPOINTS:
        if (path / "checkpoints" / name).is_file():
            folder = path.resolve()
            return Run(f"{folder.parent.name}/{folder.name}", path / "checkpoints" / name, path)
    expected = "runs/NAME/version_N with checkpoints in it, a .ckpt file or an .onnx file"
    raise DataError(f"{path} is no run: expected {expected}")
