"""Every encoding against closed forms, malformed messages, compressed pictures, and the genuine cv_bridge."""

from __future__ import annotations

import array
import re
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from depth_node import images
from depth_node.compressed_images import rgb_from_compressed
from depth_node.errors import ImageError
from depth_node.images import ENCODINGS, depth_image_message, message_array, rgb_from_image

CHANNELS = {f"{order}{bits}": order for order in ("rgb", "bgr", "rgba", "bgra") for bits in (8, 16)}
BAYER = [name for name in ENCODINGS if name.startswith("bayer")]
YUV = {"yuv422": "uyvy", "uyvy": "uyvy", "yuv422_yuy2": "yuyv", "yuyv": "yuyv"}
BYTES_PER_CHANNEL = {name: 2 if name.endswith("16") else 1 for name in ENCODINGS}


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0, is_bigendian: bool = False) -> SimpleNamespace:
    """An Image's fields: pixels [H, W] or [H, W, C] with `padding` bytes of junk behind each row."""
    height, width = pixels.shape[:2]
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if is_bigendian else "<"))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    rows = np.hstack([rows, np.full((height, padding), 0xA5, np.uint8)])
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(is_bigendian),
        step=rows.shape[1],
        data=array.array("B", rows.tobytes()),
    )


def random_pixels(rng: np.random.Generator, encoding: str, height: int, width: int) -> np.ndarray:
    channels = len(CHANNELS.get(encoding, "")) or (2 if encoding in YUV else 1)
    shape = (height, width, channels) if channels > 1 else (height, width)
    dtype = np.uint16 if BYTES_PER_CHANNEL[encoding] == 2 else np.uint8
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


heights = st.integers(1, 12)
widths = st.integers(1, 12)
seeds = st.integers(0, 2**32 - 1)


@given(st.sampled_from(list(CHANNELS)), heights, widths, st.integers(0, 7), seeds)
def test_color_channels_become_rgb(encoding: str, height: int, width: int, padding: int, seed: int) -> None:
    pixels = random_pixels(np.random.default_rng(seed), encoding, height, width)
    expected = np.stack([pixels[..., CHANNELS[encoding].index(channel)] for channel in "rgb"], axis=-1)
    if pixels.dtype == np.uint16:
        expected = np.rint(expected * (255 / 65535))
    np.testing.assert_array_equal(rgb_from_image(image_message(pixels, encoding, padding)), expected)


@given(heights, widths, st.integers(0, 7), seeds)
def test_mono8_is_grey(height: int, width: int, padding: int, seed: int) -> None:
    pixels = random_pixels(np.random.default_rng(seed), "mono8", height, width)
    expected = np.repeat(pixels[..., None], 3, axis=-1)
    np.testing.assert_array_equal(rgb_from_image(image_message(pixels, "mono8", padding)), expected)


@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_mono16_is_scaled_to_8_bit(padding: int, is_bigendian: bool) -> None:
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(pixels.astype(np.float64) * 255 / 65535)  # no ties: 65535 / 255 = 257 is odd
    decoded = rgb_from_image(image_message(pixels, "mono16", padding, is_bigendian))
    np.testing.assert_array_equal(decoded, np.repeat(expected[..., None], 3, axis=-1))


@given(
    st.sampled_from(BAYER),
    st.integers(4, 12),
    st.integers(4, 12),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.booleans(),
)
def test_bayer_mosaic_of_one_colour_is_that_colour(
    encoding: str, height: int, width: int, color: tuple[int, int, int], is_bigendian: bool
) -> None:
    """The pattern's name spells its colours row by row (sensor_msgs/image_encodings.hpp)."""
    pattern = encoding.removeprefix("bayer_").rstrip("0123456789")
    cell = np.array([color["rgb".index(letter)] for letter in pattern]).reshape(2, 2)
    mosaic = np.tile(cell, (6, 6))[:height, :width]
    if encoding.endswith("16"):
        pixels = (mosaic * 257).astype(np.uint16)
    else:
        pixels, is_bigendian = mosaic.astype(np.uint8), False
    decoded = rgb_from_image(image_message(pixels, encoding, is_bigendian=is_bigendian))
    np.testing.assert_array_equal(decoded, np.broadcast_to(np.array(color), (height, width, 3)))


