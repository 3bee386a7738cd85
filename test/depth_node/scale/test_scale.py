"""Ground planes against closed forms and synthetic streets; the scale that follows from them, over time."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_node.backends import create_backend
from depth_node.camera import PinholeCamera, backproject
from depth_node.frames import Frame
from depth_node.model import read_model
from depth_node.pipeline import DepthOptions, DepthPipeline
from depth_node.scale import (
    CameraHeightScale,
    ScaleFilter,
    VisualOdometryScale,
    create_scale_source,
    ground_plane,
)
from depth_node.scale.filter import NETWORK_SIGMA
from depth_node.synthetic import SyntheticFrame, street_drive, street_world
from depth_node.synthetic.street import CAMERA_HEIGHT

MODEL = Path(__file__).resolve().parents[3] / "models" / "depth-base.onnx"
CAMERA = PinholeCamera(320, 96, 186.0, 186.0, 157.0, 44.0)
SQUARE = PinholeCamera(160, 120, 130.0, 130.0, 80.0, 58.0)


def upward(pitch: float, roll: float) -> NDArray[np.float64]:
    """The world's upward direction in the optical frame of a camera pitched down and rolled, radians."""
    return np.array(
        [-math.sin(roll) * math.cos(pitch), -math.cos(roll) * math.cos(pitch), -math.sin(pitch)], np.float64
    )


