"""Level, sentence and keys of the diagnostic status."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from depth_node.diagnostics import RECENT_ERROR_S, NodeStatus, diagnostic_array
from depth_node.statistics import Percentiles, Snapshot

ACTIVE = NodeStatus(
    state="active",
    model="depth-base",
    model_checksum="abc",
    backend="openvino",
    device="CPU (some processor)",
    precision="bf16",
    intrinsics_source="camera_info",
)
RUNNING = Snapshot(
    frames_in=100,
    frames_published=90,
    frames_dropped=8,
    frames_unwanted=2,
    errors={},
    last_error="",
    seconds_since_error=float("inf"),
    input_hz=10.0,
    output_hz=9.0,
    latency=Percentiles(41.25, 55.0, 60.0),
    stages_ms={"decode": 1.5, "inference": 30.0},
)


def status_of(status: NodeStatus, statistics: Snapshot) -> DiagnosticStatus:
    message = diagnostic_array("/robot/depth_node", status, statistics, Time(sec=12))
    assert message.header.stamp.sec == 12
    (entry,) = message.status
    return entry


def test_running_node_is_ok() -> None:
    entry = status_of(ACTIVE, RUNNING)
    assert entry.level == DiagnosticStatus.OK
    assert entry.message == "depth at 9.0 Hz"
    assert entry.name == "/robot/depth_node: depth"
    assert entry.hardware_id == "CPU (some processor)"


def test_keys_and_values() -> None:
    values = {pair.key: pair.value for pair in status_of(ACTIVE, RUNNING).values}
    assert values == {
        "state": "active",
        "model": "depth-base",
        "model_checksum": "abc",
        "backend": "openvino",
        "device": "CPU (some processor)",
        "precision": "bf16",
        "intrinsics_source": "camera_info",
        "frames_in": "100",
        "frames_published": "90",
        "frames_dropped": "8",
        "frames_unwanted": "2",
        "input_hz": "10.00",
        "output_hz": "9.00",
        "latency_p50_ms": "41.25",
        "latency_p95_ms": "55.00",
        "latency_p99_ms": "60.00",
        "decode_p50_ms": "1.50",
        "inference_p50_ms": "30.00",
        "last_error": "",
    }


@pytest.mark.parametrize(
    ("status", "statistics", "level", "said"),
    [
        ({"intrinsics_source": "prior"}, {}, DiagnosticStatus.WARN, "no usable camera_info"),
        ({}, {"last_error": "step of 3 bytes", "seconds_since_error": 1.0}, DiagnosticStatus.WARN, "step of 3 bytes"),
        ({}, {"seconds_since_error": RECENT_ERROR_S + 1}, DiagnosticStatus.OK, "depth at"),
        ({"silence": "nobody publishes /image"}, {"input_hz": 0.0}, DiagnosticStatus.WARN, "nobody publishes /image"),
        ({}, {"output_hz": 0.0}, DiagnosticStatus.OK, "nobody listens"),
        ({"state": "inactive"}, {"input_hz": 0.0}, DiagnosticStatus.OK, "inactive"),
        ({"state": "unconfigured", "failure": "no such model"}, {}, DiagnosticStatus.ERROR, "no such model"),
    ],
)
def test_level_and_sentence(status: dict[str, str], statistics: dict[str, float], level: bytes, said: str) -> None:
    entry = status_of(replace(ACTIVE, **status), replace(RUNNING, **statistics))
    assert entry.level == level
    assert said in entry.message


def test_errors_are_listed_by_kind() -> None:
    entry = status_of(ACTIVE, replace(RUNNING, errors={"step": 3, "encoding": 1}, last_error="encoding 'x'"))
    values = {pair.key: pair.value for pair in entry.values}
    assert (values["errors_step"], values["errors_encoding"], values["last_error"]) == ("3", "1", "encoding 'x'")
