"""What is where in the viewer, and the messages of a node put there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import NDArray

from depth_node.tools.view import archetypes
from depth_node.tools.view.status import diagnostic_values, intrinsics, plotted_values, status_markdown

APPLICATION = "depth_node"

# Entities. Everything in space is below the camera's optical frame, whose axes are those of REP 103.
OPTICAL = "optical_frame"
POINTS = f"{OPTICAL}/points"
CAMERA = f"{OPTICAL}/camera"
IMAGE = f"{CAMERA}/image"
DEPTH = f"{CAMERA}/depth"
INVALID = f"{CAMERA}/no_depth"
CONFIDENCE = f"{CAMERA}/confidence"
SCAN = "scan"
PLOTS = "plots"
STATUS = "status"

STAMP = "ros_stamp"  # timeline: the stamps of the images
ARRIVAL = "log_time"  # timeline that Rerun adds: when a message came in

CATCH_UP_SECONDS = 0.1

_SERIES = {
    "intrinsics/fx": ("fx", (228, 26, 28)),
    "intrinsics/fy": ("fy", (255, 127, 0)),
    "intrinsics/cx": ("cx", (55, 126, 184)),
    "intrinsics/cy": ("cy", (77, 175, 174)),
    "latency/p50": ("p50", (77, 175, 74)),
    "latency/p95": ("p95", (255, 127, 0)),
    "rate/input": ("input", (150, 150, 150)),
    "rate/output": ("output", (55, 126, 184)),
}


@dataclass(frozen=True)
class SceneOptions:
    """What is shown, and how.

    cloud, confidence, scan: whether there is a view of them. max_points: of the cloud.
    jpeg_quality: 1 to 100. color_max_depth: metres at the end of the colour scale of depth.
    is_live: for a viewer that follows, over a network: less precise depth; or for a recording, exact and by stamp.
    """

    cloud: bool = True
    confidence: bool = False
    scan: bool = False
    max_points: int = 40_000
    jpeg_quality: int = 80
    color_max_depth: float = 80.0
    is_live: bool = True


class Scene:
    """Logs messages of one depth node to a recording, on the timeline of their stamps."""

    def __init__(self, recording: rr.RecordingStream, options: SceneOptions) -> None:
        self._recording = recording
        self._options = options
        self._camera_info: Any | None = None
        self._diagnostics: Any | None = None
        self._newest_stamp: int | None = None
        recording.set_log_tick_enabled(False)
        recording.log(OPTICAL, rr.ViewCoordinates.RDF, static=True)
        recording.log(INVALID, rr.AnnotationContext(archetypes.VALIDITY_CLASSES), static=True)
        for entity, (name, color) in _SERIES.items():
            recording.log(f"{PLOTS}/{entity}", rr.SeriesLines(names=name, colors=color), static=True)

    def has_caught_up(self) -> bool:
        """Whether all that was logged is on its way to the viewers; else logging more would fill memory, then block."""
        try:
            self._recording.flush(timeout_sec=CATCH_UP_SECONDS)
        except RuntimeError:
            return False
        return True

    def add_image(self, rgb: NDArray[np.uint8], stamp: int) -> None:
        """An image uint8 [H, W, 3], in the size of depth if both have one aspect ratio. `stamp` in ns."""
        info = self._camera_info
        if info is not None and _is_larger(rgb, info.width, info.height):
            rgb = np.asarray(cv2.resize(rgb, (info.width, info.height), interpolation=cv2.INTER_AREA), np.uint8)
        self._log(IMAGE, archetypes.encoded_image(rgb, self._options.jpeg_quality), stamp)

    def add_depth(self, message: Any, stamp: int) -> None:
        """A depth image. Raises ImageError if it is none."""
        options = self._options
        self._log(DEPTH, archetypes.depth_image(message, options.color_max_depth, options.is_live), stamp)
        self._log(INVALID, archetypes.invalid_pixels(message), stamp)

    def add_confidence(self, message: Any, stamp: int) -> None:
        """An image of confidences. Raises ImageError if it is none."""
        self._log(CONFIDENCE, archetypes.confidence_image(message), stamp)

    def add_cloud(self, message: Any, stamp: int) -> None:
        """A cloud in the optical frame. Raises DepthNodeError if it has no points to show."""
        self._log(POINTS, archetypes.points(message, self._options.max_points), stamp)

    def add_scan(self, message: Any, stamp: int) -> None:
        """A LaserScan, shown from above in its own frame."""
        self._log(SCAN, archetypes.scan_points(message), stamp)

    def add_camera_info(self, message: Any, stamp: int) -> None:
        """The intrinsics in use: frustum and plots."""
        before, self._camera_info = self._camera_info, message
        self._log(CAMERA, archetypes.pinhole(message), stamp)
        for name, value in intrinsics(message).items():
            self._log(f"{PLOTS}/intrinsics/{name}", rr.Scalars(value), stamp)
        if before is None or before.distortion_model != message.distortion_model:
            self._log_status()

    def add_diagnostics(self, status: Any) -> None:
        """A DiagnosticStatus of the node; it gets the stamp of the newest image, whose clock may be another (a bag)."""
        self._diagnostics = status
        for entity, value in plotted_values(diagnostic_values(status)).items():
            self._log(f"{PLOTS}/{entity}", rr.Scalars(value), self._newest_stamp)
        self._log_status()

    def _log_status(self) -> None:
        text = status_markdown(self._diagnostics, self._camera_info)
        self._log(STATUS, rr.TextDocument(text, media_type=rr.MediaType.MARKDOWN), self._newest_stamp)

    def _log(self, entity: str, archetype: Any, stamp: int | None) -> None:
        if stamp is None:
            self._recording.disable_timeline(STAMP)
        else:
            self._newest_stamp = stamp
            self._recording.set_time(STAMP, timestamp=np.datetime64(stamp, "ns"))
        self._recording.log(entity, archetype)


def blueprint(options: SceneOptions) -> rrb.Blueprint:
    """Image and depth on the left; 3D above plots in the middle; status on the right."""
    pictures = [
        rrb.Spatial2DView(origin=CAMERA, contents=f"/{IMAGE}", name="image"),
        rrb.Spatial2DView(origin=CAMERA, contents=[f"/{DEPTH}", f"/{INVALID}"], name="depth"),
    ]
    if options.confidence:
        pictures.append(rrb.Spatial2DView(origin=CAMERA, contents=f"/{CONFIDENCE}", name="confidence"))
    if options.scan:
        pictures.append(rrb.Spatial2DView(origin=SCAN, name="scan, from above (m)"))
    # Without a cloud, the viewer back-projects the depth image, in the colours of depth.
    in_space = [f"/{CAMERA}", f"/{IMAGE}", f"/{POINTS}" if options.cloud else f"/{DEPTH}"]
    space = rrb.Spatial3DView(
        origin=OPTICAL,
        contents=in_space,
        name="cloud" if options.cloud else "depth in 3D",
        line_grid=False,
        eye_controls=rrb.EyeControls3D(position=(0, -3, -6), look_target=(0, 0, 12), eye_up=(0, -1, 0)),
    )
    plots = [
        rrb.TimeSeriesView(origin=f"{PLOTS}/intrinsics", name="intrinsics (px)"),
        rrb.TimeSeriesView(origin=f"{PLOTS}/latency", name="latency (ms)"),
        rrb.TimeSeriesView(origin=f"{PLOTS}/rate", name="rate (Hz)"),
    ]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(*pictures),
            rrb.Vertical(space, rrb.Horizontal(*plots), row_shares=[5, 2]),
            rrb.TextDocumentView(origin=STATUS, name="status"),
            column_shares=[4, 6, 3],
        ),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
        # A live viewer follows the newest data also when stamps jump back, as those of a bag in a loop do.
        rrb.TimePanel(state="collapsed", timeline=ARRIVAL if options.is_live else STAMP),
    )


def _is_larger(rgb: NDArray[np.uint8], width: int, height: int) -> bool:
    """Whether an image is larger than width x height pixels, in the same aspect ratio up to rounding."""
    rows, columns = rgb.shape[:2]
    return columns > width and abs(columns * height - rows * width) <= max(columns, rows)
