"""Messages as the viewer gets them: recorded, and read back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("rclpy")
rr = pytest.importorskip("rerun")

from rerun.chunk import RrdReader  # noqa: E402
from sensor_msgs.msg import Image, LaserScan, PointCloud2, PointField  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from depth_node.errors import DepthNodeError, ImageError  # noqa: E402
from depth_node.images import depth_image_message  # noqa: E402
from depth_node.tools.view import archetypes, scene  # noqa: E402
from depth_node.tools.view.scene import Scene, SceneOptions  # noqa: E402
from viewing import Rows, camera_info, diagnostics, jpeg_of, pixels, read_recording  # noqa: E402

STAMP = 1_700_000_000_123_456_789
DEPTH = np.array([[2.5, np.nan, 0.125, 80.0], [1.0, 2.0, 3.0, 4.0], [5.1, 6.2, 7.3, 65.504]], np.float32)


@pytest.fixture(autouse=True)
def rerun_raises() -> Iterator[None]:
    """By default Rerun only logs that it was given something wrong."""
    before = rr.strict_mode()
    rr.set_strict_mode(True)
    yield
    rr.set_strict_mode(before)


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Rows]:
    """`record(lambda scene: ..., OPTION=VALUE)`: what is in the file after the scene was given messages."""

    def recorded(fill: Callable[[Scene], None], **options: Any) -> Rows:
        chosen = SceneOptions(**{"is_live": False, **options})
        recording = rr.RecordingStream(scene.APPLICATION)
        recording.save(tmp_path / "drive.rrd", default_blueprint=scene.blueprint(chosen))
        fill(Scene(recording, chosen))
        recording.disconnect()
        return read_recording(tmp_path / "drive.rrd")

    return recorded


def depth_message(depth: NDArray[np.float32], encoding: str = "32FC1") -> Image:
    return depth_image_message(depth, Header(), encoding)


def test_depth_is_recorded_as_it_came(record: Callable[..., Rows]) -> None:
    rows = record(lambda s: s.add_depth(depth_message(DEPTH), STAMP), color_max_depth=50.0)
    (row,) = rows[scene.DEPTH]
    recorded = pixels(row, "DepthImage")
    assert recorded.dtype == np.float32
    np.testing.assert_array_equal(recorded, DEPTH)  # NaN where it was
    assert row["DepthImage:meter"] == [1.0]
    assert row["DepthImage:depth_range"] == [[0.0, 50.0]]
    assert row[scene.STAMP] == STAMP
    (mask,) = (row for row in rows[scene.INVALID] if scene.STAMP in row)
    np.testing.assert_array_equal(pixels(mask, "SegmentationImage"), np.isnan(DEPTH))


def test_millimetres_stay_millimetres(record: Callable[..., Rows]) -> None:
    millimetres = np.array([[2500, 0, 125, 65535]], np.uint16)
    message = Image(height=1, width=4, encoding="16UC1", step=8)
    message.data.frombytes(millimetres.tobytes())
    for is_live in (False, True):
        rows = record(lambda s: s.add_depth(message, STAMP), is_live=is_live, color_max_depth=50.0)
        (row,) = rows[scene.DEPTH]
        recorded = pixels(row, "DepthImage")
        assert recorded.dtype == np.uint16
        np.testing.assert_array_equal(recorded, millimetres)
        assert row["DepthImage:meter"] == [1000.0]
        assert row["DepthImage:depth_range"] == [[0.0, 50_000.0]]
        mask = next(row for row in rows[scene.INVALID] if scene.STAMP in row)
        assert pixels(mask, "SegmentationImage").tolist() == [[0, 1, 0, 0]]


def test_live_depth_is_compact_and_in_metres(record: Callable[..., Rows]) -> None:
    (row,) = record(lambda s: s.add_depth(depth_message(DEPTH), STAMP), is_live=True)[scene.DEPTH]
    recorded = pixels(row, "DepthImage")
    assert recorded.dtype == np.float16
    np.testing.assert_allclose(recorded.astype(np.float32), DEPTH, rtol=2**-9)  # nine significant bits; NaN is NaN
    assert not (recorded.view(np.uint16) & 3)[np.isfinite(DEPTH)].any()
    assert row["DepthImage:meter"] == [1.0]


def test_rows_with_padding_and_the_other_byte_order(record: Callable[..., Rows]) -> None:
    message = Image(height=3, width=4, encoding="32FC1", is_bigendian=1, step=20)
    message.data.frombytes(np.pad(DEPTH, ((0, 0), (0, 1)), constant_values=-1.0).astype(">f4").tobytes())
    np.testing.assert_array_equal(archetypes.depth_pixels(message), DEPTH)


def test_what_is_no_depth_is_refused() -> None:
    message = depth_message(DEPTH)
    message.encoding = "rgb8"
    with pytest.raises(ImageError, match="encoding 'rgb8'; expected 32FC1 or 16UC1"):
        archetypes.depth_image(message, 80.0)
    message = depth_message(DEPTH)
    message.height = 4
    with pytest.raises(ImageError, match="48 bytes in rows of 16 for 4x4 pixels of '32FC1'"):
        archetypes.depth_image(message, 80.0)


def test_confidence_is_grey(record: Callable[..., Rows]) -> None:
    confidence = np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)
    rows = record(lambda s: s.add_confidence(depth_message(confidence), STAMP), confidence=True)
    assert pixels(rows[scene.CONFIDENCE][0], "Image").tolist() == [[0, 128, 255, 0]]


def test_camera_is_recorded_with_its_plots(record: Callable[..., Rows]) -> None:
    rows = record(lambda s: s.add_camera_info(camera_info(), STAMP))
    (row,) = rows[scene.CAMERA]
    assert row["Pinhole:image_from_camera"] == [
        [500.0, 0, 0, 0, 510.0, 0, 3.25, 1.5, 1.0]
    ]  # columns, as Rerun has them
    assert row["Pinhole:resolution"] == [[4.0, 3.0]]
    right, down, forward = 3, 2, 5  # rerun.encodings.ViewCoordinates
    assert row["Pinhole:camera_xyz"] == [[right, down, forward]]
    assert rows[scene.OPTICAL][0]["ViewCoordinates:xyz"] == [[right, down, forward]]
    for name, value in {"fx": 500.0, "fy": 510.0, "cx": 3.25, "cy": 1.5}.items():
        points = [r for r in rows[f"plots/intrinsics/{name}"] if "Scalars:scalars" in r]
        assert [(p[scene.STAMP], p["Scalars:scalars"]) for p in points] == [(STAMP, [value])]


def test_image_is_a_jpeg_in_the_size_of_depth(record: Callable[..., Rows]) -> None:
    rgb = np.zeros((60, 80, 3), np.uint8)
    rgb[:, :40] = 220, 120, 20

    def fill(s: Scene) -> None:
        s.add_image(rgb, STAMP)
        s.add_camera_info(camera_info(40, 30), STAMP)
        s.add_image(rgb, STAMP + 1)
        s.add_image(rgb[:, :60], STAMP + 2)  # another aspect ratio

    first, small, other = (jpeg_of(row) for row in record(fill)[scene.IMAGE])
    assert (first.shape, small.shape, other.shape) == ((60, 80, 3), (30, 40, 3), (60, 60, 3))
    np.testing.assert_allclose(first[30, 20], (220, 120, 20), atol=6)
    np.testing.assert_allclose(small[15, 10], (220, 120, 20), atol=6)


def test_quality_changes_the_size(record: Callable[..., Rows]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    low, high = (
        len(record(lambda s: s.add_image(rgb, STAMP), jpeg_quality=q)[scene.IMAGE][0]["EncodedImage:blob"][0])
        for q in (10, 90)
    )
    assert 2 * low < high


def cloud_message(xyz: NDArray[np.float32], rgb: NDArray[np.uint32] | None, height: int = 1) -> PointCloud2:
    """A cloud of points [N, 3] with 20 bytes a point: another layout than the node's own."""
    cells = np.zeros(
        len(xyz), {"names": [*"zyx", "rgb"], "formats": ["<f4"] * 4, "offsets": [0, 4, 8, 16], "itemsize": 20}
    )
    for index, name in enumerate("xyz"):
        cells[name] = xyz[:, index]
    if rgb is not None:
        cells["rgb"] = rgb.view(np.float32)
    names = [*"zyx"] + (["rgb"] if rgb is not None else [])
    fields = [PointField(name=n, offset=cells.dtype.fields[n][1], datatype=PointField.FLOAT32, count=1) for n in names]
    width = len(xyz) // height
    message = PointCloud2(height=height, width=width, fields=fields, point_step=20, row_step=20 * width)
    message.data.frombytes(cells.tobytes())
    return message


