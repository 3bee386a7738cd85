"""Learn a camera's intrinsics from a bag of its images, without a calibration target.

The estimator is the node's, over every image of the bag. Writes a ROS camera calibration YAML with the uncertainty, and
a picture of the focal length over time. Exit code 1, and no YAML: the camera turned too little to tell.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from rich.console import Console

from depth_node.backends import BACKENDS, create_backend, create_motion_backend
from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_from_info
from depth_node.errors import CameraError
from depth_node.intrinsics.estimate import IntrinsicsEstimate
from depth_node.intrinsics.estimator import EstimatorOptions
from depth_node.intrinsics.observation import MotionObserver
from depth_node.intrinsics.store import (
    StoredIntrinsics,
    camera_name_of_topic,
    is_camera_name,
    write_intrinsics,
)
from depth_node.intrinsics.tracker import deviation
from depth_node.model import read_model, read_motion_model
from depth_node.pipeline import DepthPipeline
from depth_node.resources import DEFAULT_MODEL, find_model
from depth_node.tools.calibrate.estimation import Calibration, calibrate, first_camera_info
from depth_node.tools.calibrate.picture import draw_calibration
from depth_node.tools.demo.source import find_drive

EXIT_NOT_KNOWN = 1


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: the intrinsics are known, and written; 1: the camera turned too little.

    Raises:
        DepthNodeError: the bag or the model cannot be read, or a file cannot be written.
    """
    arguments = parse_arguments(argv)
    console = Console(soft_wrap=True)
    drive = find_drive(arguments.bag, arguments.topic)
    name = arguments.camera_name or camera_name_of_topic(drive.image)
    output: Path = arguments.output or Path(f"{name}.yaml")
    model = read_model(find_model(arguments.model))
    pipeline = DepthPipeline(model, create_backend(model, arguments.backend))
    options = EstimatorOptions(square_pixels=arguments.square_pixels)
    calibration = calibrate(drive, pipeline, motion_observer(arguments), options, console)

    console.print(summary(calibration))
    if drive.camera_info is not None:
        console.print(comparison(calibration, drive.bag, drive.camera_info))
    picture = output.with_suffix(".png")
    draw_calibration(calibration, picture)
    if not calibration.is_known:
        console.print(
            f"[bold]Not enough rotation:[/] the intrinsics are not known, and {output} is not written. {ADVICE}"
        )
        console.print(f"What was learned, over time: {picture}")
        return EXIT_NOT_KNOWN
    write_intrinsics(StoredIntrinsics(calibration.width, calibration.height, calibration.estimate), output, name)
    console.print(f"Written: {output}, {picture}")
    return 0


ADVICE = "Turn the camera (bends of a road, or by hand), in a place with texture and few things that move."


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="calibrate", description=summary, epilog=details)
    parser.add_argument("bag", type=Path, help="mcap or db3 file, bag directory, or ROS 1 .bag")
    parser.add_argument("--topic", help="image topic (default: the only one)")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="depth model: file or shipped name (default: %(default)s)"
    )
    parser.add_argument("--backend", default="auto", choices=("auto", *BACKENDS), help="inference library")
    parser.add_argument("--motion-model", metavar="FILE", help="motion model, which helps to begin (default: none)")
    parser.add_argument(
        "--square-pixels",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fx and fy are alike; --no-square-pixels learns them separately, for images that were stretched",
    )
    parser.add_argument("--camera-name", type=_camera_name, metavar="NAME", help="(default: after the image topic)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="(default: NAME.yaml; the picture beside it)")
    return parser.parse_args(argv)


def motion_observer(arguments: argparse.Namespace) -> MotionObserver | None:
    """The motion model of the command line, loaded, if there is one."""
    if arguments.motion_model is None:
        return None
    model = read_motion_model(find_model(arguments.motion_model))
    return MotionObserver(model.spec, create_motion_backend(model, arguments.backend))


def summary(calibration: Calibration) -> str:
    """What was learned, in a sentence or two."""
    estimate, camera = calibration.estimate, calibration.camera
    sigma = estimate.relative_sigma
    rejected = ", ".join(f"{reason} {count}" for reason, count in sorted(estimate.rejected.items()))
    return (
        f"{calibration.images} images of {camera.width}x{camera.height}: {focal_length(camera)}, sigma "
        f"{sigma * camera.fx:.1f} ({sigma:.1%}), principal point ({camera.cx:.1f}, {camera.cy:.1f}), "
        f"{distortion(estimate)}, {shutter(estimate)}; {estimate.state}, "
        f"after {estimate.rotation:.2f} rad of rotation in {estimate.pairs} pairs of images"
        + (f" (others: {rejected})" if rejected else "")
        + (f"; {calibration.damaged} images are damaged" if calibration.damaged else "")
    )


def distortion(estimate: IntrinsicsEstimate) -> str:
    """The lens distortion in words; it is in the file only where it is sure."""
    known = f"k1 {estimate.distortion:.3f} with a sigma of {estimate.distortion_sigma:.3f}"
    return f"lens distortion {known}" if estimate.is_distorted else f"no sure lens distortion ({known})"


def shutter(estimate: IntrinsicsEstimate) -> str:
    """Whether rows are exposed one after the other, in words."""
    if estimate.is_rolling:
        return f"rolling shutter of {1e3 * estimate.readout:.1f} ms"
    return f"no sure rolling shutter (within {3e3 * estimate.readout_sigma:.1f} ms)"


def focal_length(camera: PinholeCamera) -> str:
    """In pixels; both, where pixels are not square."""
    if math.isclose(camera.fx, camera.fy, rel_tol=1e-4):
        return f"focal length {camera.fx:.1f} pixels"
    return f"focal lengths {camera.fx:.1f} and {camera.fy:.1f} pixels"


def comparison(calibration: Calibration, bag: Path, topic: str) -> str:
    """How far the bag's own camera_info is from what was learned."""
    try:
        camera: PinholeCamera = camera_from_info(first_camera_info(bag, topic), calibration.width, calibration.height)
    except CameraError as error:
        return f"{topic} cannot be compared: {error}"
    distorted = f"; its lens distortion is {tuple(camera.distortion)}" if camera.is_distorted else ""
    sigmas = deviation(camera, calibration.estimate)
    return f"{topic} has a focal length of {camera.fx:.1f} pixels, {abs(sigmas):.1f} sigma away{distorted}"


def _camera_name(text: str) -> str:
    if not is_camera_name(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no name of a file")
    return text
