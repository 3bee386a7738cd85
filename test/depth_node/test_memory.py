"""Freed memory stays with the process: counted in page faults, by a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, threading
import numpy as np
from depth_node.memory import keep_freed_memory

def frame():
    depth = np.ones((375, 1242), np.float32)
    color = np.ones((375, 1242, 3), np.uint8)
    del depth
    cloud = np.ones((188, 621, 4), np.float32)

def frames():
    frame()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        frame()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == "keep":
    assert keep_freed_memory()
thread = threading.Thread(target=frames)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_buffers_of_images_are_used_again() -> None:
    def faults(how: str) -> int:
        environment = {"PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, env=environment
        )
        return int(run.stdout)

    assert faults("keep") < 100
    assert faults("default") > 10_000
