"""The real node in its own process, over real DDS, with a model whose depth is closed-form."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 64, 32
PRIOR = (0.58, 1.92, 0.49, 0.46)  # of tiny_model_path
OUTPUTS = {"depth/image": Image, "depth/camera_info": CameraInfo, "points": PointCloud2, "depth/color": Image}

pytestmark = pytest.mark.usefixtures("private_ros_domain")
namespaces = (f"/node{number}" for number in count())


class NodeProcess:
    """The node as `ros2 run` starts it, alone in its namespace."""

    def __init__(self, log: Path, **parameters: Any) -> None:
        self.namespace = next(namespaces)
        self._log = log
        arguments = ["--ros-args", "-r", f"__ns:={self.namespace}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        script = str(REPOSITORY / "depth_node" / "tools" / "scripts" / "depth_node")
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, script, *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Exit code, and seconds from the signal to the end."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(20), time.monotonic() - started


class Client:
    """Publishes images to one node, and keeps what it publishes."""

    def __init__(self, namespace: str, image_type: type = Image) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("client", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._subscriptions: dict[str, Any] = {}
        self.received: dict[str, list[Any]] = {topic: [] for topic in OUTPUTS}
        self.diagnostics: list[Any] = []
        self._images = self.node.create_publisher(image_type, "image", QoSProfile(depth=5))
        self._camera_infos = self.node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=5))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_diagnostics, QoSProfile(depth=10))
        self._seconds = 0

    def close(self) -> None:
        self.node.destroy_node()
        self._executor.shutdown()
        self._context.shutdown()

    def _keep_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += [s for s in message.status if s.name == f"{self.node.get_namespace()}/depth_node: depth"]

    def subscribe(self, *topics: str) -> None:
        for topic in topics:
            keep = self.received[topic].append
            self._subscriptions[topic] = self.node.create_subscription(OUTPUTS[topic], topic, keep, QoSProfile(depth=5))
        self.wait(lambda: all(self.node.count_publishers(self._resolved(topic)) for topic in topics))

    def unsubscribe(self, *topics: str) -> None:
        for topic in topics:
            self.node.destroy_subscription(self._subscriptions.pop(topic))

    def _resolved(self, topic: str) -> str:
        return f"{self.node.get_namespace()}/{topic}"

    def wait(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        """Spin until the condition holds; what it gave."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "timed out"
            self._executor.spin_once(0.05)
        return found

    def spin(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(0.02)

    def wait_until_active(self) -> None:
        self.wait(lambda: self._images.get_subscription_count() and self._camera_infos.get_subscription_count())

    def header(self) -> Header:
        self._seconds += 1
        header = Header(frame_id="camera_optical")
        header.stamp.sec, header.stamp.nanosec = 1_700_000_000 + self._seconds, 123_456_789
        return header

    def send(self, message: Any) -> Any:
        self._images.publish(message)
        return message

    def send_camera_info(self, message: CameraInfo) -> None:
        self._camera_infos.publish(message)

    def send_until_answered(self, topic: str, make: Callable[[], Any]) -> tuple[Any, Any]:
        """Publish images until one comes back on `topic`, since discovery takes its time; that image and the result."""
        sent: dict[int, Any] = {}
        before = len(self.received[topic])

        def answered() -> bool:
            message = self.send(make())
            sent[message.header.stamp.sec] = message
            self.spin(0.1)
            return len(self.received[topic]) > before

        self.wait(answered)
        result = self.received[topic][-1]
        return sent[result.header.stamp.sec], result

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(service_type, f"depth_node/{name}")
        self.wait(client.service_is_ready)
        future = client.call_async(request)
        self.wait(future.done)
        return future.result()

    def transition(self, number: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=number))
        return bool(self.call(ChangeState, "change_state", request).success)

    def state(self) -> str:
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def set_parameter(self, name: str, value: Any) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "set_parameters", request).results[0]

    def diagnostic_values(self) -> dict[str, str]:
        """Of the next diagnostics to arrive."""
        before = len(self.diagnostics)
        self.wait(lambda: len(self.diagnostics) > before)
        return {pair.key: pair.value for pair in self.diagnostics[-1].values}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Callable[..., Any]:
    """`with start(PARAMETER=VALUE) as (process, client)`; the tiny model in fp32 unless another is named."""

    @contextmanager
    def running(image_type: type = Image, **parameters: Any) -> Iterator[tuple[NodeProcess, Client]]:
        log = tmp_path_factory.mktemp("node") / "log"
        process = NodeProcess(log, **{"model": tiny_model_path, "precision": "fp32", **parameters})
        client = Client(process.namespace, image_type)
        try:
            yield process, client
        finally:
            client.close()
            if process.process.poll() is None:
                process.process.kill()
                process.process.wait()
            print(process.log)

    return running


