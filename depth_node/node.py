"""The ROS node: topics, parameters, lifecycle, nothing else. frame_handler.py has what becomes of an image."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node.backends import SupervisedSession
from depth_node.diagnostics import NodeStatus, diagnostic_status
from depth_node.diagnostics_publisher import DiagnosticsPublisher
from depth_node.errors import DepthNodeError, ParameterError
from depth_node.frame_handler import FrameHandler, ReceivedImage, TakeSnapshot
from depth_node.frames import stamp_ns
from depth_node.inputs import Inputs
from depth_node.model_loading import load_motion_observer, load_pipeline
from depth_node.node_status import WorkWatch, with_model, with_work
from depth_node.online_intrinsics import OnlineIntrinsics
from depth_node.online_scale import OnlineScale
from depth_node.outputs import Outputs
from depth_node.parameters import Settings
from depth_node.pipeline import DepthPipeline
from depth_node.rate_limit import RateLimiter
from depth_node.ros_logging import RosLogHandler
from depth_node.ros_parameters import changed_settings, declare_settings
from depth_node.services import EnableService, SaveIntrinsicsService, SnapshotService, snapshot_directory
from depth_node.statistics import Statistics
from depth_node.view_thread import ViewThread
from depth_node.worker import LatestWorker

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@dataclass(frozen=True)
class _Active:
    """What exists while the node is active: images come in, and a worker handles the newest."""

    inputs: Inputs
    handler: FrameHandler
    worker: LatestWorker[ReceivedImage]
    views: ViewThread
    watch: WorkWatch


class DepthNode(LifecycleNode):
    """Images in, depth images and clouds out, each with the stamp and frame of its image.

    Raises:
        ParameterError, rclpy.exceptions.ParameterException: a parameter was given an impossible value.
    """

    def __init__(self) -> None:
        self._statistics = Statistics()
        self._rate_limiter = RateLimiter()
        self._failure = ""
        self._is_enabled = True
        # Configured: a pipeline, its outputs, and what is learned from it.
        self._pipeline: DepthPipeline | None = None
        self._session: SupervisedSession | None = None
        self._intrinsics: OnlineIntrinsics | None = None
        self._scale: OnlineScale | None = None
        self._outputs: Outputs | None = None
        self._active: _Active | None = None

        super().__init__("depth_node")
        self._log_handler = RosLogHandler(self)
        self._settings = declare_settings(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        EnableService(self, self._set_enabled)
        SaveIntrinsicsService(self, self._save_intrinsics)
        self._snapshots = SnapshotService(
            self, self._order_snapshot, lambda: snapshot_directory(self._settings.snapshot_directory), self._facts
        )

        # Diagnostics go out, and the node starts, also while simulated time stands still.
        self._diagnostics = DiagnosticsPublisher(self, self._diagnose)
        self._autostart_timer: Timer | None = None
        if self._settings.autostart:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. What fails is said in one sentence, and can be tried again."""
        try:
            self._load_model(self._settings)
        except DepthNodeError as error:
            self._free_model()
            return self._fail(f"cannot configure: {error}")
        except Exception:  # rclpy would swallow it without a word
            self._free_model()
            return self._fail(f"cannot configure: {traceback.format_exc()}")
        self._failure = ""
        return super().on_configure(state)

    def _load_model(self, settings: Settings) -> None:
        self._pipeline, self._session = pipeline, session = load_pipeline(settings)
        model, motion = pipeline.model, load_motion_observer(settings)
        self._intrinsics = OnlineIntrinsics(self, model.spec.intrinsics_prior, motion, settings)
        self._scale = OnlineScale(self, pipeline.visual_odometry, settings, self._report)
        self._outputs = Outputs(self, model.spec.has_confidence, settings.scan_enabled)
        state_of_backend = f"{session.device}, {session.precision}" if session.is_serving else session.state.notice
        self.get_logger().info(f"model {model.path} on {session.name}, {state_of_backend}")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to images, and publish."""
        if self._is_enabled:
            self._start_work()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; the model stays loaded."""
        self._stop_work("the node was deactivated")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free_model()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop_work("the node was shut down")
        self._free_model()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after an exception in another transition, which rclpy keeps to itself."""
        self._stop_work("a transition failed")
        self._free_model()
        self._fail("a transition failed without a word; the node is unconfigured again")
        return _SUCCESS

    def destroy_node(self) -> None:
        """End all threads before the node."""
        self._stop_work("the node is shutting down")
        self._snapshots.close()
        self._free_model()  # and what is being built of it
        self._log_handler.close()
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

    @property
    def _state(self) -> str:
        return str(self._state_machine.current_state[1])

    def _start_work(self) -> None:
        assert self._pipeline is not None
        assert self._outputs is not None
        assert self._intrinsics is not None
        assert self._scale is not None
        inputs = Inputs(self, self._settings.image_transport, self._receive_image, self._receive_camera_info)
        views = ViewThread([self._intrinsics, self._scale], self._report)
        handler = FrameHandler(
            self,
            self._pipeline,
            self._outputs,
            self._intrinsics,
            self._scale,
            views,
            self._statistics,
            self._settings,
            inputs,
        )
        self._scale.listen(True)
        logger = self.get_logger()
        watch = WorkWatch(inputs, self._outputs, self._scale, self._statistics, logger.warning, logger.info)
        self._active = _Active(inputs, handler, LatestWorker(handler.handle, name="depth"), views, watch)

    def _stop_work(self, reason: str) -> None:
        self._snapshots.cancel(reason)
        if self._active is not None:
            self._active.inputs.destroy()
            if self._scale is not None:
                self._scale.listen(False)
            if self._active.worker.stop():
                self._statistics.frame_dropped()
            self._active.views.stop()
        self._active = None

    def _free_model(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        if self._session is not None:
            self._session.close()
        if self._intrinsics is not None:
            self._intrinsics.destroy()
        if self._scale is not None:
            self._scale.destroy()
        self._outputs = self._pipeline = self._session = self._intrinsics = self._scale = None

    # Topics

    def _receive_image(self, message: Image | CompressedImage, missed: int | None) -> None:
        if self._active is None:
            return
        now, stamp = self._statistics.clock(), stamp_ns(message)
        age = (self.get_clock().now().nanoseconds - stamp) * 1e-9
        self._statistics.frame_received(missed or 0, age if stamp else None)
        if not self._rate_limiter.admits(now, self._settings.rate_limit):
            self._statistics.frame_skipped()
        elif self._active.worker.submit(ReceivedImage(message, now)):
            self._statistics.frame_dropped()

    def _receive_camera_info(self, message: CameraInfo) -> None:
        if self._active is not None:
            self._active.handler.camera_info = message

    # Services

    def _set_enabled(self, is_enabled: bool) -> str:
        if is_enabled != self._is_enabled and self._state == "active":
            if is_enabled:
                self._start_work()
            else:
                self._stop_work("the node was disabled")
        self._is_enabled = is_enabled
        now = "" if self._state == "active" else f", once it is active (it is {self._state})"
        return ("depth is computed" if is_enabled else "no depth is computed, and no images are received") + now

    def _order_snapshot(self, take: TakeSnapshot | None) -> str:
        if self._active is None:
            return f"there are no images: the node is {self._state if self._is_enabled else 'disabled'}"
        self._active.handler.take_snapshot = take
        return ""

    def _save_intrinsics(self) -> str:
        if self._intrinsics is None:
            raise DepthNodeError(f"nothing was learned: the node is {self._state}")
        return self._intrinsics.save()

    # Diagnostics

    def _report(self, kind: str, message: str) -> None:
        if self._active is not None:
            self._active.handler.report(kind, message)

    def _facts(self) -> Mapping[str, str]:
        return {pair.key: pair.value for pair in self._status().values if pair.value}

    def _diagnose(self) -> DiagnosticStatus:
        if self._active is not None:
            for fault in self._active.inputs.faults():
                self._active.handler.report(*fault)
            self._active.watch.look()
        return self._status()

    def _status(self) -> DiagnosticStatus:
        statistics = self._statistics.snapshot()
        status = NodeStatus(state=self._state, failure=self._failure, enabled=self._is_enabled)
        if self._pipeline is not None and self._session is not None:
            status = with_model(status, self._pipeline.model, self._session)
        if self._active is not None and self._intrinsics is not None and self._scale is not None:
            status = with_work(status, self._active.inputs, self._active.watch, self._intrinsics, self._scale)
        return diagnostic_status(status, statistics)

    # Parameters

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            changed_settings(self._settings, changes, is_configured=self._pipeline is not None)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, changes: list[Parameter]) -> None:
        self._settings = changed_settings(self._settings, changes, is_configured=self._pipeline is not None)
        if self._active is not None:
            self._active.handler.settings = self._settings
        if self._intrinsics is not None:
            self._intrinsics.settings = self._settings
        if self._scale is not None:
            self._scale.apply(self._settings)
