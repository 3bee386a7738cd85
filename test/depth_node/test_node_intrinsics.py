"""Learned intrinsics of a real node: what it learns, publishes, keeps and says. The camera turns on the spot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger

import turning_camera
from depth_node.calibration_file import read_calibration
from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_info_message
from depth_node.frames import stamp_ns
from motion_model import write_tiny_motion_model
from node_harness import FIRST_STAMP_S, FRAME_ID, Client, NodeProcess
from turning_camera import HEIGHT, WIDTH

pytestmark = pytest.mark.usefixtures("private_ros_domain")

FOCAL_LENGTH = 0.8 * WIDTH
PRIOR_FOCAL_LENGTH = 0.58 * WIDTH
TRUTH = PinholeCamera(WIDTH, HEIGHT, FOCAL_LENGTH, FOCAL_LENGTH, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
TENTH_NS = 100_000_000
FAST = 1000.0


@pytest.fixture(scope="session")
def turning() -> list[NDArray[np.uint8]]:
    return turning_camera.images(FOCAL_LENGTH, 60)


class Drive:
    """Sends images and waits for what the node makes of each.

    camera: of a camera_info before each image, if there is one. topics: to wait for.
    """

    def __init__(self, process: NodeProcess, client: Client, directory: Path, topics: list[str]) -> None:
        self.process, self.client, self.directory = process, client, directory
        self.camera: PinholeCamera | None = None
        self.topics = topics
        self._sent = 0

    def header(self, number: int) -> Header:
        header = Header(frame_id=FRAME_ID)
        header.stamp.sec, header.stamp.nanosec = FIRST_STAMP_S + number // 10, number % 10 * TENTH_NS
        return header

    def send(self, images: Sequence[NDArray[np.uint8]], stamps: Sequence[int] | None = None) -> None:
        """One after the other, 0.1 s apart, or with stamps in tenths of a second since the drive's beginning."""
        for index, pixels in enumerate(images):
            number = self._sent if stamps is None else stamps[index]
            self._sent = max(self._sent, number + 1)
            height, width = pixels.shape
            message = Image(header=self.header(number), height=height, width=width, encoding="mono8", step=width)
            message.data.frombytes(pixels.tobytes())
            if self.camera is not None:
                self.client.send_camera_info(camera_info_message(self.camera, True, message.header))
                self.client.spin(0.01)
            before = self._answers()
            self.client.send(message)
            self.client.wait_for_at_most(2.0, lambda before=before: self._answers() > before)
            if self.topics[-1] != "intrinsics/status":
                self.client.spin(0.03)  # for the thread that learns, which nobody hears of

    def send_until(self, condition: Callable[[], Any], images: Sequence[NDArray[np.uint8]]) -> None:
        """There and back again, until the condition holds."""
        for image in itertools.chain.from_iterable(itertools.repeat([*images, *images[::-1]], 5)):
            self.send([image])
            if condition():
                return
        pytest.fail("it did not come so far")

    def _answers(self) -> int:
        """Images that all has come of."""
        return min(len(self.client.received[topic]) for topic in self.topics)

    def last(self, topic: str) -> Any:
        return self.client.received[topic][-1]

    def status(self) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.last("intrinsics/status").status[0].values}

    def save(self) -> Any:
        return self.client.call(Trigger, "save_intrinsics", Trigger.Request())


