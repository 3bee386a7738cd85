"""The node's services: `~/set_enabled`, `~/save_intrinsics` and `~/save_snapshot`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from depth_node.errors import DepthNodeError
from depth_node.frames import DepthFrame
from depth_node.snapshot import save_snapshot

SNAPSHOT_TIMEOUT_S = 5.0


class EnableService:
    """`~/set_enabled`: whether the node listens to images at all."""

    def __init__(self, node: Node, set_enabled: Callable[[bool], str]) -> None:
        """set_enabled: does it, and says in a sentence what is so now."""
        self._set_enabled = set_enabled
        node.create_service(SetBool, "~/set_enabled", self._handle)

    def _handle(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = True, self._set_enabled(request.data)
        return response


class SaveIntrinsicsService:
    """`~/save_intrinsics`: keeps the learned intrinsics for the next start."""

    def __init__(self, node: Node, save: Callable[[], str]) -> None:
        """save: does it, and gives the file's path; raises DepthNodeError where it cannot."""
        self._save = save
        node.create_service(Trigger, "~/save_intrinsics", self._handle)

    def _handle(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, self._save()
        except DepthNodeError as error:
            response.success, response.message = False, str(error)
        return response


class SnapshotService:
    """`~/save_snapshot`: the next depth frame, written to a folder of its own beside the node's work."""

    def __init__(
        self,
        node: Node,
        order: Callable[[Callable[[DepthFrame], None] | None], str],
        directory: Callable[[], Path],
        facts: Callable[[], Mapping[str, str]],
    ) -> None:
        """Args:
        order: has the next depth frame handed to a function (None: no more), or says why there will be none.
        directory: the folder in which snapshots are made.
        facts: of the node, written beside the pictures.
        """
        self._node = node
        self._order = order
        self._directory = directory
        self._facts = facts
        self._lock = threading.Lock()
        self._pending: Future | None = None
        self._writer = ThreadPoolExecutor(1, "snapshot")
        # In the node's own group, a request that waits would hold up everything else.
        self._callbacks = ReentrantCallbackGroup()
        node.create_service(Trigger, "~/save_snapshot", self._handle, callback_group=self._callbacks)

    def cancel(self, reason: str) -> None:
        """Answer a waiting request that there will be no snapshot."""
        self._finish(self._pending, False, reason)

    def close(self) -> None:
        """Finish what is being written."""
        self.cancel("the node is shutting down")
        self._writer.shutdown()

    async def _handle(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._pending is not None:
            response.success, response.message = False, "another snapshot is being taken"
            return response
        future = self._pending = Future(executor=self._node.executor)
        timer = self._node.create_timer(
            SNAPSHOT_TIMEOUT_S,
            lambda: self._finish(future, False, f"no depth frame came within {SNAPSHOT_TIMEOUT_S:.0f} s"),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
            callback_group=self._callbacks,
        )
        refusal = self._order(lambda result: self._write_later(future, result))
        if refusal:
            self._finish(future, False, refusal)
        response.success, response.message = await future
        self._order(None)
        self._node.destroy_timer(timer)
        self._pending = None
        return response

    def _write_later(self, future: Future, result: DepthFrame) -> None:
        self._writer.submit(self._write, future, result)

    def _write(self, future: Future, result: DepthFrame) -> None:
        try:
            folder = save_snapshot(result, self._directory(), self._facts())
        except DepthNodeError as error:
            self._finish(future, False, str(error))
        except Exception as error:  # nobody else would hear of it
            self._finish(future, False, f"cannot save a snapshot: {type(error).__name__}: {error}")
        else:
            self._finish(future, True, str(folder))

    def _finish(self, future: Future | None, success: bool, message: str) -> None:
        with self._lock:
            if future is not None and not future.done():
                future.set_result((success, message))


def snapshot_directory(configured: str) -> Path:
    """The configured folder, or `depth_node/snapshots` in ROS's own folder of the user."""
    if configured:
        return Path(configured).expanduser()
    return Path(os.environ.get("ROS_HOME", "~/.ros")).expanduser() / "depth_node" / "snapshots"
