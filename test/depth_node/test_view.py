"""The viewer: messages recorded and read back, its page, and the tool as a process beside a real node."""

from __future__ import annotations

import gzip
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

rclpy = pytest.importorskip("rclpy")
rr = pytest.importorskip("rerun")

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue  # noqa: E402
from rerun.chunk import RrdReader  # noqa: E402
from rerun.encodings import ChannelDatatype  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2, PointField  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from depth_node.errors import DepthNodeError, ImageError  # noqa: E402
from depth_node.images import depth_image_message  # noqa: E402
from depth_node.tools import run  # noqa: E402
from depth_node.tools.view import archetypes, scene, status, web_page  # noqa: E402
from depth_node.tools.view.command import image_topic, main, parse_arguments  # noqa: E402
from depth_node.tools.view.frame_selector import FrameSelector  # noqa: E402
from depth_node.tools.view.scene import Scene, SceneOptions  # noqa: E402

STAMP = 1_700_000_000_123_456_789
K = (500.0, 0.0, 3.25, 0.0, 510.0, 1.5, 0.0, 0.0, 1.0)
DEPTH = np.array([[2.5, np.nan, 0.125, 80.0], [1.0, 2.0, 3.0, 4.0], [5.1, 6.2, 7.3, 65.504]], np.float32)

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def rerun_raises() -> Iterator[None]:
    """By default Rerun only logs that it was given something wrong."""
    before = rr.strict_mode()
    rr.set_strict_mode(True)
    yield
    rr.set_strict_mode(before)


