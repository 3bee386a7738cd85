"""What becomes of single images, without DDS: exact counts, one line in the log per kind of fault."""

from __future__ import annotations

import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from depth_node.backends import create_backend
from depth_node.frame_handler import FrameHandler, ReceivedImage
from depth_node.frames import DepthFrame
from depth_node.model import read_model
from depth_node.online_intrinsics import OnlineIntrinsics
from depth_node.online_scale import OnlineScale
from depth_node.outputs import limit_range
from depth_node.parameters import Settings
from depth_node.pipeline import DepthPipeline
from depth_node.statistics import Statistics
from depth_node.view_thread import ViewThread


class RecordingNode:
    """The little that a handler asks of its node; keeps the log's lines by level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.context = SimpleNamespace(ok=lambda: True)

    def resolve_topic_name(self, name: str, *, only_expand: bool = False) -> str:
        return f"/robot/{name}"

    def create_lifecycle_publisher(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(get_subscription_count=lambda: 0)

    def get_logger(self) -> Any:
        levels = ("info", "warning", "error")
        return SimpleNamespace(
            **{level: lambda line, level=level: self.lines.append((level, line)) for level in levels}
        )

    def log(self, level: str) -> list[str]:
        return [line for at, line in self.lines if at == level]


class RecordingOutputs:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.wanted = True
        self.results: list[tuple[DepthFrame, Header]] = []

    def is_wanted(self) -> bool:
        return self.wanted

    def publish(self, result: DepthFrame, header: Header, settings: Settings, report: Any) -> dict[str, float]:
        self.results.append((result, header))
        return {"depth_image": 0.001}


class Setting:
    def __init__(self, model: Path, image_topic: str = "/robot/image_raw") -> None:
        self.node, self.outputs, self.statistics = RecordingNode(), RecordingOutputs(), Statistics()
        checked = read_model(model)
        self.pipeline = DepthPipeline(checked, create_backend(checked, precision="fp32"))
        node: Any = self.node
        outputs: Any = self.outputs
        inputs: Any = SimpleNamespace(image_topic=image_topic)
        self.intrinsics = OnlineIntrinsics(node, checked.spec.intrinsics_prior, None, Settings())
        views = ViewThread([], lambda kind, message: None)
        scale = OnlineScale(node, self.pipeline.visual_odometry, Settings(), lambda kind, message: None)
        self.handler = FrameHandler(
            node, self.pipeline, outputs, self.intrinsics, scale, views, self.statistics, Settings(), inputs
        )

    def handle(self, message: Any) -> None:
        self.handler.handle(ReceivedImage(message, self.statistics.clock()))


@pytest.fixture
def setting(tiny_model_path: Path) -> Setting:
    return Setting(tiny_model_path)


def image(width: int = 64, height: int = 32, **changes: Any) -> Image:
    message = Image(header=Header(frame_id="camera"), width=width, height=height, step=width, encoding="mono8")
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 345
    message.data = array.array("B", bytes(width * height))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_stamp_and_frame_go_through(setting: Setting) -> None:
    sent = image()
    setting.handle(sent)
    ((result, header),) = setting.outputs.results
    assert (result.frame.stamp_ns, result.frame.frame_id) == (12_000_000_345, "camera")
    assert header is sent.header
    np.testing.assert_allclose(result.depth, 20.0, rtol=1e-5)  # black
    snapshot = setting.statistics.snapshot()
    assert snapshot.frames_published == 1
    assert list(snapshot.stages) == ["wait", "decode", "resize", "inference", "depth", "sky", "depth_image"]


def test_nothing_is_decoded_for_nobody(setting: Setting) -> None:
    setting.outputs.wanted = False
    setting.handle(image(encoding="nonsense"))
    snapshot = setting.statistics.snapshot()
    assert (snapshot.frames_unwanted, snapshot.frames_published, snapshot.errors) == (1, 0, {})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("encoding", image(encoding="32FC1")),
        ("size", image(width=0)),
        ("step", image(step=3)),
        ("data", image(data=array.array("B", bytes(7)))),
        ("compressed", CompressedImage(format="jpeg", data=b"not a picture")),
    ],
)
def test_every_kind_of_bad_image_is_logged_once_and_counted(setting: Setting, kind: str, message: Any) -> None:
    for _ in range(3):
        setting.handle(message)
    setting.handle(image())
    snapshot = setting.statistics.snapshot()
    assert snapshot.errors == {kind: 3}
    assert len(setting.node.log("error")) == 1
    assert snapshot.frames_published == 1


@pytest.mark.parametrize(
    ("kind", "info"),
    [
        ("camera_info", CameraInfo(width=64, height=32, k=[float("nan")] * 9)),
        ("camera_info", CameraInfo(width=64, height=32)),
        ("camera_info_size", CameraInfo(width=64, height=64, k=[50.0, 0, 32.0, 0, 50.0, 32.0, 0, 0, 1.0])),
    ],
)
def test_bad_camera_info_is_reported_once_and_the_prior_used(setting: Setting, kind: str, info: CameraInfo) -> None:
    setting.handler.camera_info = info
    for _ in range(3):
        setting.handle(image())
    assert setting.statistics.snapshot().errors == {kind: 3}
    assert len(setting.node.log("error")) == 1
    assert [result.intrinsics_source for result, _ in setting.outputs.results] == ["prior"] * 3


def test_intrinsics_are_announced_when_their_source_changes(setting: Setting) -> None:
    good = CameraInfo(width=64, height=32, k=[50.0, 0, 32.0, 0, 50.0, 16.0, 0, 0, 1.0])
    for info in (None, None, good, good):
        setting.handler.camera_info = info
        setting.handle(image())
    assert len(setting.node.log("warning")) == 1
    assert "intrinsics prior (fx 37.1" in setting.node.log("warning")[0]  # 0.58 * 64
    intrinsics = "intrinsics from /robot/camera_info: fx 50.0, fy 50.0, cx 32.0, cy 16.0"
    assert [line for line in setting.node.log("info") if "intrinsics" in line] == [intrinsics]
    assert setting.intrinsics.facts()["intrinsics_source"] == "camera_info"
    setting.handler.camera_info = None
    setting.handle(image())
    assert len(setting.node.log("warning")) == 2
    for info in [good, None] * 100:
        setting.handler.camera_info = info
        setting.handle(image())
    assert len([line for line in setting.node.log("info") + setting.node.log("warning") if "intrinsics" in line]) == 50


RAW = CameraInfo(
    width=64,
    height=32,
    distortion_model="plumb_bob",
    d=[-0.2, 0.03, 0.0, 0.0, 0.0],
    k=[30.0, 0, 32.0, 0, 30.0, 16.0, 0, 0, 1.0],
    r=[1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0],
    p=[25.0, 0, 32.0, 0, 0, 25.0, 16.0, 0, 0, 0, 1.0, 0],
)


@pytest.mark.parametrize(
    ("topic", "rectify", "focal_length", "is_distorted"),
    [
        ("/robot/image_raw", "auto", 25.0, False),
        ("/robot/image_raw", "off", 30.0, True),
        ("/robot/image_raw", "done", 25.0, False),
        ("/robot/image_rect_color", "auto", 25.0, False),
        ("/robot/image_rect/compressed", "auto", 25.0, False),
    ],
)
def test_rectification_as_wanted(
    tiny_model_path: Path, topic: str, rectify: str, focal_length: float, is_distorted: bool
) -> None:
    setting = Setting(tiny_model_path, topic)
    setting.handler.settings = Settings(rectify=rectify)
    setting.handler.camera_info = RAW
    setting.handle(image())
    ((result, _),) = setting.outputs.results
    assert (result.camera.fx, result.camera.is_distorted) == (focal_length, is_distorted)
    assert ("rectify" in result.seconds) == (rectify == "auto" and topic == "/robot/image_raw")
    assert ("images are rectified" in "".join(setting.node.log("info"))) == ("rectify" in result.seconds)


def test_snapshot_is_of_the_next_good_image_and_needs_no_listener(setting: Setting) -> None:
    taken: list[DepthFrame] = []
    setting.outputs.wanted = False
    setting.handler.take_snapshot = taken.append
    setting.handle(image(encoding="nonsense"))
    assert not taken
    setting.handle(image())
    setting.handle(image())
    assert len(taken) == 1
    assert taken[0].frame.stamp_ns == 12_000_000_345


def test_frame_id_change_is_reported(setting: Setting) -> None:
    for name in ("camera", "camera", "other", "other"):
        setting.handle(image(header=Header(frame_id=name)))
    assert setting.statistics.snapshot().errors == {"frame_id": 1}
    assert [header.frame_id for _, header in setting.outputs.results] == ["camera", "camera", "other", "other"]


def test_no_frame_id_is_reported(setting: Setting) -> None:
    for name in ("", "", "camera", ""):
        setting.handle(image(header=Header(frame_id=name)))
    assert setting.statistics.snapshot().errors == {"frame_id": 3}  # at first, and both changes
    assert setting.node.log("error")[0].startswith("the images have no frame_id")


@pytest.mark.parametrize(("frame_id", "errors"), [("rear", {"camera_info_frame": 1}), ("camera", {}), ("", {})])
def test_camera_info_of_another_camera_is_reported(setting: Setting, frame_id: str, errors: dict[str, int]) -> None:
    """Once, and it is used: a driver may be careless about names."""
    k = [50.0, 0, 32.0, 0, 50.0, 16.0, 0, 0, 1.0]
    setting.handler.camera_info = CameraInfo(header=Header(frame_id=frame_id), width=64, height=32, k=k)
    for _ in range(3):
        setting.handle(image())
    assert setting.statistics.snapshot().errors == errors
    assert [result.camera.fx for result, _ in setting.outputs.results] == [50.0] * 3


def test_resolution_change_is_reported_and_survived(setting: Setting) -> None:
    for size in [(64, 32), (64, 32), (48, 24), (64, 32)]:
        setting.handle(image(*size))
    assert [result.depth.shape for result, _ in setting.outputs.results] == [(32, 64), (32, 64), (24, 48), (32, 64)]
    assert setting.statistics.snapshot().errors == {"resolution": 2}
    assert setting.node.log("error")[0].startswith("the images changed from 64x32 to 48x24 pixels")


def test_unforeseen_error_is_no_end(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(setting.pipeline.backend, "infer", lambda image: 1 / 0)
        setting.handle(image())
        setting.handle(image())
        setting.node.context.ok = lambda: False  # ROS is shut down: nothing to say any more
        setting.handle(image())
    setting.handle(image())
    assert setting.statistics.snapshot().errors == {"internal": 2}
    assert "ZeroDivisionError" in setting.node.log("error")[0]
    assert setting.statistics.snapshot().frames_published == 1


def test_range_is_limited_in_place() -> None:
    depth = np.array([0.5, 1.0, 5.0, 10.0, 11.0, np.nan], np.float32)
    limit_range(depth, 1.0, 10.0)
    np.testing.assert_array_equal(depth, np.array([np.nan, 1.0, 5.0, 10.0, np.nan, np.nan], np.float32))
    unlimited = np.array([1e-3, 1e6], np.float32)
    limit_range(unlimited, 0.0, np.inf)
    np.testing.assert_array_equal(unlimited, np.array([1e-3, 1e6], np.float32))
