"""How near does the estimator of intrinsics come to the true focal length, how honest is it, and what does it cost?

Synthetic worlds with exact depth and with errors like a network's; KITTI drives, and crops of them, which are other
cameras, with the network's depth; a handheld camera with measured depth. Recordings are those of shared/data beside the
repository, and are left out where it is not there.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processor time is compared; the matrices are small

import cv2
import matplotlib
import numpy as np
from common import OUTPUT, report
from intrinsics_runs import NORMAL_95, Run, Sample, estimate
from intrinsics_synthetic import LENS_RUNS, lens_rows, rolling_rows, synthetic_rows

from depth_node.backends import create_backend
from depth_node.camera import PinholeCamera, backproject
from depth_node.model import read_model
from depth_node.pipeline import resize_image
from depth_node.sky import SKY_MIN_DEPTH, sky_mask

matplotlib.use("Agg")
import matplotlib.pyplot as plt

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
# Crops x, y, width, height of KITTI's images: other focal lengths, shapes and principal points.
CROPS = {
    "as recorded": None,
    "zoom 1.33": (155, 47, 932, 281),
    "narrow": (310, 0, 621, 375),
    "top left": (0, 0, 1000, 340),
}


class NetworkDepth:
    """Images of files at the network's input size, with its depth."""

    def __init__(self, model: Path) -> None:
        self._spec = read_model(model).spec
        self._backend = create_backend(read_model(model))

    def samples(
        self, files: Sequence[Path], crop: tuple[int, int, int, int] | None, rate: float = 10.0
    ) -> Iterator[Sample]:
        """Images of files, or a crop of them: x, y, width, height."""
        size = self._spec.input_height, self._spec.input_width
        for number, file in enumerate(files):
            image = np.ascontiguousarray(cv2.imread(str(file))[:, :, ::-1])
            if crop is not None:
                x, y, width, height = crop
                image = np.ascontiguousarray(image[y : y + height, x : x + width])
            resized = np.empty((*size, 3), np.uint8)
            resize_image(image, resized)
            inverse = self._backend.infer(resized[None]).output[0]
            sky = sky_mask(resized, (1 / inverse).astype(np.float32), SKY_MIN_DEPTH).view(np.uint8)
            inverse[cv2.resize(sky, size[::-1], interpolation=cv2.INTER_NEAREST).view(bool)] = np.nan
            yield Sample(resized, inverse, round(number * 1e9 / rate))


def kitti(drive: str, scale: float = 1.0) -> tuple[list[Path], PinholeCamera]:
    """Files and camera of a drive of 2011_09_26, whose images are stored at `scale`."""
    folder = SHARED / "kitti_raw" / "2011_09_26" / f"2011_09_26_drive_{drive}_sync"
    files = sorted((folder / ("image_02" if scale == 1 else "image_00")).rglob("*.jpg"))
    camera = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854)
    return files, camera if scale == 1 else camera.resized(round(1242 * scale), round(375 * scale))


def tum() -> Iterator[Sample]:
    """The handheld Kinect: undistorted images and measured depth. Its camera is `TUM_CAMERA`."""
    folder = SHARED / "tum_fr1_rpy"
    matrix = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1.0]])
    distortion = np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])
    size = TUM_CAMERA.width, TUM_CAMERA.height
    maps = cv2.initUndistortRectifyMap(matrix, distortion, np.eye(3), TUM_CAMERA.matrix(), size, cv2.CV_32FC1)
    for line in (folder / "associations.txt").read_text().splitlines():
        stamp, image_name, _, depth_name = line.split()
        image = cv2.remap(cv2.imread(str(folder / image_name))[:, :, ::-1], *maps, cv2.INTER_LINEAR)
        depth = cv2.remap(cv2.imread(str(folder / depth_name), cv2.IMREAD_UNCHANGED), *maps, cv2.INTER_NEAREST)
        with np.errstate(divide="ignore"):
            inverse = np.where(depth > 0, 5000 / depth.astype(np.float32), np.nan).astype(np.float32)
        yield Sample(np.ascontiguousarray(image), inverse, round(float(stamp) * 1e9))


TUM_CAMERA = PinholeCamera(640, 480, 517.3, 517.3, 319.5, 239.5)


