"""The engine cache: keys, locking, corruption, size. Engines are bytes here; what builds them is a function."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from depth_node.backends.engine_cache import BuiltEngine, EngineCache, EngineKey
from depth_node.errors import BackendError

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = EngineKey(
    model="0" * 64,
    device="Orin",
    compute_capability="8.7",
    tensorrt="10.3.0",
    precision="fp16",
    shapes={"image": (1, 192, 640, 3)},
    options={"workspace_mib": 0},
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches and keys of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "cache" / "depth_node" / "tensorrt"


class Builder:
    """Builds numbered engines."""

    def __init__(self) -> None:
        self.timings: list[bytes] = []

    def __call__(self, timings: bytes) -> BuiltEngine:
        self.timings.append(timings)
        number = len(self.timings)
        return BuiltEngine(b"engine %d" % number, b"timings %d" % number, {"number": number})


def ignore(step: str, share: float) -> None:
    pass


def test_an_engine_is_built_once_and_kept_for_this_user(folder: Path) -> None:
    build = Builder()
    first = EngineCache().get(KEY, build, ignore)
    assert (first.engine, first.is_new) == (b"engine 1", True)
    again = EngineCache().get(KEY, build, ignore)
    assert (again.engine, again.facts, again.is_new) == (b"engine 1", {"number": 1}, False)
    assert first.path == again.path
    assert len(build.timings) == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "change",
    [
        {"model": "1" * 64},
        {"device": "H200"},
        {"compute_capability": "9.0"},
        {"tensorrt": "10.3.1"},
        {"precision": "int8"},
        {"shapes": {"image": (2, 192, 640, 3)}},
        {"options": {"workspace_mib": 512}},
    ],
)
def test_whatever_an_engine_depends_on_is_in_its_key(change: dict[str, Any]) -> None:
    build = Builder()
    EngineCache().get(KEY, build, ignore)
    assert EngineCache().get(replace(KEY, **change), build, ignore).engine == b"engine 2"
    assert EngineCache().get(KEY, build, ignore).engine == b"engine 1"


def test_a_stale_engine_is_built_again_and_its_difference_said(caplog: pytest.LogCaptureFixture) -> None:
    EngineCache().get(KEY, Builder(), ignore)
    EngineCache().get(replace(KEY, tensorrt="10.7.0"), Builder(), ignore)
    (record,) = caplog.records
    assert record.getMessage() == (
        "building the TensorRT engine again: the one in the cache is stale, tensorrt was 10.3.0 and is 10.7.0"
    )


@pytest.mark.parametrize(
    "change", [{"shapes": {"image": (2, 192, 640, 3)}}, {"options": {"workspace_mib": 64}}, {"precision": "fp32"}]
)
def test_an_engine_for_another_purpose_is_not_stale(change: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    EngineCache().get(KEY, Builder(), ignore)
    EngineCache().get(replace(KEY, **change), Builder(), ignore)
    assert not caplog.records


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def plant(path: Path) -> None:
    """What somebody who can write into the cache, but does not have the key, can put there."""
    from depth_node.backends.sealed_files import write_sealed

    write_sealed(path, {"key": {}, "facts": {}}, b"malicious", bytes(32))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damage, "is damaged, or was not written by this user"),
        (plant, "is damaged, or was not written by this user"),
        (lambda path: path.write_bytes(b"x" * 1000), "is of another format"),
        (lambda path: path.chmod(0o666), r"can be written by others \(mode 0666\)"),
    ],
)
def test_a_damaged_or_foreign_engine_is_never_given_out(
    change: Callable[[Path], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    build = Builder()
    path = EngineCache().get(KEY, build, ignore).path
    assert path is not None
    change(path)
    again = EngineCache().get(KEY, build, ignore)
    assert (again.engine, again.is_new) == (b"engine 2", True)
    (record,) = caplog.records
    assert record.getMessage().startswith("building the TensorRT engine again: ")
    assert re.search(reason, record.getMessage())
    assert EngineCache().get(KEY, build, ignore).engine == b"engine 2"


def test_an_engine_under_another_name_is_not_taken_for_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """It is ours and whole, but somebody copied it over another one."""
    build, other = Builder(), replace(KEY, model="1" * 64)
    mine, theirs = EngineCache().get(KEY, build, ignore).path, EngineCache().get(other, build, ignore).path
    assert mine is not None
    assert theirs is not None
    mine.write_bytes(theirs.read_bytes())
    assert EngineCache().get(KEY, build, ignore).engine == b"engine 3"
    assert "was built for something else" in caplog.text


def test_the_timings_of_a_device_are_shared_by_its_models(caplog: pytest.LogCaptureFixture) -> None:
    build = Builder()
    EngineCache().get(KEY, build, ignore)
    EngineCache().get(replace(KEY, model="1" * 64, precision="int8"), build, ignore)
    EngineCache().get(replace(KEY, device="H200"), build, ignore)
    EngineCache().get(replace(KEY, tensorrt="11.0.0"), build, ignore)
    assert build.timings == [b"", b"timings 1", b"", b""]


def test_damaged_timings_are_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    build = Builder()
    EngineCache().get(KEY, build, ignore)
    (timings,) = folder.glob("*.timing")
    damage(timings)
    EngineCache().get(KEY, build, ignore, rebuild=True)
    assert build.timings == [b"", b""]
    assert "timing all kernels again: the timing cache is damaged" in caplog.text


def test_a_failed_build_leaves_nothing_and_is_passed_on(folder: Path) -> None:
    def fail(timings: bytes) -> BuiltEngine:
        raise BackendError("out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        EngineCache().get(KEY, fail, ignore)
    assert [file.name for file in folder.iterdir()] == ["lock"]
    assert EngineCache().get(KEY, Builder(), ignore).engine == b"engine 1"  # the lock is free


def test_the_least_recently_used_go_when_it_is_full(folder: Path) -> None:
    def build(timings: bytes) -> BuiltEngine:
        return BuiltEngine(bytes(10_000))

    cache = EngineCache(limit=45_000)
    keys = [replace(KEY, model=str(number)) for number in range(5)]
    for age, key in enumerate(keys[:4]):
        path = cache.get(key, build, ignore).path
        assert path is not None
        os.utime(path, (age, age))
    assert not cache.get(keys[0], build, ignore).is_new  # and thereby used last
    killed = folder / ".engine.partial"
    killed.touch()
    cache.get(keys[4], build, ignore)
    assert [cache.find(key) is not None for key in keys] == [True, False, True, True, True]
    assert not killed.exists()


def test_one_engine_may_be_larger_than_the_cache() -> None:
    cache = EngineCache(limit=10)
    cache.get(KEY, Builder(), ignore)
    assert cache.find(KEY) is not None


PROCESS = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from depth_node.backends.engine_cache import BuiltEngine, EngineCache, EngineKey

waited = []

def build(timings):
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
    return BuiltEngine(b"engine of %d" % os.getpid())

sys.stdin.readline()
engine = EngineCache().get(EngineKey(**{key!r}), build, lambda step, share: waited.append(step))
print(engine.engine.decode(), engine.is_new, bool(waited))
"""


