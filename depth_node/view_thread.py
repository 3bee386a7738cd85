"""Shows some of the frames to those who learn from them, in a thread of its own. No ROS."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

from depth_node.errors import DepthNodeError
from depth_node.frames import NetworkView
from depth_node.rate_limit import RateLimiter
from depth_node.worker import LatestWorker


class ViewConsumer(Protocol):
    """Learns from views."""

    def needs_views(self) -> bool:
        """Whether there is anything to learn for. Called in the depth worker."""
        ...

    def add(self, view: NetworkView) -> None:
        """Learn from one more view. Called in the thread of views."""
        ...


class ViewThread:
    """Hands views to consumers one at a time; never waits, and nothing waits for it."""

    def __init__(self, consumers: Sequence[ViewConsumer], report: Callable[[str, str], None]) -> None:
        """report: told a kind and a reason where a consumer raises."""
        self._consumers = consumers
        self._report = report
        self._limiter = RateLimiter()
        self._is_busy = False
        self._worker = LatestWorker(self._work, name="views")

    def wants(self, now: float, rate: float) -> bool:
        """Whether the frame of this moment is to be shown: somebody needs it, the last one is done with, it is time.

        now: seconds of a steady clock. rate: views per second at most; 0 is no limit.
        """
        is_needed = not self._is_busy and any(consumer.needs_views() for consumer in self._consumers)
        return is_needed and self._limiter.admits(now, rate)

    def show(self, view: NetworkView) -> None:
        """Hand over a view, whose arrays are nobody else's."""
        self._is_busy = True
        self._worker.submit(view)

    def stop(self) -> None:
        """Finish the view at work and end the thread."""
        self._worker.stop()

    def _work(self, view: NetworkView) -> None:
        for consumer in self._consumers:
            try:
                if consumer.needs_views():
                    consumer.add(view)
            except DepthNodeError as error:
                self._report(type(error).__name__, str(error))
            except Exception:  # it would end the thread without a word
                self._report("views", traceback.format_exc())
        self._is_busy = False
