"""A real node in its own process, and a client that speaks to it over real DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from depth_node.frames import stamp_ns
from depth_node.parameters import ros_name

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 64, 32
FRAME_ID = "camera_optical"
FIRST_STAMP_S = 1_700_000_000
PRIOR = (0.58, 1.92, 0.49, 0.46)  # of tiny_model_path
PATIENCE_S = 60  # on a machine with ten times as much to do as it has cores
OUTPUTS = {"depth/image": Image, "depth/camera_info": CameraInfo, "points": PointCloud2, "depth/color": Image}

RELIABLE = QoSProfile(depth=5)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)

# Not those of another session of tests that drew the same domain.
_namespaces = (f"/node{number}" for number in count(1000 * os.getpid()))


class NodeProcess:
    """The node as `ros2 run` starts it, alone in its namespace.

    `ros_arguments` go behind --ros-args; `parameters` are attributes of `Settings`, or other names in ROS.
    """

    def __init__(self, log: Path, *ros_arguments: str, **parameters: Any) -> None:
        self.namespace = next(_namespaces)
        self._log = log
        arguments = ["--ros-args", "-r", f"__ns:={self.namespace}", *ros_arguments]
        for name, value in parameters.items():
            arguments += ["-p", f"{ros_name(name)}:={value}"]
        script = str(REPOSITORY / "depth_node" / "tools" / "scripts" / "depth_node")
        self.process = start_python(log, script, *arguments)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def resident_mb(self) -> float:
        """Memory that it has in use, in megabytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6

    def stop(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Exit code, and seconds from the signal to the end."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(20), time.monotonic() - started


class Client:
    """Publishes to one node, and keeps what it publishes. Names of topics are relative to the node's namespace."""

    def __init__(
        self, namespace: str, image_type: type = Image, image_qos: QoSProfile = RELIABLE, image_topic: str = "image"
    ) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("client", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._subscriptions: dict[str, Any] = {}
        self._service_clients: dict[str, Any] = {}
        self.received: dict[str, list[Any]] = defaultdict(list)
        self.diagnostics: list[Any] = []
        self.images = self.publisher(image_topic, image_type, image_qos)
        self.camera_infos = self.publisher("camera_info", CameraInfo)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_diagnostics, QoSProfile(depth=10))
        self._seconds = 0

    def close(self) -> None:
        self.node.destroy_node()
        self._executor.shutdown()
        self._context.shutdown()

    def _keep_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += [s for s in message.status if s.name == f"{self.node.get_namespace()}/depth_node: depth"]

    def publisher(self, topic: str, message_type: type, qos: QoSProfile = RELIABLE) -> Any:
        """One more publisher; destroyed with the client, or by `client.node.destroy_publisher`."""
        return self.node.create_publisher(message_type, topic, qos)

    def subscribe(self, *topics: str, message_type: type | None = None, qos: QoSProfile = RELIABLE) -> None:
        """Keep what comes on `topics`; the type is needed for those that are not in `OUTPUTS`."""
        for topic in topics:
            keep = self.received[topic].append
            of_type = message_type or OUTPUTS[topic]
            self._subscriptions[topic] = self.node.create_subscription(of_type, topic, keep, qos)
        self.wait(lambda: all(self.node.count_publishers(self.resolved(topic)) for topic in topics))

    def unsubscribe(self, *topics: str) -> None:
        for topic in topics:
            self.node.destroy_subscription(self._subscriptions.pop(topic))

    def resolved(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"{self.node.get_namespace()}/{topic}"

    def wait(self, condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """Spin until the condition holds; what it gave."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "timed out"
            self._executor.spin_once(0.05)
        return found

    def spin(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(left)

    def wait_until_active(self) -> None:
        self.wait(lambda: self.images.get_subscription_count() and self.camera_infos.get_subscription_count())

    def header(self) -> Header:
        """Of the next image: one second after the last."""
        self._seconds += 1
        header = Header(frame_id=FRAME_ID)
        header.stamp.sec, header.stamp.nanosec = FIRST_STAMP_S + self._seconds, 123_456_789
        return header

    def send(self, message: Any) -> Any:
        self.images.publish(message)
        return message

    def send_camera_info(self, message: CameraInfo) -> None:
        self.camera_infos.publish(message)

    def send_until_answered(self, topic: str, make: Callable[[], Any]) -> tuple[Any, Any]:
        """Publish images until one comes back on `topic`, since discovery takes its time; that image and the result."""
        sent: dict[int, Any] = {}
        before = len(self.received[topic])

        def answers() -> list[Any]:
            return [result for result in self.received[topic][before:] if stamp_ns(result) in sent]

        def answered() -> list[Any]:
            message = self.send(make())
            sent[stamp_ns(message)] = message
            self.wait_for_at_most(0.1, answers)
            return answers()

        result = self.wait(answered)[-1]
        return sent[stamp_ns(result)], result

    def wait_for_at_most(self, seconds: float, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(left)

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        future = self.call_async(service_type, name, request)
        self.wait(future.done)
        return future.result()

    def call_async(self, service_type: Any, name: str, request: Any) -> Any:
        """A future of the answer of one of the node's own services."""
        if name not in self._service_clients:
            self._service_clients[name] = self.node.create_client(service_type, f"depth_node/{name}")
        self.wait(self._service_clients[name].service_is_ready)
        return self._service_clients[name].call_async(request)

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


@contextmanager
def running_node(
    log: Path,
    *ros_arguments: str,
    image_type: type = Image,
    image_qos: QoSProfile = RELIABLE,
    image_topic: str = "image",
    **parameters: Any,
) -> Iterator[tuple[NodeProcess, Client]]:
    """A node and its client, for the time of a `with`; its log is printed, which pytest shows of a failed test."""
    process = NodeProcess(log, *ros_arguments, **parameters)
    client = Client(process.namespace, image_type, image_qos, image_topic)
    try:
        yield process, client
    finally:
        client.close()
        kill(process.process)
        print(process.log)


class PeerProcess:
    """A publisher or subscriber in a process of its own, to be killed or stopped; peer.py has its options."""

    def __init__(self, log: Path, role: str, namespace: str, **options: Any) -> None:
        self._log = log
        arguments = [f"--{name}={value}" for name, value in options.items()]
        script = str(Path(__file__).with_name("peer.py"))
        self.process = start_python(log, script, role, f"--namespace={namespace}", *arguments)

    @property
    def messages(self) -> int:
        """How many it has published or received."""
        return self._log.read_bytes().count(b"\n")


def start_python(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """This Python on this repository, whatever is installed."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, if it still runs; waits for the end."""
    if process.poll() is None:
        process.kill()
        process.wait()


def grey_image(header: Header, grey: int = 100, width: int = WIDTH, height: int = HEIGHT) -> Image:
    message = Image(header=header, height=height, width=width, encoding="mono8", step=width)
    message.data.frombytes(bytes([grey]) * (width * height))
    return message


def expected_depth(grey: int) -> float:
    """Metres that the tiny model gives for a grey value, with its own intrinsics."""
    return 1 / (0.05 + 0.45 * grey / 255)


def depth_of(image: Image) -> NDArray[np.float32]:
    """float32 [H, W] of a 32FC1 image."""
    return np.frombuffer(image.data, np.float32).reshape(image.height, image.width)


def assert_depth_is_right(client: Client, grey: int = 100, scale: float = 1.0) -> None:
    """A good image gets its depth, to the last pixel and with its own header."""
    sent, result = client.send_until_answered("depth/image", lambda: grey_image(client.header(), grey))
    assert result.header == sent.header
    assert (result.width, result.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(depth_of(result), scale * expected_depth(grey), rtol=1e-5)
