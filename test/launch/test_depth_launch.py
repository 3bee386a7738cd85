"""The launch files, read and run by the genuine ROS 2 launch. It is not on PyPI: skipped where it is not installed."""

from __future__ import annotations

import re
import runpy
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from depth_node import bag_messages
from depth_node.bags import BagWriter
from depth_node.camera import PinholeCamera
from depth_node.parameters import PARAMETERS
from depth_node.transport import PROFILE_VARIABLES

# The repository's own folder launch/ is importable as `launch`, so the sibling is asked for.
pytest.importorskip("launch_ros", reason="needs launch and launch_ros of a ROS machine")

REPOSITORY = Path(__file__).resolve().parents[2]
DEPTH, REPLAY = REPOSITORY / "launch" / "depth.launch.py", REPOSITORY / "launch" / "replay.launch.py"
PATIENCE_S = 60  # on a machine with ten times as much to do as it has cores
DEPTH_ARGUMENTS = {
    "image",
    "camera_info",
    "odom",
    "image_transport",
    "model",
    "motion_model",
    "backend",
    "precision",
    "autostart",
    "params_file",
    "namespace",
    "rviz",
    "fixed_frame",
    "scan",
    "bag",
    "rate",
    "loop",
    "topics",
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


def test_arguments_of_another_name_set_parameters_that_exist() -> None:
    names = runpy.run_path(str(DEPTH))["PARAMETER_NAMES"]
    assert set(names) <= DEPTH_ARGUMENTS
    assert set(names.values()) <= {parameter.name for parameter in PARAMETERS}


def test_replay_is_depth_with_a_bag_on_its_time() -> None:
    depth, replay = arguments_of(DEPTH), arguments_of(REPLAY)
    assert set(replay) == set(depth)
    assert replay["bag"].default_value is None
    assert [value.text for value in replay["use_sim_time"].default_value] == ["true"]


def test_the_pages_name_arguments_that_exist() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    lines = [line for page in pages for line in page.read_text().splitlines() if "--ros-args" not in line]
    named = {name for line in lines if " -r " not in line for name in re.findall(r"\b([a-z_]+):=", line)}
    assert {"image", "bag", "params_file"} <= named <= DEPTH_ARGUMENTS


def test_fast_dds_profile_is_the_users_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = runpy.run_path(str(DEPTH))["fast_dds_profile"]
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert len(profile()) == 1
    for name in PROFILE_VARIABLES:
        with monkeypatch.context() as patch:
            patch.setenv(name, "/my/profile.xml")
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
            process.wait(PATIENCE_S)


def wait_for(condition: Callable[[], Any], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@contextmanager
def observer(namespace: str) -> Iterator[Any]:
    """A client of the node in `namespace`, as the tests of the node have it."""
    from node_harness import Client

    client = Client(namespace)
    try:
        yield client
    finally:
        client.close()


def synthetic_bag(path: Path, image_topic: str, *, compressed: bool = False, frames: int = 20) -> Path:
    """Grey images of 64x32 pixels at 10 Hz with a camera_info (fx 40) beside them."""
    camera = PinholeCamera(64, 32, 40.0, 40.0, 31.5, 15.5)
    pixels = np.full((32, 64, 3), 100, np.uint8)
    with BagWriter(path) as bag:
        for stamp in range(1_000_000_000, 1_000_000_000 + frames * 100_000_000, 100_000_000):
            bag.write("/camera/camera_info", stamp, bag_messages.camera_info(stamp, "camera", camera))
            if compressed:
                jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
                bag.write(image_topic, stamp, bag_messages.compressed_image(stamp, "camera", jpeg, "jpeg"))
            else:
                bag.write(image_topic, stamp, bag_messages.image(stamp, "camera", pixels, "rgb8"))
    return path


@pytest.mark.usefixtures("private_ros_domain")
def test_launched_node_has_its_topics_and_parameters(tiny_model_path: Path, tmp_path: Path) -> None:
    from rcl_interfaces.srv import GetParameters

    log, params = tmp_path / "log", tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"cloud": {"stride": 5}, "precision": "auto"}}}))
    arguments = [
        "image:=/camera/image_raw",
        "image_transport:=raw",
        "namespace:=robot",
        f"model:={tiny_model_path}",
        "backend:=openvino",
        "precision:=fp32",
        "autostart:=true",
        "scan:=true",
        "use_sim_time:=false",
        "log_level:=warn",
    ]
    names = ["cloud.stride", "precision", "model", "backend", "scan.enabled", "use_sim_time"]
    with (
        ros2_launch(log, "depth_node", "depth.launch.py", f"params_file:={params}", *arguments) as process,
        observer("/robot") as client,
    ):
        topics = ("/camera/image_raw", "/camera/camera_info")
        client.wait(lambda: all(client.node.count_subscribers(topic) == 1 for topic in topics))
        for topic in ("depth/image", "depth/camera_info", "points", "depth/color", "scan"):
            assert client.node.count_publishers(f"/robot/{topic}") == 1, topic
        values = client.call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
        stride, precision, model, backend, scan, sim_time = values
        assert stride.integer_value == 5
        assert [v.string_value for v in (precision, model, backend)] == ["fp32", str(tiny_model_path), "openvino"]
        assert [scan.bool_value, sim_time.bool_value] == [True, False]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert "process has finished cleanly" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.usefixtures("private_ros_domain")