def real_rows(model: Path) -> tuple[list[dict[str, Any]], list[Run], Sample]:
    """Rows, the two runs of the drive of 268 images, and its last image."""
    network = NetworkDepth(model)
    files, camera = kitti("0095")
    rows, whole, last = [], [], None
    for name, crop in CROPS.items():
        view = camera if crop is None else camera.cropped(*crop)
        samples = list(network.samples(files, crop))
        for start in (1.3, 0.7):
            run = estimate(iter(samples), view, start)
            rows.append(run.row(f"KITTI 0095, {name}", start))
            if crop is None:
                whole.append(run)
                last = samples[-1]
    files, camera = kitti("0039", 2 / 3)
    straight = network.samples(files[45:136], None)
    for name, samples_of in (("0039", network.samples(files, None)), ("0039, 91 images nearly straight", straight)):
        rows.append(estimate(samples_of, camera, 1.3).row(f"KITTI {name}", 1.3))
    files, camera = kitti("9001")
    rows.append(estimate(network.samples(files, None), camera, 1.3).row("KITTI 9001, 78 images, queueing", 1.3))
    for start in (1.3, 0.7):
        rows.append(estimate(tum(), TUM_CAMERA, start).row("TUM fr1/rpy, handheld, measured depth", start))
    assert last is not None
    return rows, whole, last


def plot_runs(runs: Sequence[Run], path: Path) -> None:
    """f over time with its band; rotation per window below it."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6), sharex=True, height_ratios=(3, 1))
    for run in runs:
        seconds = (np.array(run.stamps_ns) - run.stamps_ns[0]) * 1e-9
        focal_length = np.array([estimate.intrinsics[0] for estimate in run.estimates]) * run.camera.width
        sigma = np.array([estimate.relative_sigma for estimate in run.estimates])
        (line,) = above.plot(seconds, focal_length)
        band = focal_length * np.exp(-NORMAL_95 * sigma), focal_length * np.exp(NORMAL_95 * sigma)
        above.fill_between(seconds, *band, alpha=0.2, color=line.get_color())
        turned = np.degrees(np.diff([estimate.rotation for estimate in run.estimates], prepend=0))
        below.bar(seconds, turned, width=0.3, color=line.get_color(), alpha=0.5)
    above.axhline(runs[0].camera.fx, color="black", linewidth=1, label="calibration")
    above.set_ylabel("focal length and 95 %, pixels")
    above.set_ylim(0.6 * runs[0].camera.fx, 1.5 * runs[0].camera.fx)
    above.legend()
    below.set_ylabel("rotation per\nwindow, degrees")
    below.set_xlabel("seconds")
    _save(figure, path)


def plot_clouds(run: Run, sample: Sample, path: Path) -> None:
    """The last image's points from above, with the camera as at the start, at the end, and the true one."""
    height, width = sample.inverse_depth.shape
    depth = 1 / sample.inverse_depth
    rows = slice(height // 2, None, 2)
    figure, axes = plt.subplots(1, 3, figsize=(12, 5), sharex=True, sharey=True)
    cameras = {
        "at the start": run.estimates[0].intrinsics,
        "learned": run.estimates[-1].intrinsics,
        "calibration": run.camera.normalized(),
    }
    true_fx = run.camera.normalized()[0]
    for axis, (name, intrinsics) in zip(axes, cameras.items(), strict=True):
        # A metric network's depth grows with the focal length (docs/architecture.md).
        scaled = (depth * (intrinsics[0] / true_fx)).astype(np.float32)
        points = backproject(scaled, PinholeCamera.from_normalized(intrinsics, width, height))[rows, ::2].reshape(-1, 3)
        color = sample.image[rows, ::2].reshape(-1, 3) / 255
        axis.scatter(points[:, 0], points[:, 2], s=0.5, c=color)
        axis.set_facecolor("#7d8794")  # roads are bright
        axis.set_title(f"{name}: f = {intrinsics[0] * run.camera.width:.0f} pixels")
        axis.set_xlabel("x, metres")
    axes[0].set_ylabel("z, metres")
    axes[0].set_xlim(-15, 15)
    axes[0].set_ylim(0, 40)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="synthetic streams; 0 leaves them out")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "depth-base.onnx")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.runs:
        report("intrinsics_synthetic", synthetic_rows(options.runs), runs=options.runs)
        report("intrinsics_lenses", lens_rows(options.runs), runs=min(options.runs, LENS_RUNS))
        report("intrinsics_rolling", rolling_rows(options.runs), runs=min(options.runs, LENS_RUNS))
    if not SHARED.is_dir():
        print(f"{SHARED} is not there: no recorded streams")
        return
    rows, whole, last = real_rows(options.model)
    report("intrinsics", rows, model=options.model.name)
    plot_runs(whole, OUTPUT / "intrinsics.png")
    plot_clouds(whole[0], last, OUTPUT / "intrinsics_cloud.png")


if __name__ == "__main__":
    main()
