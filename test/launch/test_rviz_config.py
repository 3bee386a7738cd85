"""config/depth.rviz against what RViz reads, and against the node's topics. RViz ignores a name that it does not know.

Names after rviz of ROS 2 Jazzy (rviz_common 14.1): of displays, in rviz_default_plugins/src/.../displays (grid,
image_display, point_cloud_common with the transformer flat_color, laser_scan_display); of topics, in rviz_common's
ros_topic_display.hpp, message_filter_display.hpp and qos_profile_property.cpp; of views, in orbit_view_controller.cpp
and view_controller.cpp; the rest in visualization_manager.cpp and visualization_frame.cpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config" / "depth.rviz"

DISPLAY = {"Class", "Name", "Enabled", "Value"}
POINTS = {
    *("Topic", "Selectable", "Style", "Size (m)", "Size (Pixels)", "Alpha", "Decay Time"),
    *("Position Transformer", "Color Transformer", "Color"),
}
IMAGE = {"Topic", "Normalize Range", "Min Value", "Max Value", "Median window"}
DISPLAYS = {
    "rviz_default_plugins/PointCloud2": POINTS,
    "rviz_default_plugins/LaserScan": POINTS,
    "rviz_default_plugins/Image": IMAGE,
    "rviz_default_plugins/TF": set(),
    "rviz_default_plugins/Grid": {
        *("Reference Frame", "Plane Cell Count", "Normal Cell Count", "Cell Size", "Line Style", "Color", "Alpha"),
        *("Plane", "Offset"),
    },
}
TOPIC = {"Value", "Filter size", "Depth", "History Policy", "Reliability Policy", "Durability Policy"}
POLICIES = {
    "History Policy": {"System Default", "Keep Last", "Keep All"},
    "Reliability Policy": {"System Default", "Reliable", "Best Effort"},
    "Durability Policy": {"System Default", "Transient Local", "Volatile"},
}
ENUMERATIONS = {
    "Style": {"Points", "Squares", "Flat Squares", "Spheres", "Boxes", "Tiles"},
    "Position Transformer": {"XYZ"},
    "Color Transformer": {"RGB8", "FlatColor", "AxisColor", "Intensity"},
    "Plane": {"XY", "XZ", "YZ"},
}
ORBIT = {
    *("Class", "Name", "Value", "Target Frame", "Distance", "Focal Point", "Focal Shape Size"),
    *("Focal Shape Fixed Size", "Yaw", "Pitch", "Near Clip Distance", "Invert Z Axis"),
}


@pytest.fixture(scope="module")
def manager() -> dict[str, Any]:
    config = yaml.safe_load(CONFIG.read_text())
    assert set(config) == {"Panels", "Visualization Manager", "Window Geometry"}
    assert {panel["Class"].partition("/")[0] for panel in config["Panels"]} == {"rviz_common"}
    found: dict[str, Any] = config["Visualization Manager"]
    return found


def test_rviz_knows_all_names_of_displays(manager: dict[str, Any]) -> None:
    for display in manager["Displays"]:
        assert set(display) - DISPLAY <= DISPLAYS[display["Class"]], display["Name"]
        assert display["Enabled"] == display["Value"]
        for name, values in ENUMERATIONS.items():
            assert display.get(name) in {None, *values}


def test_rviz_knows_all_names_of_topics_and_hears_every_publisher(manager: dict[str, Any]) -> None:
    topics = [display["Topic"] for display in manager["Displays"] if "Topic" in display]
    assert len(topics) == 4
    for topic in topics:
        assert set(topic) <= TOPIC
        for name, values in POLICIES.items():
            assert topic[name] in values
        assert (topic["Reliability Policy"], topic["Durability Policy"]) == ("Best Effort", "Volatile")


def test_topics_are_the_nodes_and_of_the_displays_types(manager: dict[str, Any]) -> None:
    pytest.importorskip("rclpy")
    from depth_node import outputs

    for display in manager["Displays"]:
        if "Topic" in display:
            message_type, _ = outputs._RESULTS[display["Topic"]["Value"]]
            assert display["Class"] == f"rviz_default_plugins/{message_type.__name__}"


def test_the_view_is_from_behind_in_the_frame_that_rviz_frame_publishes(manager: dict[str, Any]) -> None:
    pytest.importorskip("rclpy")
    from depth_node.tools.rviz_frame import VIEW_FRAME

    assert manager["Global Options"]["Fixed Frame"] == VIEW_FRAME
    assert set(manager["Global Options"]) <= {"Fixed Frame", "Background Color", "Frame Rate"}
    view = manager["Views"]["Current"]
    assert set(view) <= ORBIT
    assert view["Class"] == "rviz_default_plugins/Orbit"
    assert view["Yaw"] == pytest.approx(3.1416)  # RViz's eye is on the side of -x, and x is forward
    assert 0 < view["Pitch"] < 1.57  # above: z is up
