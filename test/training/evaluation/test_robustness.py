"""`evaluate_robustness` end to end, with a predictor whose answer depends on brightness alone."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training import cli
from training.data.records import Intrinsics
from training.data.synthetic import read_synthetic
from training.evaluation import robustness
from training.evaluation.robustness import CLEAN, CONDITIONS, score_conditions
from training.evaluation.run import EvaluationOptions


class Brightness:
    """Says that what is bright is near."""

    name = "brightness"

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        return np.asarray(rgb.mean(axis=2) / 255 + 0.01, np.float32)


def test_command(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(robustness, "create_predictor", lambda **_: Brightness())
    options = ["--dataset", "synthetic", "--select", '["street_0"]', "--checkpoint", "last.ckpt"]
    output = tmp_path / "out"
    assert cli.main(["evaluate_robustness", "--root", str(streets), "--output", str(output), *options]) == 0
    content = json.loads((output / "summary.json").read_text())
    assert len(content["conditions"]) == 13
    errors = {name: metrics["abs_rel"] for name, metrics in content["conditions"].items()}
    assert len(set(errors.values())) == 13
    assert content["frames"] == 4
    rows = [line for line in (output / "summary.md").read_text().splitlines() if line.startswith("| dark 3 ")]
    ratio = float(rows[0].rstrip(" |").rpartition(" ")[2])
    assert ratio == pytest.approx(errors["dark 3"] / errors["clean"], abs=0.006)
    sheet = cv2.imread(str(output / "sheet.jpg"))
    assert sheet is not None
    assert "dark 3" in capsys.readouterr().out


def test_clear_air_is_what_evaluate_says(streets: Path) -> None:
    records = read_synthetic(streets, ["street_1"])[:1]
    options = EvaluationOptions()
    scores = score_conditions(Brightness(), records, options, progress=False)
    expected = robustness.score(
        Brightness().disparity(robustness.read_rgb(records[0].image), None),
        records[0].depth.read(),  # type: ignore[union-attr]
        options,
    )
    assert expected is not None
    assert scores[CLEAN] == expected.metrics
    assert tuple(scores) == CONDITIONS
