"""What a recipe chooses of the losses: every method its own switch, all of them composable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from training.errors import DataError


@dataclass(frozen=True)
class OutlierMask:
    """Photometric errors that are outliers among those of their image do not train.

    Those below are where nothing can be learned (no texture, no motion), those above are occlusions and things that
    move against the camera.
    Source: Jiang et al., DiPE, IROS 2020, section III-B.

    Args:
        lower: standard deviations below the image's mean error from which on a pixel is left out.
        upper: standard deviations above it.
    """

    lower: float = 1.0
    upper: float = 0.5


@dataclass(frozen=True)
class GeometryConsistency:
    """Depths of target and source, carried into each other's view, must agree.

    The depth network sees the sources, too: of N of them, N more forward and backward passes.
    Source: Bian et al., Unsupervised Scale-consistent Depth and Ego-motion Learning, NeurIPS 2019.

    Args:
        weight: of the loss, their mean disagreement in both directions; 0 for the mask alone.
        mask: the photometric error of a pixel counts by one minus its disagreement.
    """

    weight: float = 0.5
    mask: bool = True


@dataclass(frozen=True)
class InstanceCoherence:
    """All of an instance gets the disparity of its lower end; batches need `data.instances`.

    Source: Niklaus et al., 3D Ken Burns Effect from a Single Image, TOG 2019, section 3.2.

    Args:
        smoothness: the smoothness loss sees these disparities, too; otherwise the network's own.
    """

    smoothness: bool = True


@dataclass(frozen=True)
class SelfSupervisedLosses:
    """How a reconstructed image is compared with the real one. The defaults are Monodepth2's (Godard et al., 2019).

    Args:
        minimum_reprojection: per pixel the best source counts; otherwise the mean of the sources.
        automask: pixels which unwarped sources explain better do not train (a still camera, a car at our own speed).
        full_resolution: coarse disparities are enlarged to the image before it is warped; otherwise images shrink.
        smoothness: weight of the edge-aware smoothness at the finest scale, halved from scale to scale.
        boundary_mask: a source counts only where it sees the pixel; otherwise its border is repeated.
        static_mask: as automask, of each source by itself (DiPE).
        outlier_mask: errors that are outliers do not train (DiPE).
        mean_over: the photometric loss is the mean over all pixels, in which those that do not train have the error
            of the unwarped sources (Monodepth2), or over those that train (DiPE).
        scale_decay: weight of the photometric loss of a scale relative to the next finer one; 0.25 in DiPE.
        consistency: agreement of the depths of target and sources (SC-Depth).
        instances: instance masks make disparity coherent.
        velocity: weight of the distance travelled against known speed, which makes depth metric (0.05 in Guizilini et
            al., 2020); batches need `data.speed`. 0 for none.

    Raises:
        DataError: a weight is out of its range.
    """

    minimum_reprojection: bool = True
    automask: bool = True
    full_resolution: bool = True
    smoothness: float = 1e-3
    boundary_mask: bool = True
    static_mask: bool = False
    outlier_mask: OutlierMask | None = None
    mean_over: Literal["all", "trained"] = "all"
    scale_decay: float = 1.0
    consistency: GeometryConsistency | None = None
    instances: InstanceCoherence | None = None
    velocity: float = 0.0

    def __post_init__(self) -> None:
        for name in ("smoothness", "velocity"):
            if getattr(self, name) < 0:
                raise DataError(f"losses.{name} is {getattr(self, name)}; expected 0 or more")
        if not 0 < self.scale_decay <= 1:
            raise DataError(f"losses.scale_decay is {self.scale_decay}; expected above 0 and at most 1")


@dataclass(frozen=True)
class MotionLosses:
    """Weights of what compares predicted with known motion and intrinsics; 0 leaves a term out.

    Args:
        rotation: error in radians.
        translation: error relative to the distance travelled.
        intrinsics: errors of log(fx/W) and log(fy/H), and of the principal point in image sizes.

    Raises:
        DataError: a weight is negative, or all are 0.
    """

    rotation: float = 20.0
    translation: float = 1.0
    intrinsics: float = 1.0

    def __post_init__(self) -> None:
        _check_weights(vars(self))


@dataclass(frozen=True)
class SupervisedLosses:
    """Weights of what compares predicted with known depth; 0 leaves a term out.

    The first three compare logarithms of depth, the others inverse depth times its largest depth (1 to
    max_depth / min_depth), which with 0.1, 1 and 1 and the others at 0 is DenseDepth (Alhashim and Wonka, 2018).

    Args:
        log_l1: mean absolute logarithmic error.
        scale_invariant: logarithmic error without the image's common factor (Eigen et al., 2014).
        gradient: multi-scale gradients of the logarithmic error (Ranftl et al., 2020).
        inverse_l1: mean absolute error of inverse depth.
        inverse_gradient: mean absolute error of its horizontal and vertical gradients.
        inverse_dissimilarity: (1 - structural similarity) / 2.

    Raises:
        DataError: a weight is negative, or all are 0.
    """

    log_l1: float = 1.0
    scale_invariant: float = 1.0
    gradient: float = 0.5
    inverse_l1: float = 0.0
    inverse_gradient: float = 0.0
    inverse_dissimilarity: float = 0.0

    def __post_init__(self) -> None:
        _check_weights(vars(self))


def _check_weights(weights: Mapping[str, float]) -> None:
    if min(weights.values()) < 0 or not any(weights.values()):
        raise DataError(f"weights of the losses are {weights}; expected 0 or more each, and one above 0")
