"""Signals after models were loaded and unloaded, in a process that a mistake would end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

SIGNALS_AFTER_MODELS = """
import faulthandler, signal, sys
from depth_node.backends import create_backend
from depth_node.model import read_model
faulthandler.enable()  # gives this thread a signal stack
signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
first, second = (create_backend(read_model(sys.argv[1]), "openvino", "fp32") for _ in range(2))
signal.raise_signal(signal.SIGUSR1)
first.close()
second.close()
del first, second
signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_after_two_models_are_unloaded_in_the_order_of_loading(tiny_model_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SIGNALS_AFTER_MODELS, str(tiny_model_path)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "signal\n" * 2), run.stderr