@pytest.fixture(scope="session")
def wide_model_path(make_tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = make_tiny_model(tmp_path_factory.mktemp("models") / "wide.onnx", width=WIDTH, height=HEIGHT).path
    return path


@pytest.fixture
def drive(
    start: Callable[..., AbstractContextManager[Any]], wide_model_path: Path, tmp_path: Path
) -> Callable[..., AbstractContextManager[Drive]]:
    """`with drive(PARAMETER=VALUE) as it`: a node that learns from every image, and its camera."""

    @contextmanager
    def started(listen: bool = True, **parameters: Any) -> Iterator[Drive]:
        defaults = {"model": wide_model_path, "intrinsics_rate": 0.0, "intrinsics_max_change": FAST}
        directory = tmp_path / "kept"
        with start(**{**defaults, "intrinsics_directory": directory, **parameters}) as (process, client):
            client.wait_until_active()
            client.subscribe("depth/camera_info")
            if listen:
                client.subscribe("intrinsics", message_type=CameraInfo)
                client.subscribe("intrinsics/status", message_type=DiagnosticArray)
            yield Drive(
                process,
                client,
                directory,
                [
                    topic
                    for topic in ("depth/camera_info", "intrinsics", "intrinsics/status")
                    if listen or topic == "depth/camera_info"
                ],
            )

    return started


def test_a_camera_without_calibration_is_learned(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    with drive() as it:
        it.send(turning[:1] * 3)  # it stands still
        assert it.last("intrinsics").k[0] == 0
        assert (it.last("intrinsics").width, it.last("intrinsics").height) == (WIDTH, HEIGHT)
        assert it.last("depth/camera_info").k[0] == pytest.approx(PRIOR_FOCAL_LENGTH)
        assert it.last("depth/camera_info").distortion_model == "uncalibrated"
        assert it.status()["state"] == "waiting for rotation"
        it.send(turning)
        learned, used, status = it.last("intrinsics"), it.last("depth/camera_info"), it.status()
        assert learned.k[0] == pytest.approx(FOCAL_LENGTH, rel=0.01)
        assert learned.header == used.header == it.header(62)
        assert learned.distortion_model == "plumb_bob"
        assert used.k[0] == pytest.approx(learned.k[0], rel=0.003)
        assert used.distortion_model == "plumb_bob"
        assert (status["source"], status["state"]) == ("learned", "converged")
        assert float(status["fx"]) == pytest.approx(FOCAL_LENGTH, rel=0.01)
        assert 0 < float(status["focal_length_sigma"]) < 0.1 * FOCAL_LENGTH
        assert float(status["rotation"]) > 0.2
        assert int(status["generation"]) > 1
        assert it.last("intrinsics/status").header.frame_id == FRAME_ID
        values = it.client.diagnostic_values()
        assert values["intrinsics_source"] == "learned"
        assert values["intrinsics_generation"] == it.status()["generation"]
        assert it.process.log.count("intrinsics learned from the images") == 1


def test_points_of_a_lens_that_distorts_lie_on_its_rays(drive: Callable[..., AbstractContextManager[Drive]]) -> None:
    bent = replace(TRUTH, distortion=(-0.2, 0.0, 0.0, 0.0, 0.0))
    with drive(cloud_organized=True, cloud_stride=1, max_range=1000.0, remove_sky=False) as it:
        it.client.subscribe("points", message_type=PointCloud2)
        it.topics.insert(0, "points")
        it.send(turning_camera.images_through_a_lens(FOCAL_LENGTH, -0.2, 60))
        info, cloud = it.last("depth/camera_info"), it.last("points")
    assert info.d[0] == pytest.approx(-0.2, abs=0.03)
    assert list(info.d[1:]) == [0.0] * 4
    x, y, z, _ = np.moveaxis(np.frombuffer(cloud.data, np.float32).reshape(HEIGHT, WIDTH, 4), -1, 0)
    corner = np.s_[:4, :4]
    assert np.isfinite(z[corner]).all()
    off, off_without = (
        np.abs(np.stack([x / z, y / z], axis=-1) - camera.rays())[corner].max() for camera in (bent, TRUTH)
    )
    assert off < 0.02
    assert off_without > 0.05


def test_points_change_slowly_and_the_generation_says_when(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    with drive(intrinsics_max_change=0.05) as it:
        it.send(turning)
        used = [info.k[0] for info in it.client.received["depth/camera_info"]]
        assert used[0] == pytest.approx(PRIOR_FOCAL_LENGTH)
        assert PRIOR_FOCAL_LENGTH * 1.05 < used[-1] < FOCAL_LENGTH
        stamps = np.array([stamp_ns(info) for info in it.client.received["depth/camera_info"]]) * 1e-9
        change = np.abs(np.diff(np.log(used))) / np.diff(stamps)
        assert change.max() == pytest.approx(0.05, rel=1e-3)
        by_stamp = {stamp_ns(info): info.k[0] for info in it.client.received["depth/camera_info"]}
        generations: dict[str, set[float]] = {}
        for message in it.client.received["intrinsics/status"]:
            values = {pair.key: pair.value for pair in message.status[0].values}
            seconds, nanoseconds = values["generation_since"].split(".")
            since = int(seconds) * 10**9 + int(nanoseconds)
            if since in by_stamp:
                generations.setdefault(values["generation"], set()).add(by_stamp[since])
        assert len(generations) > 10
        assert all(len(focal_lengths) == 1 for focal_lengths in generations.values())


def test_what_is_saved_is_there_after_a_restart(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    with drive(intrinsics_camera_name="front") as it:
        answer = it.save()
        assert not answer.success
        assert "no image has been looked at" in answer.message
        it.send(turning[:1] * 3)
        answer = it.save()
        assert not answer.success
        assert "not known yet: waiting for rotation" in answer.message
        it.send(turning)
        answer = it.save()
        path = it.directory / "front.yaml"
        assert (answer.success, answer.message) == (True, str(path))
        assert read_calibration(path).fx == pytest.approx(FOCAL_LENGTH, rel=0.01)
    with drive(intrinsics_camera_name="front") as it:
        it.send(turning[:3])
        infos = it.client.received["depth/camera_info"]
        assert all(info.k[0] == pytest.approx(FOCAL_LENGTH, rel=0.01) for info in infos)
        assert it.last("intrinsics").k[0] == pytest.approx(FOCAL_LENGTH, rel=0.01)
        assert "are loaded from" in it.process.log
        it.send([turning[0][::2, ::2].copy()])  # of another size: nothing is known of those
        assert it.last("depth/camera_info").distortion_model == "uncalibrated"
        assert it.last("intrinsics").k[0] == 0
    path.write_text("learned_intrinsics: rubbish")
    with drive(intrinsics_camera_name="front") as it:
        it.send(turning[:2])
        assert it.last("depth/camera_info").distortion_model == "uncalibrated"
        assert "learned intrinsics are not loaded: " in it.process.log
        assert "Traceback" not in it.process.log


def test_a_wrong_camera_info_is_found_and_a_right_one_confirmed(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    wrong = PinholeCamera(WIDTH, HEIGHT, 1.2 * FOCAL_LENGTH, 1.2 * FOCAL_LENGTH, TRUTH.cx, TRUTH.cy)
    with drive(listen=False) as it:
        it.camera = wrong
        it.send_until(lambda: "does not fit the images" in it.process.log, turning)
        assert it.last("depth/camera_info").k[0] == pytest.approx(wrong.fx)  # it is used, and said to be wrong
        values = it.client.diagnostic_values()
        assert it.client.diagnostics[-1].level == b"\x01"
        assert "does not fit the images" in it.client.diagnostics[-1].message
        assert float(values["intrinsics_camera_info_deviation"]) > 3
        it.camera = TRUTH
        it.send_until(lambda: "fits the images" in it.process.log, turning)
        values = it.client.diagnostic_values()
        assert abs(float(values["intrinsics_camera_info_deviation"])) < 3
        assert it.client.diagnostics[-1].level == b"\x00"
        it.send(turning[:10])
        assert it.client.diagnostic_values()["intrinsics_pairs"] == values["intrinsics_pairs"]  # nothing left to do
        assert it.process.log.count("does not fit the images") == 1


def test_learned_intrinsics_may_replace_a_camera_info(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    wrong = PinholeCamera(WIDTH, HEIGHT, 2 * FOCAL_LENGTH, 2 * FOCAL_LENGTH, TRUTH.cx, TRUTH.cy)
    with drive() as it:
        it.camera = wrong
        it.send(turning[:40])
        assert it.last("depth/camera_info").k[0] == pytest.approx(wrong.fx)
        assert it.last("intrinsics").k[0] == pytest.approx(FOCAL_LENGTH, rel=0.01)
        assert it.client.set_parameter("intrinsics.source", "learned").successful
        it.send(turning[40:43])
        assert it.last("depth/camera_info").k[0] == pytest.approx(FOCAL_LENGTH, rel=0.01)
        assert it.client.set_parameter("intrinsics.source", "prior").successful
        it.send(turning[43:46])
        assert it.last("depth/camera_info").k[0] == pytest.approx(PRIOR_FOCAL_LENGTH)
        assert not it.client.set_parameter("intrinsics.source", "guess").successful


def test_images_of_another_size_are_another_camera(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    with drive() as it:
        it.send(turning[:40])
        assert it.last("intrinsics").k[0] == pytest.approx(FOCAL_LENGTH, rel=0.01)
        left = [np.ascontiguousarray(image[:, : WIDTH // 2]) for image in turning]  # the same camera, cropped
        it.send(left[:2])
        assert it.last("intrinsics").k[0] == 0
        assert it.last("depth/camera_info").k[0] == pytest.approx(PRIOR_FOCAL_LENGTH / 2)
        assert it.status()["size"] == f"{WIDTH // 2}x{HEIGHT}"
        assert int(it.status()["pairs"]) <= 1


def test_dropped_repeated_and_disordered_images_do_no_harm(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    kept = [number for number in range(40) if number % 5]
    numbers = [n for number in kept for n in ([number] * 3 if number % 4 == 0 else [number])]
    numbers[20], numbers[21] = numbers[21], numbers[20]
    numbers[30:30] = [numbers[25], numbers[10]]
    with drive() as it:
        it.send([turning[number] for number in numbers], numbers)
        assert it.last("intrinsics").k[0] == pytest.approx(FOCAL_LENGTH, rel=0.02)
        status = it.status()
        assert abs(np.log(float(status["fx"]) / FOCAL_LENGTH)) < 4 * float(status["relative_sigma"])
        assert "Traceback" not in it.process.log


def test_without_need_nothing_is_learned(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    with drive(listen=False, intrinsics_source="prior") as it:
        it.send(turning[:10])
        assert "intrinsics_state" not in it.client.diagnostic_values()
        it.client.subscribe("intrinsics", message_type=CameraInfo)
        it.send(turning[:1])
        it.send_until(lambda: it.last("intrinsics").k[0] > 0, turning)
        assert it.last("intrinsics").k[0] == pytest.approx(FOCAL_LENGTH, rel=0.05)
        assert it.last("depth/camera_info").k[0] == pytest.approx(PRIOR_FOCAL_LENGTH)
    with drive(listen=False, intrinsics_source="camera_info", intrinsics_verify=False) as it:
        it.camera = TRUTH
        it.send(turning[:10])
        values = it.client.diagnostic_values()
        assert values["intrinsics_source"] == "camera_info"
        assert "intrinsics_state" not in values


def test_the_learned_intrinsics_alone_are_reason_enough_to_work(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]]
) -> None:
    with drive() as it:
        it.client.unsubscribe("depth/camera_info")
        it.topics.remove("depth/camera_info")
        it.send(turning[:40])
        assert it.last("intrinsics").k[0] == pytest.approx(FOCAL_LENGTH, rel=0.01)


def test_a_motion_model_takes_part(
    drive: Callable[..., AbstractContextManager[Drive]], turning: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    motion = write_tiny_motion_model(tmp_path / "motion.onnx")
    with drive(intrinsics_motion_model=motion.path) as it:
        it.send(turning[:3])
        # What the motion model says is a second prior: its field of view is another one.
        assert float(it.status()["fx"]) != pytest.approx(PRIOR_FOCAL_LENGTH, rel=0.05)
        assert float(it.status()["relative_sigma"]) > 0.1
        assert "Traceback" not in it.process.log


def test_a_motion_model_that_is_none_is_said(
    start: Callable[..., AbstractContextManager[Any]], wide_model_path: Path
) -> None:
    with start(intrinsics_motion_model=wide_model_path) as (process, client):
        client.wait(lambda: "cannot configure" in process.log)
        assert "kind is 'depth'; expected a model of motion" in process.log
        assert "Traceback" not in process.log
