"""Compiled models on disk: which ones stay, and that processes keep out of each other's way."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from depth_node.backends import model_cache as module
from depth_node.backends.model_cache import model_cache
from depth_node.model import ModelFile

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "LIMIT_BYTES", 250)
    return tmp_path / "depth_node" / "test"


def fill(key: str, size: int = 100, seconds_ago: float = 0) -> None:
    """Use a folder, which then holds so many bytes."""
    with model_cache("test", key) as folder:
        assert folder is not None
        (folder / "x.blob").write_bytes(bytes(size))
    os.utime(folder, times=(time.time() - seconds_ago,) * 2)


def test_folders_are_the_user_s_own(root: Path) -> None:
    fill("a")
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700
    assert (root / "a" / "x.blob").is_file()


def test_the_least_recently_used_go_first(root: Path) -> None:
    fill("a", seconds_ago=30)
    fill("b", seconds_ago=20)
    fill("c", seconds_ago=10)
    fill("a", seconds_ago=5)  # 300 bytes: b has to go, though a was made before it
    with model_cache("test", "d"):
        assert sorted(folder.name for folder in root.iterdir()) == ["a", "c", "d"]


def test_the_one_in_use_stays_however_large(root: Path) -> None:
    fill("a", size=1000)
    fill("b", size=100)
    assert sorted(folder.name for folder in root.iterdir()) == ["b"]
    fill("c", size=1000)
    with model_cache("test", "c"):
        assert sorted(folder.name for folder in root.iterdir()) == ["c"]


def test_links_are_left_alone(root: Path, tmp_path: Path) -> None:
    fill("a")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(bytes(1000))
    (root / "link").symlink_to(precious)
    fill("b", size=300)
    with model_cache("test", "c"):
        assert not (root / "a").exists()
    assert (precious / "file").exists()


def test_only_one_at_a_time(root: Path) -> None:
    """Two file descriptors exclude each other within a process as they do between processes."""
    order = []

    def second() -> None:
        with model_cache("test", "a") as folder:
            assert folder is not None
            order.append("second")

    with model_cache("test", "a"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_nobody_waits_for_ever(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    with model_cache("test", "a"), caplog.at_level(logging.WARNING), model_cache("test", "a") as folder:
        assert folder is None
    assert f"another process has held {root} for more than 0.1 s" in caplog.text
    with model_cache("test", "a") as folder:
        assert folder == root / "a"


def test_a_folder_of_somebody_else_is_not_used(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill("a")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with model_cache("test", "a") as folder:
        assert folder is None
    assert "belongs to user" in caplog.text


def test_an_error_inside_is_passed_on_and_frees_the_cache(root: Path) -> None:
    with pytest.raises(RuntimeError, match="no such operator"), model_cache("test", "a"):
        raise RuntimeError("no such operator")
    fill("a")


PROCESS = """
import sys
from depth_node.backends import create_backend, model_cache
from depth_node.model import read_model
import numpy as np
model_cache.LIMIT_BYTES = 0
for path in sys.argv[1:] * 3:
    output = create_backend(read_model(path), "openvino", "fp32").infer(np.zeros((1, 32, 64, 3), np.uint8)).output
    print(round(float(output[0, 0, 0]), 3))
"""


def test_processes_share_a_cache_that_is_too_small(make_tiny_model: Callable[..., ModelFile], tmp_path: Path) -> None:
    """Three nodes that evict each other's models all the time; each gets its own model's numbers, without a word."""
    pytest.importorskip("openvino")
    paths = [str(make_tiny_model(tmp_path / f"{at_black}.onnx", at_black=at_black).path) for at_black in (0.1, 0.2)]
    command = [sys.executable, "-c", PROCESS, *paths]
    processes = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert (output.split(), errors) == (["0.1", "0.2"] * 3, "")
