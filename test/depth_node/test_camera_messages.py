"""CameraInfo <-> PinholeCamera: which of K and P, regions and binning, bad messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera
from depth_node.camera_messages import UNCALIBRATED, camera_from_info, camera_info_message
from depth_node.errors import CameraError, CameraSizeError

HEADER = Header(frame_id="camera_optical")
PLUMB_BOB = [-0.37, 0.2, 0.001, -0.002, -0.07]


def camera_info(width: int = 1242, height: int = 376, d: list[float] | None = None, **fields: object) -> CameraInfo:
    """A CameraInfo whose K and P differ."""
    return CameraInfo(
        header=HEADER,
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=PLUMB_BOB if d is None else d,
        k=[960.0, 0.0, 620.0, 0.0, 955.0, 180.0, 0.0, 0.0, 1.0],
        p=[721.0, 0.0, 609.0, 45.0, 0.0, 719.0, 172.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        **fields,
    )


def test_distorted_image_has_k_and_d() -> None:
    camera = camera_from_info(camera_info(), 1242, 376)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (960.0, 955.0, 620.0, 180.0)
    assert camera.distortion == tuple(PLUMB_BOB)
    assert (camera.width, camera.height) == (1242, 376)


@pytest.mark.parametrize("d", [[], [0.0] * 5])
def test_rectified_image_has_p(d: list[float]) -> None:
    camera = camera_from_info(camera_info(d=d), 1242, 376)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (721.0, 719.0, 609.0, 172.0)
    assert not camera.is_distorted


def test_k_is_used_where_p_is_unset() -> None:
    info = camera_info(d=[])
    info.p = [0.0] * 12
    assert camera_from_info(info, 1242, 376).fx == 960.0


def test_fisheye_with_zero_coefficients_is_still_distorted() -> None:
    info = camera_info(d=[0.0] * 4)
    info.distortion_model = "equidistant"
    camera = camera_from_info(info, 1242, 376)
    assert camera.fx == 960.0
    assert camera.is_distorted


def test_intrinsics_follow_a_resize_in_proportion() -> None:
    """x' = (x + 0.5) s - 0.5 with s = 1/2."""
    camera = camera_from_info(camera_info(), 621, 188)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (480.0, 477.5, 309.75, 89.75)


def test_binning_may_round_a_pixel_away() -> None:
    assert camera_from_info(camera_info(1241, 375), 620, 187).width == 620


def test_region_of_interest_is_cut_out_then_binned() -> None:
    info = camera_info(binning_x=2, binning_y=2)
    info.roi = RegionOfInterest(x_offset=100, y_offset=40, width=800, height=200)
    camera = camera_from_info(info, 400, 100)
    assert (camera.fx, camera.fy) == (480.0, 477.5)
    assert (camera.cx, camera.cy) == ((620 - 100 + 0.5) / 2 - 0.5, (180 - 40 + 0.5) / 2 - 0.5)


@pytest.mark.parametrize(
    ("k", "said"),
    [
        ([0.0] * 9, "fx = 0.0"),
        ([float("nan"), 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], "fx = nan"),
        ([960.0, 0.0, 620.0, 0.0, float("inf"), 180.0, 0.0, 0.0, 1.0], "fy = inf"),
        ([-960.0, 0.0, 620.0, 0.0, 955.0, 180.0, 0.0, 0.0, 1.0], "fx = -960.0"),
    ],
)
def test_impossible_k_is_refused(k: list[float], said: str) -> None:
    info = camera_info()
    info.k = k
    with pytest.raises(CameraError, match=said):
        camera_from_info(info, 1242, 376)


def test_uncalibrated_driver_is_refused() -> None:
    with pytest.raises(CameraError, match=r"fx = 0\.0"):
        camera_from_info(CameraInfo(width=640, height=480), 640, 480)


def test_other_resolution_names_both_sizes() -> None:
    with pytest.raises(CameraSizeError, match=r"640x480.*1242x376"):
        camera_from_info(camera_info(640, 480), 1242, 376)


def test_missing_size_is_refused() -> None:
    with pytest.raises(CameraError, match="0x376"):
        camera_from_info(camera_info(width=0), 1242, 376)


def test_unknown_distortion_model_is_refused() -> None:
    info = camera_info()
    info.distortion_model = "omnidirectional"
    with pytest.raises(CameraError, match="omnidirectional"):
        camera_from_info(info, 1242, 376)


focal_lengths = st.floats(1.0, 5000.0)
coordinates = st.floats(-100.0, 5000.0)


@given(
    st.builds(
        PinholeCamera,
        st.integers(1, 5000),
        st.integers(1, 5000),
        focal_lengths,
        focal_lengths,
        coordinates,
        coordinates,
        st.just("plumb_bob"),
        st.sampled_from([(), tuple(PLUMB_BOB)]),
    )
)
def test_calibrated_camera_round_trips(camera: PinholeCamera) -> None:
    info = camera_info_message(camera, True, HEADER)
    assert camera_from_info(info, camera.width, camera.height) == camera
    assert info.header == HEADER


def test_prior_says_that_it_is_uncalibrated() -> None:
    camera = PinholeCamera(1242, 375, 721.0, 720.0, 609.0, 172.0)
    info = camera_info_message(camera, False, HEADER)
    assert info.distortion_model == UNCALIBRATED == "uncalibrated"
    assert list(info.d) == []
    assert list(info.k) == [721.0, 0.0, 609.0, 0.0, 720.0, 172.0, 0.0, 0.0, 1.0]
    assert list(info.r) == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert list(info.p) == [721.0, 0.0, 609.0, 0.0, 0.0, 720.0, 172.0, 0.0, 0.0, 0.0, 1.0, 0.0]