@pytest.mark.parametrize(
    ("arguments", "subscribed"),
    [
        ([], {"/cave/image", "/cave/camera_info"}),
        (["image:=camera/image_raw"], {"/cave/camera/image_raw", "/cave/camera/camera_info"}),
        (
            ["image:=/front/image_raw", "image_transport:=compressed"],
            {"/front/image_raw/compressed", "/front/camera_info"},
        ),
        (["image:=/front/image_raw", "camera_info:=rear/info"], {"/front/image_raw", "/cave/rear/info"}),
    ],
)
def test_topics_that_the_launched_node_listens_to(
    tiny_model_path: Path, tmp_path: Path, arguments: list[str], subscribed: set[str]
) -> None:
    arguments = ["namespace:=cave", f"model:={tiny_model_path}", *arguments]
    with ros2_launch(tmp_path / "log", "depth_node", "depth.launch.py", *arguments), observer("/elsewhere") as client:

        def found() -> set[str]:
            listed = client.node.get_subscriber_names_and_types_by_node("depth_node", "/cave")
            types = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo")
            return {topic for topic, kinds in listed if set(kinds) & set(types)}

        client.wait(lambda: ("depth_node", "/cave") in client.node.get_node_names_and_namespaces())
        client.wait(lambda: len(found()) == 2)
        assert found() == subscribed


@pytest.mark.usefixtures("private_ros_domain")
def test_included_in_a_group_with_a_namespace_and_remappings(tiny_model_path: Path, tmp_path: Path) -> None:
    bringup = tmp_path / "bringup.launch.py"
    bringup.write_text(f"""
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace, SetRemap

def generate_launch_description():
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource({str(DEPTH)!r}),
        launch_arguments={{"image": "camera/image_raw", "model": {str(tiny_model_path)!r}}}.items(),
    )
    return LaunchDescription([GroupAction([PushRosNamespace("robot7"), SetRemap("points", "depth/points"), depth])])
""")
    with ros2_launch(tmp_path / "log", str(bringup)), observer("/elsewhere") as client:
        client.wait(lambda: client.node.count_subscribers("/robot7/camera/camera_info") == 1)
        assert client.node.count_subscribers("/robot7/camera/image_raw") == 1
        assert client.node.count_publishers("/robot7/depth/points") == 1


@pytest.mark.usefixtures("private_ros_domain")
@pytest.mark.parametrize("argument", ["backend:=tensorflow", "rviz:=maybe"])
def test_unknown_choice_is_refused_before_anything_starts(tmp_path: Path, argument: str) -> None:
    log = tmp_path / "log"
    with ros2_launch(log, "depth_node", "depth.launch.py", argument) as process:
        assert process.wait(PATIENCE_S) == 1
    assert argument.partition(":=")[2] in log.read_text()
    assert "process started" not in log.read_text()


@pytest.mark.usefixtures("private_ros_domain")
def test_a_node_that_cannot_start_ends_the_launch(tmp_path: Path) -> None:
    log, params = tmp_path / "log", tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"cloud.stride": 0}}}))
    with ros2_launch(log, "depth_node", "depth.launch.py", f"params_file:={params}") as process:
        process.wait(PATIENCE_S)
    assert "exit code 2" in log.read_text()
    assert "process[depth_node-1] was required" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.usefixtures("private_ros_domain")
