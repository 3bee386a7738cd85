"""Depth and motion models on top of a session, whichever library runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.float_image import input_adaptor
from depth_node.backends.interface import MotionPrediction, Prediction, Session
from depth_node.backends.session_user import SessionUser
from depth_node.model import ModelFile, MotionModelFile


class DepthModel(SessionUser):
    """A depth model in a session; a `Backend`."""

    def __init__(self, model: ModelFile, session: Session) -> None:
        super().__init__(session)
        (self._input,) = model.inputs
        self._outputs = model.outputs
        self._adapt = input_adaptor(model.spec)

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """See `Backend.infer`."""
        found = self._session.run({self._input: self._adapt(image)})
        outputs = [found[name] for name in self._outputs]
        maps = [output.reshape(output.shape[0], *output.shape[-2:]) for output in outputs]
        return Prediction(maps[0], maps[1] if len(maps) > 1 else None)


class MotionModel(SessionUser):
    """A motion model in a session; a `MotionBackend`."""

    def __init__(self, model: MotionModelFile, session: Session) -> None:
        super().__init__(session)
        self._inputs = model.inputs
        self._outputs = model.outputs

    def infer(self, image_a: NDArray[np.uint8], image_b: NDArray[np.uint8]) -> MotionPrediction:
        """See `MotionBackend.infer`."""
        found = self._session.run(dict(zip(self._inputs, (image_a, image_b), strict=True)))
        return MotionPrediction(*(found[name][0].astype(np.float64) for name in self._outputs))


def black_inputs(model: ModelFile | MotionModelFile) -> dict[str, NDArray[Any]]:
    """What a session of this model takes for black images."""
    image = np.zeros((1, model.spec.input_height, model.spec.input_width, 3), np.uint8)
    if isinstance(model, MotionModelFile):
        return dict.fromkeys(model.inputs, image)
    return dict.fromkeys(model.inputs, input_adaptor(model.spec)(image))
