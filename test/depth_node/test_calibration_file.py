"""Calibration files: what camera_calibration writes is read, and what is written is read back exactly."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from depth_node.calibration_file import read_calibration, write_calibration
from depth_node.camera import DISTORTION_COEFFICIENTS, PinholeCamera
from depth_node.errors import CalibrationFileError, CameraError

# In the layout of camera_calibration's cameracalibrator.
GENUINE = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [517.3, 0., 318.6, 0., 516.5, 255.3, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.2624, -0.9531, -0.0054, 2.6e-3, 1e0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [500., 0., 318.6, 0., 0., 500., 255.3, 0., 0., 0., 1., 0.]
"""

focals = st.floats(1e-3, 1e6)
centres = st.floats(-1e5, 1e5)
sizes = st.integers(1, 20000)
coefficients = st.floats(-1e3, 1e3)
lenses = st.sampled_from(sorted(DISTORTION_COEFFICIENTS)).flatmap(
    lambda model: st.tuples(
        st.just(model),
        st.sampled_from(DISTORTION_COEFFICIENTS[model]).flatmap(
            lambda count: st.tuples(*[coefficients.filter(bool)] * count)
        ),
    )
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "camera.yaml"


def test_file_of_camera_calibration_is_read(path: Path) -> None:
    path.write_text(GENUINE)
    camera = PinholeCamera(640, 480, 517.3, 516.5, 318.6, 255.3, "plumb_bob", (0.2624, -0.9531, -0.0054, 0.0026, 1.0))
    assert read_calibration(path) == camera


def test_file_without_a_distortion_model_is_plumb_bob(path: Path) -> None:
    path.write_text(GENUINE.replace("distortion_model: plumb_bob\n", ""))
    assert read_calibration(path).distortion_model == "plumb_bob"


@given(sizes, sizes, focals, focals, centres, centres, lenses)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    lens: tuple[str, tuple[float, ...]],
) -> None:
    camera = PinholeCamera(width, height, fx, fy, cx, cy, *lens)
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    write_calibration(camera, path, "camera")
    assert read_calibration(path) == camera


def test_written_file_has_every_key_of_the_format(path: Path) -> None:
    write_calibration(PinholeCamera(4, 3, 2.0, 2.5, 1.0, 1e-7), path, "front")
    assert list(yaml.safe_load(GENUINE)) == list(yaml.safe_load(path.read_text()))
    assert yaml.safe_load(path.read_text()) == {
        "image_width": 4,
        "image_height": 3,
        "camera_name": "front",
        "camera_matrix": {"rows": 3, "cols": 3, "data": [2, 0, 1, 0, 2.5, 1e-7, 0, 0, 1]},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0, 0, 0, 0, 0]},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
        "projection_matrix": {"rows": 3, "cols": 4, "data": [2, 0, 1, 0, 0, 2.5, 1e-7, 0, 0, 0, 1, 0]},
    }


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_camera_without_distortion_stays_one(path: Path, model: str) -> None:
    write_calibration(PinholeCamera(4, 3, 2.0, 2.5, 1.0, 1.5, model), path, "front")
    assert read_calibration(path) == PinholeCamera(4, 3, 2.0, 2.5, 1.0, 1.5)


def test_fisheye_with_coefficients_of_zero_stays_one(path: Path) -> None:
    camera = PinholeCamera(4, 3, 2.0, 2.5, 1.0, 1.5, "equidistant", (0.0,) * 4)
    write_calibration(camera, path, "front")
    assert read_calibration(path) == camera


def test_a_file_is_replaced_in_one_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("the old one")
    other_name = path.with_name("link")
    os.link(path, other_name)
    write_calibration(PinholeCamera(4, 3, 2.0, 2.5, 1.0, 1.5), path, "front")
    assert other_name.read_text() == "the old one"  # not written into
    assert sorted(path.parent.iterdir()) == [path, other_name]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_text()
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CalibrationFileError, match="No space left on device"):
        write_calibration(PinholeCamera(8, 6, 2.0, 2.5, 1.0, 1.5), path, "front")
    assert path.read_text() == before
    assert sorted(path.parent.iterdir()) == [path, other_name]


def test_written_file_can_be_read_by_others(path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_calibration(PinholeCamera(4, 3, 2.0, 2.5, 1.0, 1.5), path, "front")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError, match=r"absent/camera.yaml cannot be written: No such file"):
        write_calibration(PinholeCamera(4, 3, 2.0, 2.5, 1.0, 1.5), tmp_path / "absent" / "camera.yaml", "front")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("image_width: 640", "image_width: wide", "image_width is 'wide'; expected a whole number of pixels"),
        ("image_width: 640", "image_width: true", "image_width is True"),
        ("image_height: 480\n", "", "image_height is None"),
        ("image_height: 480", "image_height: 0", "640x0 pixels"),
        ("517.3, 0., 318.6", "517.3, 318.6", "camera_matrix has 8 numbers; expected 9"),
        ("517.3, 0., 318.6", "fx, 0., 318.6", "expected a list of numbers"),
        ("517.3, 0., 318.6", ".nan, 0., 318.6", "fx = nan"),
        ("distortion_coefficients:", "distortion_coefficents:", "distortion_coefficients has the data None"),
        ("plumb_bob", "thin_prism", "'thin_prism' is unknown"),
        ("plumb_bob", "[1]", r"'[1]' is unknown"),
        ("0.2624, ", "0.2624, 1, 2, ", "7 distortion coefficients"),
        ("camera_matrix:\n", "camera_matrix: none\n#", "YAML"),
        (GENUINE, "", "has no keys"),
        (GENUINE, "- 1\n- 2\n", "has no keys"),
        (GENUINE, "a: [1, 2", "is not YAML"),
        (GENUINE, "!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_damaged_file_is_refused(path: Path, old: str, new: str, said: str) -> None:
    assert old in GENUINE
    path.write_text(GENUINE.replace(old, new))
    with pytest.raises(CalibrationFileError, match=re.escape(said)) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(CalibrationFileError, match="is not YAML"):
        read_calibration(path)


def test_missing_file_is_refused_as_a_camera_error(path: Path) -> None:
    with pytest.raises(CameraError, match="cannot be read: No such file"):
        read_calibration(path)