def start_builder(seconds: float) -> subprocess.Popen[str]:
    """A process that gets the engine of `KEY`, for which it builds so long, once it has a line to read."""
    script = PROCESS.replace("{key!r}", repr(asdict(KEY)))
    command = [sys.executable, "-c", script, str(REPOSITORY), str(seconds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_of_several_processes_one_builds_and_the_others_wait() -> None:
    processes = [start_builder(1.0) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    lines = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    found = [line[-1].rsplit(" ", 2) for line in lines]
    assert sum("building" in line for line in lines) == 1
    assert len({engine for engine, _, _ in found}) == 1
    assert sorted(is_new for _, is_new, _ in found) == ["False", "False", "True"]


def test_a_killed_builder_does_not_hold_the_lock_and_waiting_can_be_given_up() -> None:
    with start_builder(60) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("go\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "building\n"

        def give_up(step: str, share: float) -> None:
            assert step == "waiting for another process that builds an engine"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            EngineCache().get(KEY, Builder(), give_up)
        holder.kill()
    assert EngineCache().get(KEY, Builder(), ignore).engine == b"engine 1"


def test_without_a_cache_the_engine_is_built_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else's folder is not used: what is in there would be run."""
    EngineCache().get(KEY, Builder(), ignore)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    engine = EngineCache().get(KEY, Builder(), ignore)
    assert (engine.engine, engine.path, engine.is_new) == (b"engine 1", None, True)
    assert EngineCache().find(KEY) is None
    assert not EngineCache().is_usable
    assert caplog.records[0].levelno == logging.WARNING
    assert "there is no cache for TensorRT engines" in caplog.text
    assert "expected 12345" in caplog.text


def test_a_full_disk_costs_the_cache_only(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    EngineCache().get(replace(KEY, model="1"), Builder(), ignore)
    monkeypatch.setattr(os, "fsync", fail)
    engine = EngineCache().get(KEY, Builder(), ignore)
    assert (engine.engine, engine.path) == (b"engine 1", None)
    assert "the TensorRT engine is not kept for the next start" in caplog.text


def test_an_engine_can_be_removed() -> None:
    cache = EngineCache()
    cache.remove(cache.get(KEY, Builder(), ignore))
    assert cache.find(KEY) is None


def test_engines_of_a_model_are_listed_with_what_is_known_of_them(folder: Path) -> None:
    """Those of other models and damaged ones are not."""
    cache = EngineCache()
    for key in (KEY, replace(KEY, precision="int8"), replace(KEY, model="1" * 64), replace(KEY, precision="fp32")):
        cache.get(key, Builder(), ignore)
    damaged = cache.find(replace(KEY, precision="fp32"))
    assert damaged is not None
    assert damaged.path is not None
    damaged.path.write_bytes(b"no engine")
    os.utime(folder / f"{KEY.digest}.engine", (2e9, 2e9))  # the last used
    records = cache.of_model(KEY.model)
    assert [record.key["precision"] for record in records] == ["fp16", "int8"]
    assert records[0].path == folder / f"{KEY.digest}.engine"
    assert records[0].key["shapes"] == {"image": [1, 192, 640, 3]}
    assert records[0].facts == {"number": 1}
