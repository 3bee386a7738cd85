"""Frames that cannot be read: each named once, few of them left out, many of them an error that lists them."""

from __future__ import annotations

import logging

import pytest

from training.data.unreadable import UnreadableFrames
from training.errors import DataError


def test_each_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    frames = UnreadableFrames(1000, report=True)
    with caplog.at_level(logging.WARNING):
        frames.add(["a.png is cut off", "b.png is cut off"])
        frames.add(["a.png is cut off", "c.png is cut off"])
    assert [record.getMessage() for record in caplog.records] == [
        "left out, 1 of 1000 frames so far: a.png is cut off",
        "left out, 2 of 1000 frames so far: b.png is cut off",
        "left out, 3 of 1000 frames so far: c.png is cut off",
    ]


def test_one_percent_goes_on_and_more_does_not() -> None:
    frames = UnreadableFrames(1000)
    frames.add([f"{i}.png" for i in range(10)])
    frames.add(["3.png"])
    with pytest.raises(DataError, match="11 of 1000 frames cannot be read, more than 1%: fetch") as caught:
        frames.add(["10.png"])
    assert str(caught.value).splitlines()[1:] == [f"  {i}.png" for i in range(11)]


def test_a_long_list_is_cut() -> None:
    with pytest.raises(DataError) as caught:
        UnreadableFrames(50).add(f"{i}.png" for i in range(30))
    assert str(caught.value).splitlines()[-2:] == ["  19.png", "  ... and 10 more"]
