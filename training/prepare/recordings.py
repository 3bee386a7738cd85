"""Recordings prepared side by side, on this machine or on a cluster, and what that comes to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from training.prepare.format import claim_output
from training.prepare.frames import FrameStream, PrepareOptions
from training.prepare.parallel import Task, prepare_in_processes
from training.prepare.progress import Outcome, ProgressBars
from training.prepare.ray_cluster import prepare_on_ray

PARTLY_READ = 3
"""Exit code where a recording was damaged, and what can be read of it is there."""

INTERRUPTED = 130


def prepare_recordings(
    streams: Sequence[FrameStream], output: Path, options: PrepareOptions, workers: int = 0, ray: str | None = None
) -> list[Outcome]:
    """Prepare each recording; those that an earlier call left unfinished go on where it stopped.

    Args:
        workers: recordings at a time; 0 for one a core.
        ray: address of a Ray cluster, or `local` to start one of `workers` here; None for processes on this machine.

    Raises:
        DataError: the output holds frames that were made otherwise, Ray is not installed, or there is no such cluster.
        KeyboardInterrupt: once the workers have ended.
    """
    claim_output(output, options)  # here, not by all processes at once
    tasks = [Task(stream, output.resolve(), options) for stream in streams]
    workers = workers or os.cpu_count() or 1
    with ProgressBars() as bars:
        if ray is not None:
            return prepare_on_ray(tasks, ray, workers, bars)
        return prepare_in_processes(tasks, workers, bars)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 when all is there, 2 when a recording failed, 3 when one could be read only in part."""
    if any(outcome.summary is None for outcome in outcomes):
        return 2
    return PARTLY_READ if any(outcome.summary and outcome.summary.unreadable for outcome in outcomes) else 0
