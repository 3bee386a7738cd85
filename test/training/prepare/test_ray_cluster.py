"""Recordings on a local Ray cluster of two workers, one of which dies; skipped where Ray is not installed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from prepare_streams import Deadly, Drive, Faulty, Unusable
from training.errors import DataError
from training.prepare.frames import PrepareOptions, PrepareSummary
from training.prepare.parallel import Task
from training.prepare.progress import ProgressBars
from training.prepare.ray_cluster import prepare_on_ray

OPTIONS = PrepareOptions(width=48, height=32)


@pytest.fixture
def bars() -> Iterator[ProgressBars]:
    with ProgressBars(Console(file=io.StringIO(), width=200)) as shown:
        yield shown


def test_each_recording_comes_to_its_own_end(tmp_path: Path, bars: ProgressBars) -> None:
    pytest.importorskip("ray", reason="Ray is optional and not installed")
    streams = [
        Drive("plain"),
        Deadly("killed once", deaths=tmp_path / "once", journal=tmp_path / "journal"),
        Unusable("unusable"),
        Faulty("faulty"),
    ]
    tasks = [Task(stream, tmp_path / "out", OPTIONS) for stream in streams]
    plain, once, unusable, faulty = prepare_on_ray(tasks, "local", 2, bars)
    assert plain.summary == once.summary == PrepareSummary(written=8)
    assert unusable.error == "no image topic /front"
    assert "ZeroDivisionError" in faulty.error
    processes = [line.split() for line in (tmp_path / "journal").read_text().splitlines()]
    assert len({process for process, _ in processes}) == 2
    assert [int(number) for _, number in processes] == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]


def test_without_ray_it_is_said_what_to_install(
    tmp_path: Path, bars: ProgressBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DataError, match="pip install"):
        prepare_on_ray([Task(Drive("a"), tmp_path, OPTIONS)], "local", 1, bars)
