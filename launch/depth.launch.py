"""The depth node, and RViz or a bag if wanted: `ros2 launch depth_node depth.launch.py --show-args`."""

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
from depth_node.transport import PROFILE_VARIABLES

BOOLEANS = ["true", "false"]
VIEW_FRAME = "depth_view"

# Arguments that set a parameter; an empty one leaves it to params_file.
PARAMETERS = {
    "image_transport": ("raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage", IMAGE_TRANSPORTS),
    "model": ("path of a model file, or name of a shipped model: python -m depth_node models", None),
    "motion_model": ("the same of a motion model, which helps to learn the intrinsics", None),
    "backend": ("inference library", ("auto", *BACKENDS)),
    "precision": ("arithmetic of the inference", PRECISIONS),
    "scan": ("publish a LaserScan, for 2D navigation", BOOLEANS),
    "autostart": ("configure and activate at start, without a lifecycle manager", BOOLEANS),
}
AS_IN_FILE = "empty: as in params_file"
# Of arguments that have not the parameter's own name.
PARAMETER_NAMES = {"motion_model": "intrinsics.motion_model", "scan": "scan.enabled"}


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(
            "image", default_value="image", description="image topic, without /compressed, as image_transport has it"
        ),
        DeclareLaunchArgument(
            "camera_info", default_value="", description="camera_info topic (empty: beside the image topic)"
        ),
        DeclareLaunchArgument(
            "odom", default_value="", description="odometry topic, for scale.mode odometry and auto (empty: odom)"
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
            default_value="",
            description="of RViz, such as map; a static transform to the camera is published if TF does not know the "
            "camera (empty: an upright frame at the camera)",
        ),
        DeclareLaunchArgument("bag", default_value="", description="also play this bag: file or folder (empty: none)"),
        DeclareLaunchArgument("rate", default_value="1.0", description="speed factor of the bag"),
        DeclareLaunchArgument(
            "loop", default_value="false", description="begin the bag again at its end", choices=BOOLEANS
        ),
        DeclareLaunchArgument(
            "topics",
            default_value="",
            description="topics of the bag to play, with spaces between (empty: images, camera_info, tf, odometry)",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            description="take the time from /clock, where the bag's time is published, if there is a bag",
            choices=BOOLEANS,
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            description="of the node",
            choices=["debug", "info", "warn", "error", "fatal"],
        ),
    ]
    return LaunchDescription(
        [
            *arguments,
            *fast_dds_profile(),
            OpaqueFunction(function=depth_node),
            OpaqueFunction(function=replay),
            OpaqueFunction(function=rviz, condition=IfCondition(LaunchConfiguration("rviz"))),
        ]
    )


def fast_dds_profile() -> list[SetEnvironmentVariable]:
    """Shared memory for large images, unless the user has a profile."""
    if any(name in os.environ for name in PROFILE_VARIABLES):
        return []
    return [SetEnvironmentVariable(PROFILE_VARIABLES[0], str(share_file("config/fastdds.xml")))]


def text(context: LaunchContext, name: str) -> str:
    """Value of an argument."""
    return context.perform_substitution(LaunchConfiguration(name))


def depth_node(context: LaunchContext) -> list[Node]:
    """The node; its end ends the launch."""
    # Without its type, launch would read a model named `12` as a number.
    types = {name: bool if choices == BOOLEANS else str for name, (_, choices) in PARAMETERS.items()}
    given = {
        PARAMETER_NAMES.get(name, name): ParameterValue(LaunchConfiguration(name), value_type=types[name])
        for name in PARAMETERS
        if text(context, name)
    }
    parameters = {**given, "use_sim_time": text(context, "use_sim_time") == "true"}
    # Only a remapped camera_info is not looked for beside the image.
    topics = {name: text(context, name) for name in ("image", "camera_info", "odom")}
    return [
        Node(
            package="depth_node",
            executable="depth_node",
            name="depth_node",
            namespace=text(context, "namespace"),
            parameters=[text(context, "params_file"), parameters],
            remappings=[(name, topic) for name, topic in topics.items() if topic],
            arguments=["--ros-args", "--log-level", text(context, "log_level")],
            output="screen",
            on_exit=Shutdown(reason="the depth node has ended"),
        )
    ]


def replay(context: LaunchContext) -> list[Node]:
    """The replayer, if there is a bag; without RViz its end ends the launch."""
    bag = text(context, "bag")
    if not bag:
        return []
    options = [word for topic in text(context, "topics").split() for word in ("--topic", topic)]
    options += [
        option for option, name in (("--loop", "loop"), ("--clock", "use_sim_time")) if text(context, name) == "true"
    ]
    return [
        Node(
            package="depth_node",
            executable="replay",
            arguments=[bag, "--rate", text(context, "rate"), "--wait-for-subscribers", *options],
            output="screen",
            on_exit=None if text(context, "rviz") == "true" else Shutdown(reason="the bag has ended"),
        )
    ]


def rviz(context: LaunchContext) -> list[Node]:
    """RViz, and beside it the transform that it needs, if there is none. Both in the node's namespace."""
    namespace, fixed_frame = text(context, "namespace"), text(context, "fixed_frame")
    view_frame = posixpath.join(namespace.strip("/"), VIEW_FRAME)  # a frame for each robot
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=namespace,
            arguments=["-d", str(share_file("config/depth.rviz")), "-f", fixed_frame or view_frame],
            parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
        ),
        Node(
            package="depth_node",
            executable="rviz_frame",
            namespace=namespace,
            arguments=["--fixed-frame", fixed_frame] if fixed_frame else ["--view-frame", view_frame],
            output="screen",
        ),
    ]
