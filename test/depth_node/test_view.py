"""The tool as a user starts it: its options, and its process beside a real node."""

from __future__ import annotations

import re
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rerun")


from depth_node.errors import DepthNodeError
from depth_node.tools import run
from depth_node.tools.view import scene
from depth_node.tools.view.command import main
from depth_node.tools.view.options import image_topic, parse_arguments
from viewing import free_ports, get, jpeg_of, pixels, read_recording


def test_image_topic_is_named_as_image_transport_has_it() -> None:
    def topic(*arguments: str) -> str:
        return image_topic(parse_arguments(arguments))

    assert topic() == "rgb/image_rect"
    assert topic("--image", "/cam/image") == "/cam/image"
    assert topic("--image", "/cam/image", "--image-transport", "compressed") == "/cam/image/compressed"
    assert topic("--image", "/cam/image/compressed", "--image-transport", "compressed") == "/cam/image/compressed"
    assert topic("--image", "/cam/image/compressed") == "/cam/image/compressed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "0"], "0; expected 1 to 65535"),
        (["--port", "web"], "invalid port value: 'web'"),
        (["--max-rate", "-1"], "-1; expected 0 or more"),
        (["--max-rate", "nan"], "nan; expected 0 or more"),
        (["--duration", "0"], "0; expected more than 0"),
        (["--jpeg-quality", "101"], "101; expected 1 to 100"),
        (["--bind", "robot"], "invalid IPv4 address value: 'robot'"),
        (["--save", "a.rrd", "--port", "80"], "--port goes with a viewer"),
    ],
)
def test_impossible_options_are_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(arguments)
    assert said in capsys.readouterr().err


def test_without_rerun_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert run("view", []) == 2
    assert capsys.readouterr().err == "view: needs the Python package rerun-sdk: pip install 'depth_node[view]'\n"


