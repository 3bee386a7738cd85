"""The Fast DDS profile of our processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from depth_node.resources import share_file
from depth_node.transport import PROFILE_VARIABLES, use_shipped_fastdds_profile


def test_shipped_profile_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    use_shipped_fastdds_profile()
    assert Path(os.environ[PROFILE_VARIABLES[0]]) == share_file("config/fastdds.xml")
    monkeypatch.delenv(PROFILE_VARIABLES[0])


@pytest.mark.parametrize("variable", PROFILE_VARIABLES)
def test_a_chosen_profile_stays(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/mine.xml")
    use_shipped_fastdds_profile()
    assert {name: os.environ[name] for name in PROFILE_VARIABLES if name in os.environ} == {variable: "/mine.xml"}


def test_a_node_started_with_it_has_the_large_segment() -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    script = """
import glob, os
before = set(glob.glob("/dev/shm/fastrtps_*"))
from depth_node.transport import use_shipped_fastdds_profile
use_shipped_fastdds_profile()
import rclpy
rclpy.init()
node = rclpy.create_node("segment")
new = set(glob.glob("/dev/shm/fastrtps_*")) - before
print(max((os.path.getsize(path) for path in new), default=0))
node.destroy_node()
rclpy.shutdown()
"""
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        pytest.skip("another middleware than Fast DDS")
    environment = {name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 64 * 1024 * 1024
