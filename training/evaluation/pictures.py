"""A contact sheet: image, prediction, truth and error of chosen frames, one frame a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.image_files import read_rgb
from training.data.records import FrameRecord
from training.errors import DataError
from training.evaluation.predictors import Predictor
from training.evaluation.run import Evaluation, FrameRow, ScoredFrame, predict_and_score_all

PANEL_WIDTH = 480
LABEL_HEIGHT = 26
MARGIN = 4
LARGEST_ERROR = 0.5

Picture = NDArray[np.uint8]


def write_contact_sheet(
    path: Path, predictor: Predictor, records: Sequence[FrameRecord], evaluation: Evaluation, count: int
) -> None:
    """Write a PNG of the worst, median and best frame and others evenly spaced over the evaluation, `count` in all.

    Depth is drawn as inverse depth (bright is near) on the truth's own scale for both; error is |d - g| / g, black at
    0, white from 0.5 on. Single laser points are thickened to be seen.

    Raises:
        DataError: the file cannot be written.
    """
    by_name = {record.name: record for record in records}
    titles = ["image", "prediction (near is bright)", "truth", f"error |d - g| / g, white from {LARGEST_ERROR:g}"]
    panels = [[label_panel(title, PANEL_WIDTH) for title in titles]]
    for role, row in chosen_rows(evaluation.rows, count):
        record = by_name[row.name]
        ((_, frame),) = predict_and_score_all(predictor, [record], evaluation.options)
        if frame is not None:
            panels += frame_panels(read_rgb(record.image), frame, _caption(role, row))
    sheet = assemble(panels)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise DataError(f"{path} could not be written: is the disk full?")


def chosen_rows(rows: Sequence[FrameRow], count: int) -> list[tuple[str, FrameRow]]:
    """Up to `count` different frames, each with its role: `worst`, `median`, `best` by abs_rel, then `even`."""
    ranked = sorted(rows, key=lambda row: row.metrics.abs_rel, reverse=True)
    chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    spread = [rows[round(place)] for place in np.linspace(0, len(rows) - 1, min(count, len(rows)))]
    candidates = [*chosen.items(), *(("even", row) for row in spread), *(("even", row) for row in rows)]
    unique: dict[str, tuple[str, FrameRow]] = {}
    for role, row in candidates:
        unique.setdefault(row.name, (role, row))
    return list(unique.values())[:count]


def frame_panels(rgb: Picture, frame: ScoredFrame, caption: str) -> list[list[Picture]]:
    """Two rows of panels: the caption over all columns, and image, prediction, truth, error."""
    prediction, truth, error = truth_panels(frame)
    image = np.asarray(cv2.resize(rgb, prediction.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
    panels = [image, prediction, truth, error]
    width = len(panels) * PANEL_WIDTH + (len(panels) - 1) * MARGIN
    return [[label_panel(caption, width)], panels]


def truth_panels(frame: ScoredFrame) -> tuple[Picture, Picture, Picture]:
    """Prediction, truth and error, each PANEL_WIDTH wide, in the colours of `write_contact_sheet`."""
    height = round(PANEL_WIDTH * frame.truth.shape[0] / frame.truth.shape[1])
    size = (PANEL_WIDTH, height)
    known = frame.truth > 0
    inverse_truth = np.divide(1.0, frame.truth, out=np.zeros(frame.truth.shape), where=known)
    nearest = float(np.quantile(inverse_truth[frame.scored], 0.98))
    error = np.zeros(frame.truth.shape)
    error[frame.scored] = np.abs(frame.prediction - frame.truth)[frame.scored] / frame.truth[frame.scored]
    radius = max(1, round(frame.truth.shape[1] / PANEL_WIDTH))
    colored = _colored(np.nan_to_num(1.0 / frame.prediction) / nearest, cv2.COLORMAP_MAGMA)
    return (
        np.asarray(cv2.resize(colored, size, interpolation=cv2.INTER_AREA), np.uint8),
        _sparse_panel(inverse_truth / nearest, known, cv2.COLORMAP_MAGMA, radius, size),
        _sparse_panel(error / LARGEST_ERROR, frame.scored, cv2.COLORMAP_HOT, radius, size),
    )


def label_panel(text: str, width: int) -> Picture:
    """White text on black, uint8 [LABEL_HEIGHT, width, 3]."""
    panel = np.zeros((LABEL_HEIGHT, width, 3), np.uint8)
    cv2.putText(panel, text, (6, LABEL_HEIGHT - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return panel


def assemble(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Panels [h, w, 3] as one picture, rows below each other, with grey margins; rows must be equally wide."""
    strips = []
    for row in rows:
        margin = np.full((row[0].shape[0], MARGIN, 3), 64, np.uint8)
        strips.append(np.hstack([part for panel in row for part in (panel, margin)][:-1]))
    margin = np.full((MARGIN, strips[0].shape[1], 3), 64, np.uint8)
    return np.vstack([part for strip in strips for part in (strip, margin)][:-1])


def _caption(role: str, row: FrameRow) -> str:
    m = row.metrics
    return f"{role}: {row.name}   abs_rel {m.abs_rel:.3f}   rmse {m.rmse:.2f} m   a1 {m.a1:.3f}   scale {row.scale:.3g}"


def _sparse_panel(
    shares: NDArray[np.float64], known: NDArray[np.bool_], colormap: int, radius: int, size: tuple[int, int]
) -> Picture:
    """Values that only some pixels have, thickened; the larger one wins (nearer, worse); grey where there is none."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    thick = np.asarray(cv2.dilate(np.where(known, shares, -1.0), kernel), np.float64)
    colored = _colored(thick, colormap)
    colored[thick < 0] = 48
    return np.asarray(cv2.resize(colored, size, interpolation=cv2.INTER_AREA), np.uint8)


def _colored(shares: NDArray[np.float64], colormap: int) -> Picture:
    """Values in 0..1 (clipped) as RGB."""
    levels = np.clip(shares * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, colormap), cv2.COLOR_BGR2RGB), np.uint8)
