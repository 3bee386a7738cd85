"""Motion and intrinsics of consecutive views, as a motion network sees them: a first guess for the geometry."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.backends.interface import MotionBackend, MotionPrediction
from depth_node.frames import NetworkView
from depth_node.model_spec import MotionSpec


class MotionObserver:
    """Runs a motion model on each view and the one before it."""

    def __init__(self, spec: MotionSpec, backend: MotionBackend) -> None:
        self.backend = backend
        self._size = spec.input_width, spec.input_height
        self._image: NDArray[np.uint8] | None = None
        self._stamp_ns = 0

    def observe(self, view: NetworkView) -> MotionPrediction | None:
        """From the view before to this one; None for the first, and where the stamp is not newer.

        The intrinsics are those of the whole image, normalised, whatever the size of the network's input.
        """
        size = self._size
        is_same = view.image.shape[1::-1] == size
        image = view.image if is_same else cv2.resize(view.image, size, interpolation=cv2.INTER_AREA)
        before, self._image = self._image, np.asarray(image, np.uint8)[None]
        is_newer, self._stamp_ns = view.stamp_ns > self._stamp_ns, view.stamp_ns
        if before is None or not is_newer:
            return None
        return self.backend.infer(before, self._image)

    def forget(self) -> None:
        """The next view is the first of another stream."""
        self._image = None
