"""Contact sheet: which frames, and what the panels show."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.depth_files import DepthPng
from training.data.records import FrameRecord, Intrinsics
from training.errors import DataError
from training.evaluation.metrics import DepthMetrics
from training.evaluation.pictures import (
    LABEL_HEIGHT,
    MARGIN,
    PANEL_WIDTH,
    chosen_rows,
    frame_panels,
    write_contact_sheet,
)
from training.evaluation.run import EvaluationOptions, FrameRow, ScoredFrame, evaluate, score

WHOLE = EvaluationOptions(scaling="none", crop="none")


def row(name: str, abs_rel: float) -> FrameRow:
    return FrameRow(name, 1, 1.0, 1.0, DepthMetrics(abs_rel, 0, 0, 0, 0, 0, 1, 1, 1))


def test_worst_median_best_then_even() -> None:
    errors = [0.3, 0.9, 0.2, 0.5, 0.1, 0.4, 0.6]
    chosen = chosen_rows([row(str(i), e) for i, e in enumerate(errors)], 5)
    assert [(role, r.name) for role, r in chosen[:3]] == [("worst", "1"), ("median", "5"), ("best", "4")]
    assert {role for role, _ in chosen[3:]} == {"even"}
    assert len({r.name for _, r in chosen}) == 5


@pytest.mark.parametrize(("frames", "count"), [(1, 8), (2, 8), (4, 4), (9, 2)])
def test_as_many_frames_as_there_are(frames: int, count: int) -> None:
    assert len(chosen_rows([row(str(i), i / 10) for i in range(frames)], count)) == min(frames, count)


def scored(truth: NDArray[np.float32], disparity: NDArray[np.float32]) -> ScoredFrame:
    frame = score(disparity, truth, WHOLE)
    assert frame is not None
    return frame


def test_panels_show_near_bright_and_error_only_where_there_is_one() -> None:
    truth = np.full((40, 80), 20, np.float32)
    truth[:, 40:] = 5
    truth[:10] = 0
    disparity = np.full((40, 80), 1 / 20, np.float32)  # right on the left half, four times too far on the right
    _, (image, prediction, true_depth, error) = frame_panels(
        np.full((40, 80, 3), 7, np.uint8), scored(truth, disparity), "x"
    )
    height = PANEL_WIDTH // 2
    assert {p.shape for p in (image, prediction, true_depth, error)} == {(height, PANEL_WIDTH, 3)}
    assert (image == 7).all()
    left, right, sky = np.s_[100:, 20:200], np.s_[100:, 280:460], np.s_[:40]
    assert true_depth[right].mean() > 2 * true_depth[left].mean()
    assert prediction[left].mean() == prediction[right].mean()
    assert error[left].max() == 0
    assert error[right].min() == 255
    assert (error[sky] == true_depth[sky]).all()
    assert (error[sky] == 48).all()


class Constant:
    name = "constant"

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        return np.full((2, 2), 0.1, np.float32)


def test_sheet_file(tmp_path: Path) -> None:
    records = []
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((40, 80, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"depth_{i}.png"), np.full((40, 80), 256 * (8 + i), np.uint16))
        depth = DepthPng(tmp_path / f"depth_{i}.png")
        records.append(FrameRecord(tmp_path / f"{i}.png", None, "clip", i, 0, depth=depth))
    evaluation = evaluate(Constant(), records, WHOLE, progress=False)
    write_contact_sheet(tmp_path / "out" / "sheet.png", Constant(), records, evaluation, 2)
    sheet = cv2.imread(str(tmp_path / "out" / "sheet.png"))
    width = 4 * PANEL_WIDTH + 3 * MARGIN
    height = LABEL_HEIGHT + 2 * (MARGIN + LABEL_HEIGHT + MARGIN + PANEL_WIDTH // 2)
    assert sheet is not None
    assert sheet.shape == (height, width, 3)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(DataError, match=r"taken\.png"):
        write_contact_sheet(tmp_path / "taken.png", Constant(), records, evaluation, 1)
