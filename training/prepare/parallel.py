"""Several recordings at once, each in a process of its own."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import cv2

from depth_node.errors import DepthNodeError
from training.prepare.frames import FrameStream, PrepareOptions
from training.prepare.progress import Outcome, ProgressBars
from training.prepare.writer import prepare_stream

ATTEMPTS = 2
"""How often a recording is begun whose process is killed; it goes on where it was."""

_SECONDS_BETWEEN_REPORTS = 0.2
_SECONDS_TO_STOP = 5.0


@dataclass(frozen=True)
class Task:
    """One recording, and where and how it is to be prepared. It can be sent to another process or machine."""

    stream: FrameStream
    output: Path
    options: PrepareOptions

    def run(self, report: Callable[[int, int | None], None]) -> Outcome:
        """Prepare it in this process; errors that a user can mend become its outcome.

        Args:
            report: called a few times a second with the frames read, and of all where that is known.
        """
        cv2.setNumThreads(1)  # one recording a core
        try:
            summary = prepare_stream(self.stream, self.output, self.options, _Throttled(report))
        except DepthNodeError as error:
            return Outcome(self.stream.name, error=str(error))
        return Outcome(self.stream.name, summary)


def prepare_in_processes(tasks: Sequence[Task], workers: int, bars: ProgressBars) -> list[Outcome]:
    """Prepare recordings, `workers` of them at a time; one whose process is killed is begun once more.

    When this is interrupted, the processes end at once; the same call goes on where they stopped.
    """
    pool = _Pool(bars)
    waiting = deque(_Worker(task) for task in tasks)
    try:
        while waiting or pool.running:
            while waiting and len(pool.running) < workers:
                pool.start(waiting.popleft())
            waiting.extend(pool.receive())
    finally:
        pool.stop()
    return [pool.outcomes[task.stream.name] for task in tasks]


@dataclass
class _Worker:
    """A task with the process that works on it."""

    task: Task
    attempt: int = 0
    process: SpawnProcess | None = None


class _Pool:
    def __init__(self, bars: ProgressBars) -> None:
        self.running: dict[Connection, _Worker] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._bars = bars

    def start(self, worker: _Worker) -> None:
        # A pipe each: a process that is killed can leave no lock behind that others wait for.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        worker.attempt += 1
        worker.process = context.Process(target=_work, args=(worker.task, theirs), daemon=True)
        worker.process.start()
        theirs.close()
        self.running[ours] = worker
        self._bars.update(worker.task.stream.name, 0, None)

    def receive(self) -> list[_Worker]:
        """Take in what the processes say; the workers that are to be started again."""
        again = []
        for connection in wait(list(self.running)):
            assert isinstance(connection, Connection)
            worker = self.running[connection]
            name = worker.task.stream.name
            try:
                kind, *values = connection.recv()
            except (EOFError, OSError):
                del self.running[connection]
                connection.close()
                if name not in self.outcomes and self._is_to_be_started_again(worker):
                    again.append(worker)
                continue
            if kind == "outcome":
                self._finish(*values)
            elif kind == "log":
                self._bars.log(*values)
            else:
                self._bars.update(name, *values)
        return again

    def stop(self) -> None:
        """End all processes, at first by asking."""
        processes = [worker.process for worker in self.running.values() if worker.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self.running.clear()

    def _is_to_be_started_again(self, worker: _Worker) -> bool:
        assert worker.process is not None
        worker.process.join()
        how = _how_it_ended(worker.process.exitcode)
        name = worker.task.stream.name
        if worker.attempt < ATTEMPTS:
            self._bars.log(logging.WARNING, f"{name}: its process ended ({how}); it is begun again where it stopped")
            return True
        self._finish(
            Outcome(
                name,
                error=f"its process ended {worker.attempt} times ({how}). If memory is short, use fewer workers; the "
                "same command goes on where it stopped",
            )
        )
        return False

    def _finish(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome
        self._bars.finish(outcome)


class _Throttled:
    """Passes reports on, a few times a second, and the last one."""

    def __init__(self, report: Callable[[int, int | None], None]) -> None:
        self._report = report
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() >= self._next or done == total:
            self._report(done, total)
            self._next = time.monotonic() + _SECONDS_BETWEEN_REPORTS


class _LogSender(logging.Handler):
    """Sends a process's log to the one that shows it."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send level and text."""
        self._send(("log", record.levelno, record.getMessage()))


def _work(task: Task, connection: Connection) -> None:
    """What a process does. It ends by itself when nobody listens any more: sending fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first of them ends the others
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # temporary files are removed
    logging.basicConfig(level=logging.INFO, handlers=[_LogSender(connection.send)], force=True)
    try:
        outcome = task.run(lambda done, total: connection.send(("progress", done, total)))
    except BrokenPipeError:
        return
    except Exception:
        outcome = Outcome(task.stream.name, error=f"this is an error of the program:\n{traceback.format_exc()}")
    connection.send(("outcome", outcome))


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
