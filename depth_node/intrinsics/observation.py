"""Motion and intrinsics of consecutive views, as a motion network sees them: a first guess for the geometry."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.backends.interface import MotionBackend, MotionPrediction
from depth_node.frames import NetworkView
from depth_node.model_spec import MotionSpec

PERIOD_S = 1.0  # what a network says of the intrinsics of one camera hardly changes, and each time costs an inference


class MotionObserver:
    """Runs a motion model on a view and the one before it, once in `PERIOD_S` of their stamps."""

    def __init__(self, spec: MotionSpec, backend: MotionBackend) -> None:
        self.backend = backend
        self._size = spec.input_width, spec.input_height
        self._before: NetworkView | None = None
        self._observed_ns: int | None = None

    def observe(self, view: NetworkView) -> MotionPrediction | None:
        """From the view before to this one; None where there is none, where the stamp is not newer, or it is too early.

        The intrinsics are those of the whole image, normalised, whatever the size of the network's input.
        """
        before, self._before = self._before, view
        if before is None or view.stamp_ns <= before.stamp_ns:
            return None
        if self._observed_ns is not None and abs(view.stamp_ns - self._observed_ns) < PERIOD_S * 1e9:
            return None
        self._observed_ns = view.stamp_ns
        return self.backend.infer(self._input(before), self._input(view))

    def forget(self) -> None:
        """The next view is the first of another stream."""
        self._before = self._observed_ns = None

    def _input(self, view: NetworkView) -> NDArray[np.uint8]:
        is_same = view.image.shape[1::-1] == self._size
        image = view.image if is_same else cv2.resize(view.image, self._size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(image, np.uint8)[None]
