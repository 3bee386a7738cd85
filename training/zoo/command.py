"""`python -m training zoo`: from data to a shipped model, its int8 variant and its card, by one command."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.command_line import run_function
from training.errors import DataError, TrainingError
from training.recipes import merged, read_recipe
from training.runs import VERSION, train_run
from training.zoo.card import Measured, read_card
from training.zoo.history import checkpoint_of, read_history
from training.zoo.package import write_package
from training.zoo.plan import DATA, DataStep, Quantization, Stage, as_options, check_names, names_in, substituted
from training.zoo.scores import ScoredData
from training.zoo.steps import Steps

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """The folder of a training (runs/NAME/version_N), and its checkpoint that went on."""

    folder: Path
    checkpoint: Path


def zoo(
    *,
    name: str,
    recipe: str,
    stages: list[Stage],
    scores: list[ScoredData],
    card: Path,
    dataset: str,
    license: str,
    root: Path,
    output: Path = Path("out/zoo"),
    data: dict[str, DataStep] | None = None,
    quantization: Quantization | None = None,
    baseline: Path | None = None,
    trained: list[Path] | None = None,
    package: Path | None = None,
    rounds: int = 10,
) -> int:
    """Make a model that can be shipped: data, trainings, ONNX file, int8 variant, scores on all data, latency, card.

    Each step is a command of this package in a process of its own, logged below steps/ or beside its training; what is
    done is not done again, and trainings go on where they were stopped. In recipes and options, DATA stands for `root`,
    and each name in `data` for the folder that this step wrote.

    Args:
        name: of the model.
        recipe: the file that these options are in, for the model's metadata.
        stages: trainings, each from the weights of the one before.
        scores: frames to score on; the first entry decides about the int8 variant and is what models are listed with.
        card: the written part of the model card, with {{sections}} where measured ones go.
        dataset: what it is trained on, for the model's metadata.
        license: licence of the weights.
        root: folder that all data are below.
        output: folder to work in.
        data: training data that commands make.
        quantization: the int8 variant; none without it.
        baseline: KITTI 2015 folder below `root` whose `training` list gives one map for all images, to compare with.
        trained: trainings that are done already (runs/NAME/version_N, or checkpoints in them), in place of `stages`.
        package: root of the package's source, whose models/ and docs/images/ get the files; OUTPUT/package if not
            given.
        rounds: turns that each variant has when it is timed.

    Raises:
        DataError: data are missing, or options do not go together.
        TrainingError: a step failed, or int8 loses too much.
    """
    made = data or {}
    check_names(made)
    if not scores or not (stages or trained):
        raise DataError(f"{len(scores)} data to score on, {len(stages)} stages: expected one or more of each")
    text = read_card(card)
    output.mkdir(parents=True, exist_ok=True)
    steps = Steps(output / "steps")
    folders = {DATA: root.resolve(), **{key: (output / "data" / key).resolve() for key in made}}
    needed = _needed(made, [] if trained else stages, scores, quantization)
    for key in needed:
        _make_data(steps, key, made[key], folders)
    runs = _given(trained) if trained else _train(stages, output, folders)
    variants = [_export(steps, runs[-1], output / "models" / f"{name}.onnx", dataset, license, recipe)]
    if quantization is not None:
        variants.append(_quantize(steps, variants[0], quantization, folders))
    pictures = output / "scores" / f"{name}-worst.jpg"
    scored = [
        _score(steps, path, scores, folders, baseline, pictures if path is variants[0] else None) for path in variants
    ]
    timings = _time(steps, variants, output, rounds)
    if quantization is not None:
        _expect_small_loss(scored, scores[0].name, quantization)
    history = read_history([(run.folder, run.checkpoint) for run in runs])
    measured = Measured(name, recipe, history, variants, scored, timings, pictures if pictures.is_file() else None)
    for path in write_package(package or output / "package", measured, text):
        print(f"written: {path}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run `zoo` with options from a file and the command line."""
    return run_function(zoo, arguments)


def _needed(
    made: dict[str, DataStep], stages: Iterable[Stage], scores: Iterable[ScoredData], int8: Quantization | None
) -> list[str]:
    """Data that somebody reads, in their order: not those of trainings that are done already."""
    readers: list[Any] = [read_recipe(stage.recipe) | stage.set for stage in stages]
    readers += [as_options(entry) for entry in scores]
    readers += [] if int8 is None else [as_options(int8)]
    named = names_in(readers)
    for key in reversed(made):  # a step may read what those before it wrote
        if key in named:
            named |= names_in(made[key].options)
    return [key for key in made if key in named]


