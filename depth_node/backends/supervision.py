"""A session kept alive: opened in the background, opened again when it fails, another one in its place meanwhile.

Whoever runs it waits neither for an engine that takes minutes to build, nor for a device that was lost.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.engine_cache import Progress
from depth_node.backends.interface import Session, one_line
from depth_node.backends.watchdog import HangingInferences
from depth_node.errors import BackendError, DepthNodeError

# Seconds from a failure to the next attempt; the last one repeats. The first attempt is made at once, since what failed
# may have been a single image.
RETRY_DELAYS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# A session that ran for so long was well: its failure begins with the first delay.
STABLE_S = 60.0
LOG_PERIOD_S = 10.0
# Each inference that never comes back keeps a thread and the memory of its session.
MOST_HANGING = 3
_HANGING_PERIOD_S = 1.0
_CLOSE_PATIENCE_S = 5.0

_LOGGER = logging.getLogger(__name__)

# Opens a session, and proves that it runs; may take minutes, of which it tells.
OpenSession = Callable[[Progress], Session]


class _ClosedError(DepthNodeError):
    """Ends what is under way when the supervised session is closed."""


@dataclass(frozen=True)
class SupervisedState:
    """How a supervised session is doing.

    fault: why it does not run as it should; notice: what it is waiting for; each a sentence, or empty.
    failures: how often it failed in mid-run.
    """

    fault: str = ""
    notice: str = ""
    failures: int = 0


class SupervisedSession:
    """A `Session` that outlives its failures. `run` is for one thread; everything else for any.

    name: of the session, for messages. open_session: opens it. open_other: opens what serves in its place, if there is
    anything.
    is_choice: whether the other one is as good as the first: it takes over for good where that cannot be opened.
    serves_meanwhile: whether the other one serves while the first is opened for long, or was lost.
    """

    def __init__(
        self,
        name: str,
        open_session: OpenSession,
        open_other: OpenSession | None = None,
        *,
        is_choice: bool = False,
        serves_meanwhile: bool = True,
        retry_delays: tuple[float, ...] = RETRY_DELAYS,
    ) -> None:
        self._wanted = name
        self._open_session = open_session
        self._open_other = open_other
        self._is_choice = is_choice
        self._serves_meanwhile = serves_meanwhile
        self._delays = retry_delays
        self._changed = threading.Condition()  # guards what follows
        self._session: Session | None = None
        self._other: Session | None = None
        self._fault, self._notice = "", f"{name} is loading"
        self._lost: list[Session] = []
        self._hanging = HangingInferences()
        self._first_fault: str | None = None  # None as long as it is not known whether the session can be opened
        self._is_closed = self._was_open = False
        self._failures = 0
        self._running = threading.Lock()  # held during an inference
        self._last_progress = -math.inf
        self._thread = threading.Thread(target=self._supervise, name=f"supervisor of {name}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> SupervisedState:
        """At this moment."""
        with self._changed:
            serving = "" if self._other is None else f"; {self._other.name} serves meanwhile"
            fault, notice = (text and f"{text}{serving}" for text in (self._fault, self._notice))
            return SupervisedState(fault, notice, self._failures)

    @property
    def is_serving(self) -> bool:
        """Whether `run` has something to run on."""
        return self._serving() is not None

    @property
    def name(self) -> str:
        """Of what serves; of what is wanted while nothing does."""
        serving = self._serving()
        return self._wanted if serving is None else serving.name

    @property
    def device(self) -> str:
        """See `Loaded`; empty while nothing serves."""
        serving = self._serving()
        return "" if serving is None else serving.device

    @property
    def precision(self) -> str:
        """See `Loaded`; empty while nothing serves."""
        serving = self._serving()
        return "" if serving is None else serving.precision

    def _serving(self) -> Session | None:
        with self._changed:
            return self._session or self._other

    def wait_until_decided(self) -> None:
        """Until the session is open, or it is clear that this will take long.

        Raises:
            BackendError: it could not be opened.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._first_fault is not None or self._is_closed)
            if self._first_fault:
                raise BackendError(self._first_fault)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `Session.run`.

        Raises:
            BackendError: nothing serves, or what served failed just now and is opened again.
        """
        with self._running:
            serving = self._serving()
            if serving is None:
                state = self.state
                raise BackendError(f"nothing to run it on for now: {state.fault or state.notice}")
            try:
                return serving.run(inputs)
            except BackendError as error:
                self._lose(serving, error)
                raise

    def _lose(self, session: Session, error: BackendError) -> None:
        """It failed in mid-run; nobody runs it any more, and the supervisor closes it."""
        with self._changed:
            self._failures += 1
            self._hanging.note(error)
            if session is self._session:
                self._session, self._fault = None, f"{self._wanted} failed ({error}) and is being started again"
            elif session is self._other:
                self._other = None
            else:
                return  # it was replaced meanwhile, and is being closed
            self._lost.append(session)
            self._changed.notify_all()

    def close(self) -> None:
        """See `Loaded.close`. What is being opened is given up."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_PATIENCE_S)  # a library that is loading cannot be interrupted
        with self._running, self._changed:
            _close(self._session, self._other, *self._lost)
            self._session, self._other, self._lost, self._notice = None, None, [], "it is closed"

    # The supervisor's thread

    def _supervise(self) -> None:
        attempt = 0
        try:
            while True:
                if self._open():
                    opened_at = time.monotonic()
                    self._wait_until_lost()
                    attempt = 0 if time.monotonic() - opened_at > STABLE_S else attempt
                else:
                    attempt = max(attempt, 1)
                delay = self._delays[min(attempt, len(self._delays) - 1)]
                # A device that hangs may do so again while the session is opened.
                if (delay or self._hanging.count()) and self._serves_meanwhile:
                    self._ensure_other()
                self._sleep(delay)
                self._wait_for_hanging()
                attempt += 1
        except _ClosedError:
            return

    def _open(self) -> bool:
        """Whether the session is open now."""
        try:
            session = self._open_session(self._progress)
        except _ClosedError:
            raise
        except Exception as error:  # whatever a library raises: without this thread, nobody would try again
            self._hanging.note(error)
            return self._cannot_open(_sentence(error))
        with self._changed:
            self._raise_if_closed(session)
            if self._fault or self._other is not None:
                _LOGGER.info("%s serves: %s, %s", session.name, session.device, session.precision)
            other, self._other = self._other, None
            self._session, self._was_open = session, True
            self._decide()
        with self._running:  # until no thread is in it
            _close(other)
        return True

    def _cannot_open(self, fault: str) -> bool:
        """Whether the other session took over for good."""
        if self._is_choice and not self._was_open and self._open_other is not None:
            failure = self._ensure_other()
            with self._changed:
                if self._other is not None:
                    _LOGGER.warning("backend auto: %s, since %s", self._other.name, fault)
                    self._session, self._other, self._was_open = self._other, None, True
                    self._wanted, self._open_session = self._session.name, self._open_other
                    self._open_other = None
                    self._decide()
                    return True
            fault = f"{fault}; {failure}"
        with self._changed:
            self._decide(fault)
        return False

    def _ensure_other(self) -> str:
        """Open what serves meanwhile, unless it does or there is nothing; why it cannot be opened."""
        self._close_lost()
        if self._other is not None or self._open_other is None:
            return ""
        try:
            other = self._open_other(lambda step, share: None)
        except Exception as error:
            return _sentence(error)
        with self._changed:
            self._raise_if_closed(other)
            self._other = other
        return ""

    def _progress(self, step: str, share: float) -> None:
        """Opening takes long."""
        with self._changed:
            self._raise_if_closed()
            percent = "" if math.isnan(share) else f", {share:.0%}"
            self._notice = f"{self._wanted} is being prepared ({step}{percent})"
        if time.monotonic() - self._last_progress < LOG_PERIOD_S:
            return
        if self._serves_meanwhile and (failure := self._ensure_other()):
            _LOGGER.warning("nothing serves meanwhile: %s", failure)
        with self._changed:
            self._first_fault = self._first_fault or ""
            self._changed.notify_all()
        _LOGGER.info("%s", self.state.notice)
        self._last_progress = time.monotonic()

    def _wait_until_lost(self) -> None:
        self._last_progress = -math.inf
        with self._changed:
            self._changed.wait_for(lambda: self._session is None or self._is_closed)
            self._raise_if_closed()
        _LOGGER.error("%s", self._fault)
        self._close_lost()

    def _close_lost(self) -> None:
        with self._changed:
            lost, self._lost = self._lost, []
        _close(*lost)

    def _wait_for_hanging(self) -> None:
        """Until there are few enough inferences that were given up and have not come back."""
        while (count := self._hanging.count()) >= MOST_HANGING:
            with self._changed:
                self._fault = (
                    f"{self._wanted} hangs: {count} inferences have not come back; restart the node, or the device"
                )
            self._sleep(_HANGING_PERIOD_S)

    def _sleep(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)
            self._raise_if_closed()

    def _decide(self, fault: str = "") -> None:
        self._fault, self._notice = fault, ""
        self._first_fault = fault if self._first_fault is None else self._first_fault
        self._changed.notify_all()

    def _raise_if_closed(self, opened: Session | None = None) -> None:
        """End the thread, and with it what it has just opened."""
        if self._is_closed:
            _close(opened)
            raise _ClosedError


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, DepthNodeError) else f"{type(error).__name__}: {one_line(error)}"


def _close(*sessions: Session | None) -> None:
    for session in sessions:
        if session is not None:
            session.close()
