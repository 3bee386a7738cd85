"""A real KITTI drive turned into a bag, against KITTI's own depth maps and closed forms."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depth_node.bags import open_bag
from depth_node.camera import PinholeCamera
from depth_node.frames import stamp_ns
from training.data.kitti_bag import kitti_to_bag, oxts_poses, oxts_velocities
from training.errors import DataError

DATE = "2011_09_26"
DRIVE = f"{DATE}_drive_0001_sync"
FIRST_IMAGE_NS = 1317042145_961661696  # 2011-09-26 13:02:25.961661696 UTC


def oxts_row(**values: float) -> np.ndarray:
    columns = ["lat", "lon", "alt", "roll", "pitch", "yaw", "vn", "ve", "vf", "vl", "vu"]
    row = np.zeros(30)
    for name, value in values.items():
        row[columns.index(name)] = value
    return row


def read_all(path: Path) -> dict[str, list[Any]]:
    with open_bag(path) as bag:
        messages: dict[str, list[Any]] = {topic: [] for topic in bag.topics()}
        for topic, time_ns, message in bag.messages(list(messages)):
            if topic != "/tf_static":
                assert time_ns == stamp_ns(message)
            messages[topic].append(message)
    return messages


def matrix(transform: Any) -> np.ndarray:
    """[4, 4] of a geometry_msgs/Transform."""
    q, t = transform.rotation, transform.translation
    x, y, z, w = q.x, q.y, q.z, q.w
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), t.x],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), t.y],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), t.z],
            [0, 0, 0, 1],
        ]
    )


@pytest.fixture(scope="module")
def drive_messages(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    path = tmp_path_factory.mktemp("bag") / "drive.mcap"
    kitti_to_bag(shared_data / "kitti_raw" / DATE / DRIVE, path)
    return read_all(path)


def test_everything_that_the_drive_has_is_there(drive_messages: dict[str, list[Any]]) -> None:
    counts = {topic: len(messages) for topic, messages in drive_messages.items()}
    assert counts == {
        "/camera/image_raw": 10,
        "/camera/camera_info": 10,
        "/velodyne_points": 5,
        "/odometry": 5,
        "/tf_static": 1,
    }
    assert stamp_ns(drive_messages["/camera/image_raw"][0]) == FIRST_IMAGE_NS


def test_image_is_the_stored_one(drive_messages: dict[str, list[Any]], shared_data: Path) -> None:
    image = drive_messages["/camera/image_raw"][3]
    stored = cv2.imread(str(shared_data / "kitti_raw" / DATE / DRIVE / "image_02" / "data" / "0000000003.png"))
    assert (image.encoding, image.step) == ("bgr8", 3 * image.width)
    np.testing.assert_array_equal(image.data.reshape(image.height, image.width, 3), stored)


def test_scan_through_tf_and_camera_info_falls_on_the_official_depth_map(
    drive_messages: dict[str, list[Any]], shared_data: Path
) -> None:
    folder = shared_data / "kitti_depth" / "train" / DRIVE / "proj_depth" / "groundtruth" / "image_02"
    truth = cv2.imread(str(folder / "0000000045.png"), cv2.IMREAD_UNCHANGED) / 256.0
    info, scan = drive_messages["/camera/camera_info"][7], drive_messages["/velodyne_points"][2]
    assert (info.width, info.height) == truth.shape[::-1]
    assert scan.header.frame_id == "velodyne"
    links = {(t.header.frame_id, t.child_frame_id): t.transform for t in drive_messages["/tf_static"][0].transforms}
    T_velodyne_camera = matrix(links["velodyne", info.header.frame_id])

    points = scan.data.view(np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
    points = (points - T_velodyne_camera[:3, 3]) @ T_velodyne_camera[:3, :3]
    points = points[points[:, 2] > 1]
    column, row, _ = np.rint((points / points[:, 2:]) @ info.k.reshape(3, 3).T).astype(int).T
    seen = (column >= 0) & (column < info.width) & (row >= 0) & (row < info.height)
    depth, expected = points[seen, 2], truth[row[seen], column[seen]]
    known = expected > 0
    # The official map is this scan and its neighbours, freed of outliers.
    assert known.sum() > 5000
    relative = np.abs(depth[known] / expected[known] - 1)
    assert np.median(relative) < 0.005
    assert np.mean(relative < 0.05) > 0.95


def test_static_transforms_place_the_camera_ahead_of_and_above_the_unit(drive_messages: dict[str, list[Any]]) -> None:
    links = {(t.header.frame_id, t.child_frame_id): t.transform for t in drive_messages["/tf_static"][0].transforms}
    assert set(links) == {("base_link", "velodyne"), ("velodyne", "camera_02_optical")}
    pose = matrix(links["base_link", "velodyne"]) @ matrix(links["velodyne", "camera_02_optical"])
    # The set-up figure of Geiger et al. (IJRR 2013): the cameras are 0.81 + 0.27 m ahead of the GPS/IMU unit, 1.65 m
    # over the ground, and the unit 0.93 m.
    assert pose[0, 3] == pytest.approx(1.08, abs=0.06)
    assert pose[2, 3] == pytest.approx(0.72, abs=0.06)
    np.testing.assert_allclose(pose[:3, 2], [1, 0, 0], atol=0.03)  # the optical axis looks ahead
    np.testing.assert_allclose(pose[:3, 1], [0, 0, -1], atol=0.03)  # image rows go down


def test_odometry_moves_as_fast_as_it_says(drive_messages: dict[str, list[Any]]) -> None:
    odometry = drive_messages["/odometry"]
    first = odometry[0].pose.pose
    assert (first.position.x, first.position.y, first.position.z) == (0, 0, 0)
    assert first.orientation.w == pytest.approx(1, abs=1e-12)
    assert (odometry[0].header.frame_id, odometry[0].child_frame_id) == ("odom", "base_link")
    last = odometry[-1].pose.pose.position
    seconds = (stamp_ns(odometry[-1]) - stamp_ns(odometry[0])) * 1e-9
    speed = np.mean([message.twist.twist.linear.x for message in odometry])
    assert speed == pytest.approx(13.2, abs=0.2)  # m/s, as the files have it
    assert math.dist((last.x, last.y, last.z), (0, 0, 0)) == pytest.approx(speed * seconds, rel=0.02)
    assert last.x > 0.99 * speed * seconds  # ahead


def test_mercator_position_and_heading() -> None:
    north = math.degrees(10 / 6378137.0)  # 10 m on the sphere
    rows = np.array([oxts_row(lat=49, lon=8, alt=100), oxts_row(lat=49 + north, lon=8, alt=101, yaw=math.pi / 2)])
    poses = oxts_poses(rows)
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(poses[1][:3, 3], [0, 10, 1], atol=1e-4)  # yaw 0 is east: north is to the left
    np.testing.assert_allclose(poses[1][:3, 0], [0, 1, 0], atol=1e-12)


def test_velocity_is_along_the_tilted_body() -> None:
    pitch = 0.3  # front down, so that driving level is going up as the body sees it
    velocity = oxts_velocities(np.array([oxts_row(vf=2.0, pitch=pitch)]))[0]
    np.testing.assert_allclose(velocity, [2 * math.cos(pitch), 0, 2 * math.sin(pitch)], atol=1e-12)


def test_grey_drive_stored_smaller_compressed_and_without_timestamps(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "kitti_raw" / DATE
    drive = tmp_path / DATE / f"{DATE}_drive_0039_sync"
    (drive / "image_00" / "data").mkdir(parents=True)
    shutil.copy(source / "calib_cam_to_cam.txt", tmp_path / DATE)
    for number in (1, 2, 4):
        shutil.copy(source / drive.name / "image_00" / "data" / f"{number:010d}.jpg", drive / "image_00" / "data")
    kitti_to_bag(drive, tmp_path / "drive.mcap", camera=0, compressed=True)
    messages = read_all(tmp_path / "drive.mcap")
    assert set(messages) == {"/camera/image_raw/compressed", "/camera/camera_info"}
    images = messages["/camera/image_raw/compressed"]
    midnight = 1316995200 * 10**9
    assert [stamp_ns(image) - midnight for image in images] == [100_000_000, 200_000_000, 400_000_000]
    assert (images[0].format, images[0].header.frame_id) == ("jpeg", "camera_00_optical")
    assert bytes(images[2].data) == (drive / "image_00" / "data" / "0000000004.jpg").read_bytes()
    info = messages["/camera/camera_info"][0]
    whole = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854)
    np.testing.assert_allclose(info.k.reshape(3, 3), whole.resized(828, 250).matrix(), atol=1e-3)
    assert (info.width, info.height) == (828, 250)


def test_drive_without_images_or_calibration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drive = tmp_path / DATE / DRIVE
    with pytest.raises(DataError, match="no images in"):
        kitti_to_bag(drive, tmp_path / "drive.mcap")
    (drive / "image_02" / "data").mkdir(parents=True)
    cv2.imwrite(str(drive / "image_02" / "data" / "0000000000.png"), np.zeros((4, 6, 3), np.uint8))
    kitti_to_bag(drive, tmp_path / "drive.mcap")
    assert "the bag gets no camera_info" in caplog.text
    assert set(read_all(tmp_path / "drive.mcap")) == {"/camera/image_raw"}


def test_damaged_oxts_is_told_and_leaves_no_bag(tmp_path: Path) -> None:
    drive = tmp_path / DATE / DRIVE
    (drive / "image_02" / "data").mkdir(parents=True)
    cv2.imwrite(str(drive / "image_02" / "data" / "0000000000.png"), np.zeros((4, 6, 3), np.uint8))
    (drive / "oxts" / "data").mkdir(parents=True)
    (drive / "oxts" / "data" / "0000000000.txt").write_text("49.0 8.4")
    with pytest.raises(DataError, match="has 2 numbers: expected the 30"):
        kitti_to_bag(drive, tmp_path / "drive.mcap")
    assert not (tmp_path / "drive.mcap").exists()
