"""True depth of a bag, and how far from it a prediction is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from depth_node.bags import Bag
from depth_node.errors import BagError
from depth_node.frames import stamp_ns

MAX_DEPTH = 80.0  # metres, as in the evaluation on KITTI (Eigen et al., NeurIPS 2014)


class TruthReader:
    """Depth images of one topic by stamp, asked for in the order of time, so that none is kept."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self._topic = topic
        self._images = self._read(bag)
        self._next = next(self._images, None)

    def at(self, stamp: int) -> NDArray[np.float32] | None:
        """Depth float32 [H, W] in metres, NaN where unknown, of the image with this stamp (ns); None if there is none.

        Raises:
            BagError: the topic holds something else than 32FC1 images.
        """
        while self._next is not None and self._next[0] < stamp:
            self._next = next(self._images, None)
        return self._next[1] if self._next is not None and self._next[0] == stamp else None

    def _read(self, bag: Bag) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for _, _, image in bag.messages([self._topic]):
            if image.encoding != "32FC1":
                raise BagError(f"true depth on {self._topic} has encoding {image.encoding}; expected 32FC1 (metres)")
            yield stamp_ns(image), image.data.view(np.float32).reshape(image.height, image.width)


def median_scaled_abs_rel(depth: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean of |depth - truth| / truth after scaling depth by the ratio of the medians (Zhou et al., CVPR 2017).

    Both are float32 [H, W] in metres; over pixels where both are known and truth is at most MAX_DEPTH. NaN for none.
    """
    valid = np.isfinite(depth) & (truth > 0) & (truth <= MAX_DEPTH)
    if not valid.any():
        return float("nan")
    predicted, true = depth[valid].astype(np.float64), truth[valid].astype(np.float64)
    predicted *= np.median(true) / np.median(predicted)
    return float(np.mean(np.abs(np.minimum(predicted, MAX_DEPTH) - true) / true))
