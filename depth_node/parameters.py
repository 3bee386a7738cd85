"""The node's parameters: one table, the source of settings, ROS descriptors, config/depth.yaml, docs/parameters.md.

After a change here: `python -m depth_node.parameter_files yaml > config/depth.yaml`, `markdown > docs/parameters.md`.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any, get_type_hints

from depth_node.backends import BACKENDS, PRECISIONS
from depth_node.color import COLORMAPS
from depth_node.errors import ParameterError
from depth_node.intrinsics.selection import INTRINSICS_SOURCES
from depth_node.intrinsics.store import is_camera_name
from depth_node.pipeline import OUTPUT_RESOLUTIONS
from depth_node.resources import DEFAULT_MODEL
from depth_node.scale import SCALE_MODES

# When a parameter can be changed.
AT_START = "at start"
UNCONFIGURED = "while unconfigured"
ALWAYS = "always"

# `scale_mode` of `Settings` is `scale.mode` in ROS. The rows of a group stand together.
GROUPS = ("tensorrt", "intrinsics", "scale", "depth", "cloud", "color", "scan", "snapshot")

IMAGE_TRANSPORTS = ("raw", "compressed")
RECTIFY = ("auto", "off", "done")
DEPTH_ENCODINGS = ("32FC1", "16UC1")
ODOMETRY_TYPES = ("nav_msgs/Odometry", "geometry_msgs/TwistStamped", "geometry_msgs/TwistWithCovarianceStamped")

# Pairs of parameters whose first must be less than its second.
_ORDERED = (
    ("min_range", "max_range"),
    ("color_min_depth", "color_max_depth"),
    ("scan_min_height", "scan_max_height"),
)


@dataclass(frozen=True)
class Parameter:
    """One row of the table. `minimum` and `maximum` are inclusive.

    attribute: of `Settings`; name: in ROS, with a point behind its group.
    """

    attribute: str
    name: str
    type: type
    default: Any
    description: str
    changes: str
    unit: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None

    def check(self, value: Any) -> None:
        """Raise ParameterError unless `value` is one of the choices, or inside the range."""
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name} is '{value}'; expected one of: {', '.join(self.choices)}")
        if self.minimum is not None and not value >= self.minimum:
            raise ParameterError(f"{self.name} is {value}; expected {self.minimum} or more")
        if self.maximum is not None and not value <= self.maximum:
            raise ParameterError(f"{self.name} is {value}; expected {self.maximum} or less")


def _row(
    default: Any,
    description: str,
    *,
    changes: str = ALWAYS,
    unit: str = "",
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata={"description": description, "changes": changes, "unit": unit, **limits})


@dataclass(frozen=True)
class Settings:
    """Values of all parameters, checked.

    Raises:
        ParameterError: a value is not among the choices, or out of its range.
    """

    autostart: bool = _row(True, "Configure and activate at start, without a lifecycle manager.", changes=AT_START)
    model: str = _row(DEFAULT_MODEL, "Path of a model file, or the name of a shipped model.", changes=UNCONFIGURED)
    backend: str = _row(
        "auto",
        "Inference library; auto takes the best one that is installed, TensorRT where a CUDA device answers.",
        changes=UNCONFIGURED,
        choices=("auto", *BACKENDS),
    )
    precision: str = _row(
        "auto",
        "Arithmetic of the inference; auto leaves it to the device (float16 with TensorRT, bfloat16 on processors that "
        "have it). tf32, fp16 and int8 need TensorRT; int8 needs calibration (tool build_engine).",
        changes=UNCONFIGURED,
        choices=PRECISIONS,
    )
    backend_fallback: bool = _row(
        True,
        "Another backend serves while TensorRT builds an engine, which takes minutes, and while a device is lost. "
        "Without, there is no depth meanwhile.",
        changes=UNCONFIGURED,
    )
    tensorrt_workspace: int = _row(
        0,
        "Device memory that one layer may use; 0 is all there is. Each value has an engine of its own.",
        changes=UNCONFIGURED,
        unit="MiB",
        minimum=0,
        maximum=2**20,
    )
    tensorrt_cuda_graph: bool = _row(
        True, "Inferences are captured once as a CUDA graph and replayed, for one launch each.", changes=UNCONFIGURED
    )
    threads: int = _row(
        0,
        "CPU threads of the inference; 0 leaves the number to the library.",
        changes=UNCONFIGURED,
        minimum=0,
        maximum=1024,
    )
    inference_timeout: float = _row(
        5.0,
        "An inference that takes longer is given up, since the device hangs: another session takes over, or another "
        "backend (backend_fallback). 0 waits for ever.",
        changes=UNCONFIGURED,
        unit="s",
        minimum=0.0,
    )
    image_transport: str = _row(
        "raw",
        "What comes on the topic image: raw is sensor_msgs/Image, compressed is sensor_msgs/CompressedImage.",
        changes=UNCONFIGURED,
        choices=IMAGE_TRANSPORTS,
    )
    rate_limit: float = _row(
        0.0, "Frames per second at most; 0 takes all that the device manages.", unit="Hz", minimum=0.0
    )
    rectify: str = _row(
        "auto",
        "auto undistorts images whose camera_info has distortion (not those of topics named image_rect...); off takes "
        "them as they come; done: they are rectified already, and camera_info's P describes them.",
        choices=RECTIFY,
    )
    output_resolution: str = _row(
        "image",
        "Size of all outputs: the image's, its half or quarter, or the model's input.",
        choices=OUTPUT_RESOLUTIONS,
    )
    min_range: float = _row(0.0, "Nearer depth is published as NaN.", unit="m", minimum=0.0)
    max_range: float = _row(math.inf, "Farther depth is published as NaN.", unit="m", minimum=0.0)
    min_confidence: float = _row(
        0.0, "Depth with less confidence is NaN; for models that have a confidence.", minimum=0.0, maximum=1.0
    )
    remove_sky: bool = _row(True, "Depth of the sky is NaN.")
    intrinsics_source: str = _row(
        "auto",
        "Camera that points are computed with; auto: camera_info if valid, else learned from the images, else the "
        "model's prior. learned passes over camera_info; learned and camera_info fall back on the prior.",
        choices=INTRINSICS_SOURCES,
    )
    intrinsics_verify: bool = _row(
        True, "Compare a camera_info in use with what the images say, until the images have confirmed it."
    )
    intrinsics_rate: float = _row(
        10.0,
        "Images per second at most that intrinsics, and the scale from odometry, are learned from; 0 takes all.",
        unit="Hz",
        minimum=0.0,
    )
    intrinsics_max_change: float = _row(
        0.05,
        "Change per second, at most, of the learned intrinsics in use: of the logarithm of the focal length.",
        unit="1/s",
        minimum=0.001,
        maximum=1000.0,
    )
    intrinsics_square_pixels: bool = _row(
        True,
        "Learned fx and fy are alike; false learns them separately, for images that were stretched.",
        changes=UNCONFIGURED,
    )
    intrinsics_motion_model: str = _row(
        "", "Path of a motion model, which helps to learn the intrinsics; empty: none.", changes=UNCONFIGURED
    )
    intrinsics_camera_name: str = _row(
        "",
        "Names the file of the learned intrinsics; empty: the image topic's namespace, front_camera of "
        "/front/camera/image_raw.",
        changes=UNCONFIGURED,
    )
    intrinsics_directory: str = _row(
        "",
        "Where ~/save_intrinsics keeps them, and where they are loaded from; empty: depth_node/intrinsics in $ROS_HOME "
        "(~/.ros).",
        changes=UNCONFIGURED,
    )
    scale_mode: str = _row(
        "model",
        "Metric scale: as the model gives it; scale.factor (fixed); from the ground and scale.camera_height; from the "
        "images against odometry, on the topic odom; auto: the surer of these two, or else the model's.",
        choices=SCALE_MODES,
    )
    scale_factor: float = _row(
        1.0, "Metres per unit of the model's depth, with scale.mode fixed.", minimum=1e-6, maximum=1e6
    )
    scale_camera_height: float = _row(
        0.0,
        "Of the camera above the ground; 0 is unknown. Needed by scale.mode camera_height, of use to auto.",
        unit="m",
        minimum=0.0,
        maximum=1000.0,
    )
    scale_odometry_type: str = _row(
        "nav_msgs/Odometry",
        "What comes on the topic odom: poses, or velocities (wheel speed), with the stamps of the images' clock.",
        choices=ODOMETRY_TYPES,
        changes=UNCONFIGURED,
    )
    depth_encoding: str = _row(
        "32FC1", "Of depth/image: metres with NaN, or 16UC1 millimetres with 0 (REP 118).", choices=DEPTH_ENCODINGS
    )
    cloud_stride: int = _row(
        2, "The cloud has every n-th pixel of every n-th row.", unit="pixels", minimum=1, maximum=1024
    )
    cloud_organized: bool = _row(True, "The cloud has the image's rows and columns; false leaves out invalid points.")
    cloud_voxel_size: float = _row(
        0.0,
        "One point per cube of this size, its mean; 0 keeps all points. Needs cloud.organized false.",
        unit="m",
        minimum=0.0,
        maximum=1000.0,
    )
    color_map: str = _row("turbo", "Colours of depth/color.", choices=tuple(COLORMAPS))
    color_min_depth: float = _row(
        2.0, "Depth with the last colour of the map; nearer is the same.", unit="m", minimum=0.001
    )
    color_max_depth: float = _row(
        80.0, "Depth with the first colour of the map; farther is the same.", unit="m", minimum=0.001
    )
    scan_enabled: bool = _row(False, "Publish a LaserScan on the topic scan, for 2D navigation.", changes=UNCONFIGURED)
    scan_frame: str = _row(
        "",
        "Frame of the scan: at the camera, x forward, y left, z up. Empty: the image's frame_id without its suffix "
        "_optical or _optical_frame.",
    )
    scan_min_height: float = _row(
        -0.3, "Lower edge of the band that the scan sees, above the camera.", unit="m", minimum=-1000.0, maximum=1000.0
    )
    scan_max_height: float = _row(
        0.3, "Upper edge of the band that the scan sees, above the camera.", unit="m", minimum=-1000.0, maximum=1000.0
    )
    scan_camera_pitch: float = _row(
        0.0,
        "How far the camera looks down; the scan's heights are measured in the levelled camera.",
        unit="rad",
        minimum=-1.5,
        maximum=1.5,
    )
    snapshot_directory: str = _row(
        "", "Where ~/save_snapshot makes its folders; empty: depth_node/snapshots in $ROS_HOME (~/.ros)."
    )

    def __post_init__(self) -> None:
        for parameter in PARAMETERS:
            parameter.check(getattr(self, parameter.attribute))
        for low, high in _ORDERED:
            least, greatest = getattr(self, low), getattr(self, high)
            if not least < greatest:
                raise ParameterError(f"{ros_name(low)} is {least} and {ros_name(high)} is {greatest}; expected less")
        if self.scale_mode == "camera_height" and not self.scale_camera_height > 0:
            raise ParameterError(
                "scale.mode is camera_height, but scale.camera_height is 0; set scale.camera_height first, in metres"
            )
        if self.intrinsics_camera_name and not is_camera_name(self.intrinsics_camera_name):
            raise ParameterError(
                f"intrinsics.camera_name is '{self.intrinsics_camera_name}'; expected the name of a file: up to 100 "
                "letters, digits, _, - and points"
            )
        if self.cloud_voxel_size > 0 and self.cloud_organized:
            raise ParameterError(
                f"cloud.voxel_size is {self.cloud_voxel_size} and cloud.organized is true; voxels have no rows "
                "and columns: set cloud.organized to false first"
            )


def ros_name(attribute: str) -> str:
    """Name in ROS of an attribute of `Settings`: `cloud.stride` of `cloud_stride`."""
    group, _, rest = attribute.partition("_")
    return f"{group}.{rest}" if group in GROUPS else attribute


def _parameters() -> tuple[Parameter, ...]:
    types = get_type_hints(Settings)
    rows: tuple[Field[Any], ...] = fields(Settings)
    return tuple(
        Parameter(row.name, ros_name(row.name), types[row.name], default=row.default, **row.metadata) for row in rows
    )


PARAMETERS = _parameters()