def read_recording(path: Path) -> Rows:
    """Rows by entity: components by name (`DepthImage:buffer`), and `ros_stamp` in ns where the row has one."""
    rows: Rows = defaultdict(list)
    for chunk in RrdReader(path).stream().to_chunks():
        batch = chunk.to_record_batch()
        columns = {
            name: column.cast("int64") if name in (scene.STAMP, scene.ARRIVAL) else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        for index in range(batch.num_rows):
            row = {name: column[index].as_py() for name, column in columns.items()}
            rows[chunk.entity_path.lstrip("/")].append({name: v for name, v in row.items() if v is not None})
    for entity in rows:
        rows[entity].sort(key=lambda row: row.get(scene.ARRIVAL, 0))
    return rows


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


def pixels(row: dict[str, Any], archetype: str) -> NDArray[Any]:
    """Of a row of the archetype `DepthImage` or `Image`."""
    (form,), (data,) = row[f"{archetype}:format"], row[f"{archetype}:buffer"]
    dtypes = {
        ChannelDatatype.U8: np.uint8,
        ChannelDatatype.U16: np.uint16,
        ChannelDatatype.F16: np.float16,
        ChannelDatatype.F32: np.float32,
    }
    dtype = dtypes[ChannelDatatype(form["channel_datatype"])]
    return np.array(data, np.uint8).view(dtype).reshape(form["height"], form["width"])


def camera_info(width: int = 4, height: int = 3, distortion_model: str = "plumb_bob") -> CameraInfo:
    return CameraInfo(width=width, height=height, k=K, distortion_model=distortion_model)


def depth_message(depth: NDArray[np.float32], encoding: str = "32FC1") -> Image:
    return depth_image_message(depth, Header(), encoding)


def jpeg_of(row: dict[str, Any]) -> NDArray[np.uint8]:
    """RGB of a row of the archetype EncodedImage."""
    assert row["EncodedImage:media_type"] == ["image/jpeg"]
    decoded = cv2.imdecode(np.array(row["EncodedImage:blob"][0], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


# Recorded and read back


def test_depth_is_recorded_as_it_came(record: Callable[..., Rows]) -> None:
    rows = record(lambda s: s.add_depth(depth_message(DEPTH), STAMP), color_max_depth=50.0)
    (row,) = rows[scene.DEPTH]
    recorded = pixels(row, "DepthImage")
    assert recorded.dtype == np.float32
    np.testing.assert_array_equal(recorded, DEPTH)  # NaN where it was
    assert row["DepthImage:meter"] == [1.0]
    assert row["DepthImage:depth_range"] == [[0.0, 50.0]]
    assert row[scene.STAMP] == STAMP


def test_millimetres_stay_millimetres(record: Callable[..., Rows]) -> None:
    millimetres = np.array([[2500, 0, 125, 65535]], np.uint16)
    message = Image(height=1, width=4, encoding="16UC1", step=8)
    message.data.frombytes(millimetres.tobytes())
    for is_live in (False, True):
        (row,) = record(lambda s: s.add_depth(message, STAMP), is_live=is_live, color_max_depth=50.0)[scene.DEPTH]
        recorded = pixels(row, "DepthImage")
        assert recorded.dtype == np.uint16
        np.testing.assert_array_equal(recorded, millimetres)
        assert row["DepthImage:meter"] == [1000.0]
        assert row["DepthImage:depth_range"] == [[0.0, 50_000.0]]


def test_live_depth_is_half_the_bytes_in_metres(record: Callable[..., Rows]) -> None:
    (row,) = record(lambda s: s.add_depth(depth_message(DEPTH), STAMP), is_live=True)[scene.DEPTH]
    recorded = pixels(row, "DepthImage")
    assert recorded.dtype == np.float16
    np.testing.assert_allclose(recorded.astype(np.float32), DEPTH, rtol=2**-11)  # half an ulp of binary16; NaN is NaN
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


def diagnostics(
    level: bytes = DiagnosticStatus.OK, message: str = "depth at 9.9 Hz", **values: str
) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name="/depth_node: depth",
        message=message,
        values=[KeyValue(key=k, value=v) for k, v in values.items()],
    )


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


# Status


def test_prior_is_called_uncalibrated() -> None:
    text = status.status_markdown(None, camera_info(distortion_model="uncalibrated"))
    assert "4x3 px, fx 500.0, fy 510.0, cx 3.2, cy 1.5 (uncalibrated: the model's prior)" in text
    assert "no diagnostics yet" in text
    assert "(calibrated)" in status.status_markdown(None, camera_info())


def test_status_begins_with_the_level_and_what_matters() -> None:
    warning = diagnostics(DiagnosticStatus.WARN, "no images come in", model="a|b", output_hz="0.00", state="active")
    lines = status.status_markdown(warning, None).splitlines()
    assert lines[0] == "**WARNING** no images come in"
    assert "no depth/camera_info yet" in lines[2]
    assert lines[-3:] == ["| state | active |", "| output_hz | 0.00 |", "| model | a\\|b |"]


@pytest.mark.parametrize(
    ("name", "namespace", "is_ours"),
    [
        ("/depth_node: depth", "/", True),
        ("depth_node: depth", "/", True),
        ("/front/depth_node: depth", "/front", True),
        ("depth_node: depth", "/front", True),
        ("/front/depth_node: depth", "/", False),
        ("/rear/depth_node: depth", "/front", False),
        ("/front/camera: driver", "/front", False),
        ("depth", "/", False),
    ],
)
def test_diagnostics_of_others_are_left_out(name: str, namespace: str, is_ours: bool) -> None:
    assert status.is_of_depth_node(name, namespace) == is_ours


# Frame rate


def admitted(times: list[float], max_rate: float) -> list[float]:
    now = [0.0]
    selector = FrameSelector(max_rate, lambda: now[0])
    result = []
    for stamp, moment in enumerate(times):
        now[0] = moment
        if selector.admits("depth/image", stamp):
            result.append(moment)
    return result


def test_rate_is_limited_evenly() -> None:
    thirty_hz = [index / 30 for index in range(300)]
    assert admitted(thirty_hz, 10) == thirty_hz[::3]
    assert len(admitted(thirty_hz, 20)) == 200
    assert admitted(thirty_hz, 0) == thirty_hz


def test_jitter_does_not_halve_the_rate() -> None:
    jitter = np.random.default_rng(0).uniform(-0.015, 0.015, 200)
    assert len(admitted(list(np.arange(200) / 10 + jitter), 10)) == 200


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=200), st.floats(0.5, 30.0))
def test_rate_is_never_above_the_limit(gaps: list[float], max_rate: float) -> None:
    times = list(np.cumsum(gaps))
    assert len(admitted(times, max_rate)) <= (times[-1] - times[0]) * max_rate + 1 + 0.2 + 1e-6


