"""Sources told apart by their files; their frames, cameras, stamps and depth against independent truth."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depth_node.calibration_file import write_calibration
from depth_node.camera import PinholeCamera
from training.data.prepared import read_prepared
from training.errors import DataError
from training.prepare.format import INDEX_FILE, read_index
from training.prepare.frames import FrameStream, PrepareOptions, RawFrame, UnreadableFrame
from training.prepare.sources import Kind, SourceOptions, detect_kind, open_source
from training.prepare.writer import prepare_stream

DAY = "2011_09_26"
CALIBRATION = """S_rect_02: 40 20
P_rect_02: 30 0 19.5 1 0 31 9.5 0 0 0 1 0
S_rect_03: 40 20
P_rect_03: 30 0 19 -9 0 31 9 0 0 0 1 0
"""


def write_image(path: Path, value: int = 0, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))


def make_raw(root: Path, drives: list[str], numbers: range = range(3)) -> None:
    for drive in drives:
        for number in numbers:
            write_image(root / drive[:10] / f"{drive}_sync" / "image_02" / "data" / f"{number:010d}.png", 20 * number)
        (root / drive[:10] / "calib_cam_to_cam.txt").write_text(CALIBRATION)


def frames(stream: FrameStream, first: int = 0) -> list[RawFrame]:
    return [item for item in stream.frames(first) if isinstance(item, RawFrame)]


def streams(path: Path, **options: Any) -> list[FrameStream]:
    return open_source(path, None, SourceOptions(**options)).streams


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("kitti_raw", "2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000000.png"),
        ("kitti_odometry", "sequences/00/image_2/000000.png"),
        ("kitti_2015", "training/disp_occ_0/000000_10.png"),
        ("tum", "associations.txt"),
        ("synthetic", "street_00000/frames.csv"),
        ("nyu", "kitchen/sync_depth_00000.png"),
        ("folder", "holiday/IMG_1.jpg"),
    ],
)
def test_kind_is_told_by_file_names(kind: Kind, file: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    if kind == "nyu":
        (tmp_path / "kitchen" / "rgb_00000.jpg").touch()
    assert detect_kind(tmp_path) == kind


def test_files_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="say with --kind what it is"):
        detect_kind(tmp_path)
    with pytest.raises(DataError, match="expected a file or folder"):
        open_source(tmp_path / "absent", None, SourceOptions())


def test_raw_root_day_and_drive(tmp_path: Path) -> None:
    make_raw(tmp_path, ["2011_09_26_drive_0001", "2011_09_26_drive_0002", "2011_09_28_drive_0001"])
    day = tmp_path / DAY
    assert len(streams(tmp_path)) == 3
    assert [s.name[17:21] for s in streams(day)] == ["0001", "0002"]
    assert [s.name for s in streams(day / f"{DAY}_drive_0002_sync")] == [f"{DAY}_drive_0002_sync/image_02"]
    assert len(streams(tmp_path, select=[f"{DAY}_drive_0001_sync"])) == 1


def test_eigens_test_drives_are_left_out_by_name(tmp_path: Path) -> None:
    make_raw(tmp_path, [f"{DAY}_drive_0001", f"{DAY}_drive_0002"], range(1))
    opened = open_source(tmp_path, None, SourceOptions(exclude_eigen_test=True))
    assert [stream.name for stream in opened.streams] == [f"{DAY}_drive_0001_sync/image_02"]
    assert opened.excluded == [f"{DAY}_drive_0002_sync/image_02"]


def test_split_file_brings_neighbours_and_lists_what_is_missing(tmp_path: Path) -> None:
    make_raw(tmp_path / "raw", [f"{DAY}_drive_0001"], range(8))
    drive = f"{DAY}/{DAY}_drive_0001_sync"
    (tmp_path / "list.txt").write_text(f"{drive} 5 l\n{drive} 0 l\n{drive} 99 l\n{drive} 3 r\n")
    opened = open_source(tmp_path / "raw", None, SourceOptions(split_file=tmp_path / "list.txt"))
    found = frames(opened.streams[0])
    assert [frame.name[-2:] for frame in found] == ["00", "01", "04", "05", "06"]
    assert [frame.is_target for frame in found] == [True, False, False, True, False]
    assert [path.name for path in opened.missing.paths["image"]] == ["0000000099", "0000000003"]


def test_prepared_frames_are_found_by_a_split_file(tmp_path: Path) -> None:
    make_raw(tmp_path / "raw", [f"{DAY}_drive_0001"], range(6))
    for stream in streams(tmp_path / "raw"):
        prepare_stream(stream, tmp_path / "out", PrepareOptions(40, 20, keep_still=True))
    drive = f"{DAY}/{DAY}_drive_0001_sync"
    (tmp_path / "list.txt").write_text(f"{drive} 4 l\n{drive} 2 l\n")
    records = read_prepared(tmp_path / "out", split_file=tmp_path / "list.txt", neighbours=1)
    assert [(r.index, r.is_target) for r in records] == [(4, True), (2, True), (1, False), (3, False), (5, False)]


def test_options_of_another_kind_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="kind folder has no select; it has camera_file, rate"):
        streams(tmp_path, select=["a"])


def test_folder_with_a_distorted_camera_for_another_size(tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / "frames" / f"{number}.png")
    camera = PinholeCamera(80, 40, 60.0, 62.0, 39.0, 19.0, "plumb_bob", (-0.1, 0.0, 0.0, 0.0, 0.0))
    write_calibration(camera, tmp_path / "camera.yaml", "front")
    stream = streams(tmp_path / "frames", camera_file=tmp_path / "camera.yaml", rate=4.0)[0]
    first, second = frames(stream)
    assert first.camera == camera.resized(40, 20)
    assert second.stamp_ns - first.stamp_ns == 250_000_000


def test_unknown_camera_stays_unknown(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    stream = streams(tmp_path)[0]
    prepare_stream(stream, tmp_path / "out", PrepareOptions(20, 10))
    assert read_prepared(tmp_path / "out")[0].intrinsics is None


def test_damaged_images_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg")
    path = tmp_path / "1.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    items = list(streams(tmp_path)[0].frames(0))
    assert [type(item) for item in items] == [RawFrame, UnreadableFrame, RawFrame]
    assert isinstance(items[1], UnreadableFrame)
    assert "1.jpg cannot be decoded" in items[1].reason


def test_stereo_partners_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    make_raw(tmp_path, ["2011_09_26_drive_0001"])
    write_image(tmp_path / DAY / "2011_09_26_drive_0001_sync" / "image_03" / "data" / "0000000001.png", 77)
    (without,), (with_partners,) = streams(tmp_path), streams(tmp_path, stereo=True)
    assert [frame.stereo for frame in frames(without)] == [None] * 3
    before, frame, after = frames(with_partners)
    assert before.stereo is None
    assert after.stereo is None
    assert frame.stereo is not None
    assert frame.stereo.rgb.mean() == 77
    assert frame.stereo.T_other_this[0, 3] == pytest.approx(-1 / 30 - 9 / 30)
    assert without.source != with_partners.source  # one cannot go on where the other stopped
    with pytest.raises(DataError, match="kind tum has no stereo"):
        open_source(tmp_path, "tum", SourceOptions(stereo=True))


def test_frames_of_2015_are_no_neighbours(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / "image_2" / f"{number:06d}_10.png", size=(1242, 375))
        disparity = np.zeros((375, 1242), np.uint16)
        disparity[100, 200] = 256 * 38.0
        (tmp_path / "disp_occ_0").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "disp_occ_0" / f"{number:06d}_10.png"), disparity)
    stream = streams(tmp_path)[0]
    prepare_stream(stream, tmp_path / "out", PrepareOptions(1242, 375, keep_still=True))
    records = read_prepared(tmp_path / "out")
    assert len({record.sequence for record in records}) == 3
    assert records[0].depth is not None
    # 721.5377 px * 0.5327 m / 38 px, stored in steps of 1/256 m.
    assert records[0].depth.read()[100, 200] == pytest.approx(721.5377 * 0.5327 / 38, abs=1 / 512)


@pytest.fixture(scope="module")
def drive(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The real drive 0001 and its prepared frames, PNG at 640x192."""
    source = shared_data / "kitti_raw" / DAY / f"{DAY}_drive_0001_sync"
    output = tmp_path_factory.mktemp("prepared")
    prepare_stream(streams(source)[0], output, PrepareOptions(format="png"))
    return source, output


