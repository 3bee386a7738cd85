"""Damaged and surprising input to a real node over real DDS: what is said of it, and what comes out afterwards."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from node_harness import (
    HEIGHT,
    PRIOR,
    WIDTH,
    Client,
    NodeProcess,
    assert_depth_is_right,
    depth_of,
    expected_depth,
    grey_image,
)

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def image_of(client: Client, pixels: NDArray[np.uint8], encoding: str) -> Image:
    height, width = pixels.shape[:2]
    message = Image(header=client.header(), height=height, width=width, encoding=encoding, step=pixels.strides[0])
    message.data.frombytes(pixels.tobytes())
    return message


def test_damaged_images(start: Callable[..., Any]) -> None:
    """Each costs itself and nothing else; each kind is logged once, counted, and allocates nothing."""

    def changed(**fields: Any) -> Callable[[], Image]:
        def make() -> Image:
            message = grey_image(client.header())
            for name, value in fields.items():
                setattr(message, name, value)
            return message

        return make

    faults = [
        ("encoding", "encoding '32FC1'", changed(encoding="32FC1")),
        ("encoding", "encoding ''", changed(encoding="")),
        ("size", "image of 0x32 pixels", changed(width=0)),
        ("size", "image of 64x0 pixels", changed(height=0)),
        ("size", "image of 0x0 pixels", changed(width=0, height=0, step=0)),
        ("step", "step of 3 bytes for 64 pixels", changed(step=3)),
        ("step", "step of 64 bytes for 65 pixels", changed(width=65)),
        ("step", "step of 64 bytes for 20000 pixels", changed(width=20_000, height=20_000)),
        ("data", "2048 bytes of data for 33 rows", changed(height=33)),
        ("data", "2048 bytes of data for 20000 rows", changed(width=20_000, height=20_000, step=20_000)),
        ("data", "of 4294967295 bytes", changed(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1)),
        ("data", "0 bytes of data for 32 rows", changed(data=[])),
    ]
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        assert_depth_is_right(client)
        before = process.resident_mb
        for number, (_, _, make) in enumerate(faults):
            client.send(make())
            client.spin(0.1)  # else the next image could take its place
            assert_depth_is_right(client, grey=number)
        assert process.resident_mb - before < 20

        values = client.diagnostic_values()
        kinds = [kind for kind, _, _ in faults]
        for kind in set(kinds):
            assert 1 <= int(values[f"errors_{kind}"]) <= kinds.count(kind)
            assert sum(process.log.count(said) for k, said, _ in faults if k == kind) == 1
        assert all_images_are_accounted_for(values)
        assert client.diagnostics[-1].level == b"\x01"
        assert "Traceback" not in process.log


def test_damaged_compressed_images(start: Callable[..., Any]) -> None:
    """The size that a file claims is refused before it is allocated."""
    grey = np.full((HEIGHT, WIDTH), 200, np.uint8)
    png, jpeg = (cv2.imencode(suffix, grey)[1].tobytes() for suffix in (".png", ".jpg"))
    large = png[:16] + struct.pack(">II", 20_000, 20_000) + png[24:]
    frame_header = jpeg.index(b"\xff\xc0") + 5
    large_jpeg = jpeg[:frame_header] + struct.pack(">HH", 20_000, 20_000) + jpeg[frame_header + 4 :]
    faults = [
        ("compressed", b""),
        ("compressed", b"no image"),
        ("compressed", png[:30]),
        ("compressed", png[: len(png) // 2]),
        ("compressed", jpeg[: len(jpeg) // 2]),
        ("compressed", jpeg[:100] + b"\x00" * 200),
        ("size", large),
        ("size", large_jpeg),
        ("size", png[:16] + struct.pack(">II", 0, 0) + png[24:]),
        ("size", png[:16] + struct.pack(">II", 2**32 - 1, 2**32 - 1) + png[24:]),
    ]
    options = {"image_transport": "compressed", "image_topic": "image/compressed"}
    with start(image_type=CompressedImage, **options) as (process, client):

        def compressed(data: bytes = png) -> CompressedImage:
            message = CompressedImage(header=client.header(), format="png")
            message.data.frombytes(data)
            return message

        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", compressed)
        before = process.resident_mb
        for _, data in faults:
            client.send(compressed(data))
            client.spin(0.1)
            _, result = client.send_until_answered("depth/image", compressed)
            np.testing.assert_allclose(depth_of(result), expected_depth(200), rtol=1e-5)
        assert process.resident_mb - before < 20
        values = client.diagnostic_values()
        for kind in ("compressed", "size"):
            assert 1 <= int(values[f"errors_{kind}"]) <= [k for k, _ in faults].count(kind)
        assert process.log.count("others of this kind are only counted") == 2
        assert all_images_are_accounted_for(values)
        assert "Traceback" not in process.log


def all_images_are_accounted_for(values: dict[str, str]) -> bool:
    fates = ("published", "dropped", "unwanted", "skipped", "faulty")
    return int(values["frames_in"]) == sum(int(values[f"frames_{fate}"]) for fate in fates)


def test_black_white_and_noise(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image", "points")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for pixels in (np.zeros_like(noise), np.full_like(noise, 255), noise):
        _, result = client.send_until_answered("depth/image", lambda p=pixels: image_of(client, p, "rgb8"))
        disparity = 0.05 + 0.45 * pixels.mean(axis=-1) / 255
        np.testing.assert_allclose(depth_of(result), 1 / disparity, rtol=1e-4)
    client.unsubscribe("depth/image", "points")


def camera_info(fx: float, width: int = WIDTH, height: int = HEIGHT) -> CameraInfo:
    """Square pixels, principal point in the middle; fx in pixels."""
    k = [fx, 0.0, width / 2 - 0.5, 0.0, fx, height / 2 - 0.5, 0.0, 0.0, 1.0]
    return CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5, k=k)


def test_camera_info_never_late_changing_and_bad(start: Callable[..., Any]) -> None:
    """A metric model's depth grows with fx / W; without a usable camera_info that is the prior's."""
    nan = CameraInfo(width=WIDTH, height=HEIGHT, k=[float("nan")] * 9)
    zeros = CameraInfo(width=WIDTH, height=HEIGHT, k=[0.0] * 9)
    empty = CameraInfo()
    fx = PRIOR[0] * WIDTH
    steps = [
        ("late", camera_info(1.5 * fx), 1.5),
        ("changed", camera_info(2.0 * fx), 2.0),
        ("zeros", zeros, 1.0),
        ("of twice the resolution", camera_info(3.0 * fx, 2 * WIDTH, 2 * HEIGHT), 1.5),
        ("nan", nan, 1.0),
        ("of another shape", camera_info(fx, 100, 100), 1.0),
        ("right again", camera_info(1.25 * fx), 1.25),
        ("empty", empty, 1.0),
    ]
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image", "depth/camera_info")
        assert_depth_is_right(client)  # never
        for _, info, scale in steps:

            def is_used(info: CameraInfo = info, scale: float = scale) -> bool:
                client.send_camera_info(info)
                client.spin(0.05)
                _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
                return bool(np.allclose(depth_of(result), scale * expected_depth(100), rtol=1e-5))

            client.wait(is_used)
            stamp = client.received["depth/image"][-1].header.stamp
            published = client.wait(
                lambda s=stamp: [m for m in client.received["depth/camera_info"] if m.header.stamp == s]
            )[0]
            assert (published.width, published.height) == (WIDTH, HEIGHT)
            assert published.k[0] == pytest.approx(scale * fx)
            assert (published.distortion_model == "uncalibrated") == (scale == 1.0)
        values = client.diagnostic_values()
        assert int(values["errors_camera_info"]) >= 3
        assert int(values["errors_camera_info_size"]) >= 1
        assert values["intrinsics_source"] == "prior"
        for said, times in {"fx = 0.0": 1, "100x100": 1, "intrinsics prior": 4, "intrinsics from": 3}.items():
            assert process.log.count(said) == times
        assert "fx = nan" not in process.log  # a second one of its kind


def test_stream_changes_in_midstream(start: Callable[..., Any]) -> None:
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image", "points", "depth/camera_info")
        colour = np.full((HEIGHT, WIDTH, 3), (50, 100, 150), np.uint8)

        def other_frame() -> Image:
            message = grey_image(client.header())
            message.header.frame_id = "rear_camera"
            return message

        for make in (
            lambda: grey_image(client.header()),
            lambda: grey_image(client.header(), width=50, height=40),
            lambda: grey_image(client.header(), width=1, height=1),
            lambda: grey_image(client.header(), width=640, height=480),
            lambda: image_of(client, colour, "rgb8"),
            lambda: image_of(client, colour, "bgr8"),
            other_frame,
            lambda: grey_image(client.header()),
        ):
            sent, result = client.send_until_answered("points", make)
            assert result.header == sent.header
            stamp = result.header.stamp
            for topic in ("depth/image", "depth/camera_info"):
                client.wait(lambda t=topic, s=stamp: client.received[t] and client.received[t][-1].header.stamp == s)
            depth, info = client.received["depth/image"][-1], client.received["depth/camera_info"][-1]
            assert depth.header == info.header == sent.header
            assert (depth.width, depth.height) == (info.width, info.height) == (sent.width, sent.height)
            assert (result.width, result.height) == (-(-sent.width // 2), -(-sent.height // 2))  # stride 2
            np.testing.assert_allclose(depth_of(depth), expected_depth(100), rtol=1e-5)
        assert process.log.count("changed from 64x32 to 50x40 pixels") == 1
        assert process.log.count("changed from frame 'camera_optical' to 'rear_camera'") == 1
        assert process.log.count("in mid-stream") == 2
        assert "Traceback" not in process.log