def test_unwritable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DepthNodeError, match=r"cannot write .*drive\.rrd: No such file or directory"):
        main(["--save", str(tmp_path / "absent" / "drive.rrd")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--namespace", "a b"], "--namespace a b: Invalid namespace"),
        (["--save", "FILE", "--image", "a b"], "'a b' is no name of a topic"),
        (["--memory-limit", "lots", "--port", "PORT", "--grpc-port", "PORT"], "expected e.g. '16GB', got \"lots\""),
    ],
)
def test_what_only_ros_and_rerun_know_to_be_wrong(
    private_ros_domain: dict[str, str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    ports = iter(free_ports(2))
    given = [str(next(ports)) if a == "PORT" else str(tmp_path / "a.rrd") if a == "FILE" else a for a in arguments]
    with pytest.raises(DepthNodeError, match=re.escape(said)):
        main(given)


# Processes over DDS


def start_view(log: Path, namespace: str, *arguments: str) -> subprocess.Popen[bytes]:
    from node_harness import start_python

    return start_python(log, "-m", "depth_node", "view", "--namespace", namespace, *arguments)


def stop(process: subprocess.Popen[bytes], number: int) -> tuple[int, float]:
    started = time.monotonic()
    process.send_signal(number)
    return process.wait(20), time.monotonic() - started


def test_a_real_node_is_recorded(start: Callable[..., Any], tmp_path: Path) -> None:
    from node_harness import HEIGHT, PRIOR, WIDTH, expected_depth, grey_image, kill

    with start() as (_, client):
        client.wait_until_active()
        file, log = tmp_path / "drive.rrd", tmp_path / "log"
        process = start_view(log, client.node.get_namespace(), "--save", str(file), "--max-rate", "0")
        try:
            topics = ("depth/image", "depth/camera_info", "points", "rgb/image_rect")
            client.wait(lambda: all(client.node.count_subscribers(client.resolved(topic)) for topic in topics))
            for topic in ("depth/color", "depth/confidence", "scan"):
                assert client.node.count_subscribers(client.resolved(topic)) == 0
            sent = []
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                sent.append(client.send(grey_image(client.header())).header.stamp)
                client.spin(0.2)
            code, seconds = stop(process, signal.SIGINT)
        finally:
            kill(process)
        said = log.read_text()
        assert code == 0, said
        assert seconds < 2
        assert "Traceback" not in said
        assert re.search(r"drive.rrd: \d+ depth images", said)

    rows = read_recording(file)
    stamps = {stamp.sec * 1_000_000_000 + stamp.nanosec for stamp in sent}
    for entity in (scene.DEPTH, scene.IMAGE, scene.POINTS, scene.CAMERA):
        assert len(rows[entity]) >= 5, entity
        assert {row[scene.STAMP] for row in rows[entity]} <= stamps
    depth = pixels(rows[scene.DEPTH][-1], "DepthImage")
    assert depth.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(depth, expected_depth(100), rtol=1e-5)
    assert jpeg_of(rows[scene.IMAGE][-1]).shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(jpeg_of(rows[scene.IMAGE][-1]), 100, atol=2)
    fx, cx, cy = PRIOR[0] * WIDTH, PRIOR[2] * WIDTH - 0.5, PRIOR[3] * HEIGHT - 0.5
    camera = rows[scene.CAMERA][-1]
    np.testing.assert_allclose(camera["Pinhole:image_from_camera"], [[fx, 0, 0, 0, fx, 0, cx, cy, 1]], rtol=1e-6)
    points = rows[scene.POINTS][-1]
    assert len(points["Points3D:positions"]) == WIDTH * HEIGHT // 4  # cloud_stride is 2
    np.testing.assert_allclose(np.array(points["Points3D:positions"])[:, 2], expected_depth(100), rtol=1e-5)
    assert set(points["Points3D:colors"]) == {0x646464FF}
    text = rows[scene.STATUS][-1]["TextDocument:text"][0]
    assert "(uncalibrated: the model's prior)" in text
    assert "| state | active |" in text
    assert any("Scalars:scalars" in row for row in rows["plots/latency/p50"])


def test_live_page_and_data_are_served(private_ros_domain: dict[str, str], tmp_path: Path) -> None:
    from node_harness import kill

    port, grpc_port = free_ports(2)
    log = tmp_path / "log"
    arguments = [
        "--port",
        str(port),
        "--grpc-port",
        str(grpc_port),
        "--bind",
        "127.0.0.1",
        "--host",
        "robot",
        "--no-cloud",
    ]
    process = start_view(log, "/nobody", *arguments)
    try:
        deadline = time.monotonic() + 30
        while "nobody publishes" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        said = log.read_text()
        assert f"Open in a browser: http://robot:{port}" in said
        assert "nobody publishes /nobody/depth/image: start depth_node, or say where it is with --namespace" in said
        code, headers, _ = get(port, "/", Host=f"robot:{port}")
        assert code == 302
        assert str(grpc_port) in headers["Location"]

        url = f"http://127.0.0.1:{grpc_port}/rerun.sdk_comms.v1alpha1.MessageProxyService/ReadMessages"

        def allowed_origin(origin: str) -> str | None:
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            request = urllib.request.Request(url, headers=asked, method="OPTIONS")
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.headers["Access-Control-Allow-Origin"]

        assert allowed_origin(f"http://robot:{port}") == f"http://robot:{port}"
        assert allowed_origin("http://evil.example:9090") is None

        # As the page asks for data: one empty message of gRPC-Web, and what is there comes in such messages.
        headers = {"Content-Type": "application/grpc-web+proto", "X-Grpc-Web": "1"}
        viewer = urllib.request.urlopen(urllib.request.Request(url, bytes(5), headers), timeout=10)
        flags, length = struct.unpack(">BI", viewer.read(5))
        assert flags == 0
        assert len(viewer.read(length)) == length > 0

        other = start_view(
            tmp_path / "other", "/nobody", "--port", str(free_ports(1)[0]), "--grpc-port", str(grpc_port)
        )
        try:
            assert other.wait(20) == 2
        finally:
            kill(other)
        taken = f"view: cannot serve data on 0.0.0.0:{grpc_port}: Address already in use; choose another --grpc-port\n"
        assert (tmp_path / "other").read_text() == taken
        code, seconds = stop(process, signal.SIGTERM)
    finally:
        kill(process)
    assert (code, seconds) == (0, pytest.approx(0, abs=2))
    assert "Traceback" not in log.read_text()
