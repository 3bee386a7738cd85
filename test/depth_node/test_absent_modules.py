"""Libraries without what they can do without."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from depth_node.backends.absent_modules import absent_modules


def test_absent_inside_and_there_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)  # other tests may have had it imported
    with absent_modules("colorsys", "json"):
        assert importlib.import_module("json") is json  # it was there before
        with pytest.raises(ImportError):
            importlib.import_module("colorsys")
    importlib.import_module("colorsys")


def test_openvino_reports_nothing_to_anybody() -> None:
    """Its telemetry forks the process to reach the network: at each start of a robot."""
    pytest.importorskip("openvino")
    script = (
        "import sys, threading, depth_node.backends.openvino; "
        "sys.exit('openvino_telemetry' in sys.modules or threading.active_count() > 1)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
