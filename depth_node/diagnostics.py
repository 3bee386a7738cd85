"""The node's status for /diagnostics (REP 107): a level, a plain sentence and key-value pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from depth_node.backends import SupervisedState
from depth_node.scale import ScaleEstimate
from depth_node.statistics import Percentiles, Snapshot

TASK = "depth"
# An error makes the status a warning for so long.
RECENT_ERROR_S = 10.0


@dataclass(frozen=True)
class NodeStatus:
    """What the node is doing, beside its statistics.

    state: of the lifecycle; enabled: by the service ~/set_enabled.
    failure: why it could not be configured; silence: why no images come in; input_loss: why many of them are lost on
    their way here; each empty where it is not so.
    rivals: who else publishes depth on the same topic, if somebody does.
    lost_share: of the recent images, the share that was lost before it came here, 0 to 1.
    intrinsics: what is known of them, by key; intrinsics_warning: why those in use are not to be trusted, if so.
    scale: of the last result; None before it. odometry_silence: why no odometry comes in that it should be made of.
    backend_state: what is wrong with the backend, and what it waits for.
    The rest is empty while no model is loaded.
    """

    state: str
    enabled: bool = True
    failure: str = ""
    silence: str = ""
    rivals: str = ""
    input_loss: str = ""
    lost_share: float = 0.0
    model: str = ""
    model_checksum: str = ""
    backend: str = ""
    device: str = ""
    precision: str = ""
    intrinsics: Mapping[str, str] = field(default_factory=dict)
    intrinsics_warning: str = ""
    scale: ScaleEstimate | None = None
    odometry_silence: str = ""
    backend_state: SupervisedState = field(default_factory=SupervisedState)


def diagnostic_status(status: NodeStatus, statistics: Snapshot) -> DiagnosticStatus:
    """The status, named `depth`; whoever publishes it puts the node's name before that."""
    level, message = _summary(status, statistics)
    values = [KeyValue(key=key, value=value) for key, value in _values(status, statistics).items()]
    # diagnostic_updater asks for a hardware_id at all times, `none` where there is no hardware.
    return DiagnosticStatus(level=level, name=TASK, message=message, hardware_id=status.device or "none", values=values)


def _summary(status: NodeStatus, statistics: Snapshot) -> tuple[bytes, str]:
    if failure := status.failure or status.backend_state.fault:
        return DiagnosticStatus.ERROR, failure
    if status.state != "active":
        return DiagnosticStatus.OK, f"{status.state}: no depth is computed"
    if not status.enabled:
        return DiagnosticStatus.OK, "disabled by ~/set_enabled: no depth is computed"
    warnings = []
    if statistics.seconds_since_error < RECENT_ERROR_S:
        warnings.append(statistics.last_error)
    reasons = (
        status.backend_state.notice,
        status.silence,
        status.rivals,
        status.input_loss,
        status.intrinsics_warning,
    )
    warnings += [reason for reason in reasons if reason]
    if status.odometry_silence:
        warnings.append(status.odometry_silence)
    if status.scale is not None and not status.scale.is_known:
        warnings.append(f"depth is up to scale, not in metres: {status.scale.reason} (see scale.mode)")
    elif status.scale is not None and status.scale.warning:
        warnings.append(status.scale.warning)
    if warnings:
        return DiagnosticStatus.WARN, "; ".join(warnings)
    if not statistics.is_wanted:
        return DiagnosticStatus.OK, "nobody listens: no depth is computed"
    return DiagnosticStatus.OK, f"depth at {statistics.output_hz:.1f} Hz"


def _values(status: NodeStatus, statistics: Snapshot) -> dict[str, str]:
    values = {
        "state": status.state,
        "enabled": "true" if status.enabled else "false",
        "model": status.model,
        "model_checksum": status.model_checksum,
        "backend": status.backend,
        "device": status.device,
        "precision": status.precision,
        "backend_failures": str(status.backend_state.failures),
        "intrinsics_source": "",
        **status.intrinsics,
        **_scale_values(status.scale),
        "frames_in": str(statistics.frames_in),
        "frames_published": str(statistics.frames_published),
        "frames_dropped": str(statistics.frames_dropped),
        "frames_unwanted": str(statistics.frames_unwanted),
        "frames_skipped": str(statistics.frames_skipped),
        "frames_faulty": str(statistics.frames_faulty),
        "lost_share": f"{status.lost_share:.3f}",
        "input_hz": f"{statistics.input_hz:.2f}",
        "output_hz": f"{statistics.output_hz:.2f}",
        "stamp_age_p50_s": f"{statistics.stamp_age.p50:.3f}",
        "stamp_age_p95_s": f"{statistics.stamp_age.p95:.3f}",
        **_milliseconds("latency", statistics.latency),
        "latency_p99_ms": f"{statistics.latency.p99:.2f}",
        **_milliseconds("overhead", statistics.overhead),
    }
    for stage, duration in statistics.stages.items():
        values |= _milliseconds(stage, duration)
    values |= {f"errors_{kind}": str(count) for kind, count in statistics.errors.items()}
    values["last_error"] = statistics.last_error
    values["last_error_age_s"] = f"{statistics.seconds_since_error:.1f}" if statistics.last_error else ""
    return values


def _scale_values(scale: ScaleEstimate | None) -> dict[str, str]:
    if scale is None:
        return {"scale_source": "", "scale_factor": "1"}
    return {
        "scale_source": scale.source,
        "scale_factor": f"{scale.factor:.4g}",
        "scale_relative_sigma": f"{scale.relative_sigma:.4f}",
        "scale_reason": scale.reason,
    }


def _milliseconds(name: str, duration: Percentiles) -> dict[str, str]:
    return {f"{name}_p50_ms": f"{duration.p50:.2f}", f"{name}_p95_ms": f"{duration.p95:.2f}"}
