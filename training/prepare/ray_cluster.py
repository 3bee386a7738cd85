"""Recordings prepared on a Ray cluster: the same task for each of them, on whichever machine is free.

Every machine needs this package in the same version, and sees the recordings and the output under the same paths.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from training.errors import DataError
from training.prepare.parallel import ATTEMPTS, Task
from training.prepare.progress import Outcome, ProgressBars

LOCAL = "local"

_SECONDS_BETWEEN_LOOKS = 0.5


def prepare_on_ray(tasks: Sequence[Task], address: str, workers: int, bars: ProgressBars) -> list[Outcome]:
    """Prepare recordings as tasks of one core each; one whose worker or machine dies is begun once more.

    Args:
        address: `auto`, `HOST:6379` or `ray://HOST:10001`; `local` starts a cluster of `workers` on this machine.

    Raises:
        DataError: Ray is not installed, or there is no such cluster.
    """
    ray = _connected(address, workers)
    try:
        return _run(ray, tasks, bars)
    finally:
        ray.shutdown()


def _run(ray: Any, tasks: Sequence[Task], bars: ProgressBars) -> list[Outcome]:
    board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
    remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_run_task)
    names = {remote.remote(task, board): task.stream.name for task in tasks}
    outcomes: dict[str, Outcome] = {}
    while len(outcomes) < len(names):
        pending = [reference for reference, name in names.items() if name not in outcomes]
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=_SECONDS_BETWEEN_LOOKS)
        for name, progress in ray.get(board.read.remote()).items():
            if name not in outcomes:
                bars.update(name, *progress)
        for reference in ready:
            name = names[reference]
            outcomes[name] = _outcome(ray, reference, name)
            bars.finish(outcomes[name])
    return [outcomes[task.stream.name] for task in tasks]


def _outcome(ray: Any, reference: Any, name: str) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return Outcome(name, error=f"this is an error of the program:\n{error}")
    except ray.exceptions.RayError as error:
        reason = str(error).strip()
        return Outcome(name, error=f"its worker ended {ATTEMPTS} times; the same command goes on there: {reason}")
    return outcome


class _Board:
    """An actor that holds how far each recording is."""

    def __init__(self) -> None:
        self._progress: dict[str, tuple[int, int | None]] = {}

    def write(self, name: str, done: int, total: int | None) -> None:
        self._progress[name] = done, total

    def read(self) -> dict[str, tuple[int, int | None]]:
        return self._progress


def _run_task(task: Task, board: Any) -> Outcome:
    return task.run(lambda done, total: board.write.remote(task.stream.name, done, total))


def _connected(address: str, workers: int) -> Any:
    try:
        import ray
    except ImportError as error:
        raise DataError("--ray needs Ray: pip install 'ray'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address == LOCAL:
            # Workers find what this process finds, wherever it was started.
            paths = {"env_vars": {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}}
            ray.init(num_cpus=workers, include_dashboard=False, logging_level=logging.WARNING, runtime_env=paths)
        else:
            ray.init(address=address, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DataError(f"no Ray cluster at {address} ({error}); start one with `ray start --head`") from error
    return ray
