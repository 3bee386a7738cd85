"""The same frames for every network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.depth_files import DepthPng
from training.data.records import FrameRecord, Intrinsics
from training.evaluation.pictures import LABEL_HEIGHT, MARGIN, PANEL_WIDTH
from training.evaluation.run import EvaluationOptions
from training.report.sheet import comparison_sheet, spread_records


def make_record(folder: Path, index: int, depth: float | None) -> FrameRecord:
    cv2.imwrite(str(folder / f"{index}.png"), np.full((40, 80, 3), 7, np.uint8))
    source = None
    if depth is not None:
        cv2.imwrite(str(folder / f"depth_{index}.png"), np.full((40, 80), round(256 * depth), np.uint16))
        source = DepthPng(folder / f"depth_{index}.png")
    return FrameRecord(folder / f"{index}.png", None, "clip", index, 0, depth=source)


class Constant:
    """Says one depth everywhere, or nothing."""

    def __init__(self, name: str, depth: float) -> None:
        self.name, self._disparity = name, 1 / depth

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        return np.full((2, 2), self._disparity, np.float32)


def test_frames_are_spread_over_those_with_truth(tmp_path: Path) -> None:
    records = [make_record(tmp_path, index, None if index == 0 else 10) for index in range(12)]
    assert [record.index for record in spread_records(records, 3)] == [1, 6, 11]
    assert [record.index for record in spread_records(records, 99)] == list(range(1, 12))
    assert spread_records(records[:1], 3) == []


def test_a_row_for_each_network_of_each_frame(tmp_path: Path) -> None:
    records = [make_record(tmp_path, index, 10) for index in range(2)]
    networks = {"right": Constant("right", 10), "far": Constant("far", 16), "silent": Constant("silent", np.inf)}
    sheet = comparison_sheet(networks, records, EvaluationOptions(scaling="none", crop="none"))
    row = LABEL_HEIGHT + PANEL_WIDTH // 2 + 2 * MARGIN
    assert sheet.shape == (LABEL_HEIGHT + 2 * 2 * row, 4 * PANEL_WIDTH + 3 * MARGIN, 3)
    errors = sheet[:, 3 * (PANEL_WIDTH + MARGIN) + 10 : -10]
    for frame in range(2):
        first = LABEL_HEIGHT + 2 * frame * row + LABEL_HEIGHT + 2 * MARGIN + 10
        assert errors[first : first + 100].max() == 0  # right
        assert errors[first + row : first + row + 100].min() == 255  # 60 % too far: white
