"""Typed errors of the runtime's boundaries. Each message says what was got, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Callable


class DepthNodeError(Exception):
    """Base of every error that a user can cause and mend."""


class ModelFileError(DepthNodeError):
    """A model file is missing, damaged, or does not follow the model contract."""


class BackendError(DepthNodeError):
    """An inference backend is not installed, has no device, or cannot run the model."""


class InferenceTimeoutError(BackendError):
    """An inference was given up, since it took too long. `is_over` tells whether it has come back by now."""

    def __init__(self, message: str, is_over: Callable[[], bool]) -> None:
        super().__init__(message)
        self.is_over = is_over


class CameraError(DepthNodeError):
    """Intrinsics or a CameraInfo that cannot describe a camera."""


class ParameterError(DepthNodeError):
    """A parameter of the node has a value that it cannot have."""


class CameraSizeError(CameraError):
    """A CameraInfo of another resolution than the image that it came with."""


class BagError(DepthNodeError):
    """A bag that cannot be read, or lacks what was asked for."""


class ImageError(DepthNodeError):
    """An image that cannot be decoded. `kind` names the fault, so that a node reports each kind once.

    Kinds: `encoding`, `size`, `step`, `data`, `compressed`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class CloudError(DepthNodeError):
    """A point cloud that cannot be made as asked for."""


class CalibrationFileError(CameraError):
    """A camera calibration file that cannot be read or written."""


class ScanError(DepthNodeError):
    """A laser scan that cannot be made as asked for."""


class OdometryError(DepthNodeError):
    """An odometry message that says nothing of where a vehicle is, or how fast."""


class SnapshotError(DepthNodeError):
    """A snapshot that cannot be saved."""