def test_real_drive_has_the_calibrations_k_and_the_recorded_stamps(drive: tuple[Path, Path]) -> None:
    source, output = drive
    records = read_prepared(output)
    lines = (source.parent / "calib_cam_to_cam.txt").read_text().splitlines()
    P = next(np.array(line.split()[1:], float) for line in lines if line.startswith("P_rect_02"))
    width, height = next(np.array(line.split()[1:], float) for line in lines if line.startswith("S_rect_02"))
    expected = (P[0] / width, P[5] / height, (P[2] + 0.5) / width, (P[6] + 0.5) / height)
    assert all(record.intrinsics == pytest.approx(expected, rel=1e-12) for record in records)
    times = (source / "image_02" / "timestamps.txt").read_text().splitlines()
    numbers = sorted(int(path.stem) for path in (source / "image_02" / "data").iterdir())
    assert len(records) == len(numbers) == 10
    for record, number in zip(records, numbers, strict=True):
        moment = datetime.fromisoformat(times[number][:26]).replace(tzinfo=timezone.utc)
        assert abs(record.stamp_ns / 1e9 - moment.timestamp()) < 2e-6


def test_real_speed_is_that_of_the_motion_data(drive: tuple[Path, Path]) -> None:
    source, output = drive
    index = read_index(output / source.name / "image_02" / INDEX_FILE)
    assert index is not None
    speeds = [frame.speed for frame in index.kept]
    assert speeds[5] is None  # its file is not there
    for number, speed in enumerate(speeds[:5]):
        north, east, _, _, up = map(float, (source / "oxts/data" / f"{number:010d}.txt").read_text().split()[6:11])
        assert speed == pytest.approx((north**2 + east**2 + up**2) ** 0.5, rel=0.01)  # the same in another frame


