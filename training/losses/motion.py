"""Known motion and known intrinsics as supervision."""

from __future__ import annotations

from torch import Tensor

from training.geometry.se3 import invert, so3_log
from training.losses.options import MotionLosses

NEARLY_STILL = 0.1  # metres: shorter motions count as errors of a longer one, as their direction says nothing


def rotation_error(T: Tensor, known: Tensor) -> Tensor:
    """Angle [...] in radians of the rotation that leads from one to the other of two transforms [..., 4, 4]."""
    remaining = (invert(known)[..., :3, :3].unsqueeze(-1) * T[..., None, :3, :3]).sum(-2)
    return _length(so3_log(remaining))


def translation_error(T: Tensor, known: Tensor) -> Tensor:
    """Distance [...] of the translations of two transforms [..., 4, 4], relative to the known one's length."""
    shift, known_shift = T[..., :3, 3], known[..., :3, 3]
    return _length(shift - known_shift) / (known_shift.square().sum(-1).sqrt() + NEARLY_STILL)


def focal_error(intrinsics: Tensor, known: Tensor) -> Tensor:
    """Mean |log(f / known f)| [...] over x and y, of normalised intrinsics [..., 4]; 0.1 is 10 %."""
    return (intrinsics[..., :2] / known[..., :2]).log().abs().mean(-1)


def center_error(intrinsics: Tensor, known: Tensor) -> Tensor:
    """Mean distance [...] of the principal points over x and y, in widths and heights of the image."""
    return (intrinsics[..., 2:] - known[..., 2:]).abs().mean(-1)


def motion_terms(
    T_source_target: Tensor,
    intrinsics: Tensor,
    known_T_source_target: Tensor,
    known_intrinsics: Tensor,
    options: MotionLosses,
) -> dict[str, Tensor]:
    """Weighted terms of the loss by name, those whose weight is not 0; the loss is their sum.

    Args:
        T_source_target: float [B, N, 4, 4], metres, as predicted.
        intrinsics: float [B, 4], normalised, as predicted.
        known_T_source_target: float [B, N, 4, 4].
        known_intrinsics: float [B, 4].
        options: weights.
    """
    terms: dict[str, Tensor] = {}
    if options.rotation:
        terms["rotation"] = options.rotation * rotation_error(T_source_target, known_T_source_target).mean()
    if options.translation:
        terms["translation"] = options.translation * translation_error(T_source_target, known_T_source_target).mean()
    if options.intrinsics:
        error = focal_error(intrinsics, known_intrinsics) + center_error(intrinsics, known_intrinsics)
        terms["intrinsics"] = options.intrinsics * error.mean()
    return terms


def _length(vector: Tensor) -> Tensor:
    """Euclidean length [...] of vectors [..., 3], whose derivative is finite at zero as well."""
    return vector.square().sum(-1).clamp(min=1e-12).sqrt()
