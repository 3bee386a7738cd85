"""The node's diagnostics and camera_info in words and numbers. No ROS, no Rerun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from depth_node.camera_messages import UNCALIBRATED

# Diagnostics that become curves: entity below `plots/` -> key.
PLOTTED = {
    "latency/p50": "latency_p50_ms",
    "latency/p95": "latency_p95_ms",
    "rate/input": "input_hz",
    "rate/output": "output_hz",
}

# What is read first; all others come below it.
_FIRST_KEYS = (
    "state",
    "intrinsics_source",
    "scale_source",
    "input_hz",
    "output_hz",
    "latency_p50_ms",
    "latency_p95_ms",
    "stamp_age_p95_s",
    "lost_share",
    "frames_dropped",
    "last_error",
)

_LEVELS = {b"\x00": "OK", b"\x01": "WARNING", b"\x02": "ERROR", b"\x03": "STALE"}  # diagnostic_msgs/DiagnosticStatus


def is_of_depth_node(status_name: str, namespace: str) -> bool:
    """Whether a DiagnosticStatus is of the depth node in `namespace` (`/` or `/robot1`).

    The node names it `NAMESPACE/NAME: depth`, or `NAME: depth` where its diagnostic_updater.use_fqn is false.
    """
    node_name, separator, task = status_name.rpartition(": ")
    parent, _, name = node_name.rpartition("/")
    return separator != "" and task == "depth" and name != "" and parent in ("", namespace.rstrip("/"))


def diagnostic_values(status: Any) -> dict[str, str]:
    """Key-value pairs of a DiagnosticStatus."""
    return {pair.key: pair.value for pair in status.values}


def plotted_values(values: Mapping[str, str]) -> dict[str, float]:
    """Numbers of `PLOTTED` by entity; NaN, which the node reports before its first frame, is no number to plot."""
    numbers = {entity: float(values[key]) for entity, key in PLOTTED.items() if key in values}
    return {entity: number for entity, number in numbers.items() if number == number}  # noqa: PLR0124


def intrinsics(info: Any) -> dict[str, float]:
    """fx, fy, cx, cy of a CameraInfo, in pixels."""
    return {name: float(info.k[index]) for name, index in (("fx", 0), ("fy", 4), ("cx", 2), ("cy", 5))}


def status_markdown(status: Any | None, info: Any | None) -> str:
    """A page: the status in one sentence, the camera in use, and a table of all diagnostics.

    status: DiagnosticStatus, info: CameraInfo; None where there was none yet.
    """
    lines = ["*no diagnostics yet*" if status is None else f"**{_level(status)}** {status.message}", ""]
    lines += [_camera_line(info), ""]
    if status is not None:
        values = diagnostic_values(status)
        first = [key for key in _FIRST_KEYS if key in values]
        lines += ["| | |", "| --- | --- |"]
        lines += [f"| {key} | {_cell(values[key])} |" for key in (*first, *(k for k in values if k not in first))]
    return "\n".join(lines) + "\n"


def _level(status: Any) -> str:
    level = status.level if isinstance(status.level, bytes) else bytes([status.level])  # rosbags has an int
    return _LEVELS.get(level, "?")


def _camera_line(info: Any | None) -> str:
    if info is None:
        return "*no depth/camera_info yet*"
    values = ", ".join(f"{name} {value:.1f}" for name, value in intrinsics(info).items())
    source = "uncalibrated: the model's prior" if info.distortion_model == UNCALIBRATED else "calibrated"
    return f"{info.width}x{info.height} px, {values} ({source})"


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")
