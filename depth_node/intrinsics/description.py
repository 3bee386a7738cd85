"""What is known of a camera, in words and as key-value pairs."""

from __future__ import annotations

from depth_node.camera import PinholeCamera
from depth_node.intrinsics.selection import SelectedCamera
from depth_node.intrinsics.tracker import TrackedIntrinsics
from depth_node.rectification import Rectification

VISIBLE_DISTORTION = (
    0.05  # of k1; an image's corner then is off by a per cent of its distance from the middle, and more
)


def state_sentence(tracked: TrackedIntrinsics) -> str:
    """The state of an estimate, with its numbers."""
    estimate = tracked.estimate
    known = f"focal length {tracked.camera.fx:.1f} pixels, sigma {estimate.relative_sigma:.1%}"
    if estimate.is_distorted:
        known += f", lens distortion k1 {estimate.distortion:.3f}"
    if estimate.is_rolling:
        known += f", rolling shutter of {1e3 * estimate.readout:.1f} ms"
    return f"{estimate.state}: {known} after {estimate.rotation:.2f} rad of rotation"


def focal_lengths(camera: PinholeCamera, tracked: TrackedIntrinsics) -> str:
    """The focal length of a camera_info beside the learned one."""
    learned = tracked.camera
    sigma = tracked.estimate.relative_sigma * learned.fx
    return f"its focal length is {camera.fx:.1f} pixels, the learned one {learned.fx:.1f} with a sigma of {sigma:.1f}"


def distortion_warning(selected: SelectedCamera, tracked: TrackedIntrinsics) -> str:
    """What to do about a lens that visibly distorts, while points are computed as of one that does not; else empty."""
    estimate = tracked.estimate
    is_rectified = isinstance(selected.camera, Rectification) or tracked.is_rectified
    is_known = is_rectified or selected.source == "learned" or selected.pinhole.is_distorted
    if is_known or not estimate.is_distorted or abs(estimate.distortion) < VISIBLE_DISTORTION:
        return ""
    return (
        f"the lens distorts (k1 {estimate.distortion:.2f}), but not the camera in use ({selected.source}): calibrate "
        "anew, or set intrinsics.source to learned"
    )


def selected_values(selected: SelectedCamera) -> dict[str, str]:
    """Which camera is in use."""
    return {
        "source": selected.source,
        "generation": str(selected.generation),
        "generation_since": f"{selected.since_ns // 10**9}.{selected.since_ns % 10**9:09d}",
    }


def tracked_values(tracked: TrackedIntrinsics, deviation: float | None) -> dict[str, str]:
    """What was learned; deviation: of the camera_info in use, in standard deviations, if it is known."""
    camera, estimate = tracked.camera, tracked.estimate
    return {
        "state": estimate.state,
        **{name: f"{getattr(camera, name):.2f}" for name in ("fx", "fy", "cx", "cy")},
        "relative_sigma": f"{estimate.relative_sigma:.5f}",
        "focal_length_sigma": f"{estimate.relative_sigma * camera.fx:.2f}",
        "distortion_k1": f"{estimate.distortion:.5f}",
        "distortion_sigma": f"{estimate.distortion_sigma:.5f}",
        "readout": f"{estimate.readout:.5f}",
        "readout_sigma": f"{estimate.readout_sigma:.5f}",
        "rotation": f"{estimate.rotation:.4f}",
        "pairs": str(estimate.pairs),
        "size": f"{tracked.width}x{tracked.height}",
        **{f"rejected_{reason.replace(' ', '_')}": str(count) for reason, count in estimate.rejected.items()},
        "camera_info_deviation": "" if deviation is None else f"{deviation:.2f}",
    }
