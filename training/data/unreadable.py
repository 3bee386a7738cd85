"""Frames that cannot be read: left out while they are few, the end of a run when they are many."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from training.errors import DataError

MAX_SHARE = 0.01
SHOWN = 20

logger = logging.getLogger(__name__)


class UnreadableFrames:
    """Why frames could not be read, each reason once.

    Args:
        total: frames that there are. More than `MAX_SHARE` of them unreadable is an error.
        report: log each new reason.
    """

    def __init__(self, total: int, report: bool = False) -> None:
        self.total, self.report = total, report
        self.reasons: list[str] = []
        self._known: set[str] = set()

    def add(self, reasons: Iterable[str]) -> None:
        """Note reasons, which name the file.

        Raises:
            DataError: too many frames cannot be read; the message lists them.
        """
        new = [reason for reason in dict.fromkeys(reasons) if reason not in self._known]
        self._known.update(new)
        self.reasons += new
        for count, reason in enumerate(new, start=len(self.reasons) - len(new) + 1):
            if self.report:
                logger.warning("left out, %d of %d frames so far: %s", count, self.total, reason)
        if len(self.reasons) > MAX_SHARE * self.total and new:
            raise DataError(self._message())

    def _message(self) -> str:
        more = len(self.reasons) - SHOWN
        summary = (
            f"{len(self.reasons)} of {self.total} frames cannot be read, more than {MAX_SHARE:.0%}: "
            "fetch or export them again, or take them out of the data"
        )
        return "\n  ".join([summary, *self.reasons[:SHOWN], *([f"... and {more} more"] if more > 0 else [])])
