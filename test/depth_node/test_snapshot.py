"""A snapshot is read back file by file, and is never half there."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from depth_node import snapshot
from depth_node.calibration_file import read_calibration
from depth_node.camera import PinholeCamera
from depth_node.color import colorize
from depth_node.errors import SnapshotError
from depth_node.frames import DepthFrame, Frame
from depth_node.scale import ScaleEstimate
from depth_node.snapshot import save_snapshot

CAMERA = PinholeCamera(40, 30, 50.0, 52.0, 19.3, 14.8)
STAMP_NS = 1_700_000_000_000_000_042
FILES = {"image.png", "depth.png", "depth.npy", "depth_color.png", "cloud.ply", "camera.yaml", "facts.yaml"}
FACTS = {"model": "/models/depth-base.onnx", "backend": "openvino"}


@pytest.fixture
def result() -> DepthFrame:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 90, (30, 40)).astype(np.float32)
    depth[:5] = np.nan
    rgb = rng.integers(0, 256, (30, 40, 3), np.uint8)
    frame = Frame(STAMP_NS, "front/camera_optical", rgb)
    return DepthFrame(frame, depth, CAMERA, "camera_info", ScaleEstimate(1.25, "fixed"))


def read_png(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_every_file_is_read_back(result: DepthFrame, tmp_path: Path) -> None:
    folder = save_snapshot(result, tmp_path, FACTS)
    assert folder == tmp_path / "1700000000.000000042"
    assert {path.name for path in folder.iterdir()} == FILES
    rgb, depth = result.frame.rgb, result.depth
    np.testing.assert_array_equal(read_png(folder / "image.png")[..., ::-1], rgb)
    exact = np.load(folder / "depth.npy")
    assert exact.dtype == np.float32
    np.testing.assert_array_equal(exact, depth)
    millimetres = read_png(folder / "depth.png")
    assert millimetres.dtype == np.uint16
    expected = np.where(depth < 65.5355, depth.astype(np.float64) * 1000, 0)  # NaN compares false
    np.testing.assert_allclose(millimetres, expected, atol=0.51)
    np.testing.assert_array_equal(read_png(folder / "depth_color.png")[..., ::-1], colorize(depth, 2.0, 80.0, "turbo"))
    assert read_calibration(folder / "camera.yaml") == CAMERA
    assert yaml.safe_load((folder / "camera.yaml").read_text())["camera_name"] == "front_camera_optical"


def test_cloud_has_the_valid_points_in_their_colours(result: DepthFrame, tmp_path: Path) -> None:
    header, _, body = (save_snapshot(result, tmp_path, FACTS) / "cloud.ply").read_bytes().partition(b"end_header\n")
    assert b"metres in front/camera_optical" in header
    assert b"element vertex 1000\n" in header  # 25 of 30 rows
    vertices = np.frombuffer(body, [("position", "<f4", 3), ("color", "u1", 3)])
    v, u = np.nonzero(~np.isnan(result.depth))
    z = result.depth[v, u].astype(np.float64)
    points = np.stack([(u - 19.3) * z / 50.0, (v - 14.8) * z / 52.0, z], axis=-1)
    np.testing.assert_allclose(vertices["position"], points, rtol=1e-6)
    np.testing.assert_array_equal(vertices["color"], result.frame.rgb[v, u])


def test_facts_say_what_is_in_the_files(result: DepthFrame, tmp_path: Path) -> None:
    folder = save_snapshot(result, tmp_path, FACTS)
    facts = yaml.safe_load((folder / "facts.yaml").read_text())
    files = facts.pop("files")
    assert facts == {
        **FACTS,
        "stamp": "1700000000.000000042",
        "frame_id": "front/camera_optical",
        "intrinsics_source": "camera_info",
        "scale_source": "fixed",
        "scale_factor": 1.25,
        "valid_fraction": 0.8333,
    }
    assert set(files) == FILES - {"facts.yaml"}
    assert "millimetres" in files["depth.png"]
    assert "from 80.0 m to 2.0 m" in files["depth_color.png"]


def test_confidence_is_saved_where_there_is_one(result: DepthFrame, tmp_path: Path) -> None:
    confidence = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    folder = save_snapshot(replace(result, confidence=confidence), tmp_path, FACTS)
    assert {path.name for path in folder.iterdir()} == FILES | {"confidence.png"}
    np.testing.assert_allclose(read_png(folder / "confidence.png"), confidence * 255, atol=0.51)
    assert "confidence.png" in yaml.safe_load((folder / "facts.yaml").read_text())["files"]


def test_nothing_valid_is_a_snapshot_too(result: DepthFrame, tmp_path: Path) -> None:
    folder = save_snapshot(replace(result, depth=np.full_like(result.depth, np.nan)), tmp_path, {})
    assert b"element vertex 0\n" in (folder / "cloud.ply").read_bytes()
    assert not read_png(folder / "depth.png").any()


def test_snapshots_of_one_stamp_do_not_overwrite_each_other(result: DepthFrame, tmp_path: Path) -> None:
    parent = tmp_path / "new" / "snapshots"
    first, second, third = (save_snapshot(result, parent, {"number": str(n)}) for n in range(3))
    assert [path.name for path in (first, second, third)] == [f"1700000000.000000042{end}" for end in ("", "_2", "_3")]
    for number, folder in enumerate((first, second, third)):
        assert yaml.safe_load((folder / "facts.yaml").read_text())["number"] == str(number)
    assert sorted(parent.iterdir()) == [first, second, third]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_name_taken_at_the_last_moment_is_left_alone(
    result: DepthFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    taken = tmp_path / "1700000000.000000042"
    if kind == "folder":
        taken.mkdir()
        (taken / "theirs").touch()
    else:
        taken.write_text("theirs")
    monkeypatch.setattr(Path, "exists", lambda path: False)
    folder = save_snapshot(result, tmp_path, FACTS)
    assert folder.name == "1700000000.000000042_2"
    assert len(os.listdir(folder)) == len(FILES)
    assert os.listdir(taken) == ["theirs"] if kind == "folder" else taken.read_text() == "theirs"


def test_others_may_look_but_not_write(result: DepthFrame, tmp_path: Path) -> None:
    folder = save_snapshot(result, tmp_path / "snapshots", FACTS)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert not stat.S_IMODE((tmp_path / "snapshots").stat().st_mode) & 0o022


def test_snapshot_appears_when_it_is_complete(
    result: DepthFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def full(path: Path, *_: object) -> None:
        seen.append([name for name in os.listdir(tmp_path) if not name.startswith(".")])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "write_ply", full)
    with pytest.raises(SnapshotError, match="No space left on device"):
        save_snapshot(result, tmp_path, FACTS)
    assert seen == [[]]  # half of the files were written by then
    assert os.listdir(tmp_path) == []


def test_disk_that_is_full_for_numpy_is_told(
    result: DepthFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its OSError has neither a number nor the system's text: `np.zeros(999).tofile(open("/dev/full", "wb"))`."""

    def full(*_: object, **__: object) -> None:
        raise OSError("1200 requested and 0 written")

    monkeypatch.setattr(snapshot.np, "save", full)
    with pytest.raises(SnapshotError, match="1200 requested and 0 written; give"):
        save_snapshot(result, tmp_path, FACTS)


def test_folder_that_cannot_be_made_is_told(result: DepthFrame, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotError, match=r"file/snapshots: Not a directory; give a folder that can be written"):
        save_snapshot(result, tmp_path / "file" / "snapshots", FACTS)
    with pytest.raises(SnapshotError, match="File exists"):
        save_snapshot(result, tmp_path / "file", FACTS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_told(result: DepthFrame, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(SnapshotError, match="Permission denied"):
        save_snapshot(result, tmp_path, FACTS)
