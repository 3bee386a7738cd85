"""Level, sentence and keys of the diagnostic status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from depth_node.backends import SupervisedState
from depth_node.diagnostics import RECENT_ERROR_S, NodeStatus, diagnostic_status
from depth_node.scale import ScaleEstimate, unknown_scale
from depth_node.statistics import Percentiles, Snapshot

ACTIVE = NodeStatus(
    state="active",
    model="depth-base",
    model_checksum="abc",
    backend="openvino",
    device="CPU (some processor)",
    precision="bf16",
    intrinsics={"intrinsics_source": "camera_info", "intrinsics_generation": "1"},
    scale=ScaleEstimate(1.23456, "camera_height", 0.0512, "ground in 30 of 31 frames"),
    lost_share=0.0631,
)
RUNNING = Snapshot(
    frames_in=100,
    frames_published=90,
    frames_dropped=8,
    frames_unwanted=2,
    frames_skipped=20,
    frames_faulty=3,
    is_wanted=True,
    errors={},
    last_error="",
    seconds_since_error=float("inf"),
    input_hz=10.0,
    output_hz=9.0,
    stamp_age=Percentiles(0.0124, 0.25, 0.5),
    latency=Percentiles(41.25, 55.0, 60.0),
    overhead=Percentiles(11.25, 15.0, 20.0),
    stages={"decode": Percentiles(1.5, 2.0, 2.5), "inference": Percentiles(30.0, 40.0, 50.0)},
)


def test_running_node_is_ok() -> None:
    entry = diagnostic_status(ACTIVE, RUNNING)
    assert entry.level == DiagnosticStatus.OK
    assert entry.message == "depth at 9.0 Hz"
    assert entry.name == "depth"
    assert entry.hardware_id == "CPU (some processor)"


def test_keys_and_values() -> None:
    values = {pair.key: pair.value for pair in diagnostic_status(ACTIVE, RUNNING).values}
    assert values == {
        "state": "active",
        "enabled": "true",
        "model": "depth-base",
        "model_checksum": "abc",
        "backend": "openvino",
        "device": "CPU (some processor)",
        "precision": "bf16",
        "backend_failures": "0",
        "intrinsics_source": "camera_info",
        "intrinsics_generation": "1",
        "scale_source": "camera_height",
        "scale_factor": "1.235",
        "scale_relative_sigma": "0.0512",
        "scale_reason": "ground in 30 of 31 frames",
        "frames_in": "100",
        "frames_published": "90",
        "frames_dropped": "8",
        "frames_unwanted": "2",
        "frames_skipped": "20",
        "frames_faulty": "3",
        "lost_share": "0.063",
        "input_hz": "10.00",
        "output_hz": "9.00",
        "stamp_age_p50_s": "0.012",
        "stamp_age_p95_s": "0.250",
        "latency_p50_ms": "41.25",
        "latency_p95_ms": "55.00",
        "latency_p99_ms": "60.00",
        "overhead_p50_ms": "11.25",
        "overhead_p95_ms": "15.00",
        "decode_p50_ms": "1.50",
        "decode_p95_ms": "2.00",
        "inference_p50_ms": "30.00",
        "inference_p95_ms": "40.00",
        "last_error": "",
        "last_error_age_s": "",
    }


@pytest.mark.parametrize(
    ("status", "statistics", "level", "said"),
    [
        ({"intrinsics_warning": "no usable camera_info"}, {}, DiagnosticStatus.WARN, "no usable camera_info"),
        ({}, {"last_error": "step of 3 bytes", "seconds_since_error": 1.0}, DiagnosticStatus.WARN, "step of 3 bytes"),
        ({}, {"seconds_since_error": RECENT_ERROR_S + 1}, DiagnosticStatus.OK, "depth at"),
        ({"backend_state": SupervisedState("device lost")}, {}, DiagnosticStatus.ERROR, "device lost"),
        ({"backend_state": SupervisedState("", "preparing")}, {}, DiagnosticStatus.WARN, "preparing"),
        ({"silence": "nobody publishes /image"}, {"input_hz": 0.0}, DiagnosticStatus.WARN, "nobody publishes /image"),
        ({"rivals": "2 publishers on /depth/image"}, {}, DiagnosticStatus.WARN, "2 publishers on /depth/image"),
        ({"input_loss": "a third of the images is lost"}, {}, DiagnosticStatus.WARN, "a third of the images is lost"),
        (
            {"scale": unknown_scale("no odometry")},
            {},
            DiagnosticStatus.WARN,
            "depth is up to scale, not in metres: no odometry",
        ),
        ({"intrinsics": {}, "scale": None}, {"output_hz": 0.0}, DiagnosticStatus.OK, "depth at 0.0 Hz"),
        (
            {"enabled": False, "intrinsics_warning": "no usable camera_info"},
            {},
            DiagnosticStatus.OK,
            "disabled by ~/set_enabled",
        ),
        ({"enabled": False, "state": "inactive"}, {}, DiagnosticStatus.OK, "inactive"),
        ({}, {"is_wanted": False}, DiagnosticStatus.OK, "nobody listens"),
        ({"state": "inactive"}, {"input_hz": 0.0}, DiagnosticStatus.OK, "inactive"),
        ({"state": "unconfigured", "failure": "no such model"}, {}, DiagnosticStatus.ERROR, "no such model"),
    ],
)
def test_level_and_sentence(status: dict[str, Any], statistics: dict[str, Any], level: bytes, said: str) -> None:
    entry = diagnostic_status(replace(ACTIVE, **status), replace(RUNNING, **statistics))
    assert entry.level == level
    assert said in entry.message


def test_every_reason_to_warn_is_said() -> None:
    status = replace(
        ACTIVE, intrinsics_warning="no usable camera_info", scale=unknown_scale("no odometry"), input_loss="lost"
    )
    entry = diagnostic_status(status, replace(RUNNING, last_error="step of 3 bytes", seconds_since_error=1.0))
    assert entry.message.startswith("step of 3 bytes; lost; no usable camera_info")
    assert entry.message.endswith("(see scale.mode)")


def test_a_node_without_a_model_has_no_hardware() -> None:
    assert diagnostic_status(NodeStatus("unconfigured"), RUNNING).hardware_id == "none"


def test_errors_are_listed_by_kind() -> None:
    failed: dict[str, Any] = {
        "errors": {"step": 3, "encoding": 1},
        "last_error": "encoding 'x'",
        "seconds_since_error": 71.26,
    }
    entry = diagnostic_status(ACTIVE, replace(RUNNING, **failed))
    values = {pair.key: pair.value for pair in entry.values}
    assert (values["errors_step"], values["errors_encoding"], values["last_error"]) == ("3", "1", "encoding 'x'")
    assert values["last_error_age_s"] == "71.3"