@pytest.mark.parametrize(("launch_file", "transport"), [("depth.launch.py", "raw"), ("replay.launch.py", "compressed")])
def test_a_bag_becomes_depth_and_its_end_ends_the_launch(
    tiny_model_path: Path, tmp_path: Path, launch_file: str, transport: str
) -> None:
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import CameraInfo

    is_compressed = transport == "compressed"
    topic = "/camera/image_raw" + ("/compressed" if is_compressed else "")
    bag, log = synthetic_bag(tmp_path / "drive.mcap", topic, compressed=is_compressed), tmp_path / "log"
    arguments = [f"bag:={bag}", "image:=/camera/image_raw", f"image_transport:={transport}", "rate:=2.0"]
    namespace = f"/{launch_file.partition('.')[0]}_{transport}"
    arguments += [f"model:={tiny_model_path}", f"namespace:={namespace}"]
    infos: list[CameraInfo] = []
    clocks: list[Clock] = []
    with observer(namespace) as client:
        client.node.create_subscription(CameraInfo, "depth/camera_info", infos.append, 5)
        client.node.create_subscription(Clock, "/clock", clocks.append, 5)
        with ros2_launch(log, "depth_node", launch_file, *arguments) as process:
            client.wait(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert len(infos) >= 10, log.read_text()
    assert {info.k[0] for info in infos} == {40.0}  # the bag's camera_info, found beside the image
    assert bool(clocks) == (launch_file == "replay.launch.py")
    assert "process[replay-2] was required" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.usefixtures("private_ros_domain")
def test_a_bag_that_does_not_exist_ends_the_launch(tiny_model_path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = [f"bag:={tmp_path}/none.mcap", f"model:={tiny_model_path}"]
    with ros2_launch(log, "depth_node", "replay.launch.py", *arguments) as process:
        process.wait(PATIENCE_S)
    assert "none.mcap" in log.read_text()
    assert "process[replay-2] was required" in log.read_text()
    assert "[replay-2] Traceback" not in log.read_text()


@pytest.fixture
def rviz2_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File to which a program in the place of rviz2 writes how it was called."""
    program = tmp_path / "lib" / "rviz2" / "rviz2"
    marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "rviz2"
    for path in (program, marker):
        path.parent.mkdir(parents=True)
        path.touch()
    call = tmp_path / "call"
    program.write_text(f'#!/bin/sh\necho "$*" > {call}\n')
    program.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path), prepend=":")
    return call


@pytest.mark.usefixtures("private_ros_domain")
@pytest.mark.parametrize(
    ("arguments", "frame", "helper_option"),
    [
        ([], "depth_view", "--view-frame"),
        (["namespace:=robot"], "robot/depth_view", "--view-frame"),
        (["fixed_frame:=map"], "map", "--fixed-frame"),
    ],
)
def test_rviz_starts_with_its_frame(
    tiny_model_path: Path, tmp_path: Path, rviz2_call: Path, arguments: list[str], frame: str, helper_option: str
) -> None:
    log = tmp_path / "log"
    arguments = ["rviz:=true", f"model:={tiny_model_path}", *arguments]

    def helper_started() -> re.Match[str] | None:
        return re.search(r"\[rviz_frame-3\]: process started with pid \[(\d+)\]", log.read_text())

    with ros2_launch(log, "depth_node", "depth.launch.py", *arguments):
        wait_for(lambda: rviz2_call.is_file() and rviz2_call.read_text().endswith("\n") and helper_started(), log)
        started = helper_started()
        assert started is not None
        helper = Path("/proc", started[1], "cmdline").read_text().split("\0")
    call = rviz2_call.read_text().split()
    assert call[call.index("-d") + 1].endswith("config/depth.rviz")
    assert call[call.index("-f") + 1] == frame
    assert helper[helper.index(helper_option) + 1] == frame
    in_namespace = "namespace:=robot" in arguments
    assert ("__ns:=/robot" in call) == ("__ns:=/robot" in helper) == in_namespace
