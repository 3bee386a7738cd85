"""The demo's numbers: report.json, and a table of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from sensor_msgs.msg import CameraInfo


def build_report(diagnostics: Mapping[str, str], camera_info: CameraInfo, abs_rel: Sequence[float]) -> dict[str, Any]:
    """What report.json holds; a number that is not known is None.

    diagnostics: the node's own key-value pairs, after the drive. camera_info: as the node published it with its depth.
    abs_rel: of every frame with truth.
    """

    def number(key: str) -> float | None:
        value = float(diagnostics[key])
        return value if math.isfinite(value) else None

    return {
        "model": diagnostics["model"],
        "backend": diagnostics["backend"],
        "frames_in": int(diagnostics["frames_in"]),
        "frames_published": int(diagnostics["frames_published"]),
        "frames_dropped": int(diagnostics["frames_dropped"]),
        "input_hz": number("input_hz"),
        "output_hz": number("output_hz"),
        "latency_ms": {name: number(f"latency_{name}_ms") for name in ("p50", "p95", "p99")},
        "abs_rel": round(float(np.nanmean(abs_rel)), 4) if np.isfinite(abs_rel).any() else None,
        "intrinsics": {
            "source": diagnostics["intrinsics_source"],
            "fx": camera_info.k[0],
            "fy": camera_info.k[4],
            "cx": camera_info.k[2],
            "cy": camera_info.k[5],
        },
    }


def report_table(report: Mapping[str, Any]) -> Table:
    """The report for people."""
    latency, intrinsics = report["latency_ms"], report["intrinsics"]
    abs_rel = report["abs_rel"]
    rows = {
        "model": report["model"],
        "backend": report["backend"],
        "frames": f"{report['frames_in']} in, {report['frames_published']} out, {report['frames_dropped']} dropped",
        "rate": f"{_text(report['input_hz'])} Hz in, {_text(report['output_hz'])} Hz out",
        "latency": f"{_text(latency['p50'])} ms median, {_text(latency['p95'])} ms p95, {_text(latency['p99'])} ms p99",
        "abs_rel": "no true depth in this bag"
        if abs_rel is None
        else f"{abs_rel:.3f} (median-scaled, against true depth)",
        "intrinsics": f"{intrinsics['source']}: "
        + ", ".join(f"{k} {intrinsics[k]:.1f}" for k in ("fx", "fy", "cx", "cy")),
    }
    table = Table(show_header=False, title="depth_node demo", title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"
