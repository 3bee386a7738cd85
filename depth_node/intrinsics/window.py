"""A short stretch of video: points of its first image, followed through the next ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.bundle import Adjustment, CameraPrior, Tracks, adjust
from depth_node.intrinsics.depth_errors import DepthErrorModel
from depth_node.intrinsics.patches import align_patches
from depth_node.intrinsics.projection import Float64, PixelCamera, observe, patch_warps

Grey = NDArray[np.uint8]

MAX_PIXELS = 320_000  # of the images that points are followed in
BORDER = 8  # pixels without points
_OUTLINE = 7  # pixels; points keep away from steps of depth within such a square
_MAX_STEP = 0.3  # of inverse depth within it, relative
_BLUR = 0.7  # pixels; makes interpolation between pixels exact enough
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 12, 0.03)


@dataclass
class Window:
    """Points [2, N] of a reference image and where they went; `follow` every image, in turn.

    inverse_depth: [N], inverse_depth_gradient: [2, N] per pixel; in medians of the points.
    views: images of which the points' positions `seen` [2, N] are kept (NaN where lost), as they had moved on enough.
    """

    reference: Grey
    stamp_ns: int
    pixels: Float64
    inverse_depth: Float64
    inverse_depth_gradient: Float64
    views: list[Grey] = field(default_factory=list)
    seen: list[Float64] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._image = self.reference
        self._position = self.pixels.T.astype(np.float32)[:, None].copy()
        self._velocity = np.zeros_like(self._position)
        self._kept = self._position
        self._alive = np.ones(self.pixels.shape[1], bool)

    @property
    def share_alive(self) -> float:
        """Of the points, those still followed."""
        return float(np.mean(self._alive))

    def follow(self, image: Grey, min_step: float) -> None:
        """Find the points in the next image; keep it as a view if they moved by `min_step` pixels (median)."""
        guess = self._position + self._velocity
        found, status, _ = cv2.calcOpticalFlowPyrLK(
            self._image,
            image,
            self._position,
            guess,
            winSize=(11, 11),
            maxLevel=3,
            criteria=_CRITERIA,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        height, width = image.shape
        x, y = found[:, 0].T
        inside = (x >= BORDER) & (x < width - BORDER) & (y >= BORDER) & (y < height - BORDER)
        self._alive &= (status[:, 0] > 0) & inside
        found = np.asarray(found, np.float32)
        self._velocity = found - self._position
        self._image, self._position = image, found
        if not self._alive.any():
            return
        moved = np.linalg.norm((found - self._kept)[self._alive, 0], axis=1)
        if np.median(moved) >= min_step:
            self._kept = found
            seen = found[:, 0].T.astype(np.float64)
            seen[:, ~self._alive] = np.nan
            self.views.append(image)
            self.seen.append(seen)

    def adjusted(
        self, intrinsics: tuple[float, float, float, float], prior: CameraPrior, errors: DepthErrorModel
    ) -> tuple[Tracks, Adjustment] | None:
        """Adjustment of the tracks, patches aligned by its result, adjustment of where those are; None if hopeless."""
        height, width = self.reference.shape
        tracks = Tracks(self.pixels, np.stack(self.seen), self.inverse_depth, width, height)
        first = adjust(tracks, intrinsics, prior, errors, iterations=4)
        if first is None:
            return None
        camera = PixelCamera.of(intrinsics, first.camera, width, height)
        inverse_depth = np.where(np.isfinite(first.inverse_depth), first.inverse_depth, self.inverse_depth)
        observed = observe(self.pixels, inverse_depth, camera, first.rotations, first.translations)
        warps = patch_warps(observed, self.inverse_depth_gradient)
        smooth = [_smooth(image) for image in (self.reference, *self.views)]
        seen = align_patches(smooth[0], smooth[1:], self.pixels, tracks.seen, warps)
        refined = Tracks(self.pixels, seen, self.inverse_depth, width, height)
        second = adjust(refined, intrinsics, prior, errors, start=first)
        return None if second is None else (refined, second)


def _smooth(image: Grey) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), _BLUR), np.float32)


def begin_window(
    image: Grey, inverse_depth: NDArray[np.float32], stamp_ns: int, points: int, min_points: int
) -> Window | None:
    """A window that begins with a grey image [h, w] of inverse depth [h, w]; None if there is too little to follow."""
    known = np.isfinite(inverse_depth) & (inverse_depth > 0)
    filled = np.where(known, inverse_depth, np.float32(0))
    kernel = np.ones((_OUTLINE, _OUTLINE), np.uint8)
    farthest, nearest = cv2.erode(filled, kernel), cv2.dilate(filled, kernel)
    mask = (nearest - farthest <= _MAX_STEP * nearest) & known
    mask[:BORDER] = mask[-BORDER:] = False
    mask[:, :BORDER] = mask[:, -BORDER:] = False
    corners = cv2.goodFeaturesToTrack(
        image, points, qualityLevel=0.003, minDistance=image.shape[1] / 64, mask=mask.view(np.uint8), blockSize=5
    )
    if corners is None or len(corners) < min_points:
        return None
    pixels = corners[:, 0].T.astype(np.float64)
    x, y = np.rint(pixels).astype(int)
    half = _OUTLINE // 2
    at_points = filled[y, x].astype(np.float64)
    across = (filled[y, x + half] - filled[y, x - half]) / (2 * half)
    down = (filled[y + half, x] - filled[y - half, x]) / (2 * half)
    median = float(np.median(at_points))
    return Window(image, stamp_ns, pixels, at_points / median, np.stack([across, down]).astype(np.float64) / median)


def working_images(image: NDArray[np.uint8], inverse_depth: NDArray[np.float32]) -> tuple[Grey, NDArray[np.float32]]:
    """Grey image and inverse depth of one size, shrunk by a whole number where larger than `MAX_PIXELS`."""
    height, width = image.shape[:2]
    divisor = int(np.ceil(np.sqrt(width * height / MAX_PIXELS)))
    size = width // divisor, height // divisor
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    if divisor > 1:
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    if inverse_depth.shape != grey.shape:
        inverse_depth = np.asarray(cv2.resize(inverse_depth, size, interpolation=cv2.INTER_NEAREST), np.float32)
    return grey, inverse_depth
