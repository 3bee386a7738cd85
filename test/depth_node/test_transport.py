"""The Fast DDS profile of our processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
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


def test_a_node_started_with_it_announces_itself_twice_a_second(private_ros_domain: dict[str, str]) -> None:
    """Fast DDS: every 3 s. Who missed the answer to its own first announcement waits for the next."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        pytest.skip("another middleware than Fast DDS")
    # In a range of one machine, announcements go to the ports of its first 32 participants (RTPS 2.2, 9.6.1.1).
    domain, participant = int(private_ros_domain["ROS_DOMAIN_ID"]), 30
    script = "import sys, rclpy; rclpy.init(); node = rclpy.create_node('announcer'); sys.stdin.read()"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 7400 + 250 * domain + 10 + 2 * participant))
        listener.settimeout(20)
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as announcer:
            try:
                first = _moment_of_announcement(listener)
                while _moment_of_announcement(listener) < first + 1.5:  # a new participant announces itself more often
                    pass
                moments = [_moment_of_announcement(listener) for _ in range(3)]
            finally:
                announcer.communicate()
    assert moments[2] - moments[0] < 2.5  # 1.0, and room for a busy machine; Fast DDS's own: 6.0


def _moment_of_announcement(listener: socket.socket) -> float:
    """When the next one comes; each is sent from two sockets, at once."""
    assert listener.recv(65536).startswith(b"RTPS")
    moment = time.monotonic()
    listener.settimeout(0.05)
    try:
        while listener.recv(65536):
            pass
    except TimeoutError:
        listener.settimeout(20)
    return moment
