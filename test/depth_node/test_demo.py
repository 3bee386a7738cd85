"""The demo end to end with a tiny model, as a user runs it; and its parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from depth_node import bag_messages
from depth_node.bags import BagWriter, open_bag
from depth_node.errors import BagError, DepthNodeError
from depth_node.frames import stamp_ns
from depth_node.tools.demo import pictures
from depth_node.tools.demo.recorder import shrunk
from depth_node.tools.demo.report import build_report
from depth_node.tools.demo.source import find_drive, write_image_folder
from depth_node.tools.demo.truth import TruthReader, median_scaled_abs_rel

REPORT_KEYS = [
    "model",
    "backend",
    "frames_in",
    "frames_published",
    "frames_dropped",
    "input_hz",
    "output_hz",
    "latency_ms",
    "abs_rel",
    "intrinsics",
]


def run_demo(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "depth_node", "demo", "--output", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 3] and colours [N, 3]."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert [line for line in lines if line.startswith("property")] == [
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    points = np.frombuffer(body, np.dtype([("position", "<f4", 3), ("color", "u1", 3)]))
    assert len(points) == count
    return points["position"], points["color"]


def test_synthetic_drive_from_end_to_end(tmp_path: Path, tiny_model_path: Path) -> None:
    done = run_demo(tmp_path, "--model", str(tiny_model_path), "--frames", "8")
    assert done.returncode == 0, done.stderr
    assert "animation.gif" in done.stdout

    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report) == REPORT_KEYS
    assert report["model"] == str(tiny_model_path)
    assert 6 <= report["frames_in"] <= 8
    assert report["frames_published"] + report["frames_dropped"] == report["frames_in"]
    assert report["frames_published"] >= 3
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"] <= report["latency_ms"]["p99"]
    assert 0.2 < report["abs_rel"] < 5  # brightness says little about depth
    assert report["intrinsics"] == {"source": "camera_info", "fx": 372.0, "fy": 372.0, "cx": 319.5, "cy": 95.5}

    with Image.open(tmp_path / "animation.gif") as animation:
        assert animation.n_frames == report["frames_published"]
    assert len(list(tmp_path.glob("frame_*.png"))) == min(6, report["frames_published"])
    with Image.open(tmp_path / "frame_000.png") as frame, open_bag(tmp_path / "drive.mcap") as bag:
        _, _, first = next(bag.messages(["/camera/image_raw"]))
        np.testing.assert_array_equal(np.array(frame)[:, :640], first.data.reshape(192, 640, 3))

    points, _ = read_ply(tmp_path / "cloud.ply")
    assert 2.0 - 0.1 < points[:, 2].min() < points[:, 2].max() < 20.0 + 0.5  # the tiny model's range
    # Every point lies on the ray of an even pixel (the cloud's default stride is 2).
    columns = points[:, 0] / points[:, 2] * 372.0 + 319.5
    rows = points[:, 1] / points[:, 2] * 372.0 + 95.5
    for pixels in (columns, rows):
        np.testing.assert_allclose(pixels, 2 * np.round(pixels / 2), atol=2e-3)


def test_folder_of_frames_without_intrinsics_or_truth(tmp_path: Path, tiny_model_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 80, 3), 255, np.uint8))
    done = run_demo(tmp_path / "demo", "--images", str(folder), "--model", str(tiny_model_path))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["abs_rel"] is None
    intrinsics = report["intrinsics"]
    assert intrinsics.pop("source") == "prior"
    # The tiny model's prior at 80x48: fx/W 0.58, square pixels, (cx + 0.5)/W 0.49, (cy + 0.5)/H 0.46.
    assert intrinsics == pytest.approx({"fx": 46.4, "fy": 46.4, "cx": 38.7, "cy": 21.58})
    points, colors = read_ply(tmp_path / "demo" / "cloud.ply")
    np.testing.assert_allclose(points[:, 2], 2.0, rtol=0.01)  # white is 2 m
    assert (colors == 255).all()


def test_node_that_fails_is_told_with_its_log(tmp_path: Path) -> None:
    images = tmp_path / "frames"
    images.mkdir()
    cv2.imwrite(str(images / "0.png"), np.zeros((48, 80, 3), np.uint8))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    done = run_demo(tmp_path / "demo", "--images", str(images), "--model", str(broken))
    assert done.returncode == 1
    assert "the depth node cannot configure" in done.stderr
    assert str(broken) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo" / "report.json").exists()


def write_bag(path: Path, topics: dict[str, Any]) -> Path:
    with BagWriter(path) as bag:
        for topic, message in topics.items():
            bag.write(topic, 1_000, message)
    return path


@pytest.fixture
def image() -> Any:
    return bag_messages.image(1_000, "camera", np.zeros((4, 6, 3), np.uint8), "rgb8")


def test_drive_topics_are_found_beside_the_image(tmp_path: Path, image: Any) -> None:
    from depth_node.camera import PinholeCamera

    info = bag_messages.camera_info(1_000, "camera", PinholeCamera(6, 4, 5, 5, 2.5, 1.5))
    compressed = bag_messages.compressed_image(1_000, "camera", b"", "jpeg")
    topics = {"/left/image_raw": image, "/left/camera_info": info, "/left/depth/ground_truth": image}
    path = write_bag(tmp_path / "drive.mcap", {**topics, "/right/image_raw/compressed": compressed})
    left = find_drive(path, "/left/image_raw")
    assert (left.camera_info, left.truth, left.is_compressed) == (
        "/left/camera_info",
        "/left/depth/ground_truth",
        False,
    )
    right = find_drive(path, "/right/image_raw/compressed")
    assert (right.camera_info, right.truth, right.is_compressed, right.frames) == (None, None, True, 1)
    with pytest.raises(BagError, match="several image topics; choose one with --topic: /left/image_raw, /right"):
        find_drive(path, None)
    with pytest.raises(BagError, match="1 messages of type sensor_msgs/msg/CameraInfo; expected images, as on: /left"):
        find_drive(path, "/left/camera_info")
    with pytest.raises(BagError, match="no topic /front"):
        find_drive(path, "/front")
    with pytest.raises(BagError, match="has no images; its topics: /camera_info"):
        find_drive(write_bag(tmp_path / "blind.mcap", {"/camera_info": info}), None)


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), np.full((2, 2), number, np.uint8))
    (tmp_path / "notes.txt").touch()
    write_image_folder(tmp_path, tmp_path / "drive.mcap", rate=20)
    with open_bag(tmp_path / "drive.mcap") as bag:
        messages = [message for _, _, message in bag.messages(bag.image_topics())]
    assert [cv2.imdecode(message.data, cv2.IMREAD_GRAYSCALE)[0, 0] for message in messages] == [1, 9, 10]
    assert np.diff([stamp_ns(message) for message in messages]).tolist() == [50_000_000] * 2


def test_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DepthNodeError, match=r"no \.jpg or \.png files"):
        write_image_folder(tmp_path, tmp_path / "drive.mcap", rate=10)


def test_abs_rel_by_hand() -> None:
    truth = np.array([[2.0, 4.0, 8.0, np.nan, 90.0]], np.float32)
    depth = np.array([[1.0, 1.0, 6.0, 5.0, 5.0]], np.float32)
    # Known: 2, 4, 8 against 1, 1, 6; medians 4 and 1, so depth is 4, 4, 24: errors 2/2, 0, 16/8.
    assert median_scaled_abs_rel(depth, truth) == pytest.approx((1 + 0 + 2) / 3)
    assert np.isnan(median_scaled_abs_rel(depth, np.full_like(truth, np.nan)))


def test_truth_is_found_by_stamp(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive.mcap") as bag:
        for stamp in (10, 20, 40):
            bag.write("/truth", stamp, bag_messages.image(stamp, "camera", np.full((2, 3), stamp, np.float32), "32FC1"))
        bag.write("/gray", 10, bag_messages.image(10, "camera", np.zeros((2, 3), np.uint8), "mono8"))
    with open_bag(tmp_path / "drive.mcap") as bag:
        truth = TruthReader(bag, "/truth")
        found = [truth.at(stamp) for stamp in (10, 15, 20, 30, 40, 50)]
        with pytest.raises(BagError, match="has encoding mono8; expected 32FC1"):
            TruthReader(bag, "/gray")
    assert [None if depth is None else depth[1, 2] for depth in found] == [10, None, 20, None, 40, None]


def test_unknown_numbers_are_null() -> None:
    from sensor_msgs.msg import CameraInfo

    diagnostics = {
        "model": "m",
        "backend": "b",
        "intrinsics_source": "prior",
        **dict.fromkeys(("frames_in", "frames_published", "frames_dropped"), "1"),
        **dict.fromkeys(("input_hz", "output_hz"), "0.00"),
        **{f"latency_{name}_ms": "nan" for name in ("p50", "p95", "p99")},
    }
    report = build_report(diagnostics, CameraInfo(), [float("nan")])
    assert list(report) == REPORT_KEYS
    assert report["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert report["abs_rel"] is None
    json.dumps(report, allow_nan=False)
    assert build_report(diagnostics, CameraInfo(), [0.1, float("nan"), 0.3])["abs_rel"] == pytest.approx(0.2)


def test_animation_stays_below_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 100, 400, 3), np.uint8)
    pairs = {number * 200_000_000: frame for number, frame in enumerate(noise)}
    monkeypatch.setattr(pictures, "GIF_BYTES", 60_000)
    pictures.write_animation(pairs, tmp_path / "animation.gif", rate=2.0)
    assert (tmp_path / "animation.gif").stat().st_size < 60_000
    with Image.open(tmp_path / "animation.gif") as animation:
        assert animation.n_frames == 5
        assert animation.info["duration"] == 100  # 200 ms at double speed
        assert animation.width == pytest.approx(4 * animation.height, abs=4)


@pytest.mark.parametrize(("width", "expected"), [(50, (20, 50)), (100, (20, 100)), (200, (10, 100))])
def test_previews_are_shrunk_to_a_width(width: int, expected: tuple[int, int]) -> None:
    assert shrunk(np.zeros((20, width, 3), np.uint8), 100).shape[:2] == expected
