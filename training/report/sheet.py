"""Predictions of several networks on the same frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.data.image_files import read_rgb
from training.data.records import FrameRecord
from training.evaluation.pictures import PANEL_WIDTH, Picture, assemble, frame_panels, label_panel
from training.evaluation.predictors import Predictor
from training.evaluation.run import EvaluationOptions, predict_and_score_all


def comparison_sheet(
    predictors: Mapping[str, Predictor], records: Sequence[FrameRecord], options: EvaluationOptions
) -> Picture:
    """Image and truth of each frame, then prediction and error of each network: one frame a block, one network a row.

    records: with depth; a network without a scored pixel in a frame has no row there. The colours are those of
    `evaluate`'s contact sheet. uint8 [H, W, 3], RGB.
    """
    titles = ("image", "prediction (near is bright)", "truth", "error |d - g| / g")
    rows = [[label_panel(title, PANEL_WIDTH) for title in titles]]
    for record in records:
        rgb = read_rgb(record.image)
        for name, predictor in predictors.items():
            ((_, frame),) = predict_and_score_all(predictor, [record], options)
            if frame is not None:
                caption = f"{record.name}   {name}   abs_rel {frame.metrics.abs_rel:.3f}   scale {frame.scale:.3g}"
                rows += frame_panels(rgb, frame, caption)
    return assemble(rows)


def spread_records(records: Sequence[FrameRecord], count: int) -> list[FrameRecord]:
    """Up to `count` frames with depth, evenly spaced over all of them."""
    with_truth = [record for record in records if record.depth is not None]
    places = np.unique(np.linspace(0, len(with_truth) - 1, min(count, len(with_truth))).round().astype(int))
    return [with_truth[place] for place in places]