def test_cloud_keeps_valid_points_and_their_colours(record: Callable[..., Rows]) -> None:
    xyz = np.array([[1, 2, 3], [np.nan, 0, 1], [-4, 5, 60]], np.float32)
    rgb = np.array([0x00112233, 0x00FFFFFF, 0x00FF8001], np.uint32)
    (row,) = record(lambda s: s.add_cloud(cloud_message(xyz, rgb), STAMP))[scene.POINTS]
    assert row["Points3D:positions"] == [[1, 2, 3], [-4, 5, 60]]
    assert row["Points3D:colors"] == [0x112233FF, 0xFF8001FF]
    assert row[scene.STAMP] == STAMP
    (row,) = record(lambda s: s.add_cloud(cloud_message(xyz, None), STAMP))[scene.POINTS]
    assert len(row["Points3D:positions"]) == 2
    assert "Points3D:colors" not in row


def test_cloud_without_points_or_bytes_is_refused() -> None:
    message = cloud_message(np.zeros((2, 3), np.float32), None)
    message.width = 3
    with pytest.raises(DepthNodeError, match="cloud of 40 bytes, with 1 rows of 40 bytes for 3 points of 20 bytes"):
        archetypes.points(message, 100)
    message.fields = message.fields[:2]
    with pytest.raises(DepthNodeError, match="with the fields z, y; expected little-endian float32 x, y, z"):
        archetypes.points(message, 100)


