"""The launch files, read and run by the genuine ROS 2 launch. It is not on PyPI: skipped where it is not installed."""

from __future__ import annotations

import runpy
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from depth_node.parameters import PARAMETERS

# The repository's own folder launch/ is importable as `launch`, so the sibling is asked for.
pytest.importorskip("launch_ros", reason="needs launch and launch_ros of a ROS machine")

REPOSITORY = Path(__file__).resolve().parents[2]
DEPTH, REPLAY = REPOSITORY / "launch" / "depth.launch.py", REPOSITORY / "launch" / "replay.launch.py"
DEPTH_ARGUMENTS = {
    "image",
    "camera_info",
    "image_transport",
    "model",
    "backend",
    "precision",
    "autostart",
    "params_file",
    "namespace",
    "rviz",
    "fixed_frame",
    "use_sim_time",
    "log_level",
}


def arguments_of(path: Path) -> dict[str, Any]:
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(path))
    return {argument.name: argument for argument in description.get_launch_arguments()}


def test_every_argument_is_described() -> None:
    arguments = arguments_of(DEPTH)
    assert set(arguments) == DEPTH_ARGUMENTS
    assert all(argument.description not in ("", "no description given") for argument in arguments.values())


def test_choices_are_those_of_the_parameters() -> None:
    arguments = arguments_of(DEPTH)
    for parameter in PARAMETERS:
        if parameter.name in arguments and parameter.choices:
            assert set(arguments[parameter.name].choices) == {"", *parameter.choices}


def test_replay_takes_the_arguments_of_depth_too() -> None:
    assert set(arguments_of(REPLAY)) >= {"bag", "topics", "rate", "loop"} | DEPTH_ARGUMENTS


@pytest.mark.parametrize(
    ("image", "camera_info"),
    [
        ("image", "camera_info"),
        ("/image", "/camera_info"),
        ("/camera/image_raw", "/camera/camera_info"),
        ("camera/image_raw", "camera/camera_info"),
        ("/camera/image_raw/compressed", "/camera/camera_info"),
        ("/robot/front/image_rect_color", "/robot/front/camera_info"),
    ],
)
def test_camera_info_is_looked_for_beside_the_image(image: str, camera_info: str) -> None:
    assert runpy.run_path(str(DEPTH))["camera_info_beside"](image) == camera_info


def test_fast_dds_profile_is_the_users_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = runpy.run_path(str(DEPTH))["fast_dds_profile"]
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    assert len(profile()) == 1
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/my/profile.xml")
    assert profile() == []


@contextmanager
def ros2_launch(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ros2 launch` of the installed package; needs ros2cli and a workspace with depth_node."""
    if shutil.which("ros2") is None:
        pytest.skip("needs ros2cli of a ROS machine")
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("depth_node")
    except PackageNotFoundError:
        pytest.skip("needs depth_node in a sourced colcon workspace")
    with log.open("wb") as file:
        process = subprocess.Popen(["ros2", "launch", *arguments], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def wait_for(condition: Callable[[], Any], log: Path) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.mark.usefixtures("private_ros_domain")
def test_launched_node_has_its_topics_and_parameters(tiny_model_path: Path, tmp_path: Path) -> None:
    import rclpy
    from rcl_interfaces.srv import GetParameters

    log, params = tmp_path / "log", tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"cloud_stride": 5, "precision": "auto"}}}))
    arguments = [
        "image:=/camera/image_raw",
        "image_transport:=raw",
        "namespace:=robot",
        f"model:={tiny_model_path}",
        "backend:=openvino",
        "precision:=fp32",
        "autostart:=true",
        "use_sim_time:=false",
        "log_level:=warn",
    ]
    with ros2_launch(log, "depth_node", "depth.launch.py", f"params_file:={params}", *arguments) as process:
        context = rclpy.Context()
        rclpy.init(context=context)
        node = rclpy.create_node("observer", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        topics = ("/camera/image_raw", "/camera/camera_info")
        wait_for(lambda: all(node.count_subscribers(topic) == 1 for topic in topics), log)
        for topic in ("depth/image", "depth/camera_info", "points", "depth/color"):
            assert node.count_publishers(f"/robot/{topic}") == 1
        client = node.create_client(GetParameters, "/robot/depth_node/get_parameters")
        wait_for(client.service_is_ready, log)
        future = client.call_async(GetParameters.Request(names=["cloud_stride", "precision", "model", "backend"]))
        executor.spin_until_future_complete(future, 20)
        stride, precision, model, backend = future.result().values
        assert stride.integer_value == 5
        assert [value.string_value for value in (precision, model, backend)] == [
            "fp32",
            str(tiny_model_path),
            "openvino",
        ]
        node.destroy_node()
        context.shutdown()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert "process has finished cleanly" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.usefixtures("private_ros_domain")
def test_unknown_choice_is_refused_before_anything_starts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ros2_launch(log, "depth_node", "depth.launch.py", "backend:=tensorflow") as process:
        assert process.wait(30) != 0
    assert "tensorflow" in log.read_text()
    assert "process started" not in log.read_text()


@pytest.mark.usefixtures("private_ros_domain")
def test_replayed_bag_ends_the_launch(tiny_model_path: Path, tmp_path: Path) -> None:
    from depth_node import bag_messages
    from depth_node.bags import BagWriter

    bag_path, log = tmp_path / "drive.mcap", tmp_path / "log"
    with BagWriter(bag_path) as bag:
        for stamp in range(0, 1_000_000_000, 100_000_000):
            pixels = np.zeros((32, 64, 3), np.uint8)
            bag.write("/camera/image_raw", stamp, bag_messages.image(stamp, "camera", pixels, "rgb8"))
    arguments = [f"bag:={bag_path}", "image:=/camera/image_raw", f"model:={tiny_model_path}", "rate:=2.0"]
    with ros2_launch(log, "depth_node", "replay.launch.py", *arguments) as process:
        assert process.wait(60) == 0
    assert "process[replay-2] was required" in log.read_text()
    assert "Traceback" not in log.read_text()
