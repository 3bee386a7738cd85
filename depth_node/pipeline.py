"""From an image to depth: resize, infer, scale, resize back. No ROS: node, tests, benchmarks and tools call this."""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.backends import Backend
from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError
from depth_node.frames import DepthFrame, Frame
from depth_node.model import ModelFile, ModelSpec

# A network saturates at the ends of its range; sums in bfloat16 are off by up to 2^-8 there.
_RANGE_TOLERANCE = 2.0**-8


class DepthPipeline:
    """Depth of single frames through one model. One thread at a time; buffers are reused between calls."""

    def __init__(self, model: ModelFile, backend: Backend) -> None:
        self.model = model
        self.backend = backend
        self._image = np.empty((1, model.spec.input_height, model.spec.input_width, 3), np.uint8)

    def process(self, frame: Frame, camera: PinholeCamera | None) -> DepthFrame:
        """Depth registered with `frame.rgb`, at its resolution; the result's arrays are the caller's own.

        camera: of the image at its resolution; None uses the model's intrinsics prior.

        Raises:
            CameraError: the camera is of another resolution than the image.
        """
        height, width = frame.rgb.shape[:2]
        source = "prior" if camera is None else "camera_info"
        if camera is None:
            camera = _prior_camera(self.model.spec.intrinsics_prior, width, height)
        elif (camera.width, camera.height) != (width, height):
            raise CameraError(
                f"camera_info is of {camera.width}x{camera.height} pixels, but the image has {width}x{height}; "
                "publish the camera_info of this image"
            )

        started = perf_counter()
        resize_image(frame.rgb, self._image[0])
        resized = perf_counter()
        output = self.backend.infer(self._image)[0]
        inferred = perf_counter()
        depth = depth_from_output(output, self.model.spec, focal_scale(self.model.spec, camera), width, height)
        finished = perf_counter()
        seconds = {"resize": resized - started, "inference": inferred - resized, "depth": finished - inferred}
        return DepthFrame(frame, depth, camera, source, seconds)

    def warm_up(self) -> None:
        """Run once on a black image, so that the first frame does not pay for lazy allocations."""
        self.process(Frame(0, "", np.zeros_like(self._image[0])), None)


def resize_image(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize uint8 [H, W, 3] into `out`, uint8 [h, w, 3]; averages areas when shrinking, so that nothing aliases."""
    (height, width), (out_height, out_width) = image.shape[:2], out.shape[:2]
    shrinks = out_height <= height and out_width <= width
    cv2.resize(image, (out_width, out_height), dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def focal_scale(spec: ModelSpec, camera: PinholeCamera) -> float:
    """Factor from the model's depth to the camera's: (fx/W) / (prior fx/W), as a zoomed image shows a nearer world.

    1 for a model that is not metric.
    """
    return camera.normalized()[0] / spec.intrinsics_prior[0] if spec.metric else 1.0


def depth_from_output(
    output: NDArray[np.float32], spec: ModelSpec, scale: float, width: int, height: int
) -> NDArray[np.float32]:
    """Depth float32 [height, width] from a model's raw output float32 [h, w], multiplied by `scale`.

    NaN where the output is not finite or outside the model's own [min_depth, max_depth] (before `scale`). Resized
    bilinearly as inverse depth, which is linear in the image on planes; depth would invent points behind every edge.
    """
    nearest, farthest = np.float32(1.0 / spec.min_depth), np.float32(1.0 / spec.max_depth)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = output if spec.output == "disparity" else np.reciprocal(output)
        lower, upper = farthest * (1 - _RANGE_TOLERANCE), nearest * (1 + _RANGE_TOLERANCE)
        all_valid = bool(inverse.min() >= lower and inverse.max() <= upper)  # NaN compares false
        bounded = np.clip(inverse, farthest, nearest)
        bounded *= np.float32(1.0 / scale)
        if all_valid:
            resized = cv2.resize(bounded, (width, height), interpolation=cv2.INTER_LINEAR)
        else:
            valid = (inverse >= lower) & (inverse <= upper)
            resized = _resize_valid(bounded, valid, width, height)
        depth: NDArray[np.float32] = np.reciprocal(resized, out=resized)
    return depth


def _resize_valid(
    values: NDArray[np.float32], valid: NDArray[np.bool_], width: int, height: int
) -> NDArray[np.float32]:
    """Bilinear resize among valid pixels only; NaN where they have less than half of the weight."""
    values[~valid] = 0.0
    weighted = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    weight = cv2.resize(valid.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    resized: NDArray[np.float32] = np.divide(weighted, weight, out=weighted)
    resized[weight < 0.5] = np.nan
    return resized


@lru_cache(maxsize=4)
def _prior_camera(prior: tuple[float, float, float, float], width: int, height: int) -> PinholeCamera:
    """The prior's field of view across and its principal point, with square pixels.

    The prior's fy/H holds for images of the prior's own shape alone; pixels are square in nearly every camera.
    """
    fx, _, cx, cy = prior
    return PinholeCamera.from_normalized((fx, fx * width / height, cx, cy), width, height)