@given(st.sampled_from(list(YUV)), heights, st.integers(1, 6), seeds)
def test_yuv422_follows_bt601(encoding: str, height: int, pairs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    luma = rng.integers(16, 236, (height, 2 * pairs))
    chroma = rng.integers(16, 241, (height, pairs, 2))  # U, V shared by two pixels
    pixels = np.empty((height, 2 * pairs, 2), np.uint8)
    luma_at = YUV[encoding].index("y")
    pixels[..., luma_at] = luma
    pixels[..., 1 - luma_at] = chroma.reshape(height, 2 * pairs)
    u, v = np.repeat(chroma[..., 0], 2, axis=1) - 128.0, np.repeat(chroma[..., 1], 2, axis=1) - 128.0
    y = 255 / 219 * (luma - 16.0)
    kr, kb = 0.299, 0.114  # ITU-R BT.601, 2.5.1
    red = y + 255 / 224 * 2 * (1 - kr) * v
    blue = y + 255 / 224 * 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    expected = np.clip(np.stack([red, green, blue], axis=-1), 0, 255)
    np.testing.assert_allclose(rgb_from_image(image_message(pixels, encoding)), expected, atol=1.5)


@given(st.sampled_from(list(ENCODINGS)), heights, st.integers(1, 6), st.integers(1, 9), st.booleans(), seeds)
def test_padding_and_byte_order_change_nothing(
    encoding: str, height: int, pairs: int, padding: int, is_bigendian: bool, seed: int
) -> None:
    pixels = random_pixels(np.random.default_rng(seed), encoding, height, 2 * pairs)
    plain = rgb_from_image(image_message(pixels, encoding))
    np.testing.assert_array_equal(rgb_from_image(image_message(pixels, encoding, padding, is_bigendian)), plain)
    assert plain.shape == (height, 2 * pairs, 3)
    assert plain.dtype == np.uint8


def test_rgb8_is_a_view_of_the_message() -> None:
    message = image_message(np.zeros((4, 5, 3), np.uint8), "rgb8", padding=3)
    decoded = rgb_from_image(message)
    message.data[0] = 77
    assert decoded[0, 0, 0] == 77


def test_data_of_a_bag_may_be_unaligned_and_read_only() -> None:
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 257
    message = image_message(pixels, "mono16")
    unaligned = np.frombuffer(b"\0" + message.data.tobytes(), np.uint8)[1:]
    message.data = unaligned
    np.testing.assert_array_equal(rgb_from_image(message)[..., 0], np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"encoding": "32FC1"}, "encoding", "32FC1"),
        ({"encoding": ""}, "encoding", "rgb8"),
        ({"width": 0}, "size", "0x4"),
        ({"height": 0, "data": b""}, "size", "5x0"),
        ({"step": 14}, "step", "step of 14 bytes for 5 pixels of 'rgb8'; expected at least 15"),
        ({"step": 0, "data": b""}, "step", "expected at least 15"),
        ({"step": 16}, "data", "60 bytes of data for 4 rows of 16 bytes; expected 64"),
        ({"data": b"\0" * 59}, "data", "59 bytes"),
        ({"data": b"\0" * 61}, "data", "61 bytes"),
        ({"data": b""}, "data", "0 bytes"),
        ({"height": 2**32 - 1}, "data", f"expected {15 * (2**32 - 1)}"),
        ({"encoding": "yuyv"}, "size", "even width"),
    ],
)
def test_malformed_image_is_refused(changes: dict[str, Any], kind: str, said: str) -> None:
    message = image_message(np.zeros((4, 5, 3), np.uint8), "rgb8")
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=re.escape(said)) as caught:
        rgb_from_image(message)
    assert caught.value.kind == kind


