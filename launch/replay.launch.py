"""A bag and the depth node, on the bag's time: `ros2 launch depth_node replay.launch.py bag:=drive.mcap rviz:=true`."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

DEPTH_LAUNCH = str(Path(__file__).parent / "depth.launch.py")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="bag: mcap or db3 file, bag directory, or ROS 1 .bag"),
            DeclareLaunchArgument(
                "topics",
                default_value="",
                description="topics to play, with spaces between (empty: all that the node uses)",
            ),
            DeclareLaunchArgument("rate", default_value="1.0", description="speed factor"),
            DeclareLaunchArgument(
                "loop", default_value="false", description="begin again at the end", choices=["true", "false"]
            ),
            # All arguments of depth.launch.py are arguments here, too; the bag's time is everybody's.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(DEPTH_LAUNCH), launch_arguments={"use_sim_time": "true"}.items()
            ),
            OpaqueFunction(function=replay),
        ]
    )


def replay(context: LaunchContext) -> list[Node]:
    """The replayer; without RViz its end ends the launch."""

    def argument(name: str) -> str:
        return context.perform_substitution(LaunchConfiguration(name))

    options = [word for topic in argument("topics").split() for word in ("--topic", topic)]
    if argument("loop") == "true":
        options.append("--loop")
    return [
        Node(
            package="depth_node",
            executable="replay",
            arguments=[argument("bag"), "--rate", argument("rate"), "--clock", "--wait-for-subscribers", *options],
            output="screen",
            on_exit=None if argument("rviz") == "true" else Shutdown(reason="the bag has ended"),
        )
    ]
