"""From an image to depth: rectify, resize, infer, scale, resize back. No ROS: node, tests and tools call this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.backends import Backend
from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError
from depth_node.frames import DepthFrame, Frame, NetworkView
from depth_node.images import message_array
from depth_node.model import ModelFile, ModelSpec
from depth_node.rectification import Rectification
from depth_node.scale import ScaleSource, VisualOdometryScale, create_scale_source
from depth_node.sky import SKY_MIN_DEPTH, invalidate_sky, sky_mask

# What part of the image's width and height the outputs have; `model` is the size of the network's input.
OUTPUT_RESOLUTIONS = ("image", "half", "quarter", "model")
_DIVISORS = {"image": 1, "half": 2, "quarter": 4}

# A network saturates at the ends of its range; sums in bfloat16 are off by up to 2^-8 there.
_RANGE_TOLERANCE = 2.0**-8


@dataclass(frozen=True)
class DepthOptions:
    """What a user may want otherwise.

    output_resolution: one of `OUTPUT_RESOLUTIONS`; min_confidence: depth with less is NaN; remove_sky: so is the sky's;
    scale_mode, scale_factor, camera_height (metres): see `create_scale_source`.
    """

    output_resolution: str = "image"
    min_confidence: float = 0.0
    remove_sky: bool = True
    scale_mode: str = "model"
    scale_factor: float = 1.0
    camera_height: float = 0.0


@dataclass(frozen=True)
class _Seen:
    """What is left of the last frame, beside the network's input: see `NetworkView`."""

    stamp_ns: int
    frame_id: str
    camera: PinholeCamera
    is_rectified: bool
    output: NDArray[np.float32]
    outside: NDArray[np.bool_] | None


