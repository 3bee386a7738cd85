"""A short stretch of video: points of its last image, followed back through the ones before.

Back, because a camera mostly goes forward: what the last image shows was in the earlier ones, too, farther away.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.bundle import Adjustment, CameraPrior, Scene, adjust, solve
from depth_node.intrinsics.depth_errors import DepthErrorModel
from depth_node.intrinsics.patches import SHARED_VARIANCE, Grey, PatchAligner
from depth_node.intrinsics.projection import Float64, Observation, PixelCamera, observe, patch_warps
from depth_node.intrinsics.tracks import Tracks

MAX_PIXELS = 320_000  # of the images that points are followed in
BORDER = 8  # pixels without points
_OUTLINE = 7  # pixels; points keep away from steps of depth within such a square
_MAX_STEP = 0.3  # of inverse depth within it, relative
_TRACKER_SIGMA = 0.1  # pixels; of points that are followed from image to image, at the least
_MIN_VIEWS = 2
_FEW = 2  # steps of an adjustment that is not the last one
_GRID = (12, 5)  # points across and down that tell how far images are apart
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 12, 0.03)


class Views:
    """Images, each some way from the one before: pixels moved by `min_step` widths, the median of a grid of them."""

    def __init__(self, min_step: float) -> None:
        self.images: list[Grey] = []
        self.stamps_ns: list[int] = []
        self._min_step = min_step
        self._thumbnail = np.empty((0, 0), np.uint8)  # half the size of the last one

    def offer(self, image: Grey, stamp_ns: int) -> bool:
        """Whether the image was kept: it is the first, or far enough from the last."""
        height, width = image.shape[0] // 2, image.shape[1] // 2
        thumbnail = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if self.images:
            x, y = (np.linspace(0, size, count + 2)[1:-1] for size, count in zip((width, height), _GRID, strict=True))
            grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2).astype(np.float32)
            found, alive = _tracked(self._thumbnail, thumbnail, grid, grid)
            moved = np.linalg.norm(found - grid, axis=-1)[alive]
            if moved.size and np.median(moved) < self._min_step * width:
                return False
        self.images.append(image)
        self.stamps_ns.append(stamp_ns)
        self._thumbnail = thumbnail
        return True


@dataclass(frozen=True)
class Points:
    """N points of an image. pixels: [2, N]. inverse_depth: [N], and its gradient per pixel [2, N], in their median."""

    pixels: Float64
    inverse_depth: Float64
    gradient: Float64


def select_points(image: Grey, inverse_depth: NDArray[np.float32], count: int) -> Points | None:
    """Up to `count` corners of an image [h, w] away from outlines of its inverse depth [h, w]; None if it has none."""
    known = np.isfinite(inverse_depth) & (inverse_depth > 0)
    filled = np.where(known, inverse_depth, np.float32(0))
    kernel = np.ones((_OUTLINE, _OUTLINE), np.uint8)
    farthest, nearest = cv2.erode(filled, kernel), cv2.dilate(filled, kernel)
    mask = (nearest - farthest <= _MAX_STEP * nearest) & known
    mask[:BORDER] = mask[-BORDER:] = False
    mask[:, :BORDER] = mask[:, -BORDER:] = False
    corners = cv2.goodFeaturesToTrack(
        image, count, qualityLevel=0.003, minDistance=image.shape[1] / 64, mask=mask.view(np.uint8), blockSize=5
    )
    if corners is None:
        return None
    pixels = corners[:, 0].T.astype(np.float64)
    x, y = np.rint(pixels).astype(int)
    half = _OUTLINE // 2
    at_points = filled[y, x].astype(np.float64)
    across = (filled[y, x + half] - filled[y, x - half]) / (2 * half)
    down = (filled[y + half, x] - filled[y - half, x]) / (2 * half)
    median = float(np.median(at_points))
    return Points(pixels, at_points / median, np.stack([across, down]).astype(np.float64) / median)


@dataclass(frozen=True)
class WindowModel:
    """What an adjustment starts from: see `adjust`. min_alive: share of points that the last view used has to show."""

    intrinsics: tuple[float, float, float, float]
    prior: CameraPrior
    errors: DepthErrorModel
    min_alive: float

    @property
    def assumptions(self) -> tuple[tuple[float, float, float, float], CameraPrior, DepthErrorModel]:
        return self.intrinsics, self.prior, self.errors


def adjust_window(
    views: Views, points: Points, model: WindowModel, at: Float64 | None = None
) -> tuple[Tracks, Adjustment] | None:
    """Adjustment of the tracks, patches aligned by its result, adjustment of where those are; None if hopeless.

    points: of the last image. at: see `adjust`.
    """
    *earlier, reference = views.images
    earlier.reverse()
    seen = _follow(reference, earlier, points.pixels, model.min_alive)
    if len(seen) < _MIN_VIEWS:
        return None
    earlier = earlier[: len(seen)]
    seconds = 1e-9 * (np.array(views.stamps_ns[-2::-1][: len(seen)]) - views.stamps_ns[-1])
    window = _Window(PatchAligner(reference, earlier, points.pixels), points, seen, seconds, *reference.shape[::-1])
    start = solve(window.followed(), *model.assumptions, iterations=2 * _FEW)
    if start is not None:
        start = solve(window.aligned(start, model), *model.assumptions, start, iterations=_FEW)
    if start is None:
        return None
    tracks = window.aligned(start, model)
    found = adjust(tracks, *model.assumptions, start, at)
    return None if found is None else (tracks, found)


@dataclass(frozen=True)
class _Window:
    """Points of a reference of width x height pixels, followed to seen [M, 2, N] in views at seconds [M]."""

    aligner: PatchAligner
    points: Points
    seen: Float64
    seconds: Float64
    width: int
    height: int

    def followed(self) -> Tracks:
        """As followed: near enough for patches to be warped by what these make of them."""
        shape = len(self.seen), 2, 2, self.seen.shape[-1]
        return self._tracks(self.seen, np.broadcast_to(np.eye(2)[:, :, None] / _TRACKER_SIGMA**2, shape), 0.0)

    def aligned(self, scene: Scene, model: WindowModel) -> Tracks:
        """Patches aligned from there, as warped by a scene."""
        aligned = self.aligner.align(self.seen, patch_warps(self._predicted(scene, model), self.points.gradient))
        return self._tracks(aligned.seen, aligned.information, SHARED_VARIANCE)

    def _tracks(self, seen: Float64, information: Float64, shared: float) -> Tracks:
        points = self.points
        return Tracks(
            points.pixels, seen, information, points.inverse_depth, shared, self.seconds, self.width, self.height
        )

    def _predicted(self, scene: Scene, model: WindowModel) -> Observation:
        """Where a scene has the points."""
        camera = PixelCamera.of(model.intrinsics, scene.camera, self.width, self.height)
        inverse_depth = np.where(np.isfinite(scene.inverse_depth), scene.inverse_depth, self.points.inverse_depth)
        return observe(self.points.pixels, inverse_depth, camera, scene.rotations, scene.translations)


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


def _follow(reference: Grey, images: list[Grey], pixels: Float64, min_alive: float) -> Float64:
    """Where pixels [2, N] of the reference are in images, until too few are left: [M, 2, N], NaN where lost."""
    height, width = reference.shape
    position = pixels.T.astype(np.float32)[:, None].copy()
    velocity = np.zeros_like(position)
    alive = np.ones(len(position), bool)
    image, seen = reference, []
    for following in images:
        found, tracked = _tracked(image, following, position, position + velocity)
        x, y = found[:, 0].T
        alive &= tracked[:, 0] & (x >= BORDER) & (x < width - BORDER) & (y >= BORDER) & (y < height - BORDER)
        if np.mean(alive) < min_alive:
            break
        velocity, position, image = found - position, found, following
        seen.append(np.where(alive, found[:, 0].T, np.nan).astype(np.float64))
    return np.stack(seen) if seen else np.empty((0, 2, len(position)))


def _tracked(
    image: Grey, following: Grey, position: NDArray[np.float32], guess: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Lucas and Kanade's tracker: [N, 1, 2] and whether it held on [N, 1]."""
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        image,
        following,
        position,
        guess.copy(),
        winSize=(11, 11),
        maxLevel=3,
        criteria=_CRITERIA,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return np.asarray(found, np.float32), np.asarray(status) > 0
