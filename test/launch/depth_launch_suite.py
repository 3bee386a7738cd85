"""The node as depth.launch.py starts it, for launch_testing: `launch_test depth_launch_suite.py` on a ROS machine.

test_launch_testing.py runs it within pytest, in a domain of its own.
"""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from typing import Any

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import rclpy
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header

DEPTH_LAUNCH = Path(__file__).resolve().parents[2] / "launch" / "depth.launch.py"
TIMEOUT_S = 30


def generate_test_description() -> LaunchDescription:
    """depth.launch.py in the namespace /robot, with the model of $DEPTH_NODE_TEST_MODEL, if that is set."""
    arguments = {
        "namespace": "robot",
        "image": "camera/image_raw",
        "model": os.environ.get("DEPTH_NODE_TEST_MODEL", ""),
        "use_sim_time": "false",
    }
    source = PythonLaunchDescriptionSource(str(DEPTH_LAUNCH))
    return LaunchDescription(
        [
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestRunningNode(unittest.TestCase):
    """While the node runs."""

    def setUp(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("tester", namespace="robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def tearDown(self) -> None:
        self.node.destroy_node()
        self.context.shutdown()

    def test_an_image_becomes_depth_of_its_stamp_and_frame(self, proc_output: Any) -> None:
        received: list[Image] = []
        self.node.create_subscription(Image, "depth/image", received.append, 5)
        publisher = self.node.create_publisher(Image, "camera/image_raw", 5)
        proc_output.assertWaitFor("model ", timeout=TIMEOUT_S)
        image = Image(header=Header(frame_id="camera_optical"), height=32, width=64, encoding="mono8", step=64)
        image.header.stamp.sec = 12
        image.data.frombytes(bytes(64 * 32))
        for _ in range(TIMEOUT_S * 5):
            publisher.publish(image)
            self.executor.spin_once(0.2)
            if received:
                break
        assert received, "no depth image came"
        depth = received[0]
        assert (depth.header, depth.width, depth.height) == (image.header, 64, 32)
        assert depth.encoding == "32FC1"

    def test_the_node_is_active(self) -> None:
        client = self.node.create_client(GetState, "depth_node/get_state")
        assert client.wait_for_service(TIMEOUT_S)
        label = ""
        for _ in range(TIMEOUT_S * 5):
            future = client.call_async(GetState.Request())
            self.executor.spin_until_future_complete(future, 0.2)
            label = future.result().current_state.label if future.done() else ""
            if label == "active":
                break
        assert label == "active"


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):
    """After SIGINT."""

    def test_exit_codes_are_clean(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)

    def test_nothing_was_thrown(self, proc_output: Any) -> None:
        for process in proc_output.process_names():
            text = b"".join(event.text for event in proc_output[process]).decode()
            assert "Traceback" not in text