def test_topics_show_the_same_frames() -> None:
    now = [0.0]
    selector = FrameSelector(5.0, lambda: now[0])
    shown = defaultdict(list)
    for stamp in range(20):
        for delay, topic in ((0.0, "image"), (0.05, "depth"), (0.09, "points")):
            now[0] = stamp * 0.1 + delay
            if selector.admits(topic, stamp):
                shown[topic].append(stamp)
    assert shown["image"] == shown["depth"] == shown["points"] == list(range(0, 20, 2))


def test_a_stamp_that_comes_again_is_a_new_frame() -> None:
    now = [0.0]
    selector = FrameSelector(1.0, lambda: now[0])
    decisions = []
    for second in (0.0, 0.5, 1.0, 1.5, 2.0):
        now[0] = second
        decisions.append(selector.admits("depth", 0))
    assert decisions == [True, False, True, False, True]


# The page


@pytest.fixture(scope="module")
def page() -> Iterator[web_page.WebPage]:
    """The viewer's page, that goes by the names robot and 127.0.0.1, with its data on port 4321."""
    served = web_page.WebPage(web_page.load_assets(), "127.0.0.1", 0, 4321, ["robot", "127.0.0.1"])
    yield served
    served.close()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def get(port: int, path: str, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_page_and_program_come_from_this_machine(page: web_page.WebPage) -> None:
    code, headers, body = get(page.port, "/", Host=f"robot:{page.port}")
    assert code == 302
    assert headers["Location"].startswith("/?url=rerun%2Bhttp%3A%2F%2Frobot%3A4321%2Fproxy")
    code, headers, body = get(page.port, headers["Location"], Host=f"robot:{page.port}")
    assert code == 200
    html = gzip.decompress(body).decode()
    assert "re_viewer.js" in html
    code, headers, body = get(page.port, "/re_viewer_bg.wasm")
    assert (code, headers["Content-Type"], headers["Content-Encoding"]) == (200, "application/wasm", "gzip")
    wasm = gzip.decompress(body)
    assert wasm.startswith(b"\0asm")
    assert len(body) < len(wasm) / 2
    code, _, body = get(page.port, "/re_viewer.js")
    assert code == 200
    assert b"WebHandle" in gzip.decompress(body)


def test_page_may_speak_to_this_machine_only(page: web_page.WebPage) -> None:
    for path in ("/?url=x", "/re_viewer.js"):
        policy = get(page.port, path, Host="robot")[1]["Content-Security-Policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'self'"
        assert rules["connect-src"] == "'self' http://robot:4321"
        assert "http" not in rules["script-src"] + rules["style-src"] + rules["img-src"]


def test_reloading_sends_nothing_twice(page: web_page.WebPage) -> None:
    etag = get(page.port, "/re_viewer.js")[1]["ETag"]
    code, headers, body = get(page.port, "/re_viewer.js", **{"If-None-Match": etag})
    assert (code, headers["ETag"], body) == (304, etag, b"")


@pytest.mark.parametrize("host", ["evil.example", "", "192.0.2.99:9090"])
def test_other_names_are_refused_with_what_to_do(page: web_page.WebPage, host: str) -> None:
    code, _, body = get(page.port, "/", Host=host)
    assert code == 421
    assert b"--host" in body


def test_other_paths_are_not_found(page: web_page.WebPage) -> None:
    assert get(page.port, "/../../etc/passwd")[0] == 404


def test_taken_port_is_told(page: web_page.WebPage) -> None:
    with pytest.raises(DepthNodeError, match=f"127.0.0.1:{page.port}: Address already in use; choose another --port"):
        web_page.WebPage({}, "127.0.0.1", page.port, 4321, [])


def test_own_names() -> None:
    names = web_page.own_host_names()
    assert names[0] == socket.gethostname()
    assert "localhost" in names
    assert "127.0.0.1" in names
    assert len(set(names)) == len(names)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


# The command line


def test_image_topic_is_named_as_image_transport_has_it() -> None:
    def topic(*arguments: str) -> str:
        return image_topic(parse_arguments(arguments))

    assert topic() == "rgb/image_rect"
    assert topic("--image", "/cam/image") == "/cam/image"
    assert topic("--image", "/cam/image", "--image-transport", "compressed") == "/cam/image/compressed"
    assert topic("--image", "/cam/image/compressed", "--image-transport", "compressed") == "/cam/image/compressed"
    assert topic("--image", "/cam/image/compressed") == "/cam/image/compressed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "0"], "0; expected 1 to 65535"),
        (["--port", "web"], "invalid port value: 'web'"),
        (["--max-rate", "-1"], "-1; expected 0 or more"),
        (["--max-rate", "nan"], "nan; expected 0 or more"),
        (["--duration", "0"], "0; expected more than 0"),
        (["--jpeg-quality", "101"], "101; expected 1 to 100"),
        (["--bind", "robot"], "invalid IPv4 address value: 'robot'"),
        (["--save", "a.rrd", "--port", "80"], "--port goes with a viewer"),
    ],
)
def test_impossible_options_are_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(arguments)
    assert said in capsys.readouterr().err


