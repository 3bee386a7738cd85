"""The depth node, and RViz if wanted: `ros2 launch depth_node depth.launch.py --show-args`."""

import os
import posixpath

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from depth_node.backends import BACKENDS, PRECISIONS
from depth_node.parameters import IMAGE_TRANSPORTS
from depth_node.resources import share_file

BOOLEANS = ["true", "false"]

# Arguments of the same name as a parameter; an empty one leaves the parameter to params_file.
PARAMETERS = {
    "image_transport": ("what the topic image carries: sensor_msgs/Image or CompressedImage", IMAGE_TRANSPORTS),
    "model": ("path of a model file, or name of a shipped model", None),
    "backend": ("inference library", ("auto", *BACKENDS)),
    "precision": ("arithmetic of the inference", PRECISIONS),
    "autostart": ("configure and activate at start, without a lifecycle manager", BOOLEANS),
}
AS_IN_FILE = "empty: as in params_file"


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("image", default_value="image", description="image topic"),
        DeclareLaunchArgument(
            "camera_info", default_value="", description="camera_info topic (empty: beside the image topic)"
        ),
        *(
            DeclareLaunchArgument(
                name,
                default_value="",
                description=f"{description} ({AS_IN_FILE})",
                choices=["", *choices] if choices else None,
            )
            for name, (description, choices) in PARAMETERS.items()
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share_file("config/depth.yaml")),
            description="parameters of the node (YAML)",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and of its topics"),
        DeclareLaunchArgument("rviz", default_value="false", description="also start RViz", choices=BOOLEANS),
        DeclareLaunchArgument(
            "fixed_frame",
            default_value="camera_optical",
            description="frame in which RViz shows the cloud, such as the image's",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="take the time from /clock", choices=BOOLEANS
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            description="of the node",
            choices=["debug", "info", "warn", "error", "fatal"],
        ),
    ]
    return LaunchDescription([*arguments, *fast_dds_profile(), OpaqueFunction(function=depth_node), rviz()])


def fast_dds_profile() -> list[SetEnvironmentVariable]:
    """Shared memory for large images, unless the user has a profile."""
    name = "FASTRTPS_DEFAULT_PROFILES_FILE"
    if name in os.environ:
        return []
    return [SetEnvironmentVariable(name, str(share_file("config/fastdds.xml")))]


def depth_node(context: LaunchContext) -> list[Node]:
    """The node; its end ends the launch."""

    def argument(name: str) -> str:
        return context.perform_substitution(LaunchConfiguration(name))

    image = argument("image")
    # Without its type, launch would read a model named `12` as a number.
    types = {name: bool if choices == BOOLEANS else str for name, (_, choices) in PARAMETERS.items()}
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=types[name]) for name in PARAMETERS if argument(name)
    }
    parameters = {**given, "use_sim_time": argument("use_sim_time") == "true"}
    return [
        Node(
            package="depth_node",
            executable="depth_node",
            name="depth_node",
            namespace=argument("namespace"),
            parameters=[argument("params_file"), parameters],
            remappings=[("image", image), ("camera_info", argument("camera_info") or camera_info_beside(image))],
            arguments=["--ros-args", "--log-level", argument("log_level")],
            output="screen",
            on_exit=Shutdown(reason="the depth node has ended"),
        )
    ]


def camera_info_beside(image: str) -> str:
    """`camera_info` in the namespace of an image topic, as drivers and image_transport have it."""
    base = image.removesuffix("/compressed")
    return posixpath.join(posixpath.dirname(base), "camera_info")


def rviz() -> Node:
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(share_file("config/depth.rviz")), "-f", LaunchConfiguration("fixed_frame")],
        parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
        remappings=[("image", LaunchConfiguration("image"))],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