class DepthPipeline:
    """Depth of single frames through one model. One thread at a time; buffers are reused between calls.

    options: may be replaced at any time; the next frame is processed with them.
    visual_odometry: what the scale modes `odometry` and `auto` ask; fed, in another thread, by who hears odometry.
    """

    def __init__(self, model: ModelFile, backend: Backend, options: DepthOptions | None = None) -> None:
        self.model = model
        self.backend = backend
        self.options = options or DepthOptions()
        self.visual_odometry = VisualOdometryScale()
        self._scale: tuple[tuple[str, float, float], ScaleSource] | None = None
        self._seen: _Seen | None = None
        self._image = np.empty((1, model.spec.input_height, model.spec.input_width, 3), np.uint8)

    def process(
        self,
        frame: Frame,
        camera: PinholeCamera | Rectification | None,
        intrinsics_source: str = "camera_info",
    ) -> DepthFrame:
        """Depth registered with the image, which is rectified and resized if so wanted; its arrays are the caller's.

        camera: of the image at its resolution; a Rectification undistorts the image first; None uses the model's
            intrinsics prior.
        intrinsics_source: where the camera is from, see `DepthFrame`; without one it is `prior`.

        Raises:
            CameraError: the camera is of another resolution than the image.
        """
        spec, options, stopwatch = self.model.spec, self.options, Stopwatch()
        source = "prior" if camera is None else intrinsics_source
        rgb, outside = frame.rgb, None
        if isinstance(camera, Rectification):
            _check_size(camera.source, rgb)
            rgb, pinhole, outside = camera.apply(rgb), camera.target, camera.outside()
            stopwatch.lap("rectify")
        else:
            pinhole = camera or PinholeCamera.from_prior(spec.intrinsics_prior, rgb.shape[1], rgb.shape[0])
        _check_size(pinhole, rgb)

        resize_image(rgb, self._image[0])
        stopwatch.lap("resize")
        prediction = self.backend.infer(self._image)
        stopwatch.lap("inference")
        is_rectified = isinstance(camera, Rectification)
        self._seen = _Seen(frame.stamp_ns, frame.frame_id, pinhole, is_rectified, prediction.output[0], outside)

        pinhole = self._output_camera(pinhole, options.output_resolution)
        size = pinhole.width, pinhole.height
        depth = depth_from_output(prediction.output[0], spec, focal_scale(spec, pinhole), *size)
        confidence = None
        if prediction.confidence is not None:
            confidence = cv2.resize(prediction.confidence[0], size, interpolation=cv2.INTER_LINEAR)
            depth[~(confidence >= options.min_confidence)] = np.nan  # NaN is no confidence
        if outside is not None:
            depth[_resize_mask(outside, *size)] = np.nan
        scale = self._scale_source().update(depth, pinhole)
        if scale.factor != 1:
            depth *= np.float32(scale.factor)
        stopwatch.lap("depth")
        if options.remove_sky:
            invalidate_sky(depth, sky_mask(self._image[0], depth, SKY_MIN_DEPTH if scale.is_known else None))
            stopwatch.lap("sky")
        image = self._output_image(rgb, *size)
        registered = frame if image is frame.rgb else replace(frame, rgb=image)
        return DepthFrame(registered, depth, pinhole, source, scale, confidence, stopwatch.seconds)

    def view(self) -> NetworkView:
        """What the network saw of the last frame; its arrays are the caller's. There must have been one."""
        assert self._seen is not None
        spec, seen, image = self.model.spec, self._seen, self._image[0].copy()
        size = spec.input_width, spec.input_height
        inverse_depth = np.reciprocal(depth_from_output(seen.output, spec, focal_scale(spec, seen.camera), *size))
        if seen.outside is not None:
            inverse_depth[_resize_mask(seen.outside, *size)] = np.nan
        return NetworkView(seen.stamp_ns, seen.frame_id, image, inverse_depth, seen.camera, seen.is_rectified)

    def warm_up(self) -> None:
        """Run once on a black image, so that the first frame does not pay for lazy allocations."""
        self.process(Frame(0, "", np.zeros_like(self._image[0])), None)

    def _scale_source(self) -> ScaleSource:
        """The source that the options ask for, which learns from frame to frame until they ask for another."""
        options = self.options
        wanted = options.scale_mode, options.scale_factor, options.camera_height
        if self._scale is None or self._scale[0] != wanted:
            mode, factor, height = wanted
            metric = self.model.spec.metric
            source = create_scale_source(mode, self.visual_odometry, metric=metric, factor=factor, camera_height=height)
            self._scale = wanted, source
        return self._scale[1]

    def _output_camera(self, camera: PinholeCamera, resolution: str) -> PinholeCamera:
        if resolution == "image":
            return camera
        if resolution == "model":
            return camera.resized(self.model.spec.input_width, self.model.spec.input_height)
        divisor = _DIVISORS[resolution]
        return camera.resized(max(1, camera.width // divisor), max(1, camera.height // divisor))

    def _output_image(self, rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
        if rgb.shape[:2] == (height, width):
            return rgb
        if self._image.shape[1:3] == (height, width):
            return self._image[0].copy()
        out = np.empty((height, width, 3), np.uint8)
        resize_image(rgb, out)
        return out


class Stopwatch:
    """Seconds per stage of something that goes from one stage to the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = perf_counter()

    def lap(self, stage: str) -> None:
        """The stage ends, and the next one begins."""
        now = perf_counter()
        self.seconds[stage] = now - self._started
        self._started = now


def _check_size(camera: PinholeCamera, rgb: NDArray[np.uint8]) -> None:
    height, width = rgb.shape[:2]
    if (camera.width, camera.height) != (width, height):
        raise CameraError(
            f"camera_info is of {camera.width}x{camera.height} pixels, but the image has {width}x{height}; "
            "publish the camera_info of this image"
        )


def resize_image(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize uint8 [H, W, 3] into `out`, uint8 [h, w, 3]: means of whole blocks of pixels, then bilinear.

    Blocks of the nearest whole factor keep fine patterns from aliasing as INTER_AREA does, in a fraction of its time.
    """
    (height, width), (out_height, out_width) = image.shape[:2], out.shape[:2]
    across, down = max(1, round(width / out_width)), max(1, round(height / out_height))
    blocks = image
    if across * down > 1:
        blocks_size = width // across, height // down
        whole = image[: blocks_size[1] * down, : blocks_size[0] * across]
        blocks = cv2.resize(whole, blocks_size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if width % across == 0 and height % down == 0:
        cv2.resize(blocks, (out_width, out_height), dst=out, interpolation=cv2.INTER_LINEAR)
        return
    # The blocks lack the last columns or rows, which cv2.resize would stretch the rest over: x' = (x + 0.5) s - 0.5.
    scale = np.array([width / across / out_width, height / down / out_height])
    matrix = np.column_stack([np.diag(scale), 0.5 * scale - 0.5])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(blocks, matrix, (out_width, out_height), dst=out, flags=flags, borderMode=cv2.BORDER_REPLICATE)


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
            resized = message_array(height, width)
            cv2.resize(bounded, (width, height), dst=resized, interpolation=cv2.INTER_LINEAR)
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


def _resize_mask(mask: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).view(np.bool_)