@pytest.fixture(scope="module")
def running(start: Callable[..., Any]) -> Iterator[tuple[NodeProcess, Client]]:
    """One node for all tests that leave it as it was."""
    with start() as (process, client):
        client.wait_until_active()
        yield process, client


def grey_image(header: Header, grey: int = 100, width: int = WIDTH, height: int = HEIGHT) -> Image:
    message = Image(header=header, height=height, width=width, encoding="mono8", step=width)
    message.data.frombytes(bytes([grey]) * (width * height))
    return message


def expected_depth(grey: int) -> float:
    return 1 / (0.05 + 0.45 * grey / 255)


def test_results_of_an_image_without_camera_info(running: tuple[NodeProcess, Client]) -> None:
    process, client = running
    client.subscribe(*OUTPUTS)
    for topic in OUTPUTS:
        sent, result = client.send_until_answered(topic, lambda: grey_image(client.header()))
        assert result.header == sent.header
    received = {topic: messages[-1] for topic, messages in client.received.items()}

    image = received["depth/image"]
    assert (image.width, image.height, image.encoding, image.step) == (WIDTH, HEIGHT, "32FC1", 4 * WIDTH)
    depth = np.frombuffer(image.data, np.float32)
    np.testing.assert_allclose(depth, expected_depth(100), rtol=1e-5)

    info = received["depth/camera_info"]
    fx, fy, cx, cy = PRIOR[0] * WIDTH, PRIOR[0] * WIDTH, PRIOR[2] * WIDTH - 0.5, PRIOR[3] * HEIGHT - 0.5
    assert info.distortion_model == "uncalibrated"
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(info.k, [fx, 0, cx, 0, fy, cy, 0, 0, 1])

    cloud = received["points"]
    assert (cloud.width, cloud.height) == (WIDTH // 2, HEIGHT // 2)  # cloud_stride is 2
    points = np.frombuffer(cloud.data, np.float32).reshape(HEIGHT // 2, WIDTH // 2, 4)
    z = expected_depth(100)
    np.testing.assert_allclose(points[5, 9, :3], [(18 - cx) * z / fx, (10 - cy) * z / fy, z], rtol=1e-5)
    assert points.view(np.uint32)[5, 9, 3] == 100 << 16 | 100 << 8 | 100

    color = received["depth/color"]
    assert (color.width, color.height, color.encoding) == (WIDTH, HEIGHT, "rgb8")

    assert client.diagnostic_values()["intrinsics_source"] == "prior"
    assert process.log.count("intrinsics prior") == 1
    client.unsubscribe(*OUTPUTS)


def test_inference_only_for_somebody(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.wait(lambda: client.node.count_subscribers(f"{client.node.get_namespace()}/points") == 0)
    client.spin(0.5)
    before = client.diagnostic_values()
    for _ in range(5):
        client.send(grey_image(client.header()))
        client.spin(0.1)
    after = client.diagnostic_values()
    assert int(after["frames_unwanted"]) > int(before["frames_unwanted"])
    assert after["frames_published"] == before["frames_published"]


def test_only_what_is_subscribed_is_computed(start: Callable[..., Any]) -> None:
    with start() as (_, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        values = client.wait(lambda: (v := client.diagnostic_values())["frames_published"] != "0" and v)
        assert "depth_image_p50_ms" in values
        assert not {"points_p50_ms", "depth_color_p50_ms", "depth_camera_info_p50_ms"} & set(values)
        for stage in ("wait", "decode", "resize", "inference", "depth"):
            assert float(values[f"{stage}_p50_ms"]) >= 0
        assert float(values["latency_p50_ms"]) > 0


def test_camera_info_sets_intrinsics_and_scale(start: Callable[..., Any]) -> None:
    """A metric model's depth grows with fx / W; the prior's is 0.58."""
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image", "depth/camera_info")
        info = CameraInfo(header=client.header(), width=2 * WIDTH, height=2 * HEIGHT, distortion_model="plumb_bob")
        info.k = [2 * 0.87 * WIDTH, 0.0, WIDTH - 0.5, 0.0, 2 * 0.87 * WIDTH, HEIGHT - 0.5, 0.0, 0.0, 1.0]

        def is_used() -> bool:
            client.send_camera_info(info)
            client.send(grey_image(client.header()))
            client.spin(0.1)
            return any(message.distortion_model == "plumb_bob" for message in client.received["depth/camera_info"])

        client.wait(is_used)
        _, depth = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        np.testing.assert_allclose(np.frombuffer(depth.data, np.float32), expected_depth(100) * 0.87 / 0.58, rtol=1e-5)
        _, published = client.send_until_answered("depth/camera_info", lambda: grey_image(client.header()))
        assert (published.width, published.height, published.distortion_model) == (WIDTH, HEIGHT, "plumb_bob")
        centre = WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5
        np.testing.assert_allclose(published.k, [0.87 * WIDTH, 0, centre[0], 0, 0.87 * WIDTH, centre[1], 0, 0, 1])
        assert client.diagnostic_values()["intrinsics_source"] == "camera_info"
        assert "intrinsics from" in process.log


def test_compressed_images(start: Callable[..., Any]) -> None:
    with start(image_type=CompressedImage, image_transport="compressed") as (_, client):
        client.wait_until_active()
        client.subscribe("depth/image")

        def png() -> CompressedImage:
            _, data = cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
            message = CompressedImage(header=client.header(), format="png")
            message.data.frombytes(data.tobytes())
            return message

        sent, result = client.send_until_answered("depth/image", png)
        assert result.header == sent.header
        np.testing.assert_allclose(np.frombuffer(result.data, np.float32), expected_depth(200), rtol=1e-5)


def test_silence_is_explained(start: Callable[..., Any]) -> None:
    with start(image_type=CompressedImage, image_transport="raw") as (process, client):
        topic = f"{client.node.get_namespace()}/image"
        said = f"{topic} is of type sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image"
        client.wait(lambda: client.diagnostics and said in client.diagnostics[-1].message)
        assert client.diagnostics[-1].level == b"\x01"
        client.wait(lambda: said in process.log)
        client.spin(2.0)
        assert process.log.count(said) == 1


def test_newest_frame_wins_and_lost_ones_are_counted(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image", "points", "depth/color")
    client.send_until_answered("depth/image", lambda: grey_image(client.header(), width=1242, height=375))
    before = client.diagnostic_values()
    for _ in range(40):
        last = client.send(grey_image(client.header(), width=1242, height=375))
    client.wait(lambda: client.received["depth/image"][-1].header == last.header)
    client.wait(lambda: client.received["depth/color"][-1].header == last.header)
    after = client.diagnostic_values()
    new = {name: int(after[name]) - int(before[name]) for name in after if name.startswith("frames_")}
    assert new["frames_in"] == 40
    assert new["frames_dropped"] > 0
    assert new["frames_published"] > 0
    assert new["frames_in"] == new["frames_published"] + new["frames_dropped"] + new["frames_unwanted"]
    client.unsubscribe("depth/image", "points", "depth/color")


def test_live_parameters(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image")
    depth = expected_depth(100)
    assert client.set_parameter("min_range", depth + 0.5).successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert np.isnan(np.frombuffer(result.data, np.float32)).all()
    assert client.set_parameter("min_range", 0.0).successful
    assert client.set_parameter("max_range", depth - 0.5).successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert np.isnan(np.frombuffer(result.data, np.float32)).all()
    assert client.set_parameter("max_range", depth + 0.5).successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert np.isfinite(np.frombuffer(result.data, np.float32)).all()
    client.unsubscribe("depth/image")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("colormap", "jet", "expected one of: turbo"),
        ("cloud_stride", 0, "out of range"),
        ("color_min_depth", 1000.0, "color_min_depth is 1000.0 and color_max_depth is 80.0"),
        ("model", "other.onnx", "while unconfigured"),
        ("autostart", False, "read-only"),
        ("cloud_stride", "two", "type"),
    ],
)
def test_impossible_parameter_is_refused(running: tuple[NodeProcess, Client], name: str, value: Any, said: str) -> None:
    result = running[1].set_parameter(name, value)
    assert not result.successful
    assert said in result.reason


def test_failed_configuration_can_be_tried_again(
    start: Callable[..., Any], make_tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with start(model=path, autostart=False) as (process, client):
        assert client.state() == "unconfigured"
        assert not client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.state() == "unconfigured"
        assert process.log.count("cannot configure") == 1
        assert "model.onnx" in process.log
        assert "Traceback" not in process.log
        assert client.diagnostic_values()["state"] == "unconfigured"
        assert client.diagnostics[-1].level == b"\x02"

        assert client.set_parameter("model", str(make_tiny_model(tmp_path / "good.onnx", metric=False).path)).successful
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.state() == "inactive"
        assert process.log.count("up to scale") == 1
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))

        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        published = int(client.diagnostic_values()["frames_published"])
        client.send(grey_image(client.header()))
        client.spin(0.3)
        assert int(client.diagnostic_values()["frames_published"]) == published
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        assert client.transition(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert client.state() == "finalized"
        assert process.stop() == (0, pytest.approx(0, abs=2))


def test_autostart_with_a_bad_model_waits_unconfigured(start: Callable[..., Any], tmp_path: Path) -> None:
    with start(model=tmp_path / "absent.onnx") as (process, client):
        client.wait(lambda: "cannot configure" in process.log)
        assert client.state() == "unconfigured"
        assert "neither a file nor a shipped model" in process.log
        assert "Traceback" not in process.log


def test_bad_parameter_ends_the_start_with_a_sentence(start: Callable[..., Any]) -> None:
    with start(colormap="jet") as (process, _):
        assert process.process.wait(20) == 2
        assert "colormap is 'jet'; expected one of" in process.log
        assert "Traceback" not in process.log


def test_bad_input_is_reported_once_and_never_ends_the_node(start: Callable[..., Any]) -> None:
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))

        def changed(**fields: Any) -> Image:
            message = grey_image(client.header())
            for name, value in fields.items():
                setattr(message, name, value)
            return message

        info = CameraInfo(width=WIDTH, height=HEIGHT, k=[float("nan")] * 9)
        other_size = CameraInfo(width=100, height=100, k=[50.0, 0, 50.0, 0, 50.0, 50.0, 0, 0, 1.0])
        faults: dict[str, tuple[str, Callable[[], Any]]] = {
            "encoding": ("encoding '32FC1'", lambda: changed(encoding="32FC1")),
            "size": ("image of 0x32 pixels", lambda: changed(width=0)),
            "step": ("step of 3 bytes", lambda: changed(step=3)),
            "data": ("2048 bytes of data for 33 rows", lambda: changed(height=33)),
            "resolution": ("changed from 64x32 to 48x24", lambda: grey_image(client.header(), width=48, height=24)),
        }
        for said, make in faults.values():
            client.wait(lambda s=said, m=make: (client.send(m()), client.spin(0.1), s in process.log)[-1])
            for _ in range(3):
                client.send(make())
                client.spin(0.1)
            assert process.log.count(said) == 1
        for said, bad in [("fx = nan", info), ("100x100", other_size)]:
            client.wait(
                lambda b=bad, s=said: (
                    client.send_camera_info(b), client.spin(0.1), client.send(grey_image(client.header())),
                    client.spin(0.1), s in process.log
                )[-1]
            )  # fmt: skip
            assert process.log.count(said) == 1
        values = client.diagnostic_values()
        for kind in (*faults, "camera_info", "camera_info_size"):
            assert int(values[f"errors_{kind}"]) >= 1
        assert client.diagnostics[-1].level == b"\x01"
        _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        np.testing.assert_allclose(np.frombuffer(result.data, np.float32), expected_depth(100), rtol=1e-5)
        assert client.diagnostic_values()["intrinsics_source"] == "prior"
        assert "Traceback" not in process.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_at_once(start: Callable[..., Any], number: int) -> None:
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe(*OUTPUTS)
        client.send_until_answered("points", lambda: grey_image(client.header(), width=1242, height=375))
        for _ in range(5):
            client.send(grey_image(client.header(), width=1242, height=375))
        code, seconds = process.stop(number)
        assert code == 0
        assert seconds < 2
        assert "Traceback" not in process.log


def test_exception_in_a_transition_frees_everything(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from depth_node import node as module

    rclpy.init(args=["--ros-args", "-p", "autostart:=false", "-p", f"model:={tiny_model_path}"])
    try:
        node = module.DepthNode()
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        with monkeypatch.context() as patch:
            patch.setattr(module, "LatestWorker", lambda *_, **__: 1 / 0)
            assert node.trigger_activate() == TransitionCallbackReturn.ERROR
        assert node._state_machine.current_state[1] == "unconfigured"
        assert node._pipeline is None
        assert node.count_publishers("points") == 0
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        node.destroy_node()
    finally:
        rclpy.shutdown()
