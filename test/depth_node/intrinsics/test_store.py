"""Learned intrinsics in files: what comes back, who may read them, and what is refused."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from depth_node.calibration_file import read_calibration
from depth_node.camera import PinholeCamera
from depth_node.errors import CalibrationFileError, DepthNodeError
from depth_node.intrinsics.estimate import IntrinsicsEstimate
from depth_node.intrinsics.store import (
    IntrinsicsStore,
    StoredIntrinsics,
    camera_name_of_topic,
    intrinsics_directory,
    is_camera_name,
    read_intrinsics,
    write_intrinsics,
)

ESTIMATE = IntrinsicsEstimate((0.58, 1.92, 0.5, 0.46), 0.0123, "converged", 2.5, 41)
STORED = StoredIntrinsics(1242, 375, ESTIMATE)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    IntrinsicsStore(tmp_path / "intrinsics", "front").save(STORED)
    stored = IntrinsicsStore(tmp_path / "intrinsics", "front").load()
    assert stored is not None
    assert (stored.width, stored.height) == (1242, 375)
    assert stored.estimate.intrinsics == pytest.approx(ESTIMATE.intrinsics)
    assert stored.estimate.relative_sigma == ESTIMATE.relative_sigma
    assert (stored.estimate.state, stored.estimate.rotation, stored.estimate.pairs) == ("converged", 2.5, 41)


def test_the_file_is_a_camera_calibration_of_ros(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    write_intrinsics(STORED, path, "front")
    assert (
        read_calibration(path).normalized()
        == PinholeCamera.from_normalized(ESTIMATE.intrinsics, 1242, 375).normalized()
    )
    content = yaml.safe_load(path.read_text())
    assert content["camera_name"] == "front"
    assert content["learned_intrinsics"]["focal_length_sigma"] == pytest.approx(0.0123 * 0.58 * 1242, abs=1e-3)


def test_a_rolling_shutter_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    rolling = replace(ESTIMATE, readout=0.0253, readout_sigma=0.0004)
    write_intrinsics(StoredIntrinsics(1242, 375, rolling), path, "front")
    known = read_intrinsics(path).estimate
    assert (known.readout, known.readout_sigma, known.is_rolling) == (0.0253, 0.0004, True)


def test_files_of_before_distortion_and_readout_were_learned_are_read(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    write_intrinsics(STORED, path, "front")
    content = yaml.safe_load(path.read_text())
    for key in ("distortion_sigma", "readout", "readout_sigma"):
        del content["learned_intrinsics"][key]
    path.write_text(yaml.safe_dump(content))
    known = read_intrinsics(path).estimate
    assert (known.distortion_sigma, known.readout, known.readout_sigma) == (0.0, 0.0, 0.0)
    assert not known.is_rolling


def test_lens_distortion_is_kept_where_it_is_sure(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    bent = replace(ESTIMATE, distortion=-0.12, distortion_sigma=0.004)
    write_intrinsics(StoredIntrinsics(1242, 375, bent), path, "front")
    assert read_calibration(path).distortion == (-0.12, 0.0, 0.0, 0.0, 0.0)
    known = read_intrinsics(path).estimate
    assert (known.distortion, known.distortion_sigma) == (-0.12, 0.004)
    assert known.is_distorted
    write_intrinsics(StoredIntrinsics(1242, 375, replace(bent, distortion=-0.01)), path, "front")
    assert not read_calibration(path).is_distorted


def test_files_of_before_distortion_was_learned_are_read(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    write_intrinsics(STORED, path, "front")
    content = yaml.safe_load(path.read_text())
    del content["learned_intrinsics"]["distortion_sigma"]
    path.write_text(yaml.safe_dump(content))
    assert not read_intrinsics(path).estimate.is_distorted


def test_the_folder_is_the_users_alone(tmp_path: Path) -> None:
    IntrinsicsStore(tmp_path / "new" / "intrinsics", "front").save(STORED)
    assert stat.S_IMODE((tmp_path / "new" / "intrinsics").stat().st_mode) == 0o700


def test_a_folder_where_everybody_writes_is_refused(tmp_path: Path) -> None:
    store = IntrinsicsStore(tmp_path, "front")
    store.save(STORED)
    tmp_path.chmod(0o777)
    with pytest.raises(DepthNodeError, match="choose a folder of your own"):
        store.save(STORED)
    with pytest.raises(DepthNodeError, match="choose a folder of your own"):
        store.load()


def test_a_folder_that_cannot_be_looked_into_is_a_typed_error(tmp_path: Path) -> None:
    """Permissions mean nothing to root, who runs tests in containers; a name that is too long does."""
    with pytest.raises(CalibrationFileError, match="cannot be read: File name too long"):
        IntrinsicsStore(tmp_path / ("a" * 300), "front").load()


def test_no_file_is_no_estimate(tmp_path: Path) -> None:
    assert IntrinsicsStore(tmp_path, "front").load() is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"learned_intrinsics": None}, "has no learned_intrinsics"),
        ({"learned_intrinsics": {"relative_sigma": 0.0}}, r"learned_intrinsics\.state is None"),
        ({"learned_intrinsics": {"state": "converged", "relative_sigma": -1.0}}, "relative_sigma is -1.0"),
        ({"learned_intrinsics": {"state": "converged", "relative_sigma": "small"}}, "relative_sigma is 'small'"),
        ({"learned_intrinsics": {"state": "converged", "relative_sigma": True}}, "relative_sigma is True"),
        ({"learned_intrinsics": {"state": "converged", "relative_sigma": float("nan")}}, "relative_sigma is nan"),
        ({"image_width": 0}, "0x375"),
        ({"camera_matrix": None}, "camera_matrix"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: dict[str, object], said: str) -> None:
    path = tmp_path / "front.yaml"
    write_intrinsics(STORED, path, "front")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **damage}))
    with pytest.raises(CalibrationFileError, match=said):
        read_intrinsics(path)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    path.write_text("a: " + "x" * 200_000)
    with pytest.raises(CalibrationFileError, match="200003 bytes"):
        read_intrinsics(path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationFileError, match="cannot be made"):
        IntrinsicsStore(tmp_path / "file" / "intrinsics", "front").save(STORED)


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/camera/image_raw", "camera"),
        ("/robot/front_camera/image_raw/compressed", "robot_front_camera"),
        ("/image", "image"),
        ("/a.b/~c/image", "a.b_c"),
    ],
)
def test_camera_name_of_a_topic(topic: str, name: str) -> None:
    assert camera_name_of_topic(topic) == name
    assert is_camera_name(name)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 101, "a\n"])
def test_names_that_are_no_files(name: str) -> None:
    assert not is_camera_name(name)


def test_default_folder_is_in_the_users_ros_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    assert intrinsics_directory("") == tmp_path / "depth_node" / "intrinsics"
    assert intrinsics_directory("/data/cameras") == Path("/data/cameras")
