"""A worker thread that always takes the newest item: nothing ever waits behind an older one. No ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Holds at most one item between threads; a newer one replaces it. Must not hold None."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._is_closed = False

    def put(self, item: T) -> bool:
        """Leave an item. Returns whether one was lost: an older one that nobody took, or this one if closed."""
        with self._condition:
            if self._is_closed:
                return True
            is_replaced = self._item is not None
            self._item = item
            self._condition.notify()
            return is_replaced

    def take(self) -> T | None:
        """Wait for an item and take it; None once the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._is_closed)
            item, self._item = self._item, None
            return item

    def close(self) -> bool:
        """Wake everybody up for good. Returns whether an item was lost."""
        with self._condition:
            self._is_closed = True
            is_lost = self._item is not None
            self._item = None
            self._condition.notify_all()
            return is_lost


class LatestWorker(Generic[T]):
    """Calls `work` on the newest item in a thread of its own, one at a time.

    `work` must not raise: what can go wrong with an item is its own to report.
    """

    def __init__(self, work: Callable[[T], None], name: str = "worker") -> None:
        self._work = work
        self._slot: LatestSlot[T] = LatestSlot()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: T) -> bool:
        """Hand over an item without waiting. Returns whether one was lost, see `LatestSlot.put`."""
        return self._slot.put(item)

    def stop(self) -> bool:
        """Finish the item at work and end the thread. Returns whether a waiting item was lost."""
        is_lost = self._slot.close()
        self._thread.join()
        return is_lost

    def _run(self) -> None:
        while (item := self._slot.take()) is not None:
            self._work(item)
