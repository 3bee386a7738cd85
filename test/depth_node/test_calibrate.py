"""The tool that learns a camera from a bag: a camera that turns is known, one that does not is said not to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import turning_camera
from depth_node import bag_messages
from depth_node.bags import BagWriter
from depth_node.calibration_file import read_calibration
from depth_node.camera import PinholeCamera
from depth_node.intrinsics.store import read_intrinsics
from depth_node.tools import run
from turning_camera import HEIGHT, WIDTH

FOCAL_LENGTH = 0.7 * WIDTH
TENTH_NS = 100_000_000


@pytest.fixture(scope="module")
def turning() -> list[NDArray[np.uint8]]:
    return turning_camera.images(FOCAL_LENGTH, 40)


@pytest.fixture
def calibrate(
    make_tiny_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs the tool on a bag in an empty folder; its exit code."""
    model = make_tiny_model(tmp_path / "wide.onnx", width=WIDTH, height=HEIGHT).path
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path / "results")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda bag, *options: run("calibrate", [str(bag), "--model", str(model), *options])


def write_bag(path: Path, images: Sequence[Any], camera: PinholeCamera | None = None) -> Path:
    with BagWriter(path) as bag:
        for number, pixels in enumerate(images):
            stamp = 1_000_000_000_000 + number * TENTH_NS
            if camera is not None:
                bag.write("/front/camera_info", stamp, bag_messages.camera_info(stamp, "camera", camera))
            bag.write("/front/image_raw", stamp, bag_messages.image(stamp, "camera", pixels, "mono8"))
    return path


def test_a_camera_that_turns_is_known(
    calibrate: Callable[..., int], turning: list[NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = PinholeCamera(WIDTH, HEIGHT, 1.5 * FOCAL_LENGTH, 1.5 * FOCAL_LENGTH, WIDTH / 2, HEIGHT / 2)
    assert calibrate(write_bag(tmp_path / "drive.mcap", turning, said)) == 0
    stored = read_intrinsics(Path("front.yaml"))
    assert read_calibration(Path("front.yaml")).fx == pytest.approx(FOCAL_LENGTH, rel=0.01)
    assert (stored.width, stored.height, stored.estimate.state) == (WIDTH, HEIGHT, "converged")
    assert cv2.imread("front.png") is not None
    output = capsys.readouterr().out
    assert f"40 images of {WIDTH}x{HEIGHT}: focal length" in output
    away = re.search(rf"/front/camera_info has a focal length of {said.fx:.1f} pixels, ([\d.]+) sigma away", output)
    assert away is not None
    assert float(away[1]) > 3


def test_a_camera_that_stands_still_is_not(
    calibrate: Callable[..., int], turning: list[NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(write_bag(tmp_path / "drive.mcap", turning[:1] * 5), "--output", "k.yaml") == 1
    assert "Not enough rotation" in capsys.readouterr().out
    assert {path.name for path in Path().iterdir()} == {"k.png"}


def test_damaged_images_are_counted(
    calibrate: Callable[..., int], turning: list[NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "drive.mcap"
    with BagWriter(path) as bag:
        for number, pixels in enumerate(turning):
            stamp = number * TENTH_NS
            data = cv2.imencode(".png", pixels)[1].tobytes() if number % 8 else b"nothing"
            message = bag_messages.compressed_image(stamp, "camera", data, "png")
            bag.write("/front/image_raw/compressed", stamp, message)
    assert calibrate(path, "--camera-name", "left") == 0
    assert "5 images are damaged" in capsys.readouterr().out
    assert read_calibration(Path("left.yaml")).fx == pytest.approx(FOCAL_LENGTH, rel=0.02)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((64, 64), np.uint8)], "change from 256x128 to 64x64"),
        ([], "no images"),
    ],
)
def test_what_cannot_be_calibrated_is_said(
    calibrate: Callable[..., int], images: list[Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(write_bag(tmp_path / "drive.mcap", images)) == 2
    assert said in capsys.readouterr().err


def test_a_camera_info_of_another_shape_is_no_reason_to_fail(
    calibrate: Callable[..., int], turning: list[NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    square = PinholeCamera(100, 100, 50.0, 50.0, 50.0, 50.0)
    assert calibrate(write_bag(tmp_path / "drive.mcap", turning[:20], square)) == 0
    assert "/front/camera_info cannot be compared" in capsys.readouterr().out


def test_names_that_are_no_files_are_refused(calibrate: Callable[..., int], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        calibrate(tmp_path / "drive.mcap", "--camera-name", "../left")
