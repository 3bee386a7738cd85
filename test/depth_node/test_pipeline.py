"""The pipeline against closed forms: what is black or white in the image is at a known depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from depth_node.backends import Prediction, create_backend
from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError
from depth_node.frames import Frame
from depth_node.model import ModelFile, ModelSpec, read_model
from depth_node.pipeline import DepthOptions, DepthPipeline, depth_from_output, focal_scale, resize_image
from depth_node.rectification import Rectification

MakeModel = Callable[..., ModelFile]

PRIOR = (0.58, 1.92, 0.49, 0.46)
SPEC = ModelSpec(64, 32, 0.5, 100.0, True, PRIOR, "none", "Apache-2.0", "none")


def spec_with(**changes: Any) -> ModelSpec:
    return ModelSpec(**{**vars(SPEC), **changes})


def prior_camera(width: int, height: int, zoom: float = 1.0) -> PinholeCamera:
    return PinholeCamera.from_normalized((PRIOR[0] * zoom, PRIOR[1] * zoom, PRIOR[2], PRIOR[3]), width, height)


def pipeline_of(model: ModelFile) -> DepthPipeline:
    return DepthPipeline(model, create_backend(model, precision="fp32"))


@pytest.fixture(scope="module")
def pipeline(tiny_model_path: Path) -> DepthPipeline:
    return pipeline_of(read_model(tiny_model_path))


def grey_frame(grey: int, width: int = 1242, height: int = 375) -> Frame:
    return Frame(123, "camera", np.full((height, width, 3), grey, np.uint8))


@pytest.mark.parametrize("grey", [0, 51, 255])
@pytest.mark.parametrize("size", [(1242, 375), (640, 480), (64, 32), (31, 17)])
def test_depth_is_one_over_disparity(pipeline: DepthPipeline, grey: int, size: tuple[int, int]) -> None:
    width, height = size
    frame = grey_frame(grey, width, height)
    result = pipeline.process(frame, prior_camera(width, height))
    assert result.depth.dtype == np.float32
    assert result.depth.shape == (height, width)
    assert result.depth == pytest.approx(1 / (0.05 + 0.45 * grey / 255), rel=1e-5)
    assert result.frame is frame


def test_the_camera_of_the_image_is_passed_on(pipeline: DepthPipeline) -> None:
    camera = prior_camera(1242, 375, zoom=1.1)
    result = pipeline.process(grey_frame(0), camera)
    assert result.camera is camera
    assert result.intrinsics_source == "camera_info"


def test_where_the_camera_is_from_is_passed_on(pipeline: DepthPipeline) -> None:
    assert pipeline.process(grey_frame(0), prior_camera(1242, 375), "learned").intrinsics_source == "learned"
    assert pipeline.process(grey_frame(0), None, "learned").intrinsics_source == "prior"


def test_the_view_is_what_the_network_saw_and_said(pipeline: DepthPipeline) -> None:
    rng = np.random.default_rng(0)
    rgb = cv2.resize(rng.integers(0, 255, (8, 16, 3), np.uint8), (128, 64), interpolation=cv2.INTER_LINEAR)
    camera = prior_camera(128, 64, zoom=2.0)
    pipeline.process(Frame(123, "camera", np.asarray(rgb, np.uint8)), camera)
    view = pipeline.view()
    assert (view.stamp_ns, view.frame_id, view.camera, view.is_rectified) == (123, "camera", camera, False)
    assert view.image.shape == (32, 64, 3)
    grey = view.image.mean(axis=2)
    # A camera of twice the model's focal length sees everything twice as far.
    np.testing.assert_allclose(view.inverse_depth, (0.05 + 0.45 * grey / 255) / 2, rtol=1e-5)
    before = view.image.copy()
    pipeline.process(grey_frame(0), None)
    np.testing.assert_array_equal(view.image, before)


def test_the_view_knows_nothing_beyond_the_rectified_image(pipeline: DepthPipeline) -> None:
    raw = PinholeCamera(64, 32, 40.0, 40.0, 31.5, 15.5, "plumb_bob", (-0.3, 0.1, 0.0, 0.0, 0.0))
    wider = Rectification(raw, PinholeCamera(64, 32, 20.0, 20.0, 31.5, 15.5))
    pipeline.process(grey_frame(100, 64, 32), wider)
    view, outside = pipeline.view(), wider.outside()
    assert outside is not None
    np.testing.assert_array_equal(np.isnan(view.inverse_depth), outside)
    assert (view.camera, view.is_rectified) == (wider.target, True)


def test_without_a_camera_the_prior_stands_in(pipeline: DepthPipeline) -> None:
    result = pipeline.process(grey_frame(0), None)
    assert result.intrinsics_source == "prior"
    assert (result.camera.width, result.camera.height) == (1242, 375)
    assert result.camera.fx == pytest.approx(0.58 * 1242)
    assert result.camera.fy == result.camera.fx  # square pixels, whatever the image's shape
    assert result.camera.cy == pytest.approx(0.46 * 375 - 0.5)
    assert result.depth == pytest.approx(20, rel=1e-5)


def test_a_camera_of_another_resolution_is_refused(pipeline: DepthPipeline) -> None:
    with pytest.raises(CameraError, match="camera_info is of 640x480 pixels, but the image has 1242x375"):
        pipeline.process(grey_frame(0), prior_camera(640, 480))


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_metric_depth_grows_with_the_focal_length(pipeline: DepthPipeline, zoom: float) -> None:
    # Twice the focal length shows an object as large as at half the distance: the network says half of the truth.
    result = pipeline.process(grey_frame(0), prior_camera(1242, 375, zoom))
    assert result.depth == pytest.approx(20 * zoom, rel=1e-5)


def test_depth_up_to_scale_ignores_the_focal_length(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    pipeline = pipeline_of(make_tiny_model(tmp_path / "relative.onnx", metric=False))
    result = pipeline.process(grey_frame(0), prior_camera(1242, 375, zoom=2))
    assert result.depth == pytest.approx(20, rel=1e-5)


def test_a_model_of_depth_gives_its_depth(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    pipeline = pipeline_of(make_tiny_model(tmp_path / "depth.onnx", output="depth", at_black=2.0, at_white=27.5))
    assert pipeline.process(grey_frame(51), None).depth == pytest.approx(2 + 25.5 * 51 / 255, rel=1e-5)


def test_a_picture_keeps_its_place(pipeline: DepthPipeline) -> None:
    """Registration: a white square in the image is a near square at the same pixels."""
    rgb = np.zeros((320, 640, 3), np.uint8)
    rgb[80:160, 320:480] = 255
    depth = pipeline.process(Frame(0, "", rgb), None).depth
    assert depth[90:150, 330:470] == pytest.approx(2, rel=1e-5)
    outside = depth.copy()
    outside[70:170, 310:490] = 20
    assert outside == pytest.approx(20, rel=1e-5)
    # The edge lies half-way between the two inverse depths.
    row = 1 / depth[120, 310:330]
    assert np.interp(0.275, row, np.arange(310, 330)) == pytest.approx(319.5, abs=0.51)


def test_results_are_the_caller_s_own(pipeline: DepthPipeline) -> None:
    first = pipeline.process(grey_frame(0), None).depth
    kept = first.copy()
    pipeline.process(grey_frame(255), None)
    assert np.array_equal(first, kept)


def test_stages_are_timed(pipeline: DepthPipeline) -> None:
    seconds = pipeline.process(grey_frame(0), None).seconds
    assert list(seconds) == ["resize", "inference", "depth", "sky"]
    assert all(value > 0 for value in seconds.values())


@pytest.mark.parametrize(
    ("resolution", "size"), [("image", (1242, 375)), ("half", (621, 187)), ("quarter", (310, 93)), ("model", (64, 32))]
)
def test_outputs_have_the_wanted_resolution(tiny_model_path: Path, resolution: str, size: tuple[int, int]) -> None:
    pipeline = pipeline_of(read_model(tiny_model_path))
    pipeline.options = DepthOptions(output_resolution=resolution)
    camera = prior_camera(1242, 375)
    result = pipeline.process(grey_frame(51), camera)
    width, height = size
    assert result.depth.shape == (height, width)
    assert result.frame.rgb.shape == (height, width, 3)
    assert (result.frame.rgb == 51).all()
    assert result.depth == pytest.approx(1 / (0.05 + 0.45 * 51 / 255), rel=1e-5)
    assert (result.camera.width, result.camera.height) == size
    assert result.camera.fx / width == pytest.approx(camera.fx / 1242)
    assert (result.camera.cx + 0.5) / width == pytest.approx((camera.cx + 0.5) / 1242)
    kept = result.frame.rgb.copy()
    pipeline.process(grey_frame(200), camera)
    assert np.array_equal(result.frame.rgb, kept)  # not the buffer of the next frame


def test_distorted_images_are_rectified(pipeline: DepthPipeline) -> None:
    """Depth of a step in the image is where the undistorted step is, and NaN where the camera saw nothing."""
    source = PinholeCamera(640, 320, 400.0, 400.0, 320.0, 160.0, "plumb_bob", (-0.2, 0.03, 0.0, 0.0))
    target = PinholeCamera(640, 320, 250.0, 250.0, 320.0, 160.0)
    image = np.zeros((320, 640, 3), np.uint8)
    image[:, 470:] = 255
    result = pipeline.process(Frame(0, "camera", image), Rectification(source, target))
    assert result.camera is target
    assert result.intrinsics_source == "camera_info"
    assert list(result.seconds) == ["rectify", "resize", "inference", "depth", "sky"]
    # On the middle row, the ray x of column 470: x (1 - 0.2 x^2 + 0.03 x^4) = (469.5 - 320) / 400, by bisection.
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        low, high = (x, high) if x * (1 - 0.2 * x**2 + 0.03 * x**4) < 149.5 / 400 else (low, x)
    edge = 320 + 250 * x
    row = result.depth[160] / (250 / 640 / PRIOR[0])  # a shorter focal length than the model's
    assert row[int(edge) - 20] == pytest.approx(20, rel=1e-4)
    assert row[int(edge) + 20] == pytest.approx(2, rel=1e-4)
    assert np.isnan(result.depth[0, 0])
    assert result.frame.rgb[160, int(edge) + 3].min() == 255
    assert result.frame.rgb[160, int(edge) - 3].max() == 0


def test_rectification_of_another_image_is_refused(pipeline: DepthPipeline) -> None:
    source = PinholeCamera(640, 320, 300.0, 300.0, 320.0, 160.0, "plumb_bob", (-0.2, 0.03, 0.0, 0.0))
    with pytest.raises(CameraError, match="640x320"):
        pipeline.process(grey_frame(0), Rectification(source, prior_camera(640, 320)))


def test_depth_without_confidence_is_invalid(tiny_model_path: Path) -> None:
    confidence = np.full((1, 32, 64), 0.9, np.float32)
    confidence[:, :, :32] = 0.3
    confidence[0, 0, -1] = np.nan

    class Unsure:
        name, device, precision = "unsure", "none", "fp32"

        def infer(self, image: NDArray[np.uint8]) -> Prediction:
            return Prediction(np.full((1, 32, 64), 0.1, np.float32), confidence)

        def close(self) -> None: ...

    pipeline = DepthPipeline(read_model(tiny_model_path), Unsure())
    result = pipeline.process(grey_frame(0, 64, 32), None)
    np.testing.assert_array_equal(result.confidence, confidence[0])
    assert np.isnan(result.depth[0, -1])
    assert np.isfinite(result.depth).sum() == 32 * 64 - 1
    pipeline.options = DepthOptions(min_confidence=0.5)
    depth = pipeline.process(grey_frame(0, 64, 32), None).depth
    assert np.isnan(depth[:, :32]).all()
    assert depth[1:, 32:] == pytest.approx(10, rel=1e-5)


def test_scale_from_the_camera_height(pipeline: DepthPipeline) -> None:
    """A road one unit below the camera, as the model sees it, is 1.5 m below a camera at that height."""
    camera = prior_camera(640, 320)
    below = np.arange(320) - camera.cy  # 1/z of the road is (v - cy) / fy
    grey = np.clip((below / camera.fy - 0.05) / 0.45 * 255, 0, 255)
    image = np.repeat(grey.round().astype(np.uint8)[:, None, None], 640, axis=1).repeat(3, axis=2)
    pipeline.options = DepthOptions(scale_mode="camera_height", camera_height=1.5)
    first = pipeline.process(Frame(0, "camera", image), camera)
    assert (first.scale.source, first.scale.factor) == ("unknown", 1.0)
    for _ in range(10):
        result = pipeline.process(Frame(0, "camera", image), camera)
    assert result.scale.source == "camera_height"
    assert result.scale.factor == pytest.approx(1.5, rel=0.02)
    np.testing.assert_allclose(result.depth, first.depth * result.scale.factor, rtol=1e-5)
    pipeline.options = DepthOptions(scale_mode="fixed", scale_factor=0.5)
    result = pipeline.process(Frame(0, "camera", image), camera)
    assert (result.scale.source, result.scale.factor) == ("fixed", 0.5)
    np.testing.assert_allclose(result.depth, first.depth * 0.5, rtol=1e-5)
    pipeline.options = DepthOptions()
    assert pipeline.process(Frame(0, "camera", image), camera).scale.source == "model"


def test_scale_of_a_model_that_is_not_metric_is_unknown(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    pipeline = pipeline_of(make_tiny_model(tmp_path / "relative.onnx", metric=False))
    assert pipeline.process(grey_frame(100), None).scale.source == "unknown"


def test_far_sky_is_invalid_and_a_near_one_is_a_wall(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    # White is far in this model: 50 m, or 5 m in the other.
    image = np.full((192, 640, 3), (60, 70, 60), np.uint8)
    image[:80] = (225, 235, 250)
    for distance, is_sky in ((50.0, True), (5.0, False)):
        model = make_tiny_model(tmp_path / f"{distance}.onnx", at_black=0.3, at_white=1 / distance)
        depth = pipeline_of(model).process(Frame(0, "camera", image), prior_camera(640, 192)).depth
        assert np.isnan(depth[:70]).all() == is_sky
        assert np.isnan(depth[:70]).any() == is_sky
        assert np.isfinite(depth[90:]).all()
        pipeline = pipeline_of(model)
        pipeline.options = DepthOptions(remove_sky=False)
        assert np.isfinite(pipeline.process(Frame(0, "camera", image), prior_camera(640, 192)).depth).all()


def test_warm_up_runs_the_model(tiny_model_path: Path) -> None:
    calls: list[tuple[int, ...]] = []

    class Counting:
        name, device, precision = "counting", "none", "fp32"

        def infer(self, image: NDArray[np.uint8]) -> Prediction:
            calls.append(image.shape)
            return Prediction(np.full((1, 32, 64), 0.1, np.float32), None)

        def close(self) -> None:
            raise AssertionError("warm_up leaves the model loaded")

    DepthPipeline(read_model(tiny_model_path), Counting()).warm_up()
    assert calls
    assert set(calls) == {(1, 32, 64, 3)}


def test_resizing_averages_areas_when_shrinking() -> None:
    # Stripes of one pixel vanish into grey; sampling without averaging would alias them.
    image = np.zeros((40, 160, 3), np.uint8)
    image[:, ::2] = 200
    small = np.empty((10, 40, 3), np.uint8)
    resize_image(image, small)
    assert np.array_equal(small, np.full_like(small, 100))


@given(
    width=st.integers(40, 700), height=st.integers(40, 500), out_width=st.integers(8, 80), out_height=st.integers(8, 80)
)
def test_resizing_keeps_everything_in_its_place(width: int, height: int, out_width: int, out_height: int) -> None:
    """A ramp stays the same ramp at x = (x' + 0.5) s - 0.5, also where the sizes do not divide."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    image = np.stack([x, y, x], axis=-1).round().astype(np.uint8)
    out = np.empty((out_height, out_width, 3), np.uint8)
    resize_image(image, out)
    columns = ((np.arange(out_width) + 0.5) * width / out_width - 0.5) * 200 / (width - 1)
    rows = ((np.arange(out_height) + 0.5) * height / out_height - 0.5) * 200 / (height - 1)
    inside = slice(1, -1)  # beyond the edges there is nothing to interpolate with
    np.testing.assert_allclose(out[1, inside, 0], columns[inside], atol=1.6)
    np.testing.assert_allclose(out[inside, 1, 1], rows[inside], atol=1.6)


def test_resizing_enlarges_linearly() -> None:
    image = np.repeat(np.array([[[0] * 3, [100] * 3]], np.uint8), 2, axis=0)
    large = np.empty((4, 4, 3), np.uint8)
    resize_image(image, large)
    assert large[0, :, 0].tolist() == [0, 25, 75, 100]  # x' = (x + 0.5) s - 0.5


def test_inverse_depth_is_what_is_interpolated() -> None:
    # A plane has inverse depth linear in the image: enlarged, it is the same plane at x = (x' + 0.5) / 4 - 0.5.
    inverse = np.tile(0.1 + 0.02 * np.arange(16, dtype=np.float32), (8, 1))
    depth = depth_from_output(inverse, SPEC, scale=1.0, width=64, height=32)
    x = (np.arange(64) + 0.5) / 4 - 0.5
    inside = slice(2, -2)
    assert depth[:, inside] == pytest.approx(np.tile(1 / (0.1 + 0.02 * x[inside]), (32, 1)), rel=1e-5)


@pytest.mark.parametrize("output", ["disparity", "depth"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -0.2, 1e-4, 1e4])
def test_an_invalid_pixel_is_nan_and_spoils_no_other(output: str, bad: float) -> None:
    spec = spec_with(output=output)
    values = np.full((32, 64), 0.5 if output == "disparity" else 2.0, np.float32)
    values[10, 20] = bad
    depth = depth_from_output(values, spec, scale=3.0, width=256, height=128)
    invalid = np.isnan(depth)
    assert depth[~invalid] == pytest.approx(6, rel=1e-5)
    # The pixel's own footprint, whole but for its corners, and nothing else.
    footprint = np.zeros_like(invalid)
    footprint[40:44, 80:84] = True
    assert not (invalid & ~footprint).any()
    assert invalid[41:43, 80:84].all()
    assert invalid[40:44, 81:83].all()


def test_an_invalid_half_keeps_the_valid_half() -> None:
    inverse = np.full((32, 64), 0.25, np.float32)
    inverse[:, 32:] = np.nan
    depth = depth_from_output(inverse, SPEC, scale=1.0, width=640, height=320)
    assert np.isnan(depth[:, 320:]).all()
    assert depth[:, :320] == pytest.approx(4, rel=1e-5)


def test_nothing_valid_gives_nothing_valid() -> None:
    depth = depth_from_output(np.full((32, 64), np.nan, np.float32), SPEC, scale=1.0, width=100, height=50)
    assert np.isnan(depth).all()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_saturated_network_is_at_the_end_of_its_range(scale: float) -> None:
    # bfloat16 rounds by up to 2^-9; what it makes of 1 / 100 m is the farthest that the network can say, not a fault.
    inverse = np.full((32, 64), 0.01 * (1 - 2**-9), np.float32)
    depth = depth_from_output(inverse, SPEC, scale=scale, width=64, height=32)
    assert depth == pytest.approx(100 * scale, rel=1e-5)


@given(
    hnp.arrays(np.float32, (6, 9), elements=st.floats(-1, 3, width=32) | st.just(np.float32(np.nan))),
    st.floats(0.25, 4),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_depth_is_in_range_or_nan(inverse: NDArray[np.float32], scale: float, width: int, height: int) -> None:
    depth = depth_from_output(inverse.copy(), SPEC, scale, width, height)
    assert depth.shape == (height, width)
    valid = depth[~np.isnan(depth)]
    assert (valid >= 0.5 * scale * (1 - 1e-5)).all()
    assert (valid <= 100 * scale * (1 + 1e-5)).all()


def test_depth_does_not_change_the_backend_s_output() -> None:
    inverse = np.full((32, 64), 0.25, np.float32)
    inverse[0, 0] = -1
    kept = inverse.copy()
    depth_from_output(inverse, SPEC, scale=2.0, width=64, height=32)
    assert np.array_equal(inverse, kept)


def test_focal_scale_is_the_ratio_of_normalised_focal_lengths() -> None:
    assert focal_scale(SPEC, PinholeCamera(200, 100, 58.0, 58.0, 100, 50)) == pytest.approx(0.5)
    assert focal_scale(spec_with(metric=False), PinholeCamera(200, 100, 58.0, 58.0, 100, 50)) == 1


def test_real_size_frames_need_little_time_outside_inference(pipeline: DepthPipeline) -> None:
    """A bound so loose that only a Python loop or a float64 detour breaks it; benchmarks have the real numbers."""
    rgb = cv2.resize(np.random.default_rng(0).integers(0, 256, (30, 100, 3), np.uint8), (1242, 375))
    runs = [pipeline.process(Frame(0, "", rgb), None).seconds for _ in range(10)]
    assert min(run["resize"] + run["depth"] for run in runs) < 0.02