def test_without_rerun_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert run("view", []) == 2
    assert capsys.readouterr().err == "view: needs the Python package rerun-sdk: pip install 'depth_node[view]'\n"


def test_unwritable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DepthNodeError, match=r"cannot write .*drive\.rrd: No such file or directory"):
        main(["--save", str(tmp_path / "absent" / "drive.rrd")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--namespace", "a b"], "--namespace a b: Invalid namespace"),
        (["--save", "FILE", "--image", "a b"], "'a b' is no name of a topic"),
        (["--memory-limit", "lots", "--port", "PORT", "--grpc-port", "PORT"], "expected e.g. '16GB', got \"lots\""),
    ],
)
def test_what_only_ros_and_rerun_know_to_be_wrong(
    private_ros_domain: dict[str, str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    ports = iter(free_ports(2))
    given = [str(next(ports)) if a == "PORT" else str(tmp_path / "a.rrd") if a == "FILE" else a for a in arguments]
    with pytest.raises(DepthNodeError, match=re.escape(said)):
        main(given)


# Processes over DDS


def start_view(log: Path, namespace: str, *arguments: str) -> subprocess.Popen[bytes]:
    from node_harness import start_python

    return start_python(log, "-m", "depth_node", "view", "--namespace", namespace, *arguments)


def stop(process: subprocess.Popen[bytes], number: int) -> tuple[int, float]:
    started = time.monotonic()
    process.send_signal(number)
    return process.wait(20), time.monotonic() - started


def test_a_real_node_is_recorded(start: Callable[..., Any], tmp_path: Path) -> None:
    from node_harness import HEIGHT, PRIOR, WIDTH, expected_depth, grey_image, kill

    with start() as (_, client):
        client.wait_until_active()
        file, log = tmp_path / "drive.rrd", tmp_path / "log"
        process = start_view(log, client.node.get_namespace(), "--save", str(file), "--max-rate", "0")
        try:
            topics = ("depth/image", "depth/camera_info", "points", "rgb/image_rect")
            client.wait(lambda: all(client.node.count_subscribers(client.resolved(topic)) for topic in topics))
            for topic in ("depth/color", "depth/confidence", "scan"):
                assert client.node.count_subscribers(client.resolved(topic)) == 0
            sent = []
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                sent.append(client.send(grey_image(client.header())).header.stamp)
                client.spin(0.2)
            code, seconds = stop(process, signal.SIGINT)
        finally:
            kill(process)
        said = log.read_text()
        assert code == 0, said
        assert seconds < 2
        assert "Traceback" not in said
        assert re.search(r"drive.rrd: \d+ depth images", said)

    rows = read_recording(file)
    stamps = {stamp.sec * 1_000_000_000 + stamp.nanosec for stamp in sent}
    for entity in (scene.DEPTH, scene.IMAGE, scene.POINTS, scene.CAMERA):
        assert len(rows[entity]) >= 5, entity
        assert {row[scene.STAMP] for row in rows[entity]} <= stamps
    depth = pixels(rows[scene.DEPTH][-1], "DepthImage")
    assert depth.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(depth, expected_depth(100), rtol=1e-5)
    assert jpeg_of(rows[scene.IMAGE][-1]).shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(jpeg_of(rows[scene.IMAGE][-1]), 100, atol=2)
    fx, cx, cy = PRIOR[0] * WIDTH, PRIOR[2] * WIDTH - 0.5, PRIOR[3] * HEIGHT - 0.5
    camera = rows[scene.CAMERA][-1]
    np.testing.assert_allclose(camera["Pinhole:image_from_camera"], [[fx, 0, 0, 0, fx, 0, cx, cy, 1]], rtol=1e-6)
    points = rows[scene.POINTS][-1]
    assert len(points["Points3D:positions"]) == WIDTH * HEIGHT // 4  # cloud_stride is 2
    np.testing.assert_allclose(np.array(points["Points3D:positions"])[:, 2], expected_depth(100), rtol=1e-5)
    assert set(points["Points3D:colors"]) == {0x646464FF}
    text = rows[scene.STATUS][-1]["TextDocument:text"][0]
    assert "(uncalibrated: the model's prior)" in text
    assert "| state | active |" in text
    assert any("Scalars:scalars" in row for row in rows["plots/latency/p50"])


def test_live_page_and_data_are_served(private_ros_domain: dict[str, str], tmp_path: Path) -> None:
    from node_harness import kill

    port, grpc_port = free_ports(2)
    log = tmp_path / "log"
    arguments = [
        "--port",
        str(port),
        "--grpc-port",
        str(grpc_port),
        "--bind",
        "127.0.0.1",
        "--host",
        "robot",
        "--no-cloud",
    ]
    process = start_view(log, "/nobody", *arguments)
    try:
        deadline = time.monotonic() + 30
        while "nobody publishes" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        said = log.read_text()
        assert f"Open in a browser: http://robot:{port}" in said
        assert "nobody publishes /nobody/depth/image: start depth_node, or say where it is with --namespace" in said
        code, headers, _ = get(port, "/", Host=f"robot:{port}")
        assert code == 302
        assert str(grpc_port) in headers["Location"]

        def preflight(origin: str) -> str | None:
            url = f"http://127.0.0.1:{grpc_port}/rerun.sdk_comms.v1alpha1.MessageProxyService/ReadMessages"
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            with urllib.request.urlopen(
                urllib.request.Request(url, headers=asked, method="OPTIONS"), timeout=10
            ) as answer:
                return answer.headers["access-control-allow-origin"]

        assert preflight(f"http://robot:{port}") == f"http://robot:{port}"
        assert preflight("http://evil.example:9090") is None
        other = start_view(
            tmp_path / "other", "/nobody", "--port", str(free_ports(1)[0]), "--grpc-port", str(grpc_port)
        )
        try:
            assert other.wait(20) == 2
        finally:
            kill(other)
        taken = f"view: cannot serve data on 0.0.0.0:{grpc_port}: Address already in use; choose another --grpc-port\n"
        assert (tmp_path / "other").read_text() == taken
        code, seconds = stop(process, signal.SIGTERM)
    finally:
        kill(process)
    assert (code, seconds) == (0, pytest.approx(0, abs=2))
    assert "Traceback" not in log.read_text()
