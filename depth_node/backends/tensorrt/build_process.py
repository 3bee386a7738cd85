"""Engines built in a process of their own: the node goes on with its frames, and can give a build up at any moment.

The process leaves the engine in the cache, and reports on its standard output, one JSON object a line.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from depth_node.backends.engine_cache import Progress
from depth_node.backends.interface import one_line
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError, DepthNodeError

# So that the frames of a fallback backend come first.
_NICENESS = 10

_LOGGER = logging.getLogger(__name__)


def build_apart(model: Path, options: EngineOptions, progress: Progress) -> None:
    """Build the engine of a model file, and wait for it. What `progress` raises ends the process.

    Raises:
        BackendError: it cannot be built, or the process ended without a word.
    """
    command = [sys.executable, "-m", __name__, str(model), json.dumps(asdict(options))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # Its standard input closes when this process ends, however that comes about: then it ends, too. Ctrl+C is for us.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                _follow(line, progress)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise BackendError(f"the process that builds the TensorRT engine {_end(process.returncode)}")


def _follow(line: str, progress: Progress) -> None:
    try:
        report: Any = json.loads(line)
    except ValueError:  # libraries print, too
        return
    if not isinstance(report, dict):
        return
    if "error" in report:
        raise BackendError(report["error"])
    if "log" in report:
        _LOGGER.log(report["level"], "%s", report["log"])
    if "step" in report:
        progress(report["step"], report["share"])


def _end(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


class _Reports(logging.Handler):
    """Sends what is logged to the waiting process."""

    def emit(self, record: logging.LogRecord) -> None:
        _report(log=record.getMessage(), level=record.levelno)


def _report(**report: Any) -> None:
    try:
        print(json.dumps(report), flush=True)
    except BrokenPipeError:  # the waiting process is gone, which `_end_with_parent` has not seen yet
        os._exit(1)


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock this thread would hold when the interpreter shuts down.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main(argv: list[str]) -> int:
    """Build: model file, options as JSON. Exit code 0 also when an error was reported."""
    os.nice(_NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, handlers=[_Reports()])
    try:
        from depth_node.backends.tensorrt.engines import build_engine
        from depth_node.model import read_any_model
        from depth_node.precision.recipe import MeasuredRecipe

        build_engine(
            read_any_model(argv[0]),
            EngineOptions(**json.loads(argv[1])),
            MeasuredRecipe(),
            lambda step, share: _report(step=step, share=share),
        )
    except DepthNodeError as error:
        _report(error=str(error))
    except Exception as error:
        _report(error=f"building the TensorRT engine failed: {type(error).__name__}: {one_line(error)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
