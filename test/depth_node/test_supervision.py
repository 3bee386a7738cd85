"""A supervised session: opened in the background, replaced while it is lost, opened again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.backends.engine_cache import Progress
from depth_node.backends.supervision import MOST_HANGING, SupervisedSession
from depth_node.backends.watchdog import WatchedSession
from depth_node.errors import BackendError

INPUTS = {"image": np.zeros((1, 2, 2, 3), np.uint8)}


class FakeSession:
    """Answers with its number, until it is told to fail."""

    device = "CPU"
    precision = "fp32"

    def __init__(self, name: str, number: float) -> None:
        self.name = name
        self.number = number
        self.failure = ""
        self.is_closed = False
        self.is_running = False

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        assert not self.is_closed
        self.is_running = True
        time.sleep(0.001)
        self.is_running = False
        if self.failure:
            raise BackendError(self.failure)
        return {"output": np.float32([self.number])}

    def close(self) -> None:
        assert not self.is_running
        assert not self.is_closed
        self.is_closed = True


class Library:
    """Opens sessions, unless it is told to fail; `gate` closed keeps it busy, with progress."""

    def __init__(self, name: str, first: float) -> None:
        self.name = name
        self.failure: str | Exception = ""
        self.gate = threading.Event()
        self.gate.set()
        self.sessions: list[FakeSession] = []
        self.attempts = 0
        self._first = first

    def open(self, progress: Progress) -> FakeSession:
        self.attempts += 1
        while not self.gate.wait(0.005):
            progress("choosing kernels", 0.25)
        if isinstance(self.failure, Exception):
            raise self.failure
        if self.failure:
            raise BackendError(self.failure)
        self.sessions.append(FakeSession(self.name, self._first + len(self.sessions)))
        return self.sessions[-1]


@pytest.fixture
def gpu() -> Library:
    return Library("tensorrt", 100)


@pytest.fixture
def cpu() -> Library:
    return Library("openvino", 200)


@contextmanager
def supervised(gpu: Library, cpu: Library | None, **options: Any) -> Iterator[SupervisedSession]:
    session = SupervisedSession(
        "tensorrt", gpu.open, cpu.open if cpu else None, **{"retry_delays": (0.0, 0.02, 0.04), **options}
    )
    try:
        yield session
    finally:
        gpu.gate.set()
        session.close()
        opened = gpu.sessions + (cpu.sessions if cpu else [])
        assert all(session.is_closed for session in opened)


def answer(session: SupervisedSession) -> float:
    return float(session.run(INPUTS)["output"][0])


def wait(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


def test_what_is_opened_serves(gpu: Library, cpu: Library) -> None:
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        assert answer(session) == 100
        assert (session.name, session.device, session.precision) == ("tensorrt", "CPU", "fp32")
        assert (session.state.fault, session.state.notice) == ("", "")
        assert cpu.attempts == 0


def test_another_one_serves_while_the_engine_is_built(
    gpu: Library, cpu: Library, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.gate.clear()
    with caplog.at_level(logging.INFO), supervised(gpu, cpu) as session:
        session.wait_until_decided()
        assert (session.name, answer(session)) == ("openvino", 200)
        assert session.state.notice == "tensorrt is being prepared (choosing kernels, 25%); openvino serves meanwhile"
        assert session.state.fault == ""
        assert session.state.notice in caplog.text

        gpu.gate.set()
        wait(lambda: session.name == "tensorrt")
        assert answer(session) == 100
        wait(lambda: cpu.sessions[0].is_closed)
        assert session.state.notice == ""
        assert "tensorrt serves: CPU, fp32" in caplog.text


def test_nothing_serves_meanwhile_where_that_is_not_allowed(gpu: Library, cpu: Library) -> None:
    gpu.gate.clear()
    with supervised(gpu, cpu, serves_meanwhile=False) as session:
        session.wait_until_decided()
        assert not session.is_serving
        with pytest.raises(BackendError, match="nothing to run it on for now: tensorrt is being prepared"):
            session.run(INPUTS)
        gpu.gate.set()
        wait(lambda: session.is_serving)
        assert answer(session) == 100
        assert cpu.attempts == 0


def test_a_session_that_fails_once_is_opened_again_at_once(
    gpu: Library, cpu: Library, caplog: pytest.LogCaptureFixture
) -> None:
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        gpu.sessions[0].failure = "CUDA failed at an inference: unspecified launch failure"
        with pytest.raises(BackendError, match="unspecified launch failure"):
            session.run(INPUTS)
        wait(lambda: session.is_serving)
        assert answer(session) == 101
        assert gpu.sessions[0].is_closed
        assert cpu.attempts == 0
        assert (session.state.fault, session.state.failures) == ("", 1)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("tensorrt failed (CUDA failed at an inference")


def test_a_lost_device_is_replaced_and_comes_back(gpu: Library, cpu: Library) -> None:
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        gpu.sessions[0].failure = "device lost"
        gpu.failure = "no CUDA device answers"
        with pytest.raises(BackendError, match="device lost"):
            session.run(INPUTS)
        wait(lambda: session.name == "openvino")
        assert answer(session) == 200
        wait(lambda: gpu.attempts > 3)
        assert session.state.fault == "no CUDA device answers; openvino serves meanwhile"

        gpu.failure = ""
        wait(lambda: session.name == "tensorrt")
        assert answer(session) == 101
        assert session.state.fault == ""


class HangingLibrary(Library):
    """Its sessions are watched; their inferences wait while `may_answer` is not set."""

    def __init__(self, name: str, first: float) -> None:
        super().__init__(name, first)
        self.may_answer = threading.Event()
        self.may_answer.set()

    def open(self, progress: Progress) -> Any:
        session = super().open(progress)
        answer_now = session.run

        def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
            assert self.may_answer.wait(20)
            return answer_now(inputs)

        session.run = run  # type: ignore[method-assign]
        return WatchedSession(session, 0.05)


@pytest.fixture
def hanging_gpu() -> Iterator[HangingLibrary]:
    gpu = HangingLibrary("tensorrt", 100)
    yield gpu
    gpu.may_answer.set()


def test_another_one_serves_before_a_device_that_hangs_is_asked_again(
    hanging_gpu: HangingLibrary, cpu: Library
) -> None:
    gpu = hanging_gpu
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        assert answer(session) == 100
        gpu.may_answer.clear()
        gpu.gate.clear()  # and to open a session hangs, too
        with pytest.raises(BackendError, match=r"tensorrt has not answered within 0.05 s"):
            session.run(INPUTS)
        wait(lambda: session.name == "openvino")
        assert answer(session) == 200
        assert session.state.failures == 1
        assert "tensorrt has not answered within 0.05 s" in session.state.fault

        gpu.may_answer.set()
        gpu.gate.set()
        wait(lambda: session.name == "tensorrt")
        assert answer(session) == 101
        assert session.state.fault == ""


def test_alone_a_new_session_serves_but_not_more_and_more_of_them(hanging_gpu: HangingLibrary) -> None:
    gpu = hanging_gpu
    with supervised(gpu, None, retry_delays=(0.0,)) as session:
        session.wait_until_decided()
        gpu.may_answer.clear()
        for number in range(MOST_HANGING):
            wait(lambda: session.is_serving)
            assert session.state.failures == number
            with pytest.raises(BackendError, match="has not answered"):
                session.run(INPUTS)
        wait(lambda: session.state.fault.startswith(f"tensorrt hangs: {MOST_HANGING} inferences have not come back"))
        assert not session.is_serving
        assert len(gpu.sessions) == MOST_HANGING

        gpu.may_answer.set()
        wait(lambda: session.is_serving)
        assert answer(session) == 100 + MOST_HANGING
        assert session.state.fault == ""
        wait(lambda: all(hung.is_closed for hung in gpu.sessions[:MOST_HANGING]))


def test_attempts_are_made_with_growing_pauses(gpu: Library) -> None:
    with supervised(gpu, None, retry_delays=(0.0, 0.05, 10.0)) as session:
        session.wait_until_decided()
        gpu.failure = gpu.sessions[0].failure = "device lost"
        with pytest.raises(BackendError, match="device lost"):
            session.run(INPUTS)
        wait(lambda: gpu.attempts == 3)
        time.sleep(0.2)
        assert gpu.attempts == 3
        with pytest.raises(BackendError, match="nothing to run it on for now: device lost"):
            session.run(INPUTS)


def test_a_replacement_that_fails_is_replaced_too(gpu: Library, cpu: Library) -> None:
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        gpu.sessions[0].failure = gpu.failure = "device lost"
        with pytest.raises(BackendError, match="device lost"):
            session.run(INPUTS)
        wait(lambda: session.name == "openvino")
        cpu.sessions[0].failure = "no memory"
        with pytest.raises(BackendError, match="no memory"):
            session.run(INPUTS)
        wait(lambda: len(cpu.sessions) == 2 and session.is_serving)
        assert answer(session) == 201
        assert cpu.sessions[0].is_closed


def test_what_cannot_be_opened_at_first_is_an_error(gpu: Library, cpu: Library) -> None:
    gpu.failure = "no NVIDIA driver is loaded"
    with supervised(gpu, cpu) as session, pytest.raises(BackendError, match=r"^no NVIDIA driver is loaded"):
        session.wait_until_decided()


def test_another_exception_of_a_library_is_an_error_too(gpu: Library) -> None:
    gpu.failure = ValueError("broken\npipe")
    with supervised(gpu, None) as session, pytest.raises(BackendError, match="ValueError: broken pipe"):
        session.wait_until_decided()


def test_a_choice_takes_the_other_one_for_good(gpu: Library, cpu: Library, caplog: pytest.LogCaptureFixture) -> None:
    gpu.failure = "out of device memory"
    with supervised(gpu, cpu, is_choice=True) as session:
        session.wait_until_decided()
        assert (session.name, answer(session)) == ("openvino", 200)
        assert (session.state.fault, session.state.notice) == ("", "")
        assert "backend auto: openvino, since out of device memory" in caplog.text
        cpu.sessions[0].failure = "illegal instruction"
        with pytest.raises(BackendError, match="illegal instruction"):
            session.run(INPUTS)
        wait(lambda: session.is_serving)
        assert answer(session) == 201
        assert gpu.attempts == 1


def test_a_choice_of_which_nothing_works_says_why_of_each(gpu: Library, cpu: Library) -> None:
    gpu.failure, cpu.failure = "out of device memory", "OpenVINO cannot load it"
    with (
        supervised(gpu, cpu, is_choice=True) as session,
        pytest.raises(BackendError, match=r"^out of device memory; OpenVINO cannot load it"),
    ):
        session.wait_until_decided()


def test_closing_gives_up_what_is_being_built(gpu: Library, cpu: Library) -> None:
    gpu.gate.clear()
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        started = time.monotonic()
        session.close()
        assert time.monotonic() - started < 2
        assert not gpu.sessions
        with pytest.raises(BackendError, match="it is closed"):
            session.run(INPUTS)


def test_a_replacement_that_fails_as_it_is_replaced_does_not_harm_its_successor(gpu: Library, cpu: Library) -> None:
    gpu.gate.clear()
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        is_inside, may_end = threading.Event(), threading.Event()

        def fail_late(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
            is_inside.set()
            assert may_end.wait(10)
            raise BackendError("no memory")

        cpu.sessions[0].run = fail_late  # type: ignore[method-assign]
        errors = []

        def run() -> None:
            try:
                session.run(INPUTS)
            except BackendError as error:
                errors.append(str(error))

        frame = threading.Thread(target=run)
        frame.start()
        assert is_inside.wait(10)
        gpu.gate.set()
        wait(lambda: session.name == "tensorrt")
        assert not cpu.sessions[0].is_closed
        may_end.set()
        frame.join()
        assert errors == ["no memory"]
        assert answer(session) == 100
        wait(lambda: cpu.sessions[0].is_closed)


def test_a_replacement_that_cannot_be_opened_leaves_the_fault(gpu: Library, cpu: Library) -> None:
    with supervised(gpu, cpu) as session:
        session.wait_until_decided()
        gpu.failure = gpu.sessions[0].failure = "device lost"
        cpu.failure = ValueError("broken")
        with pytest.raises(BackendError, match="device lost"):
            session.run(INPUTS)
        wait(lambda: cpu.attempts > 1)
        assert session.state.fault == "device lost"
        gpu.failure = ""
        wait(lambda: session.is_serving)
        assert answer(session) == 101


def test_frames_run_on_while_sessions_come_and_go(gpu: Library, cpu: Library) -> None:
    """What is closed is never in use: `FakeSession` asserts it."""
    answered = 0
    with supervised(gpu, cpu, retry_delays=(0.001,)) as session:
        session.wait_until_decided()
        for number in range(300):
            if number % 20 == 10:
                gpu.sessions[-1].failure = "lost"
                gpu.failure = "lost" if number % 40 == 10 else ""
            if number % 20 == 0:
                gpu.failure = ""
            try:
                session.run(INPUTS)
                answered += 1
            except BackendError:
                time.sleep(0.001)
        assert answered > 150
