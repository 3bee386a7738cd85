"""A bag and the depth node, on the bag's time: `ros2 launch depth_node replay.launch.py bag:=drive.mcap rviz:=true`."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

DEPTH_LAUNCH = str(Path(__file__).parent / "depth.launch.py")


def generate_launch_description() -> LaunchDescription:
    """depth.launch.py with all its arguments, but with a bag, and with the bag's time unless told otherwise."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="bag: mcap or db3 file, bag directory, or ROS 1 .bag"),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="true",
                description="publish the bag's time on /clock, and take the time from there",
                choices=["true", "false"],
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(DEPTH_LAUNCH)),
        ]
    )
