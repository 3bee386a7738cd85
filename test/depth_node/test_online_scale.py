"""What the topic `scale` says."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from depth_node.online_scale import scale_status
from depth_node.scale import ScaleEstimate, unknown_scale


@pytest.mark.parametrize(
    ("estimate", "level", "message"),
    [
        (ScaleEstimate(1.25, "odometry", 0.1, "31 pairs"), DiagnosticStatus.OK, "metric, from odometry"),
        (ScaleEstimate(1.25, "odometry", 0.1, "31 pairs", "they differ"), DiagnosticStatus.WARN, "they differ"),
        (unknown_scale("no odometry"), DiagnosticStatus.WARN, "up to scale: no odometry"),
    ],
)
def test_status_of_a_scale(estimate: ScaleEstimate, level: bytes, message: str) -> None:
    status = scale_status(estimate, "/depth_node: scale")
    values = {pair.key: pair.value for pair in status.values}
    assert (status.level, status.name, status.message) == (level, "/depth_node: scale", message)
    assert float(values["factor"]) == estimate.factor
    assert float(values["relative_sigma"]) == pytest.approx(estimate.relative_sigma, nan_ok=True)
    assert (values["source"], values["reason"]) == (estimate.source, estimate.reason)
