"""Synthetic streams for the estimator of intrinsics: exact truth, several cameras and motions, lenses that distort,
and rolling shutters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from intrinsics_runs import Run, Sample, estimate
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, distort_rays, undistort_pixels
from depth_node.synthetic import SyntheticFrame, handheld_walk, junction_drive, street_drive, street_world

# fx/W and the image's size; 320 pixels or so are half of what the network sees, and a quarter of the time to render.
SYNTHETIC_CAMERAS = ((0.4, 320, 160), (0.58, 384, 128), (0.8, 320, 192), (1.1, 256, 192), (1.5, 320, 160))
# Of every three streams, two are handheld; the third is a vehicle, once at a junction and once in bends.
MOTIONS = ("handheld", "vehicle at a junction", "vehicle in gentle bends, never pitching")
LONG = "vehicle in gentle bends, 20 s"
LONG_RUNS = 8
WRONG = "depth off by 14 %"
LENSES = (0.03, -0.03, -0.1, -0.2)
LENS_RUNS = 12
READOUT = 0.025  # seconds, of a rolling shutter; phones and web cameras have 10 to 35 ms


def synthetic_stream(motion: str, seed: int, readout: float = 0.0) -> tuple[PinholeCamera, list[SyntheticFrame]]:
    """A short stream of one of `MOTIONS`, `LONG`, or one of pure translation, by one of `SYNTHETIC_CAMERAS`.

    readout: of a rolling shutter, handheld or at a junction, in seconds.
    """
    fx, width, height = SYNTHETIC_CAMERAS[seed % len(SYNTHETIC_CAMERAS)]
    camera = PinholeCamera(width, height, fx * width, fx * width, width / 2 - 0.5, height / 2 - 0.5)
    if motion == "vehicle at a junction":
        return camera, list(junction_drive(camera, 80, seed=seed, readout=readout))
    world = street_world(seed)
    if motion == "vehicle in gentle bends, never pitching":
        return camera, list(street_drive(world, camera, 40, speed=8.0, start=10.0))
    if motion == LONG:
        return camera, list(street_drive(world, camera, 200, speed=8.0, start=10.0))
    turning, speed = (1.0, 0.8) if motion == "handheld" else (0.0, 6.0)
    walk = handheld_walk(world, camera, 26, seed=seed, turning=turning, speed=speed, readout=readout)
    return camera, list(walk)


def synthetic_run(camera: PinholeCamera, frames: Sequence[SyntheticFrame], seed: int, noise: float) -> Run:
    """A start up to 30 % off. noise: of depth, relative; of what stays the same, and again of what is new each time."""
    rng = np.random.default_rng(seed)
    start = float(np.exp(rng.uniform(np.log(0.7), np.log(1.3))))
    size = camera.width, camera.height
    bias = cv2.resize(rng.normal(0, noise, (3, 4)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)

    def samples() -> Iterator[Sample]:
        for frame in frames:
            fresh = rng.normal(0, noise, (camera.height // 16, camera.width // 16)).astype(np.float32)
            errors = bias + cv2.resize(fresh, size, interpolation=cv2.INTER_CUBIC)
            yield Sample(frame.rgb, (np.exp(errors) / frame.depth).astype(np.float32), frame.stamp_ns)

    return estimate(samples(), camera, start)


def synthetic_rows(runs: int) -> list[dict[str, Any]]:
    rows = []
    for motion in (*MOTIONS, LONG):
        exact, wrong = [], []
        of_vehicles = range(0, runs, 3)
        seeds = [seed for seed in range(runs) if seed not in of_vehicles] if motion == "handheld" else of_vehicles
        for seed in seeds[:LONG_RUNS] if motion == LONG else seeds:
            camera, frames = synthetic_stream(motion, seed)
            exact.append(synthetic_run(camera, frames, seed, noise=0.0))
            wrong.append(synthetic_run(camera, frames, seed, noise=0.1))
        rows += [_summary(f"{motion}, {name}", done) for name, done in (("true depth", exact), (WRONG, wrong)) if done]
    still = [synthetic_run(*synthetic_stream("", seed), seed, noise=0.0) for seed in range(max(1, runs // 5))]
    rows.append(_summary("pure translation, true depth", still))
    return rows


def lens_rows(runs: int) -> list[dict[str, Any]]:
    """The same cameras through lenses that bend straight lines, by k1 of `plumb_bob`; nobody tells the estimator."""
    found: dict[tuple[float, str], list[Run]] = {}
    for seed in range(min(runs, LENS_RUNS)):
        motion = _handheld_or_junction(seed)
        camera, frames = synthetic_stream(motion, seed)
        for k in LENSES:
            if not np.isfinite(_lens_maps(camera, k)).all():  # no lens of this k is as wide
                continue
            run = synthetic_run(camera, [through_lens(frame, k) for frame in frames], seed, noise=0.1)
            found.setdefault((k, motion), []).append(run)
    return [_lens_row(k, motion, done) for (k, motion), done in sorted(found.items())]


def rolling_rows(runs: int) -> list[dict[str, Any]]:
    """The same cameras with a rolling shutter; nobody tells the estimator."""
    found: dict[str, list[Run]] = {}
    for seed in range(min(runs, LENS_RUNS)):
        motion = _handheld_or_junction(seed)
        camera, frames = synthetic_stream(motion, seed, READOUT)
        found.setdefault(motion, []).append(synthetic_run(camera, frames, seed, noise=0.1))
    return [_rolling_row(motion, done) for motion, done in sorted(found.items())]


def _rolling_row(motion: str, runs: Sequence[Run]) -> dict[str, Any]:
    readouts = 1e3 * np.array([run.estimates[-1].readout for run in runs])
    return {
        "streams": f"{motion}, {WRONG}, readout of {1e3 * READOUT:.0f} ms",
        **_errors(runs),
        "readout_ms_median": float(np.median(readouts)),
        "readout_ms_least": float(readouts.min()),
        "readout_ms_most": float(readouts.max()),
        "readout_ms_sigma_median": 1e3 * float(np.median([run.estimates[-1].readout_sigma for run in runs])),
    }


def _errors(runs: Sequence[Run]) -> dict[str, Any]:
    errors = 100 * np.abs([run.error for run in runs])
    return {
        "runs": len(runs),
        "error_percent_median": float(np.median(errors)),
        "worst": float(errors.max()),
        "inside_95": sum(run.is_inside for run in runs) / len(runs),
    }


def _handheld_or_junction(seed: int) -> str:
    return MOTIONS[0] if seed % 3 != 0 else MOTIONS[1]


def _lens_row(k: float, motion: str, runs: Sequence[Run]) -> dict[str, Any]:
    deviations = np.abs([run.estimates[-1].distortion - k for run in runs])
    return {
        "k1": k,
        "streams": f"{motion}, {WRONG}",
        **_errors(runs),
        "k1_error_median": float(np.median(deviations)),
        "k1_error_worst": float(deviations.max()),
        "k1_sigma_median": float(np.median([run.estimates[-1].distortion_sigma for run in runs])),
    }


def through_lens(frame: SyntheticFrame, k: float) -> SyntheticFrame:
    """As a lens shows it that distorts rays radially by 1 + k (x^2 + y^2)."""
    x, y = _lens_maps(frame.camera, k)
    rgb = cv2.remap(frame.rgb, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    depth = cv2.remap(frame.depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return replace(frame, rgb=np.asarray(rgb, np.uint8), depth=np.asarray(depth, np.float32))


@lru_cache
def _lens_maps(camera: PinholeCamera, k: float) -> NDArray[np.float32]:
    """Where the pixels of a lens are in a pinhole camera's image: x and y, [2, H, W]."""
    lens = replace(camera, distortion=(k, 0.0, 0.0, 0.0, 0.0))
    pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).astype(np.float64)
    return np.moveaxis(distort_rays(camera, undistort_pixels(lens, pixels)), -1, 0).astype(np.float32)


def _summary(streams: str, runs: Sequence[Run]) -> dict[str, Any]:
    errors = 100 * np.abs([run.error for run in runs])
    converged = np.array([run.estimates[-1].state == "converged" for run in runs])
    sigmas = 100 * np.array([run.estimates[-1].relative_sigma for run in runs])
    return {
        "streams": streams,
        "runs": len(runs),
        "error_percent_median": float(np.median(errors)),
        "p90": float(np.quantile(errors, 0.9)),
        "worst": float(errors.max()),
        "sigma_percent_median": float(np.median(sigmas)),
        "least": float(sigmas.min()),
        "inside_95": sum(run.is_inside for run in runs) / len(runs),
        "converged": float(converged.mean()),
        "worst_error_percent_of_converged": float(errors[converged].max()) if converged.any() else None,
    }
