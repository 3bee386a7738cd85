"""The node's message on /diagnostics (REP 107): one status with a plain sentence and key-value pairs."""

from __future__ import annotations

from dataclasses import dataclass

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from depth_node.statistics import Snapshot

# An error makes the status a warning for so long.
RECENT_ERROR_S = 10.0


@dataclass(frozen=True)
class NodeStatus:
    """What the node is doing, beside its statistics.

    state: of the lifecycle; failure: why it could not be configured; silence: why no images come in, if none do;
    intrinsics_source: `camera_info`, `prior`, or nothing before the first frame; the rest is empty while no model is
    loaded.
    """

    state: str
    failure: str = ""
    silence: str = ""
    model: str = ""
    model_checksum: str = ""
    backend: str = ""
    device: str = ""
    precision: str = ""
    intrinsics_source: str = ""


def diagnostic_array(node_name: str, status: NodeStatus, statistics: Snapshot, stamp: Time) -> DiagnosticArray:
    """One DiagnosticStatus, named after the node."""
    level, message = _summary(status, statistics)
    values = [KeyValue(key=key, value=value) for key, value in _values(status, statistics).items()]
    entry = DiagnosticStatus(
        level=level, name=f"{node_name}: depth", message=message, hardware_id=status.device, values=values
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[entry])


def _summary(status: NodeStatus, statistics: Snapshot) -> tuple[bytes, str]:
    if status.failure:
        return DiagnosticStatus.ERROR, status.failure
    if status.state != "active":
        return DiagnosticStatus.OK, f"{status.state}: no depth is computed"
    warnings = []
    if statistics.seconds_since_error < RECENT_ERROR_S:
        warnings.append(statistics.last_error)
    if status.silence:
        warnings.append(status.silence)
    if status.intrinsics_source == "prior":
        warnings.append("no usable camera_info: the intrinsics are the model's prior, so the geometry is approximate")
    if warnings:
        return DiagnosticStatus.WARN, "; ".join(warnings)
    if statistics.output_hz == 0:
        return DiagnosticStatus.OK, "nobody listens: no depth is computed"
    return DiagnosticStatus.OK, f"depth at {statistics.output_hz:.1f} Hz"


def _values(status: NodeStatus, statistics: Snapshot) -> dict[str, str]:
    values = {
        "state": status.state,
        "model": status.model,
        "model_checksum": status.model_checksum,
        "backend": status.backend,
        "device": status.device,
        "precision": status.precision,
        "intrinsics_source": status.intrinsics_source,
        "frames_in": str(statistics.frames_in),
        "frames_published": str(statistics.frames_published),
        "frames_dropped": str(statistics.frames_dropped),
        "frames_unwanted": str(statistics.frames_unwanted),
        "input_hz": f"{statistics.input_hz:.2f}",
        "output_hz": f"{statistics.output_hz:.2f}",
        "latency_p50_ms": f"{statistics.latency.p50:.2f}",
        "latency_p95_ms": f"{statistics.latency.p95:.2f}",
        "latency_p99_ms": f"{statistics.latency.p99:.2f}",
    }
    values |= {f"{stage}_p50_ms": f"{median:.2f}" for stage, median in statistics.stages_ms.items()}
    values |= {f"errors_{kind}": str(count) for kind, count in statistics.errors.items()}
    values["last_error"] = statistics.last_error
    return values
