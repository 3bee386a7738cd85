"""Sealed files are used only if they are whole and were written with this user's key."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.backends import sealed_files
from depth_node.backends.sealed_files import SealError, read_sealed, secret_key, write_sealed
from depth_node.errors import DepthNodeError

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "engine"
    write_sealed(path, {"precision": "fp16"}, b"plan" * 100, KEY)
    return path


def test_what_was_written_comes_back(path: Path) -> None:
    assert read_sealed(path, KEY) == ({"precision": "fp16"}, b"plan" * 100)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["engine"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("sealed") / "engine"
    write_sealed(path, {"a": 1}, b"payload", KEY)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(SealError, match=r"is damaged|is of another format"):
        read_sealed(path, KEY)


@pytest.mark.parametrize("size", [0, 10, 40, 60, 80, 200])
def test_a_truncated_file_is_noticed(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SealError, match=r"is damaged|is of another format"):
        read_sealed(path, KEY)


def test_a_file_sealed_by_another_user_is_refused(path: Path) -> None:
    """Whoever can write into the cache can make a checksum, but not this user's seal."""
    with pytest.raises(SealError, match="was not written by this user"):
        read_sealed(path, bytes(32))


def move_bytes(path: Path) -> None:
    """Part of the manifest becomes payload; the bytes stay the same."""
    content = bytearray(path.read_bytes())
    place = len(sealed_files._MAGIC) + 32
    length = int.from_bytes(content[place : place + 4], "big")
    content[place : place + 4] = (length - 2).to_bytes(4, "big")
    path.write_bytes(content)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (move_bytes, "is damaged"),
        (link, "cannot be opened"),
        (directory, "is no regular file"),
        (lambda path: path.chmod(0o666), "can be written by others"),
        (lambda path: os.truncate(path, 5 * 2**30), "bytes, expected at most"),
    ],
)
def test_what_was_tampered_with_is_refused(path: Path, change: Callable[[Path], None], message: str) -> None:
    change(path)
    with pytest.raises(SealError, match=message):
        read_sealed(path, KEY)


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(SealError, match=r"belongs to user \d+, expected 12345"):
        read_sealed(path, KEY)


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_sealed(path, {}, b"new", KEY)
    assert read_sealed(path, KEY)[1] == b"plan" * 100
    assert [file.name for file in path.parent.iterdir()] == ["engine"]


def test_the_key_is_made_once_and_is_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: secret_key(), range(32)))
    assert len(keys) == 1
    (file,) = (tmp_path / "depth_node" / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert len(keys.pop()) == 32


@pytest.mark.parametrize("change", [lambda path: path.chmod(0o644), lambda path: path.write_bytes(b"short")])
def test_a_key_that_others_may_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    secret_key()
    change(tmp_path / "depth_node" / "keys" / "seal")
    with pytest.raises(DepthNodeError, match=r"readable by others or damaged; remove it"):
        secret_key()
