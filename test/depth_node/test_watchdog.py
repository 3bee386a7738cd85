"""A session with a time limit: what answers in time is passed on, what hangs is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.backends.watchdog import HangingInferences, WatchedSession
from depth_node.errors import BackendError, InferenceTimeoutError

TIMEOUT_S = 0.1
INPUTS = {"image": np.zeros((1, 2, 2, 3), np.uint8)}


class FakeSession:
    """Hangs while `may_answer` is not set; then raises `error`, if there is one, or answers."""

    name, device, precision = "tensorrt", "Fake GPU", "fp16"

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: BaseException | None = None
        self.is_closed = threading.Event()
        self.threads: set[int] = set()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        assert not self.is_closed.is_set()
        assert inputs is INPUTS
        self.threads.add(threading.get_ident())
        assert self.may_answer.wait(20)
        if self.error is not None:
            raise self.error
        return {"output": np.float32([7])}

    def close(self) -> None:
        self.is_closed.set()


@pytest.fixture
def session() -> Iterator[FakeSession]:
    session = FakeSession()
    yield session
    session.may_answer.set()


def test_answers_are_passed_on(session: FakeSession) -> None:
    watched = WatchedSession(session, 20)
    assert (watched.name, watched.device, watched.precision) == ("tensorrt", "Fake GPU", "fp16")
    assert [watched.run(INPUTS)["output"][0] for _ in range(3)] == [7, 7, 7]
    assert len(session.threads) == 1  # CUDA graphs and thread-local state of a library stay where they are
    watched.close()
    assert session.is_closed.is_set()
    assert not watched.is_hanging


@pytest.mark.parametrize("error", [BackendError("device lost"), TimeoutError("of the library itself")])
def test_errors_are_passed_on(session: FakeSession, error: Exception) -> None:
    session.error = error
    watched = WatchedSession(session, 20)
    with pytest.raises(type(error), match=str(error)):
        watched.run(INPUTS)
    assert not watched.is_hanging
    session.error = None
    assert watched.run(INPUTS)["output"][0] == 7
    watched.close()


def test_what_hangs_is_given_up_and_closed_when_it_comes_back(session: FakeSession) -> None:
    session.may_answer.clear()
    watched, hanging = WatchedSession(session, TIMEOUT_S), HangingInferences()
    started = time.monotonic()
    with pytest.raises(InferenceTimeoutError, match=r"^tensorrt has not answered within 0.1 s") as first:
        watched.run(INPUTS)
    assert time.monotonic() - started >= TIMEOUT_S
    hanging.note(first.value)
    hanging.note(BackendError("of another kind"))
    assert (watched.is_hanging, hanging.count()) == (True, 1)
    with pytest.raises(InferenceTimeoutError):  # at once: the fixture's wait is 20 s
        watched.run(INPUTS)

    watched.close()
    assert not session.is_closed.is_set()  # still in use by the library
    session.may_answer.set()
    assert session.is_closed.wait(10)
    assert (watched.is_hanging, hanging.count()) == (False, 0)
