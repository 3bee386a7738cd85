"""Which source of scale is taken when, and why."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.backends import create_backend
from depth_node.camera import PinholeCamera
from depth_node.frames import Frame
from depth_node.model import read_model
from depth_node.pipeline import DepthOptions, DepthPipeline
from depth_node.scale import (
    AutoScale,
    CameraHeightScale,
    ScaleEstimate,
    VisualOdometryScale,
    create_scale_source,
    model_scale,
    unknown_scale,
)
from depth_node.scale.auto import MAX_SIGMA
from depth_node.scale.filter import NETWORK_SIGMA

MODEL = Path(__file__).resolve().parents[3] / "models" / "depth-base.onnx"
CAMERA = PinholeCamera(160, 120, 130.0, 130.0, 80.0, 58.0)
DEPTH = np.ones((120, 160), np.float32)
HEIGHT = 1.5


class FakeHeight(CameraHeightScale):
    """Says what it is told."""

    def __init__(self, estimate: ScaleEstimate) -> None:
        super().__init__(HEIGHT)
        self.estimate = estimate

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        return self.estimate


def auto(
    odometry: ScaleEstimate, height: ScaleEstimate | None = None, is_metric: bool = True
) -> tuple[AutoScale, VisualOdometryScale, FakeHeight | None]:
    moving = VisualOdometryScale()
    moving.estimate = odometry
    fake = None if height is None else FakeHeight(height)
    return AutoScale(model_scale(is_metric), moving, fake), moving, fake


def odometry(factor: float = 1.3, sigma: float = 0.1) -> ScaleEstimate:
    return ScaleEstimate(factor, "odometry", sigma, "31 pairs of images against odometry")


def height(factor: float = 1.4, sigma: float = 0.1) -> ScaleEstimate:
    return ScaleEstimate(factor, "camera_height", sigma, "ground in 30 of 31 frames")


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ((unknown_scale("no odometry"), None), "model"),
        ((odometry(), None), "odometry"),
        ((odometry(sigma=MAX_SIGMA + 0.01), None), "model"),
        ((odometry(sigma=math.nan), None), "model"),
        ((odometry(), unknown_scale("no ground")), "odometry"),
        ((unknown_scale("no odometry"), height()), "camera_height"),
        ((unknown_scale("no odometry"), height(sigma=math.nan)), "model"),
        ((odometry(sigma=0.1), height(sigma=0.15)), "odometry"),
        ((odometry(sigma=0.15), height(sigma=0.1)), "camera_height"),
    ],
)
def test_the_surest_that_is_trusted(says: tuple[ScaleEstimate, ScaleEstimate | None], expected: str) -> None:
    source, _, _ = auto(*says)
    estimate = source.update(DEPTH, CAMERA)
    assert estimate.source == expected
    assert estimate.factor == {"model": 1.0, "odometry": 1.3, "camera_height": 1.4}[expected]
    assert not estimate.warning


def test_unknown_with_all_reasons_where_nothing_is_trusted() -> None:
    source, _, _ = auto(unknown_scale("no odometry"), height(sigma=math.nan), is_metric=False)
    estimate = source.update(DEPTH, CAMERA)
    assert not estimate.is_known
    assert estimate.factor == 1.0
    assert estimate.reason == (
        "the model knows no scale; no odometry; camera_height is not trusted: ground in 30 of 31 frames"
    )


def test_a_source_in_use_is_left_only_for_one_that_is_clearly_surer() -> None:
    source, moving, fake = auto(odometry(sigma=0.10), height(sigma=0.12))
    assert fake is not None
    taken = []
    for sigma in (0.12, 0.099, 0.085, 0.079, 0.099, 0.12):
        fake.estimate = height(sigma=sigma)
        taken.append(source.update(DEPTH, CAMERA).source)
    assert taken == ["odometry"] * 3 + ["camera_height"] * 3
    fake.estimate = height(sigma=math.nan)
    assert source.update(DEPTH, CAMERA).source == "odometry"
    moving.estimate = unknown_scale("no odometry")
    assert source.update(DEPTH, CAMERA).source == "model"


def test_the_other_source_is_named_and_a_contradiction_is_a_warning() -> None:
    source, _, fake = auto(odometry(factor=1.0, sigma=0.1), height(factor=1.2, sigma=0.12))
    assert fake is not None
    estimate = source.update(DEPTH, CAMERA)
    assert estimate.reason.endswith("camera_height says 1.200 with a sigma of 12%")
    assert not estimate.warning
    fake.estimate = height(factor=1.7, sigma=0.12)  # log 1.7 is 0.53, 3.4 standard deviations
    estimate = source.update(DEPTH, CAMERA)
    assert estimate.source == "odometry"
    assert estimate.warning == (
        "camera_height says 1.700 with a sigma of 12%, but odometry says 1.000 with a sigma of 10%"
    )


def test_height_is_asked_only_where_it_is_known() -> None:
    moving = VisualOdometryScale()
    assert create_scale_source("odometry", moving, metric=True) is moving
    without = create_scale_source("auto", moving, metric=True, camera_height=0.0)
    assert without.update(DEPTH, CAMERA).reason == "the model is metric; no odometry"
    known = create_scale_source("auto", moving, metric=True, camera_height=HEIGHT)
    assert "no ground" in known.update(DEPTH, CAMERA).reason


def floor(pitch: float) -> NDArray[np.float32]:
    """Depth of a floor HEIGHT below a camera that looks down by `pitch`, before a wall at 12 m."""
    rays = CAMERA.rays()
    slope = rays[..., 1] * math.cos(pitch) + math.sin(pitch)
    with np.errstate(divide="ignore"):
        return np.minimum(np.where(slope > 0, HEIGHT / slope, np.inf), 12.0).astype(np.float32)


def test_a_steady_ground_is_trusted() -> None:
    source = CameraHeightScale(2 * HEIGHT)
    estimates = [source.update(floor(0.3), CAMERA) for _ in range(12)]
    assert [math.isnan(e.relative_sigma) for e in estimates] == [True] * 9 + [False] * 3
    assert estimates[-1].factor == pytest.approx(2.0, rel=0.01)
    assert estimates[-1].relative_sigma == pytest.approx(NETWORK_SIGMA, abs=0.005)
    wall = np.full_like(DEPTH, 5.0)
    held = [source.update(wall, CAMERA) for _ in range(60)]
    assert {e.relative_sigma for e in held} == {estimates[-1].relative_sigma}


def test_a_ground_that_tumbles_is_not_trusted_any_more() -> None:
    source = CameraHeightScale(HEIGHT)
    for _ in range(12):
        steady = source.update(floor(0.3), CAMERA)
    assert steady.relative_sigma < 0.1
    assert not steady.warning
    for number in range(31):
        tumbling = source.update(floor(0.3 + 0.25 * math.sin(2.0 * number)), CAMERA)
    assert tumbling.is_known
    assert math.isnan(tumbling.relative_sigma)
    assert tumbling.warning.startswith("scale from a plane that may be no ground: ground in 31 of 31 frames, its tilt")


def test_a_ground_that_comes_and_goes_is_not_trusted() -> None:
    source, wall = CameraHeightScale(HEIGHT), np.full_like(DEPTH, 5.0)
    for number in range(93):
        estimate = source.update(floor(0.3) if number % 3 == 0 else wall, CAMERA)
    assert estimate.is_known
    assert math.isnan(estimate.relative_sigma)
    assert "may be no ground" in estimate.warning


def test_furniture_is_never_taken_for_ground(shared_data: Path) -> None:
    """A camera held by hand over a desk, and a model that knows roads: there are planes, and they mean nothing."""
    model = read_model(MODEL)
    pipeline = DepthPipeline(model, create_backend(model, precision="fp32"), DepthOptions(output_resolution="model"))
    pipeline.options = DepthOptions(output_resolution="model", scale_mode="auto", camera_height=1.3)
    camera = PinholeCamera(640, 480, 517.3, 516.5, 318.6, 255.3)
    sources: list[str] = []
    for path in sorted((shared_data / "tum_fr1_rpy" / "rgb").iterdir()):
        bgr = cv2.imread(str(path))
        assert bgr is not None
        rgb: NDArray[np.uint8] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
        result = pipeline.process(Frame(len(sources), "camera", rgb), camera)
        sources.append(result.scale.source)
    assert "ground" in result.scale.reason  # it was looked for
    assert set(sources) == {"model"}
