"""The ROS node: topics, parameters, lifecycle, nothing else. frame_handler.py has what becomes of an image."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node.backends import create_backend
from depth_node.diagnostics import NodeStatus, diagnostic_array
from depth_node.errors import DepthNodeError, ParameterError
from depth_node.frame_handler import FrameHandler, ReceivedImage
from depth_node.model import read_model
from depth_node.outputs import Outputs
from depth_node.pipeline import DepthPipeline
from depth_node.resources import find_model
from depth_node.ros_parameters import changed_settings, declare_settings
from depth_node.statistics import Statistics
from depth_node.transport import use_shipped_fastdds_profile
from depth_node.worker import LatestWorker

# The sensor-data profile with a queue of one: only the newest image counts.
SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

DIAGNOSTICS_PERIOD_S = 1.0
SILENT_PERIODS_LOGGED = 5
SIGNAL_PERIOD_S = 0.1  # Python sees a signal only between two waits of the executor

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class DepthNode(LifecycleNode):
    """Images in, depth images and clouds out, each with the stamp and frame of its image.

    Raises:
        ParameterError, rclpy.exceptions.ParameterException: a parameter was given an impossible value.
    """

    def __init__(self) -> None:
        self._statistics = Statistics()
        self._failure = ""
        # Configured: a pipeline and its outputs. Active: also a handler in a worker, and subscriptions.
        self._pipeline: DepthPipeline | None = None
        self._outputs: Outputs | None = None
        self._handler: FrameHandler | None = None
        self._worker: LatestWorker[ReceivedImage] | None = None
        self._inputs: list[Subscription] = []
        self._image_number: int | None = None
        self._silent_periods = 0

        super().__init__("depth_node")
        self._settings = declare_settings(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)

        # Diagnostics go out, and the node starts, also while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self._autostart_timer: Timer | None = None
        if self._settings.autostart:
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. What fails is said in one sentence, and can be tried again."""
        settings = self._settings
        try:
            model = read_model(find_model(settings.model))
            backend = create_backend(model, settings.backend, settings.precision, settings.threads)
            pipeline = DepthPipeline(model, backend)
            pipeline.warm_up()
        except DepthNodeError as error:
            return self._fail(f"cannot configure: {error}")
        except Exception:  # rclpy would swallow it without a word
            return self._fail(f"cannot configure: {traceback.format_exc()}")
        self._failure = ""
        self._pipeline, self._outputs = pipeline, Outputs(self)
        self.get_logger().info(f"model {model.path} on {backend.name}, {backend.device}, {backend.precision}")
        if not model.spec.metric:
            self.get_logger().warning(
                "this model's depth is up to scale: not metres, but metres times an unknown factor"
            )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to images, and publish."""
        assert self._pipeline is not None
        assert self._outputs is not None
        self._handler = FrameHandler(self, self._pipeline, self._outputs, self._statistics, self._settings)
        self._worker = LatestWorker(self._handler.handle, name="depth")
        image_type = CompressedImage if self._settings.image_transport == "compressed" else Image
        receive_image: Callable[..., None] = self._receive_image  # rclpy's types know no second argument
        self._inputs = [
            self.create_subscription(CameraInfo, "camera_info", self._receive_camera_info, SENSOR_QOS),
            self.create_subscription(image_type, "image", receive_image, SENSOR_QOS),
        ]
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; the model stays loaded."""
        self._stop_work()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free_model()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop_work()
        self._free_model()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after an exception in another transition, which rclpy keeps to itself."""
        self._stop_work()
        self._free_model()
        self._fail("a transition failed without a word; the node is unconfigured again")
        return _SUCCESS

    def destroy_node(self) -> None:
        """End the worker thread before the node."""
        self._stop_work()
        super().destroy_node()

    def _fail(self, reason: str) -> TransitionCallbackReturn:
        self._failure = reason
        self.get_logger().error(reason)
        return _FAILURE

    def _autostart(self) -> None:
        assert self._autostart_timer is not None
        self.destroy_timer(self._autostart_timer)
        if self.trigger_configure() == _SUCCESS:
            self.trigger_activate()

    def _stop_work(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._image_number = None
        self._silent_periods = 0
        if self._worker is not None and self._worker.stop():
            self._statistics.frame_dropped()
        self._worker = self._handler = None

    def _free_model(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        if self._pipeline is not None:
            self._pipeline.backend.close()
        self._outputs = self._pipeline = None

    # Topics

    def _receive_image(self, message: Image | CompressedImage, info: Mapping[str, int | None]) -> None:
        self._statistics.frame_received(self._missed_images(info["publication_sequence_number"]))
        if self._worker is not None and self._worker.submit(ReceivedImage(message, self._statistics.clock())):
            self._statistics.frame_dropped()

    def _missed_images(self, number: int | None) -> int:
        """Images that the queue of one lost since the last call; `number` counts a publisher's images, if known."""
        before, self._image_number = self._image_number, number
        if number is None or before is None or number <= before + 1:
            return 0
        # Two publishers' numbers are not to be compared.
        return number - before - 1 if self.count_publishers(self.resolve_topic_name("image")) == 1 else 0

    def _receive_camera_info(self, message: CameraInfo) -> None:
        if self._handler is not None:
            self._handler.camera_info = message

    def _silence(self) -> str:
        """Why no images come in, which most often is a topic's name or type."""
        topic = self.resolve_topic_name("image")
        expected = "sensor_msgs/msg/" + ("Image" if self._settings.image_transport == "raw" else "CompressedImage")
        types = {publisher.topic_type for publisher in self.get_publishers_info_by_topic(topic)}
        if not types:
            return f"nobody publishes {topic}"
        if expected not in types:
            found = " and ".join(sorted(types))
            return f"{topic} is of type {found}, not {expected}: choose another topic, or image_transport"
        return f"no images come in on {topic}"

    def _publish_diagnostics(self) -> None:
        statistics = self._statistics.snapshot()
        state, silence = self._state_machine.current_state[1], ""
        if state == "active" and statistics.input_hz == 0:
            silence = self._silence()
            self._silent_periods += 1
            if self._silent_periods == SILENT_PERIODS_LOGGED:
                self.get_logger().warning(silence)
        status = NodeStatus(state=state, failure=self._failure)
        if self._pipeline is not None:
            model, backend = self._pipeline.model, self._pipeline.backend
            status = NodeStatus(
                state=state,
                silence=silence,
                model=str(model.path),
                model_checksum=model.checksum,
                backend=backend.name,
                device=backend.device,
                precision=backend.precision,
                intrinsics_source=self._handler.intrinsics_source if self._handler else "",
            )
        stamp = self.get_clock().now().to_msg()
        name = self.get_fully_qualified_name()
        self._diagnostics.publish(diagnostic_array(name, status, statistics, stamp))

    # Parameters

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            changed_settings(self._settings, changes, is_configured=self._pipeline is not None)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, changes: list[Parameter]) -> None:
        self._settings = changed_settings(self._settings, changes, is_configured=self._pipeline is not None)
        if self._handler is not None:
            self._handler.settings = self._settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="depth_node",
        description="Depth images and point clouds from one camera, as a ROS 2 lifecycle node.",
        epilog="Parameters: --ros-args -p NAME:=VALUE. Topics: --ros-args -r image:=TOPIC -r camera_info:=TOPIC.",
    )
    parser.parse_args(remove_ros_args(arguments))
    is_stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_stopped.set())
    use_shipped_fastdds_profile()
    # rclpy's own handlers would shut ROS down under whatever the worker is publishing.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = DepthNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not is_stopped.is_set():
            executor.spin_once(SIGNAL_PERIOD_S)
        node.destroy_node()
    except (ParameterError, ParameterException) as error:
        print(f"depth_node: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