def plane_depth(camera: PinholeCamera, up: NDArray[np.float64], height: float, wall: float) -> NDArray[np.float32]:
    """Closed form: z = -height / (up . ray) below the horizon, before a wall at z = wall."""
    rays = np.concatenate([camera.rays(), np.ones((camera.height, camera.width, 1))], axis=-1)
    slope = rays @ -up
    with np.errstate(divide="ignore", over="ignore"):
        depth = np.where(slope > 0, height / slope, np.inf)
    return np.minimum(depth, wall).astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NDArray[np.float32]:
    """Multiplicative noise as a network's: lognormal, correlated over an eighth of the image."""
    noise = cv2.resize(rng.normal(size=(8, 12)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    factors: NDArray[np.float32] = np.exp(sigma * noise / noise.std()).astype(np.float32)
    return factors


@pytest.fixture(scope="module")
def drives() -> list[list[SyntheticFrame]]:
    """Ten frames along each of four streets, 10 m apart."""
    return [list(street_drive(street_world(seed), CAMERA, 10, speed=100.0, start=20.0)) for seed in (1, 2, 3, 4)]


@settings(max_examples=60)
@given(
    pitch=st.floats(-0.05, 0.5),
    roll=st.floats(-0.3, 0.3),
    height=st.floats(0.05, 30),
    camera=st.sampled_from([CAMERA, SQUARE]),
)
def test_a_plane_is_found(pitch: float, roll: float, height: float, camera: PinholeCamera) -> None:
    """Within what the foot of the wall at its end adds."""
    up = upward(pitch, roll)
    plane = ground_plane(plane_depth(camera, up, height, wall=60 * height), camera)
    assert plane is not None
    assert plane.height == pytest.approx(height, rel=0.01)
    assert plane.normal == pytest.approx(up, abs=3e-3)
    assert np.linalg.norm(plane.normal) == pytest.approx(1)
    assert plane.spread < 0.01


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), pitch=st.floats(0.0, 0.25), roll=st.floats(-0.1, 0.1))
def test_noise_holes_and_obstacles_hardly_matter(seed: int, pitch: float, roll: float) -> None:
    """White noise of 5 %, a fifth of the pixels invalid, boxes over a third of the lower half."""
    rng = np.random.default_rng(seed)
    up, height = upward(pitch, roll), 1.5
    depth = plane_depth(SQUARE, up, height, wall=40)
    for _ in range(3):
        x, y = rng.integers(0, 130), rng.integers(20, 70)
        box = depth[y : y + 35, x : x + 30]
        box[:] = np.minimum(box, box[-1].min())
    depth *= np.exp(0.05 * rng.normal(size=depth.shape)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = np.nan
    plane = ground_plane(depth, SQUARE)
    assert plane is not None
    assert plane.height == pytest.approx(height, rel=0.06)
    assert math.acos(min(1.0, float(plane.normal @ up))) < math.radians(3)
    assert 0.02 < plane.spread < 0.08


@pytest.mark.parametrize("factor", [1e-3, 0.3, 1e3])
def test_height_is_in_the_unit_of_depth(drives: list[list[SyntheticFrame]], factor: float) -> None:
    depth = drives[2][0].depth
    metric, other = ground_plane(depth, CAMERA), ground_plane(np.float32(factor) * depth, CAMERA)
    assert metric is not None
    assert other is not None
    assert other.height == pytest.approx(factor * metric.height, rel=1e-3)
    assert other.inlier_share == pytest.approx(metric.inlier_share, abs=0.01)


def test_lens_distortion_is_undone() -> None:
    camera = PinholeCamera(160, 120, 90.0, 90.0, 80.0, 58.0, "plumb_bob", (-0.2, 0.03, 0.0, 0.0, 0.0))
    up = upward(0.2, 0.05)
    plane = ground_plane(plane_depth(camera, up, 0.8, wall=30), camera)
    assert plane is not None
    assert plane.height == pytest.approx(0.8, rel=1e-3)
    assert plane.normal == pytest.approx(up, abs=1e-3)


def side_wall(camera: PinholeCamera) -> NDArray[np.float32]:
    """A wall to the right, x = 2, which ends the view everywhere else at 30."""
    x = camera.rays()[..., 0]
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(x > 0, np.minimum(2 / x, 30), 30).astype(np.float32)


@pytest.mark.parametrize(
    "depth",
    [
        pytest.param(np.full((120, 160), 5.0, np.float32), id="wall ahead"),
        pytest.param(side_wall(SQUARE), id="wall beside"),
        pytest.param(np.full((120, 160), np.nan, np.float32), id="nothing valid"),
        pytest.param(np.zeros((120, 160), np.float32), id="zero"),
        pytest.param(np.random.default_rng(0).uniform(1, 50, (120, 160)).astype(np.float32), id="noise"),
        pytest.param(plane_depth(SQUARE, upward(1.2, 0.0), 2.0, wall=30), id="camera looks down"),
        pytest.param(plane_depth(SQUARE, upward(0.1, 0.6), 2.0, wall=30), id="embankment"),
    ],
)
def test_what_is_no_ground_gives_none(depth: NDArray[np.float32]) -> None:
    assert ground_plane(depth, SQUARE) is None


def test_few_points_of_a_plane_give_none() -> None:
    depth = plane_depth(SQUARE, upward(0.2, 0.0), 1.0, wall=30)
    depth[:110] = np.nan
    depth[:, 30:] = np.nan
    assert ground_plane(depth, SQUARE) is None


def test_a_table_is_no_ground_when_the_floor_is_seen_below_it() -> None:
    floor = plane_depth(SQUARE, upward(0.3, 0.0), 1.5, wall=20)
    table = plane_depth(SQUARE, upward(0.3, 0.0), 0.5, wall=20)
    depth = floor.copy()
    depth[70:, 20:120] = table[70:, 20:120]
    plane = ground_plane(depth, SQUARE)
    assert plane is None or plane.height == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("factor", [1.0, 0.1, 37.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_scale_of_streets_from_the_camera_height(
    drives: list[list[SyntheticFrame]], factor: float, noise: float
) -> None:
    """Exact depth, and depth with smooth errors of 10 %; in metres and in other units."""
    rng = np.random.default_rng(0)
    errors = []
    for drive in drives:
        scale = CameraHeightScale(CAMERA_HEIGHT)
        for frame in drive:
            depth = frame.depth * smooth_noise(rng, frame.depth.shape, noise) / np.float32(factor)
            estimate = scale.update(depth, CAMERA)
            plane = ground_plane(depth, CAMERA)
            errors.append(np.nan if plane is None else abs(CAMERA_HEIGHT / plane.height / factor - 1))
        assert estimate.source == "camera_height"
        assert estimate.factor == pytest.approx(factor, rel=0.06 if noise else 0.02)
        assert not estimate.relative_sigma > (0.17 if noise else 0.09)  # NaN if too few frames have shown the ground
        assert noise or estimate.relative_sigma >= NETWORK_SIGMA
    assert np.isfinite(errors).mean() > (0.6 if noise else 0.95)
    assert np.nanmedian(errors) < (0.05 if noise else 0.01)


def test_unknown_until_there_is_enough_then_held_without_ground() -> None:
    ground = plane_depth(CAMERA, upward(0.02, 0.0), 2.0, wall=50)
    wall = np.full_like(ground, 5)
    scale = CameraHeightScale(1.0)
    estimates = [scale.update(ground, CAMERA) for _ in range(5)]
    assert [(e.source, e.factor, e.is_known) for e in estimates[:4]] == [("unknown", 1.0, False)] * 4
    assert estimates[4].source == "camera_height"
    assert estimates[4].factor == pytest.approx(0.5, rel=1e-3)
    held = [scale.update(wall, CAMERA) for _ in range(50)]
    assert {(estimate.source, estimate.factor) for estimate in held} == {("camera_height", estimates[4].factor)}


def test_filter_takes_the_median_in_ratios() -> None:
    scale = ScaleFilter(window=5, enough=3)
    for factor in (2.0, 2.2, 1.9, 2.0 * 1.25, 2.0 / 1.25):
        scale.add(factor)
    assert scale.factor == pytest.approx(2.0)
    deviations = sorted(abs(math.log(factor / 2.0)) for factor in (2.0, 2.2, 1.9, 2.5, 1.6))
    assert scale.spread == pytest.approx(1.4826 * deviations[2])


def test_filter_sets_jumps_aside_and_follows_a_lasting_one() -> None:
    scale = ScaleFilter(window=20, enough=4)
    for _ in range(20):
        scale.add(1.0)
    for factor in (3.0, 3.0, 3.0, 1.0, 3.0, 3.0, 3.0, 1.0):
        scale.add(factor)
        assert scale.factor == 1.0
    for _ in range(4):
        scale.add(3.0)
    assert scale.factor == pytest.approx(3.0)


def test_filter_follows_slow_change() -> None:
    scale = ScaleFilter(window=11, enough=3)
    for step in range(200):
        scale.add(1.01**step)
    assert scale.factor == pytest.approx(1.01 ** (199 - 5))


def test_modes_without_frames() -> None:
    depth = np.ones((CAMERA.height, CAMERA.width), np.float32)
    odometry = VisualOdometryScale()
    metric = create_scale_source("model", odometry, metric=True).update(depth, CAMERA)
    assert (metric.factor, metric.source) == (1.0, "model")
    assert create_scale_source("model", odometry, metric=False).update(depth, CAMERA).source == "unknown"
    fixed = create_scale_source("fixed", odometry, metric=False, factor=2.5).update(depth, CAMERA)
    assert (fixed.factor, fixed.source, fixed.relative_sigma) == (2.5, "fixed", 0.0)


def test_fit_explains_the_points_of_real_depth(shared_data: Path) -> None:
    """KITTI's camera is 1.65 m above the road; the shipped model is metric, so the factor is near 1 on its road."""
    model = read_model(MODEL)
    pipeline = DepthPipeline(model, create_backend(model, precision="fp32"), DepthOptions(remove_sky=False))
    drive = shared_data / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0095_sync" / "image_02" / "data"
    scale = CameraHeightScale(1.65)
    for path in sorted(drive.iterdir())[:60:5]:
        image = cv2.imread(str(path))
        assert image is not None
        rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
        height, width = rgb.shape[:2]
        camera = PinholeCamera(width, height, 721.5377, 721.5377, 609.5593, 172.854)
        depth = pipeline.process(Frame(0, "", rgb), camera).depth
        estimate = scale.update(depth, camera)
        plane = ground_plane(depth, camera)
        if plane is not None:
            distance = np.abs(backproject(depth, camera) @ plane.normal / plane.height + 1)
            assert np.mean(distance < 0.12) == pytest.approx(plane.inlier_share, abs=0.05)
    assert estimate.source == "camera_height"
    assert estimate.factor == pytest.approx(1.0, rel=0.15)
