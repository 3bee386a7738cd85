"""A time limit for inferences: a library that waits for ever for its device does not take its user along."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # the built-in one from Python 3.11 on
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.interface import Session
from depth_node.backends.session_user import SessionUser
from depth_node.errors import InferenceTimeoutError

_Outputs = dict[str, NDArray[np.float32]]


class HangingInferences:
    """Those that were given up and have not come back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: list[InferenceTimeoutError] = []

    def note(self, error: Exception) -> None:
        """One more, if this is such an error."""
        if isinstance(error, InferenceTimeoutError):
            with self._lock:
                self._errors.append(error)

    def count(self) -> int:
        """How many there are."""
        with self._lock:
            self._errors = [error for error in self._errors if not error.is_over()]
            return len(self._errors)


class WatchedSession(SessionUser):
    """A `Session` whose inferences run in a thread of its own, and are given up when they take longer than `timeout_s`.

    A thread that waits inside of a library cannot be ended, nor can its session be closed meanwhile: `close` leaves
    both behind, and the thread closes the session if it ever comes back (`is_hanging` tells).
    """

    def __init__(self, session: Session, timeout_s: float) -> None:
        super().__init__(session)
        self._timeout_s = timeout_s
        self._given_up: Future[_Outputs] | None = None
        self._calls: queue.SimpleQueue[tuple[Mapping[str, NDArray[Any]], Future[_Outputs]] | None] = queue.SimpleQueue()
        # A daemon, so that the process can end in spite of it.
        self._thread = threading.Thread(target=self._work, name=f"inference of {session.name}", daemon=True)
        self._thread.start()

    @property
    def is_hanging(self) -> bool:
        """Whether an inference was given up, and has not come back."""
        return self._given_up is not None and not self._given_up.done()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> _Outputs:
        """See `Session.run`.

        Raises:
            InferenceTimeoutError: it takes too long, or one before it did; the session is of no more use.
        """
        if self._given_up is None:
            call: Future[_Outputs] = Future()
            self._calls.put((inputs, call))
            try:
                return call.result(self._timeout_s)
            except FutureTimeoutError:
                if call.done():  # at the last moment, or it is the library's own error
                    return call.result()
                self._given_up = call
        raise InferenceTimeoutError(
            f"{self.name} has not answered within {self._timeout_s:g} s (inference_timeout)", self._given_up.done
        )

    def close(self) -> None:
        """See `Loaded.close`."""
        self._calls.put(None)
        if not self.is_hanging:
            self._thread.join()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            inputs, call = item
            try:
                call.set_result(self._session.run(inputs))
            except BaseException as error:  # the caller's to handle
                call.set_exception(error)
            del item, inputs, call  # not kept until the next one
        self._session.close()
