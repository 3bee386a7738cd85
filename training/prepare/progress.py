"""What happens to recordings that are prepared at the same time, as a user sees it: a bar each, then a line each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from training.prepare.frames import PrepareSummary


@dataclass(frozen=True)
class Outcome:
    """What became of one recording: a summary, or why there is none."""

    name: str
    summary: PrepareSummary | None = None
    error: str = ""

    @property
    def line(self) -> str:
        """For the user."""
        if self.summary is None:
            return f"{self.name}: {self.error}"
        counts = [f"{self.summary.written} frames"]
        if self.summary.skipped_still:
            counts.append(f"{self.summary.skipped_still} left out (standing still)")
        if self.summary.gaps:
            counts.append(f"{self.summary.gaps} gaps")
        if self.summary.unreadable:
            counts.append(f"{len(self.summary.unreadable)} unreadable")
        return f"{self.name}: {', '.join(counts)}"


class ProgressBars:
    """A context manager; one bar for each recording that is being prepared."""

    def __init__(self, console: Console | None = None) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bars.stop()

    def update(self, name: str, done: int, total: int | None) -> None:
        """Frames read, and of all where that is known."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(escape(name), total=total, completed=done, rate="")
        task = self._bars.tasks[self._bars.task_ids.index(self._tasks[name])]
        rate = f"{task.speed:.0f}/s" if task.speed else ""
        self._bars.update(self._tasks[name], completed=done, total=total, rate=rate)

    def finish(self, outcome: Outcome) -> None:
        """Replace the bar by a line."""
        if outcome.name in self._tasks:
            self._bars.remove_task(self._tasks.pop(outcome.name))
        self._bars.console.print(outcome.line, markup=False, highlight=False, soft_wrap=True)

    def log(self, level: int, text: str) -> None:
        """Print a message above the bars, from INFO on."""
        if level >= logging.INFO:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
