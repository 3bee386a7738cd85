"""What is shipped of a model: its files, what was measured of each, its card and the picture of its worst frames."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depth_node.shipped_models import MeasuredFacts, write_facts
from training.zoo.card import Measured, fill_card

MODELS, PICTURES = "models", Path("docs") / "images"


def write_package(root: Path, measured: Measured, text: str) -> list[Path]:
    """Write models/NAME.onnx, NAME.json of each variant, NAME.md and docs/images/NAME-worst.jpg below `root`.

    text: the card's written part (`read_card`).
    """
    models, pictures = root / MODELS, root / PICTURES
    models.mkdir(parents=True, exist_ok=True)
    card = models / f"{measured.name}.md"
    picture = pictures / f"{measured.name}-worst.jpg"
    link = None if measured.pictures is None else f"../{PICTURES.as_posix()}/{picture.name}"
    card.write_text(fill_card(text, measured, link), encoding="utf-8")
    written = [card]
    if measured.pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        written.append(Path(shutil.copyfile(measured.pictures, picture)))
    for path, numbers in zip(measured.variants, measured.scored, strict=True):
        written.append(Path(shutil.copyfile(path, models / path.name)))
        facts = models / f"{path.stem}.json"
        write_facts(facts, _facts(measured, path.stem, numbers, card.name))
        written.append(facts)
    return written


def _facts(measured: Measured, stem: str, numbers: Mapping[str, Any], card: str) -> MeasuredFacts:
    name, first = next(iter(numbers["data"].items()))
    score = f"abs_rel {first['median']['metrics']['abs_rel']:.3f} on {name}"
    timings = [timing for timing in measured.timings["timings"] if timing["model"] == stem]
    content = {
        **numbers,
        "latency": {"machine": measured.timings["machine"], "timings": timings},
        "training": [stage.to_dict() for stage in measured.history],
    }
    return MeasuredFacts(numbers["checksum"], card, measured.recipe, score, content)