@given(
    encoding=st.sampled_from([*ENCODINGS, "32FC1", "8UC3", "nv21", ""]),
    height=st.integers(0, 5),
    width=st.integers(0, 5),
    step=st.integers(0, 24),
    is_bigendian=st.integers(0, 1),
    data=st.binary(max_size=80),
)
def test_any_message_is_decoded_or_refused(encoding: str, height: int, width: int, **fields: Any) -> None:
    message = SimpleNamespace(encoding=encoding, height=height, width=width, **fields)
    try:
        decoded = rgb_from_image(message)
    except ImageError:
        return
    assert decoded.shape == (height, width, 3)
    assert decoded.dtype == np.uint8


@given(heights, widths, seeds)
def test_colour_image_message_round_trips(height: int, width: int, seed: int) -> None:
    rgb = random_pixels(np.random.default_rng(seed), "rgb8", height, width)
    header = Header(frame_id="camera")
    message = images.color_image_message(rgb, header)
    assert (message.encoding, message.step, message.is_bigendian, message.header) == ("rgb8", 3 * width, 0, header)
    np.testing.assert_array_equal(rgb_from_image(message), rgb)


def test_depth_image_message_holds_metres_and_nan() -> None:
    depth = np.array([[1.5, np.nan, 80.0], [0.25, 2.0, 3.0]], np.float32)
    message = images.depth_image_message(depth[:, ::-1], Header(frame_id="camera"))
    assert (message.height, message.width, message.encoding, message.step) == (2, 3, "32FC1", 12)
    assert struct.unpack("<6f", message.data.tobytes())[3:] == (3.0, 2.0, 0.25)
    assert np.isnan(struct.unpack_from("<f", message.data, 4)[0])


def test_depth_image_message_in_millimetres() -> None:
    metres = [1.5, np.nan, 0.0004, 0.0006, 65.535, 65.536, 80.0, np.inf, 12.3456]
    message = images.depth_image_message(np.array([metres], np.float32), Header(frame_id="camera"), "16UC1")
    assert (message.height, message.width, message.encoding, message.step) == (1, 9, "16UC1", 18)
    assert struct.unpack("<9H", message.data.tobytes()) == (1500, 0, 0, 1, 65535, 0, 0, 0, 12346)


@given(st.integers(1, 65535))
def test_every_whole_millimetre_is_kept(millimetres: int) -> None:
    depth = np.array([[millimetres / 1000]], np.float32)
    assert images.depth_millimeters(depth).tolist() == [[millimetres]]


def test_depth_image_of_another_encoding_is_refused() -> None:
    with pytest.raises(ImageError, match="'64FC1'; expected 32FC1 or 16UC1"):
        images.depth_image_message(np.ones((2, 2), np.float32), Header(), "64FC1")


def compressed(picture: np.ndarray, extension: str, *parameters: int, format_: str = "") -> SimpleNamespace:
    """A CompressedImage's fields from RGB or grey pixels."""
    stored = picture[..., ::-1] if picture.ndim == 3 else picture
    done, data = cv2.imencode(extension, stored, parameters)
    assert done
    return SimpleNamespace(format=format_ or extension.lstrip("."), data=array.array("B", data.tobytes()))


def smooth_picture() -> np.ndarray:
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 255 - 2 * (x + y)], axis=-1).astype(np.uint8)


def test_png_is_decoded_exactly() -> None:
    picture = smooth_picture()
    np.testing.assert_array_equal(rgb_from_compressed(compressed(picture, ".png")), picture)


@pytest.mark.parametrize("format_", ["jpeg", "rgb8; jpeg compressed bgr8", "", "whatever"])
def test_jpeg_is_decoded_whatever_its_format_says(format_: str) -> None:
    picture = smooth_picture()
    message = compressed(picture, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100, format_=format_)
    np.testing.assert_allclose(rgb_from_compressed(message), picture.astype(int), atol=6)


def test_compressed_grey_and_16_bit_become_rgb8() -> None:
    grey = smooth_picture()[..., 0]
    np.testing.assert_array_equal(rgb_from_compressed(compressed(grey, ".png")), np.repeat(grey[..., None], 3, axis=-1))
    deep = compressed(grey.astype(np.uint16) * 256, ".png")
    np.testing.assert_array_equal(rgb_from_compressed(deep)[..., 1], grey)


