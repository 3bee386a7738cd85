"""Proxy depth on disk: which frames get it, where it lies, and who reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.camera import PinholeCamera
from depth_node.synthetic.street import CAMERA_HEIGHT
from training.data.depth_files import DepthPng
from training.data.proxy import ProxyOptions, consistent_flow, motion_depth, optical_flow, stereo_depth
from training.data.proxy_checks import has_texture
from training.data.proxy_files import proxy_file, with_proxy_depth, write_proxy_depth
from training.data.records import FrameRecord, StereoView, translation
from training.data.synthetic import DriveOptions, read_synthetic, write_street_drive
from training.errors import DataError

OPTIONS = ProxyOptions(relative_error=0.2)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[FrameRecord]:
    """Five posed frames, 0.8 m apart, without depth."""
    root = tmp_path_factory.mktemp("synthetic")
    write_street_drive(root / "street", 3, DriveOptions(width=160, height=64, frames=5, step=0.8))
    return [replace(record, depth=None) for record in read_synthetic(root)]


def read_gray(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image


def test_posed_video_is_triangulated_with_its_neighbours(records: list[FrameRecord], tmp_path: Path) -> None:
    assert write_proxy_depth(records, tmp_path, [-1, 1], OPTIONS, workers=2) == 3  # the ends lack a neighbour
    target, sources = records[2], [records[1], records[3]]
    assert target.intrinsics is not None
    K = PinholeCamera.from_normalized(target.intrinsics, 160, 64).matrix()
    poses = [np.linalg.inv(s.pose) @ target.pose for s in sources if s.pose is not None and target.pose is not None]
    here, there = read_gray(target.image), [read_gray(s.image) for s in sources]
    matches = [consistent_flow(optical_flow(here, g), optical_flow(g, here), OPTIONS) for g in there]
    expected = motion_depth(matches, K, poses, OPTIONS)
    got = DepthPng(tmp_path / "street" / "0000000002.png").read()
    kept = got > 0
    np.testing.assert_allclose(got[kept], expected[kept], atol=0.5 / 256 + 1e-5)
    assert kept.mean() > 0.1
    # What is gone has no texture, or cannot be where it seems to be.
    assert kept.sum() > 0.7 * (expected > 0).sum()
    assert not kept[~has_texture(here)].any()


def test_video_without_poses_is_triangulated_by_its_own_motion(tmp_path: Path) -> None:
    """Its scale comes from the camera's height over the road; the truth is the rendered depth."""
    write_street_drive(tmp_path / "drive" / "street", 4, DriveOptions(width=416, height=160, frames=6, step=0.8))
    unposed = [replace(record, pose=None) for record in read_synthetic(tmp_path / "drive")]
    assert write_proxy_depth(unposed, tmp_path / "proxy", [-2, -1, 1, 2], OPTIONS, 1) == 0  # of unknown scale
    written = write_proxy_depth(unposed, tmp_path / "proxy", [-2, -1, 1, 2], OPTIONS, 1, camera_height=CAMERA_HEIGHT)
    assert written == 6
    assert unposed[2].depth is not None
    truth, got = unposed[2].depth.read(), DepthPng(proxy_file(tmp_path / "proxy", unposed[2])).read()
    both = (got > 0) & (truth < 60)
    ratio = got[both] / truth[both]
    assert both.mean() > 0.2
    assert np.median(ratio) == pytest.approx(1.0, abs=0.08)  # six small frames say no more of the road
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.05


def test_a_stereo_partner_comes_before_neighbours(records: list[FrameRecord], tmp_path: Path) -> None:
    """The partner is to the right or to the left, as its pose says; here the neighbouring frame plays its part."""
    partner = records[3].image
    for shift, right_partner in ((-0.5, True), (0.5, False)):
        folder = tmp_path / str(right_partner)
        record = replace(records[2], stereo=StereoView(partner, translation(shift, 0, 0)))
        others = [r for r in records if r is not records[2]]
        assert write_proxy_depth([record, *others], folder, [-1, 1], OPTIONS, workers=1) >= 1
        assert record.intrinsics is not None
        focal_baseline = record.intrinsics[0] * 160 * 0.5
        images = (read_gray(record.image), read_gray(partner))
        expected = stereo_depth(*images, focal_baseline, OPTIONS, right_partner)
        np.testing.assert_allclose(DepthPng(proxy_file(folder, record)).read(), expected, atol=0.5 / 256 + 1e-5)


def test_a_stopped_run_goes_on(records: list[FrameRecord], tmp_path: Path) -> None:
    assert write_proxy_depth(records[:3], tmp_path, [-1, 1], OPTIONS, workers=1) == 1
    done = proxy_file(tmp_path, records[1])
    before = done.stat().st_mtime_ns
    assert write_proxy_depth(records, tmp_path, [-1, 1], OPTIONS, workers=1) == 2
    assert done.stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [f"{i:010d}.png" for i in (1, 2, 3)]


def test_frames_without_camera_poses_or_partner_get_none(records: list[FrameRecord], tmp_path: Path) -> None:
    for without in (
        [replace(r, intrinsics=None) for r in records],
        [replace(r, pose=None) for r in records],
        [replace(r, pose=None) if r.index % 2 else r for r in records],
    ):
        assert write_proxy_depth(without, tmp_path, [-1, 1], OPTIONS, workers=1) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_frame_is_named(records: list[FrameRecord], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    broken = replace(records[1], image=tmp_path / "broken.jpg")
    with pytest.raises(DataError, match=r"broken.jpg cannot be decoded"):
        write_proxy_depth([records[0], broken, records[2]], tmp_path, [-1, 1], OPTIONS, workers=1)


def test_proxies_fill_the_frames_without_depth(records: list[FrameRecord], tmp_path: Path) -> None:
    for record in records[:3]:
        path = proxy_file(tmp_path, record)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    measured = DepthPng(tmp_path / "measured.png")
    mixed = [records[0], replace(records[1], depth=measured), records[2], records[3]]
    proxies = [DepthPng(proxy_file(tmp_path, record)) for record in records]
    filled = with_proxy_depth(mixed, tmp_path, prefer_proxy=False)
    assert [r.depth for r in filled] == [proxies[0], measured, proxies[2], None]
    preferred = with_proxy_depth(mixed, tmp_path, prefer_proxy=True)
    assert [r.depth for r in preferred] == [*proxies[:3], None]
    assert [r.image for r in preferred] == [r.image for r in mixed]


def test_a_folder_without_proxies_is_refused(records: list[FrameRecord], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no proxy depth for these frames.*training proxy_depth"):
        with_proxy_depth(records, tmp_path, prefer_proxy=False)
