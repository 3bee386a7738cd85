"""The camera's intrinsics from its images and their predicted depth, over time. No ROS; one thread at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.interface import MotionPrediction
from depth_node.intrinsics.bundle import Adjustment, CameraPrior, adjust
from depth_node.intrinsics.depth_errors import DepthErrorModel
from depth_node.intrinsics.estimate import Intrinsics, IntrinsicsEstimate, IntrinsicsState
from depth_node.intrinsics.filter import CameraFilter, Evidence
from depth_node.intrinsics.patches import Grey
from depth_node.intrinsics.projection import CAMERA, DISTORTION, READOUT, changed, rotation_angle
from depth_node.intrinsics.window import Views, WindowModel, adjust_window, select_points, working_images

_LEAST_DISTORTION_SIGMA = 0.003  # of k as kept over a restart
_LEAST_READOUT_SIGMA = 0.001  # seconds, likewise
_SQUARE = 1e-6  # sigma of log fx/fy where pixels are square: as good as none
_CONTRADICTIONS = 6  # windows in a row, after which the camera is another one (a zoom lens, another device)
_HYSTERESIS = 1.5  # times the sigma of convergence, at which it is lost again


@dataclass(frozen=True)
class EstimatorOptions:
    """What is assumed of cameras and networks, and what a window of images needs to count.

    prior_sigma: of log f, where the prior does not say. principal_point_sigma: in widths of the image.
    square_pixels: the images' fx and fy are alike, as the prior's are; else they are learned separately, and
        aspect_sigma is of log fx/fy.
    distortion_sigma: of the radial distortion k that images have though they count as undistorted, where they have any.
    readout_sigma: of the readout of sensors with a rolling shutter, seconds.
    model_sigma: of log f, for what all windows have in common; see `CameraFilter`.
    depth_errors: of the network. motion_sigma: of log f as a motion network says.
    max_rate: images per second that are looked at; 0: all. max_gap_s: without images, after which a window ends.
    points: at most, of a window. views: beside its first image. min_step: between them, median over points, in widths.
    min_points: of a window; min_alive: share of them that its last view has to show.
    min_rotation: radians within a window. max_noise: of its residuals, in widths. min_inliers: share of observations
        that fit the motion of one rigid world. max_deviation: from what was known before, in standard deviations.
    min_windows: before the estimate may have converged. converged_sigma: of log f. memory_s: see `CameraFilter`.
    """

    prior_sigma: float = 0.3
    principal_point_sigma: float = 0.01
    square_pixels: bool = True
    aspect_sigma: float = 0.15
    distortion_sigma: float = 0.03
    readout_sigma: float = 0.02
    model_sigma: float = 0.02
    depth_errors: DepthErrorModel = field(default_factory=DepthErrorModel)
    motion_sigma: float = 0.25
    max_rate: float = 12.0
    max_gap_s: float = 0.6
    points: int = 200
    views: int = 6
    min_step: float = 0.005
    min_points: int = 60
    min_alive: float = 0.4
    min_rotation: float = 0.004
    max_noise: float = 0.0015
    min_inliers: float = 0.6
    max_deviation: float = 4.0
    min_windows: int = 3
    converged_sigma: float = 0.05
    memory_s: float = 1800.0


class IntrinsicsEstimator:
    """Adjusts short windows of video, and filters what they say of the camera.

    prior: what is known before; of four numbers, the uncertainty is the options'. width, height: of the camera's images
    before they were resized for the network.
    """

    def __init__(
        self,
        prior: IntrinsicsEstimate | Intrinsics,
        width: int,
        height: int,
        options: EstimatorOptions | None = None,
    ) -> None:
        self.options = options or EstimatorOptions()
        known = prior if isinstance(prior, IntrinsicsEstimate) else None
        self._reference = prior.intrinsics if isinstance(prior, IntrinsicsEstimate) else prior
        self._shape = width / height
        self._prior = self._prior_of(known)
        self._filter = self._fresh_filter()
        self._views = Views(self.options.min_step)
        self._last_ns: int | None = None
        self._rotation, self._pairs, self._contradictions = 0.0, 0, 0
        self._rejected: Counter[str] = Counter()
        self._heard = _RunningMean()
        self._has_converged = known is not None and known.relative_sigma <= self.options.converged_sigma

    @property
    def estimate(self) -> IntrinsicsEstimate:
        """What is known now."""
        posterior = self._filter.posterior
        intrinsics = changed(self._reference, posterior.mean[:4])
        return IntrinsicsEstimate(
            intrinsics,
            posterior.sigma,
            self._state(),
            self._rotation,
            self._pairs,
            dict(self._rejected),
            posterior.distortion,
            posterior.distortion_sigma,
            posterior.readout,
            posterior.readout_sigma,
        )

    def add(
        self,
        image: NDArray[np.uint8],
        inverse_depth: NDArray[np.float32],
        stamp_ns: int,
        motion: MotionPrediction | None = None,
    ) -> IntrinsicsEstimate:
        """Learn from one more image.

        image: uint8 [h, w, 3] RGB, of the depth network's input size. inverse_depth: float32 [h, w], 1/depth in any
        unit, NaN where invalid. motion: the motion network's prediction from the image before to this one.
        """
        if motion is not None:
            self._hear(motion)
        if self._is_due(stamp_ns):
            grey, inverse = working_images(image, inverse_depth)
            self._follow(grey, inverse, stamp_ns)
        return self.estimate

    def _prior_of(self, known: IntrinsicsEstimate | None) -> CameraPrior:
        options, mean, log_f_sigma = self.options, np.zeros(CAMERA), self.options.prior_sigma
        distortion_sigma, readout_sigma = options.distortion_sigma, options.readout_sigma
        if known is not None:
            log_f_sigma = known.relative_sigma
            if known.is_distorted:
                mean[DISTORTION] = known.distortion
                distortion_sigma = max(known.distortion_sigma, _LEAST_DISTORTION_SIGMA)
            if known.is_rolling:
                mean[READOUT], readout_sigma = known.readout, max(known.readout_sigma, _LEAST_READOUT_SIGMA)
        center, aspect = options.principal_point_sigma, _SQUARE if options.square_pixels else options.aspect_sigma
        sigmas = np.array([log_f_sigma, center, center * self._shape, aspect, distortion_sigma, readout_sigma])
        return CameraPrior(mean, np.diag(sigmas**-2.0))

    def _fresh_filter(self) -> CameraFilter:
        return CameraFilter(self._prior, self.options.model_sigma, self.options.memory_s)

    def _state(self) -> IntrinsicsState:
        """Converged once sure enough, until it is much less sure."""
        sigma, threshold = self._filter.posterior.sigma, self.options.converged_sigma
        if self._has_converged:
            self._has_converged = sigma <= _HYSTERESIS * threshold
        else:
            self._has_converged = sigma <= threshold and len(self._filter.evidence) >= self.options.min_windows
        if self._has_converged:
            return "converged"
        return "estimating" if self._filter.evidence else "waiting for rotation"

    def _is_due(self, stamp_ns: int) -> bool:
        """Whether an image is to be looked at, by its stamp; windows end at gaps and where time goes backwards."""
        options = self.options
        if self._last_ns is None:
            return True
        elapsed = (stamp_ns - self._last_ns) * 1e-9
        if elapsed <= 0 and elapsed > -options.max_gap_s:
            self._rejected["stamp not newer"] += 1
            return False
        if elapsed < 0 or elapsed > options.max_gap_s:
            self._rejected["gap"] += 1
            self._views = Views(options.min_step)
            return True
        return options.max_rate == 0 or elapsed >= 0.9 / options.max_rate

    def _follow(self, grey: Grey, inverse_depth: NDArray[np.float32], stamp_ns: int) -> None:
        """One more image; the last one of a window has it adjusted."""
        self._last_ns = stamp_ns
        views, options = self._views, self.options
        if views.images and views.images[0].shape != grey.shape:
            views = self._views = Views(options.min_step)
        if views.offer(grey, stamp_ns) and len(views.images) > options.views:
            self._views = Views(options.min_step)
            self._views.offer(grey, stamp_ns)
            self._learn(views, inverse_depth, stamp_ns)
        else:
            self._relinearize()

    def _learn(self, views: Views, inverse_depth: NDArray[np.float32], stamp_ns: int) -> None:
        """Adjust a window, whose last image has this inverse depth, and count what it says."""
        options = self.options
        points = select_points(views.images[-1], inverse_depth, options.points)
        if points is None or points.pixels.shape[1] < options.min_points:
            self._rejected["too little texture"] += 1
            return
        prior = self._filter.window_prior()
        known, errors = prior.mean if self._filter.evidence else None, self._depth_errors()
        model = WindowModel(self._reference, prior, errors, options.min_alive)
        found = adjust_window(views, points, model, known)
        if found is None:
            self._rejected["lost"] += 1
            return
        tracks, adjustment = found
        fault = self._fault(adjustment, tracks.width)
        if fault:
            self._rejected[fault] += 1
            return
        linearized = adjustment.camera if known is None else known
        self._filter.add(Evidence(stamp_ns, float(linearized[0]), errors, tracks, adjustment))
        self._rotation += _path(adjustment)
        self._pairs += len(adjustment.rotations)

    def _fault(self, adjustment: Adjustment, width: int) -> str:
        """Why a window does not count; empty if it does."""
        options = self.options
        if _path(adjustment) < options.min_rotation:
            return "too little rotation"
        if adjustment.noise > options.max_noise * width:
            return "residual"
        if adjustment.inliers < options.min_inliers:
            return "moving scene"
        if self._filter.deviation(adjustment) > options.max_deviation:
            self._contradictions += 1
            if self._contradictions >= _CONTRADICTIONS:
                self._prior = self._prior_of(None)
                self._filter = self._fresh_filter()
                self._contradictions, self._has_converged = 0, False
            return "contradiction"
        self._contradictions = 0
        return ""

    def _relinearize(self) -> None:
        """Adjust the window again that was adjusted for what is farthest from what is known now."""
        errors = self._depth_errors()
        index = self._filter.outdated(errors)
        if index is None:
            return
        evidence, prior = self._filter.evidence[index], self._filter.window_prior()
        again = adjust(evidence.tracks, self._reference, prior, errors, evidence.adjustment, at=prior.mean)
        # One that cannot be adjusted again stays as it was, rather than being tried with every image.
        self._filter.replace(index, again or evidence.adjustment, errors)

    def _depth_errors(self) -> DepthErrorModel:
        """As assumed at first, then as large as windows have shown them."""
        if len(self._filter.evidence) < self.options.min_windows:
            return self.options.depth_errors
        return self.options.depth_errors.sized(self._filter.depth_evidence)

    def _hear(self, motion: MotionPrediction) -> None:
        """The motion network's focal length is a second prior: its errors do not average out."""
        ratio = motion.intrinsics[:2] / self._reference[:2]
        self._heard = self._heard.plus(0.5 * float(np.log(ratio[0] * ratio[1])))
        if self._heard.count % 10 == 1:
            information = np.zeros(CAMERA)
            information[0] = self.options.motion_sigma**-2
            both = self._prior.information + np.diag(information)
            weighted = information * self._heard.mean + self._prior.information @ self._prior.mean
            mean = np.asarray(np.linalg.solve(both, weighted), np.float64)
            self._filter.expect(CameraPrior(mean, both))


@dataclass(frozen=True)
class _RunningMean:
    mean: float = 0.0
    count: int = 0

    def plus(self, value: float) -> _RunningMean:
        return _RunningMean(self.mean + (value - self.mean) / (self.count + 1), self.count + 1)


def _path(adjustment: Adjustment) -> float:
    """Radians that the camera turned by from view to view, in all."""
    rotations = np.concatenate([np.eye(3)[None], adjustment.rotations])
    return float(np.sum(rotation_angle(rotations[1:] @ rotations[:-1].transpose(0, 2, 1))))