def test_orientation_tag_does_not_turn_the_picture() -> None:
    message = compressed(smooth_picture(), ".jpg")
    turn_right = 6  # Exif 2.3, 4.6.4 A: orientation
    tag = struct.pack(">H", 1) + struct.pack(">HHIHH", 0x0112, 3, 1, turn_right, 0) + struct.pack(">I", 0)
    exif = b"Exif\0\0" + b"MM\0*" + struct.pack(">I", 8) + tag
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    data = message.data.tobytes()
    message.data = data[:2] + segment + data[2:]
    upright = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert upright.shape == (60, 40, 3)  # the tag is there and OpenCV knows it
    assert rgb_from_compressed(message).shape == (40, 60, 3)


def huge_png() -> bytes:
    """A valid PNG header of 60000x60000 pixels: 10 GiB once decoded."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"IEND"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "compressed"),
        (b"\xff\xd8\xff", "compressed"),
        (b"\x89PNG\r\n\x1a\n", "compressed"),
        (b"GIF89a" + b"\0" * 40, "compressed"),
        (huge_png(), "size"),
    ],
)
def test_bad_compressed_image_is_refused(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        rgb_from_compressed(SimpleNamespace(format="jpeg", data=data))
    assert caught.value.kind == kind


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_cut_off_picture_is_refused(extension: str) -> None:
    message = compressed(smooth_picture(), extension)
    whole = message.data.tobytes()
    for length in range(0, len(whole) - 4, 7):
        message.data = whole[:length]
        with pytest.raises(ImageError, match=r"cut off|neither"):
            rgb_from_compressed(message)


@given(st.sampled_from([".png", ".jpg"]), st.integers(0, 10**6), st.integers(0, 255))
def test_damaged_picture_is_decoded_or_refused(extension: str, position: int, value: int) -> None:
    message = compressed(smooth_picture(), extension)
    message.data[position % len(message.data)] = value
    try:
        decoded = rgb_from_compressed(message)
    except ImageError:
        return
    assert decoded.ndim == 3
    assert decoded.dtype == np.uint8


@pytest.fixture(scope="module")
def cv_bridge() -> Any:
    bridge = images._cv_bridge()
    if bridge is None:
        pytest.skip("no usable cv_bridge: not installed, or built for NumPy 1 while NumPy 2 runs")
    return bridge


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in ("uyvy", "yuyv")])
def test_same_bytes_as_cv_bridge(cv_bridge: Any, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in [(1, 2), (2, 2), (3, 4), (37, 64)]:
        for is_bigendian in (False, True):
            pixels = random_pixels(np.random.default_rng(5), encoding, *size)
            padding = 3 * ENCODINGS[encoding].pixel_bytes
            message = Image(**vars(image_message(pixels, encoding, padding, is_bigendian)))
            genuine = cv_bridge.imgmsg_to_cv2(message, "rgb8")
            np.testing.assert_array_equal(rgb_from_image(message), genuine)
            with monkeypatch.context() as without:
                without.setattr(images, "_cv_bridge", lambda: None)
                np.testing.assert_array_equal(rgb_from_image(message), genuine)


def test_ros_messages_are_decoded() -> None:
    """rclpy's own message objects have these fields too."""
    picture = smooth_picture()
    image = Image(**vars(image_message(picture, "rgb8")))
    np.testing.assert_array_equal(rgb_from_image(image), picture)
    png = CompressedImage(**vars(compressed(picture, ".png")))
    np.testing.assert_array_equal(rgb_from_compressed(png), picture)


def test_depth_made_for_messages_is_not_copied() -> None:
    depth = message_array(3, 5)
    depth[:] = np.arange(15, dtype=np.float32).reshape(3, 5)
    message = depth_image_message(depth, Header())
    assert np.shares_memory(np.frombuffer(message.data, np.float32), depth)
    assert message.data.typecode == "B"
    assert (message.height, message.width, message.step, len(message.data)) == (3, 5, 20, 60)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.float32), np.arange(15))
    part = depth_image_message(depth[1:], Header())
    np.testing.assert_array_equal(np.frombuffer(part.data, np.float32), np.arange(5, 15))