def test_real_images_are_area_means(drive: tuple[Path, Path]) -> None:
    source, output = drive
    originals = sorted((source / "image_02" / "data").iterdir())
    for record, path in list(zip(read_prepared(output), originals, strict=True))[::3]:
        exact = cv2.resize(cv2.imread(str(path)).astype(np.float32), (640, 192), interpolation=cv2.INTER_AREA)
        assert np.abs(cv2.imread(str(record.image)) - exact).max() <= 0.51


def test_real_depth_is_the_projected_scan(drive: tuple[Path, Path]) -> None:
    """Every laser point, in float64 through KITTI's own matrices, is seen where it falls, or something nearer is."""
    source, output = drive
    record = next(record for record in read_prepared(output) if record.depth is not None)
    scan = sorted((source / "velodyne_points" / "data").iterdir())[0]

    def matrix(name: str, file: str, rows: int) -> np.ndarray:
        text = (source.parent / file).read_text().splitlines()
        values = next(np.array(line.split()[1:], float) for line in text if line.startswith(name + ":"))
        return values.reshape(rows, -1)

    points = np.fromfile(scan, np.float32).reshape(-1, 4)[:, :3].astype(float)
    points = points[points[:, 0] >= 0]
    velodyne = points @ matrix("R", "calib_velo_to_cam.txt", 3).T + matrix("T", "calib_velo_to_cam.txt", 1)
    rectified = velodyne @ matrix("R_rect_00", "calib_cam_to_cam.txt", 3).T
    u, v, w = matrix("P_rect_02", "calib_cam_to_cam.txt", 3) @ np.c_[rectified, np.ones(len(rectified))].T
    z = w[w > 0]  # P's last row is 0 0 1 t: depth in camera 2
    x, y = np.rint(u[w > 0] / z), np.rint(v[w > 0] / z)
    inside = (x >= 0) & (x < 1242) & (y >= 0) & (y < 375)
    column, row = ((x[inside] + 0.5) * 640 // 1242).astype(int), ((y[inside] + 0.5) * 192 // 375).astype(int)
    expected = np.full((192, 640), np.inf)
    np.minimum.at(expected, (row, column), z[inside])
    expected[np.isinf(expected)] = 0
    assert record.depth is not None
    found = record.depth.read()
    differs = np.abs(found - expected) > 1 / 512 + 1e-4
    assert np.count_nonzero(expected) > 10_000
    assert np.count_nonzero(differs) <= 2  # a point halfway between two pixels, to the last bit
