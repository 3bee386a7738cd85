"""Engines are built in a process of their own: what it reports, how it fails, how it is ended."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from depth_node.backends.tensorrt import build_process
from depth_node.backends.tensorrt.build_process import build_apart
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = EngineOptions("fp16", workspace_mib=64)


def ignore(step: str, share: float) -> None:
    pass


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Python: a shell script, for the test to write."""
    script = tmp_path / "python"
    script.touch(0o700)
    monkeypatch.setattr(build_process.sys, "executable", str(script))
    return script


def write(script: Path, *lines: str) -> None:
    script.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")


def test_progress_and_log_are_passed_on(interpreter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = tmp_path / "arguments"
    write(
        interpreter,
        f'printf "%s\\n" "$@" > {arguments}',
        "echo 'what a library prints'",
        "echo 17",  # JSON, too
        """echo '{"step": "Building", "share": 0.5}'""",
        """echo '{"step": "Building", "share": NaN}'""",
        """echo '{"log": "timing all kernels again", "level": 30}'""",
    )
    told = []
    build_apart(Path("model.onnx"), OPTIONS, lambda step, share: told.append((step, str(share))))
    assert told == [("Building", "0.5"), ("Building", "nan")]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "timing all kernels again")
    ]
    module, model, options = arguments.read_text().splitlines()[1:]
    assert (module, model) == ("depth_node.backends.tensorrt.build_process", "model.onnx")
    assert options == '{"precision": "fp16", "workspace_mib": 64, "batch": 1}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("""echo '{"error": "no CUDA device answers"}'""", "^no CUDA device answers$"),
        ("kill -SEGV $$", "the process that builds the TensorRT engine was ended by SIGSEGV"),
        ("kill -KILL $$", "was ended by SIGKILL"),
        ("exit 3", "ended with exit code 3"),
    ],
)
def test_a_failure_is_one_sentence(interpreter: Path, line: str, message: str) -> None:
    write(interpreter, line)
    with pytest.raises(BackendError, match=message):
        build_apart(Path("model.onnx"), OPTIONS, ignore)


def test_progress_that_raises_ends_the_process(interpreter: Path, tmp_path: Path) -> None:
    write(interpreter, f"echo $$ > {tmp_path}/pid", """echo '{"step": "Building", "share": 0.5}'""", "exec sleep 60")

    def stop(step: str, share: float) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build_apart(Path("model.onnx"), OPTIONS, stop)
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_process_ends_with_the_one_that_waits_for_it(tmp_path: Path) -> None:
    """However that one ends: its end of the pipe is closed then."""
    script = (
        "import sys, threading, time; from depth_node.backends.tensorrt import build_process; "
        "threading.Thread(target=build_process._end_with_parent, daemon=True).start(); print('up', flush=True); "
        "time.sleep(float(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, "60"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.stdin.close()
        assert process.wait(60) == 1
    with subprocess.Popen([*command[:-1], "0"], stdin=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.wait(60) == 0  # it ends by itself, with that thread still reading


def test_the_process_ends_without_a_word_where_nobody_reads_its_reports(tmp_path: Path) -> None:
    """A node that is killed closes both pipes, and which of them is seen first is a matter of luck."""
    command = [sys.executable, "-m", build_process.__name__, str(tmp_path / "none.onnx"), '{"precision": "fp16"}']
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # what it would report: there is no such model, or no TensorRT
        assert process.wait(60) == 1
        assert process.stderr.read() == ""


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_the_real_process_says_that_the_library_is_missing(tiny_model_path: Path) -> None:
    with pytest.raises(BackendError, match=r"^building the TensorRT engine failed: ModuleNotFoundError: .*tensorrt"):
        build_apart(tiny_model_path, OPTIONS, ignore)


def test_the_real_process_says_what_is_wrong_with_a_model(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip("TensorRT is not installed")
    with pytest.raises(BackendError, match="no such file; expected an ONNX file"):
        build_apart(tmp_path / "model.onnx", OPTIONS, ignore)


def test_signals_have_names() -> None:
    assert build_process._end(-signal.SIGABRT) == "was ended by SIGABRT"
