"""Stamps that lie, two publishers and lost images, and what a real node makes of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depth_node.frames import stamp_ns
from node_harness import (
    FIRST_STAMP_S,
    FRAME_ID,
    assert_depth_is_right,
    depth_of,
    expected_depth,
    grey_image,
)

pytestmark = pytest.mark.usefixtures("private_ros_domain")

HOUR_NS = 3_600_000_000_000


def image_at(stamp: int, grey: int = 100, frame_id: str = FRAME_ID) -> Image:
    """Stamp in nanoseconds."""
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    return grey_image(Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id), grey)


def test_stamps_that_jump_stand_still_or_are_zero(start: Callable[..., Any]) -> None:
    """Each image keeps its very stamp; the log says once what is wrong with them."""
    first = (FIRST_STAMP_S + 1000) * 1_000_000_000 + 7
    stamps = [first + n * 50_000_000 for n in range(5)]
    stamps += [stamp - HOUR_NS for stamp in stamps]
    stamps += [first + HOUR_NS, first + HOUR_NS, first + HOUR_NS, 0, 0, first]
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        assert_depth_is_right(client)
        client.received["depth/image"].clear()
        for number, stamp in enumerate(stamps):
            client.send(image_at(stamp, grey=10 * number))
            client.wait(lambda n=number: len(client.received["depth/image"]) == n + 1)
        for number, result in enumerate(client.received["depth/image"]):
            assert stamp_ns(result) == stamps[number]
            np.testing.assert_allclose(depth_of(result), expected_depth(10 * number), rtol=1e-5)
        values = client.diagnostic_values()  # once a second, which is when stamps are judged
        for said in ("went back by 3600.200 s", "stand still", "have no stamp (zero)"):
            assert process.log.count(said) == 1
        assert "lost" not in process.log
        assert (values["errors_stamp_repeated"], values["errors_stamp_zero"]) == ("2", "2")
        assert float(values["stamp_age_p95_s"]) < FIRST_STAMP_S  # a zero stamp has no age


def test_simulated_clock_that_loops(start: Callable[..., Any]) -> None:
    with start("-p", "use_sim_time:=true") as (process, client):
        client.wait_until_active()  # although there is no /clock
        client.subscribe("depth/image")
        clock = client.publisher("/clock", Clock)
        for _ in range(3):
            for tick in range(1, 11):
                now = Time(sec=tick)
                clock.publish(Clock(clock=now))
                client.send(grey_image(Header(stamp=now, frame_id=FRAME_ID)))
                client.spin(0.05)
        client.spin(0.2)
        answered = [result.header.stamp.sec for result in client.received["depth/image"]]
        assert sum(b < a for a, b in pairwise(answered)) == 2
        assert len(answered) > 20
        values = client.diagnostic_values()  # at 1 Hz of real time, although the clock stands still
        assert int(values["errors_stamp_backward"]) == 2
        assert process.log.count("went back by 9.000 s") == 1
        assert "lost" not in process.log
        assert_depth_is_right(client)


def test_two_publishers_on_one_topic(start: Callable[..., Any]) -> None:
    """Both get their own depth in their own frame; the log names the mistake, and calls nothing lost."""
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        other = client.publisher("image", Image)
        client.wait(other.get_subscription_count)
        start_ns = FIRST_STAMP_S * 1_000_000_000
        for number in range(30):
            client.send(image_at(start_ns + number * 50_000_000, 100, "front"))
            client.spin(0.02)
            other.publish(image_at(start_ns + HOUR_NS + number * 50_000_000, 200, "rear"))
            client.spin(0.02)
        greys = {"front": 100, "rear": 200}
        for frame_id, grey in greys.items():
            results = [r for r in client.received["depth/image"] if r.header.frame_id == frame_id]
            assert len(results) > 15
            for result in results:
                np.testing.assert_allclose(depth_of(result), expected_depth(grey), rtol=1e-5)
        client.wait(lambda: "two publishers on the topic" in process.log)
        assert process.log.count("two publishers on the topic") == 1
        assert process.log.count("the images changed from frame") == 1
        assert process.log.count(f"2 publishers on {client.resolved('image')}") == 1
        assert "lost" not in process.log


def test_heavy_loss_is_said_once(start: Callable[..., Any]) -> None:
    """Images at a steady rate by their stamps, but in bursts, of which a queue of one keeps little."""
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        assert_depth_is_right(client)
        first = (FIRST_STAMP_S + 1000) * 1_000_000_000
        for number in range(400):
            client.send(image_at(first + number * 33_000_000))
            if number % 10 == 9:
                client.spin(0.02)
        assert_depth_is_right(client)
        client.wait(lambda: "config/fastdds.xml" in process.log)
        assert process.log.count("of the recent images were lost between their publisher and this node") == 1
        assert process.log.count("config/fastdds.xml") == 1
        values = client.diagnostic_values()
        assert int(values["errors_images_lost"]) > 1
        assert int(values["frames_dropped"]) > 80
        assert client.diagnostics[-1].level == b"\x01"
