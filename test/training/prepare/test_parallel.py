"""Recordings in processes: all of them are written, also when processes are killed or the command is interrupted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from prepare_streams import Deadly, Drive, Faulty, Unusable
from training.prepare.frames import PrepareOptions, PrepareSummary
from training.prepare.parallel import Task, prepare_in_processes
from training.prepare.progress import Outcome, ProgressBars
from training.prepare.recordings import exit_code

OPTIONS = PrepareOptions(width=48, height=32)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepare(streams: list[Drive], output: Path, workers: int = 2) -> tuple[list[Outcome], str]:
    """What became of the streams, and what was shown."""
    shown = io.StringIO()
    with ProgressBars(Console(file=shown, width=200)) as bars:
        outcomes = prepare_in_processes([Task(stream, output, OPTIONS) for stream in streams], workers, bars)
    return outcomes, shown.getvalue()


def test_each_recording_comes_to_its_own_end(tmp_path: Path) -> None:
    streams = [
        Drive("plain"),
        Deadly("killed once", deaths=tmp_path / "once", journal=tmp_path / "journal"),
        Deadly("killed always", deaths=tmp_path / "always", times=9),
        Unusable("unusable"),
        Faulty("faulty"),
    ]
    outcomes, shown = prepare(streams, tmp_path / "out")
    assert [outcome.name for outcome in outcomes] == [stream.name for stream in streams]
    plain, once, always, unusable, faulty = outcomes
    assert plain.summary == once.summary == PrepareSummary(written=8)
    assert "ended 2 times (SIGKILL)" in always.error
    assert len((tmp_path / "always").read_text()) == 2
    assert unusable.error == "no image topic /front"
    assert "ZeroDivisionError: at frame 0" in faulty.error
    assert "killed once: its process ended (SIGKILL); it is begun again where it stopped" in shown
    assert "plain: 8 frames" in shown
    # The second process went on at the last frame that the first one wrote, and wrote the same files.
    processes = [line.split() for line in (tmp_path / "journal").read_text().splitlines()]
    assert len({process for process, _ in processes}) == 2
    assert [int(number) for _, number in processes] == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]
    written = files(tmp_path / "out" / "killed once")
    assert {name: written[name] for name in written if name.endswith(".jpg")} == {
        name: content for name, content in files(tmp_path / "out" / "plain").items() if name.endswith(".jpg")
    }
    assert not [name for name in written if "partial" in name]


SCRIPT = """
import sys
from pathlib import Path
from prepare_streams import Drive
from training.prepare.frames import PrepareOptions
from training.prepare.recordings import prepare_recordings

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    streams = [Drive(name, 40, 0.1, folder / f"{name}.journal") for name in ("a", "b")]
    try:
        prepare_recordings(streams, folder / "out", PrepareOptions(width=48, height=32), workers=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_command(tmp_path: Path, sent: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parents[2] / "support"), str(Path(__file__).parents[3])])
    command = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    journals = [tmp_path / "a.journal", tmp_path / "b.journal"]
    deadline = time.monotonic() + 30
    while not all(path.exists() and len(path.read_text().splitlines()) > 3 for path in journals):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if sent == signal.SIGINT:
        os.killpg(command.pid, sent)  # as a terminal does
    else:
        command.kill()
    _, shown = command.communicate(timeout=15)
    assert command.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in shown
    processes = {int(line.split()[0]) for path in journals for line in path.read_text().splitlines()}
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < deadline, "a process goes on without its command"
        time.sleep(0.05)
    outcomes, _ = prepare([Drive(name, 40) for name in ("a", "b")], tmp_path / "out")
    assert [outcome.summary for outcome in outcomes] == [PrepareSummary(written=40)] * 2


def test_exit_codes() -> None:
    whole = Outcome("a", PrepareSummary(written=3))
    partly = Outcome("b", PrepareSummary(written=3, unreadable=("b.mcap: cut off",)))
    failed = Outcome("c", error="no image topic")
    assert exit_code([whole]) == 0
    assert exit_code([whole, partly]) == 3
    assert exit_code([partly, failed, whole]) == 2


def test_outcomes_in_a_line() -> None:
    summary = PrepareSummary(written=612, skipped_still=80, gaps=2, unreadable=("x: y",))
    assert Outcome("day/drive", summary).line == (
        "day/drive: 612 frames, 80 left out (standing still), 2 gaps, 1 unreadable"
    )