def _make_data(steps: Steps, key: str, step: DataStep, folders: Mapping[str, Path]) -> None:
    given = {} if step.config is None else read_recipe(step.config)
    options = substituted({**given, **step.options}, folders)
    if steps.run(key, step.command, {**options, "output": str(folders[key])}):
        logger.info("data: %s is made", key)


def _train(stages: Sequence[Stage], output: Path, folders: Mapping[str, Path]) -> list[Trained]:
    """Every stage, from the weights of the one before."""
    runs: list[Trained] = []
    for number, stage in enumerate(stages, start=1):
        stage_name = f"{number}_{stage.recipe.stem}"
        identity = {"name": stage_name, "runs": str((output / "stages").resolve())}
        composed = substituted(merged(read_recipe(stage.recipe), stage.set), folders)
        composed = merged(composed, identity | {"weights": str(runs[-1].checkpoint)} if runs else identity)
        logger.info("stage %d of %d: %s", number, len(stages), stage.recipe)
        folder = output / "stages" / stage_name
        train_run(folder, yaml.safe_dump(composed, sort_keys=False))
        version = (folder / VERSION).resolve()
        runs.append(Trained(version, checkpoint_of(version, stage.take)))
    return runs


def _given(trained: Sequence[Path]) -> list[Trained]:
    return [
        Trained(path.parent.parent, path) if path.suffix == ".ckpt" else Trained(path, checkpoint_of(path, "last"))
        for path in trained
    ]


def _export(steps: Steps, run: Trained, path: Path, dataset: str, license_: str, recipe: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    described = {"dataset": dataset, "license": license_, "recipe": recipe}
    options = {"checkpoint": str(run.checkpoint), "output": str(path), **described}
    steps.run(f"{path.stem}-export", "export", options, reads=[run.checkpoint])
    return path


def _quantize(steps: Steps, model: Path, quantization: Quantization, folders: Mapping[str, Path]) -> Path:
    path = model.with_name(f"{model.stem}-int8.onnx")
    options = {
        "model": str(model),
        "output": str(path),
        "root": str(folders[DATA]),
        "sources": substituted(as_options(quantization)["sources"], folders),
        "frames": quantization.frames,
        "facts": str(path.with_suffix(".facts.json")),
    }
    steps.run(path.stem, "quantize", options, reads=[model])
    return path


def _score(
    steps: Steps,
    model: Path,
    scores: Sequence[ScoredData],
    folders: Mapping[str, Path],
    baseline: Path | None,
    pictures: Path | None,
) -> dict[str, Any]:
    result = model.parent.parent / "scores" / f"{model.stem}.json"
    result.parent.mkdir(exist_ok=True)
    options = {
        "model": str(model),
        "output": str(result),
        "root": str(folders[DATA]),
        "data": [substituted(as_options(entry), folders) for entry in scores],
        "baseline": None if baseline is None else str(baseline),
        "pictures": None if pictures is None else str(pictures),
    }
    steps.run(f"{model.stem}-score", "score", options, reads=[model])
    numbers: dict[str, Any] = json.loads(result.read_text())
    facts = model.with_suffix(".facts.json")
    return numbers | ({"int8": json.loads(facts.read_text())} if facts.is_file() else {})


def _time(steps: Steps, variants: Sequence[Path], output: Path, rounds: int) -> dict[str, Any]:
    result = output / "scores" / "latency.json"
    options = {"models": [str(path) for path in variants], "output": str(result), "rounds": rounds}
    steps.run("latency", "latency", options, reads=variants)
    timings: dict[str, Any] = json.loads(result.read_text())
    return timings


def _expect_small_loss(scored: Sequence[Mapping[str, Any]], name: str, quantization: Quantization) -> None:
    in_float, in_int8 = (numbers["data"][name]["median"]["metrics"]["abs_rel"] for numbers in scored)
    loss = in_int8 / in_float - 1
    if loss > quantization.largest_loss:
        raise TrainingError(
            f"int8 has abs_rel {in_int8:.4f} on {name}, {loss:.1%} more than the {in_float:.4f} of the model; expected "
            f"at most {quantization.largest_loss:.0%}: calibrate on more frames, or on more kinds of them"
        )
