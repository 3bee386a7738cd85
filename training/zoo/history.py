"""How a model was trained, read from the folders of its trainings, so that its card says what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from training.checkpoints import read_checkpoint
from training.data.source import Source
from training.errors import TrainingError
from training.report.curves import read_log

CONFIG = "config.yaml"  # as LightningCLI keeps it

_MEASURED = {"kitti_2015": "measured disparity", "synthetic": "exact", "tum": "depth camera"}


@dataclass(frozen=True)
class TrainedSource:
    """Frames that a stage learned from. depth: where theirs is from, in words; repeat: how often in an epoch."""

    source: str
    frames: int
    depth: str
    repeat: int


@dataclass(frozen=True)
class TrainedStage:
    """What happened in one training. hours: of its log; None where it logged nothing."""

    name: str
    task: str
    width: int
    height: int
    batch_size: int
    epochs: int
    steps: int
    hours: float | None
    precision: str
    optimization: Mapping[str, Any]
    sources: tuple[TrainedSource, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def read_history(runs: Sequence[tuple[Path, Path]]) -> list[TrainedStage]:
    """Stages of trainings: folders (runs/NAME/version_N), each with its checkpoint that went on.

    Raises:
        TrainingError: a folder is not one of a training.
        DataError: frames that it was trained on cannot be found any more, so that nobody can say how many there were.
    """
    return [_read_stage(folder, checkpoint) for folder, checkpoint in runs]


def checkpoint_of(folder: Path, take: str) -> Path:
    """The checkpoint of a training, by its name there.

    Raises:
        TrainingError: there is none.
    """
    path = folder / "checkpoints" / f"{take}.ckpt"
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.parent.glob("*.ckpt"))) or "none"
        raise TrainingError(f"{folder} has no checkpoint {take}.ckpt (there: {there}): expected runs/NAME/version_N")
    return path


def _read_stage(folder: Path, checkpoint: Path) -> TrainedStage:
    if not (folder / CONFIG).is_file():
        raise TrainingError(f"{folder} has no {CONFIG}: expected the folder of a training, runs/NAME/version_N")
    config = yaml.safe_load((folder / CONFIG).read_text())
    content, data = read_checkpoint(checkpoint), config["data"]
    seconds = read_log(folder).seconds
    arguments = config["model"]["init_args"]
    return TrainedStage(
        name=config.get("name") or folder.parent.name,
        task=config["model"]["class_path"].rpartition(".")[2],
        width=data["width"],
        height=data["height"],
        batch_size=data["batch_size"],
        epochs=int(content["epoch"]) + 1,
        steps=int(content["global_step"]),
        hours=seconds / 3600 if seconds else None,
        precision=str(config["trainer"]["precision"]),
        optimization=arguments.get("optimization") or {},
        sources=tuple(_read_source(entry, Path(data["root"]), bool(data.get("depth"))) for entry in data["train"]),
    )


def _read_source(entry: Mapping[str, Any], root: Path, has_depth: bool) -> TrainedSource:
    known = {field.name for field in fields(Source)}
    paths = {"path", "split_file", "depth_path", "camera_file", "proxy"}
    options: dict[str, Any] = {
        name: Path(value) if name in paths else value
        for name, value in entry.items()
        if name in known and value is not None
    }
    source = Source(**options)
    records = [record for record in source.read(root) if record.is_target and (record.depth or not has_depth)]
    described = " ".join([source.kind, *source.select, *source.cameras])
    return TrainedSource(described, len(records), _depth_of(source, has_depth), source.repeat)


def _depth_of(source: Source, has_depth: bool) -> str:
    if not has_depth:
        return "none: video alone"
    measured = _MEASURED.get(source.kind, "laser")
    if source.proxy is None:
        return measured
    return "triangulated" if source.prefer_proxy or source.kind not in _MEASURED else f"{measured}, else triangulated"
