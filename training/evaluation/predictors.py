"""What can be evaluated: anything that turns an image into disparity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from depth_node.backends import Prediction, create_backend
from depth_node.backends.batch_session import open_batch_session
from depth_node.backends.interface import Session
from depth_node.backends.models import DepthModel
from depth_node.camera import PinholeCamera
from depth_node.frames import Frame
from depth_node.model import read_model
from depth_node.pipeline import DepthPipeline, resize_image
from training.checkpoints import load_depth_network
from training.data.records import Intrinsics
from training.networks.depth import sigmoid_to_inverse_depth


class Predictor(Protocol):
    """Turns one image into disparity."""

    @property
    def name(self) -> str:
        """What is evaluated, for titles and tables."""

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        """Inverse depth (1/m, or up to scale), float32 [h, w] of any size, NaN or 0 where there is none.

        rgb: uint8 [H, W, 3]. intrinsics: normalised, None where the camera is unknown.
        """


@runtime_checkable
class BatchPredictor(Predictor, Protocol):
    """A predictor that is quicker with many images at once."""

    def disparities(
        self, images: Sequence[NDArray[np.uint8]], intrinsics: Sequence[Intrinsics | None]
    ) -> list[NDArray[np.float32]]:
        """What `disparity` gives for each of the images, which may differ in size."""


def predict_batch(
    predictor: Predictor, images: Sequence[NDArray[np.uint8]], intrinsics: Sequence[Intrinsics | None]
) -> list[NDArray[np.float32]]:
    """Disparities of several images: at once where the predictor can, else one by one."""
    if isinstance(predictor, BatchPredictor):
        return predictor.disparities(images, intrinsics)
    return [predictor.disparity(image, camera) for image, camera in zip(images, intrinsics, strict=True)]


class CheckpointPredictor:
    """The depth network of a checkpoint in PyTorch, at the input size of its training.

    A metric network's depth is scaled to the focal length of each camera, as the node does with its export.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint of this package.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        trained = load_depth_network(path)
        self.name = f"{path.name} (step {trained.steps})"
        self._card = trained.card
        self._device = torch.device(default_device() if device == "auto" else device)
        self._network = trained.network.to(self._device)

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        """Inverse depth float32 [h, w] at the network's input size; see `Predictor`."""
        return self.disparities([rgb], [intrinsics])[0]

    @torch.inference_mode()
    def disparities(
        self, images: Sequence[NDArray[np.uint8]], intrinsics: Sequence[Intrinsics | None]
    ) -> list[NDArray[np.float32]]:
        """Inverse depths float32 [h, w] at the network's input size; see `BatchPredictor`."""
        card = self._card
        resized = np.empty((len(images), card.height, card.width, 3), np.uint8)
        for rgb, target in zip(images, resized, strict=True):
            resize_image(rgb, target)
        batch = torch.from_numpy(resized).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        inverse_depths = sigmoid_to_inverse_depth(self._network.disparity(batch)[:, 0], card.min_depth, card.max_depth)
        focal_scales = [k[0] / card.prior[0] if card.metric and k is not None else 1.0 for k in intrinsics]
        maps = inverse_depths.cpu().numpy()
        return [np.asarray(m / np.float32(scale), np.float32) for m, scale in zip(maps, focal_scales, strict=True)]


class ModelPredictor:
    """An exported model file through the node's own pipeline and backend.

    Raises:
        ModelFileError: the file is missing, damaged or outside the contract.
        BackendError: the backend is not installed, or cannot run the model.
    """

    def __init__(self, path: Path, backend: str = "auto", precision: str = "auto") -> None:
        model = read_model(path)
        loaded = create_backend(model, backend, precision)
        self._pipeline = DepthPipeline(model, loaded)
        self.name = f"{path.name} ({loaded.name}, {loaded.precision})"

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        """Inverse depth float32 [H, W] at the image's resolution; see `Predictor`."""
        return _pipeline_disparity(self._pipeline, rgb, intrinsics)


class BatchModelPredictor:
    """A model file of our own with `batch` images an inference; all else is the node's pipeline, as `ModelPredictor`.

    Raises:
        ModelFileError: the file is missing, damaged or outside the contract, or takes one image at a time.
        BackendError: the backend cannot be had, or cannot run the model.
    """

    def __init__(self, path: Path, batch: int, backend: str = "auto", precision: str = "auto") -> None:
        self._model = read_model(path)
        self._session = open_batch_session(self._model, batch, backend, precision)
        self._batched = DepthModel(self._model, self._session)
        self._shape = (batch, self._model.spec.input_height, self._model.spec.input_width, 3)
        self._given = _Given(self._session)
        self._pipeline = DepthPipeline(self._model, self._given)
        self.name = f"{path.name} ({self._session.name}, {self._session.precision}, batch {batch})"

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        """Inverse depth float32 [H, W] at the image's resolution; see `Predictor`."""
        return self.disparities([rgb], [intrinsics])[0]

    def disparities(
        self, images: Sequence[NDArray[np.uint8]], intrinsics: Sequence[Intrinsics | None]
    ) -> list[NDArray[np.float32]]:
        """Inverse depths float32 [H, W] at the images' resolutions, at most a batch of them; see `BatchPredictor`."""
        resized = np.zeros(self._shape, np.uint8)  # black where there are fewer images
        for rgb, target in zip(images, resized, strict=False):
            resize_image(rgb, target)
        predictions = self._batched.infer(resized)
        disparities = []
        for index, (rgb, camera) in enumerate(zip(images, intrinsics, strict=True)):
            confidence = None if predictions.confidence is None else predictions.confidence[index : index + 1]
            self._given.prediction = Prediction(predictions.output[index : index + 1], confidence)
            disparities.append(_pipeline_disparity(self._pipeline, rgb, camera))
        return disparities


class _Given:
    """A backend of the pipeline whose prediction was made before, in a batch."""

    def __init__(self, session: Session) -> None:
        self.name, self.device, self.precision = session.name, session.device, session.precision
        self.prediction: Prediction | None = None

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        assert self.prediction is not None
        return self.prediction

    def close(self) -> None:
        self.prediction = None


def _pipeline_disparity(
    pipeline: DepthPipeline, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None
) -> NDArray[np.float32]:
    height, width = rgb.shape[:2]
    camera = None if intrinsics is None else PinholeCamera.from_normalized(intrinsics, width, height)
    return np.reciprocal(pipeline.process(Frame(0, "", rgb), camera).depth)


def default_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
