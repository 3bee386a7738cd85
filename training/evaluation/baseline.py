"""The baseline that looks at no image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.records import FrameRecord, Intrinsics
from training.errors import DataError


class ConstantMap:
    """The same disparity for every image: the mean of training truths. What learned nothing from images scores this.

    records: frames with depth. Their inverse depths are averaged pixel by pixel on the grid of the first, with a
        Gaussian that also fills what no truth covers; smoothing: its standard deviation as a share of the width.

    Raises:
        DataError: no record has depth.
    """

    name = "constant map"

    def __init__(self, records: Sequence[FrameRecord], smoothing: float = 1 / 64) -> None:
        truths = [record.depth.read() for record in records if record.depth is not None]
        if not truths:
            raise DataError(f"none of {len(records)} frames has depth: a constant map needs training truths")
        height, width = truths[0].shape
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for truth in truths:
            known = (truth > 0).astype(np.float64)
            inverse = np.divide(1.0, truth, out=np.zeros(truth.shape), where=truth > 0)
            total += cv2.resize(inverse, (width, height), interpolation=cv2.INTER_AREA)
            count += cv2.resize(known, (width, height), interpolation=cv2.INTER_AREA)
        sigma = smoothing * width
        total, count = (_blur(total, sigma), _blur(count, sigma))
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        self._disparity = mean.astype(np.float32)

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        """The map, whatever the image; NaN far from all training truth."""
        return self._disparity


def _blur(image: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float64)