def positions(shown: Any) -> NDArray[np.float64]:
    return np.array(shown.positions.as_arrow_array().to_pylist())


@given(height=st.integers(1, 40), width=st.integers(1, 40), max_points=st.integers(1, 2000))
def test_large_clouds_are_thinned_out(height: int, width: int, max_points: int) -> None:
    xyz = np.zeros((height * width, 3), np.float32)
    xyz[:, 0] = np.arange(len(xyz))
    shown = archetypes.points(cloud_message(xyz, None, height), max_points)
    x = positions(shown)[:, 0]
    assert len(x) <= max_points
    assert set(x) <= set(xyz[:, 0])
    if len(xyz) <= max_points:
        assert len(x) == len(xyz)


def test_thinned_clouds_keep_rows_and_columns() -> None:
    xyz = np.zeros((40 * 60, 3), np.float32)
    xyz[:, 0], xyz[:, 1] = np.tile(np.arange(60), 40), np.repeat(np.arange(40), 60)
    shown = positions(archetypes.points(cloud_message(xyz, None, 40), 600))
    assert np.unique(shown[:, 0]).tolist() == list(range(0, 60, 2))
    assert np.unique(shown[:, 1]).tolist() == list(range(0, 40, 2))


def test_scan_is_seen_from_above(record: Callable[..., Rows]) -> None:
    message = LaserScan(angle_min=-np.pi / 2, angle_increment=np.pi / 2, range_min=0.5, range_max=10.0)
    message.ranges = [2.0, 3.0, 4.0]  # right, ahead, left
    (row,) = record(lambda s: s.add_scan(message, STAMP), scan=True)[scene.SCAN]
    np.testing.assert_allclose(row["Points2D:positions"], [[2, 0], [0, -3], [-4, 0]], atol=1e-6)
    message.ranges = [float("inf"), 0.1, float("nan")]
    (row,) = record(lambda s: s.add_scan(message, STAMP), scan=True)[scene.SCAN]
    assert row["Points2D:positions"] == []


def test_status_and_plots_have_the_stamp_of_the_newest_image(record: Callable[..., Rows]) -> None:
    def fill(s: Scene) -> None:
        s.add_diagnostics(diagnostics(latency_p50_ms="nan", input_hz="0.00"))
        s.add_camera_info(camera_info(), STAMP)
        s.add_diagnostics(diagnostics(latency_p50_ms="21.50", input_hz="10.02"))

    rows = record(fill)
    latency = [row for row in rows["plots/latency/p50"] if "Scalars:scalars" in row]
    assert [(row[scene.STAMP], row["Scalars:scalars"]) for row in latency] == [(STAMP, [21.5])]
    rates = [row for row in rows["plots/rate/input"] if "Scalars:scalars" in row]
    assert [(row.get(scene.STAMP), row["Scalars:scalars"]) for row in rates] == [(None, [0.0]), (STAMP, [10.02])]
    texts = rows[scene.STATUS]
    assert [row.get(scene.STAMP) for row in texts] == [None, STAMP, STAMP]
    assert all(row["TextDocument:media_type"] == ["text/markdown"] for row in texts)
    assert "| latency_p50_ms | 21.50 |" in texts[-1]["TextDocument:text"][0]


def blueprint_queries(path: Path) -> str:
    """All entity paths and queries of the blueprint in a recording."""
    reader = RrdReader(path)
    (store,) = reader.blueprints()
    chunks = [chunk.to_record_batch() for chunk in reader.stream(store=store).to_chunks()]
    wanted = re.compile("ViewContents:query|ViewBlueprint:space_origin|TimePanelBlueprint:timeline")
    columns = [pair for batch in chunks for pair in zip(batch.schema.names, batch.columns, strict=True)]
    return " ".join(str(column[0].as_py()) for name, column in columns if wanted.search(name))


def test_blueprint_shows_what_is_subscribed_and_no_more(record: Callable[..., Rows], tmp_path: Path) -> None:
    record(lambda _: None, cloud=False)
    plain = blueprint_queries(tmp_path / "drive.rrd")
    for entity in (scene.IMAGE, scene.DEPTH, "plots/intrinsics", "plots/latency", "plots/rate", scene.STATUS):
        assert entity in plain
    for entity in (scene.POINTS, scene.CONFIDENCE, "scan"):
        assert entity not in plain
    assert scene.STAMP in plain
    record(lambda _: None, confidence=True, scan=True, is_live=True)
    full = blueprint_queries(tmp_path / "drive.rrd")
    for entity in (scene.POINTS, scene.CONFIDENCE, "scan", scene.ARRIVAL):
        assert entity in full
