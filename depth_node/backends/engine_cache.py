"""TensorRT engines on disk: built once among all processes, sealed, the least recently used ones out.

Knows files, not TensorRT: what builds an engine is passed in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from depth_node.backends.sealed_files import SealError, read_sealed, secret_key, write_sealed
from depth_node.errors import DepthNodeError
from depth_node.resources import cache_directory

LIMIT_BYTES = 2 * 2**30
_POLL_S = 0.05
# What may change under an engine; the rest of its key is what it is for.
_SURROUNDINGS = frozenset({"device", "compute_capability", "tensorrt"})
_SUFFIX, _TIMING_SUFFIX = ".engine", ".timing"

_LOGGER = logging.getLogger(__name__)

# Says how far a long piece of work is: what it does, and the share that is done, 0 to 1 (NaN where nobody knows).
# May raise to give it up.
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on: of two different keys, neither may use the other's engine.

    model: `ModelFile.checksum`; device: its name; compute_capability: such as `8.7`; tensorrt: its full version.
    shapes: of the inputs, by name; options: of the builder, by name.
    """

    model: str
    device: str
    compute_capability: str
    tensorrt: str
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, str | int | float | bool]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of everything."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def timing_digest(self) -> str:
        """SHA-256 of what the timings of kernels depend on, which all models of one device share."""
        parts = [self.device, self.compute_capability, self.tensorrt]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class BuiltEngine:
    """What a builder gives. timings: TensorRT's timing cache after it; facts: to be kept with the engine, as JSON."""

    engine: bytes
    timings: bytes = b""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CachedEngine:
    """An engine that may be deserialised.

    path: its file; None if it could not be kept. facts: what its builder said of it. is_new: whether it was built now.
    """

    engine: bytes
    facts: Mapping[str, Any]
    path: Path | None
    is_new: bool


@dataclass(frozen=True)
class EngineRecord:
    """What the cache knows of an engine. key: the fields of `EngineKey`, as JSON has them; facts: its builder's."""

    path: Path
    key: Mapping[str, Any]
    facts: Mapping[str, Any]


class EngineCache:
    """The engines of this user. `folder` is for tests; otherwise it is in the user's cache.

    limit: bytes of all files together; the least recently used ones are removed beyond it.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT_BYTES) -> None:
        self._given_folder = folder
        self._limit = limit

    def get(
        self, key: EngineKey, build: Callable[[bytes], BuiltEngine], progress: Progress, rebuild: bool = False
    ) -> CachedEngine:
        """The engine of this key, from the cache or built; while one process builds, others wait for what it makes.

        build: gets the timings of earlier builds (empty before the first). What it raises is passed on.
        rebuild: whether to build in any case.
        A stale, foreign or damaged engine is built again, and a cache that cannot be used is done without; each is said
        in one line of the log.
        """
        store = self._store
        if store is None:
            built = build(b"")
            return CachedEngine(built.engine, dict(built.facts), None, is_new=True)
        if not rebuild and (found := store.find(key)) is not None:
            return found
        with store.locked(progress):
            if not rebuild and (found := store.find(key, says_why=False)) is not None:
                return found  # another process built it meanwhile
            built = build(store.timings(key))
            path = store.keep(key, built)
            store.remove_oldest(self._limit, spared=path)
        return CachedEngine(built.engine, dict(built.facts), path, is_new=True)

    def find(self, key: EngineKey) -> CachedEngine | None:
        """The engine of this key, if there is one that may be used; says nothing of others."""
        store = self._store
        return None if store is None else store.find(key, says_why=False)

    def of_model(self, checksum: str) -> list[EngineRecord]:
        """The engines of a model that are whole, the last used first; also records of engines that were refused."""
        store = self._store
        records = iter(()) if store is None else store.records()
        return [record for record in records if record.key["model"] == checksum]

    @property
    def is_usable(self) -> bool:
        """Whether engines can be kept; why not is logged."""
        return self._store is not None

    def remove(self, engine: CachedEngine) -> None:
        """Have it built again the next time."""
        if engine.path is not None:
            engine.path.unlink(missing_ok=True)

    @cached_property
    def _store(self) -> _Store | None:
        try:
            return _Store(self._given_folder or cache_directory("tensorrt"), secret_key())
        except (DepthNodeError, OSError) as error:
            _LOGGER.warning("there is no cache for TensorRT engines, which take minutes to build: %s", error)
            return None


class _Store:
    """The files: one an engine, one a device with its timings, and the lock."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder
        self._secret = key

    def find(self, key: EngineKey, says_why: bool = True) -> CachedEngine | None:
        """The engine, if there is one that may be used."""
        path = self._folder / f"{key.digest}{_SUFFIX}"
        try:
            manifest, engine = read_sealed(path, self._secret)
            if manifest.get("key") != _plain(key):
                raise SealError("was built for something else")
        except FileNotFoundError:
            if says_why and (reason := self._stale(key)):
                _LOGGER.warning("building the TensorRT engine again: %s", reason)
            return None
        except SealError as error:
            if says_why:
                _LOGGER.warning("building the TensorRT engine again: %s %s", path.name, error)
            return None
        with suppress(OSError):
            os.utime(path)
        return CachedEngine(engine, manifest["facts"], path, is_new=False)

    def _stale(self, key: EngineKey) -> str:
        """How an engine for the same purpose differs, if there is one: it was built before something was updated."""
        wanted = _plain(key)
        for found in (record.key for record in self.records()):
            changed = [name for name in wanted if found.get(name) != wanted[name]]
            if _SURROUNDINGS.issuperset(changed):
                changes = ", ".join(f"{name} was {found.get(name)} and is {wanted[name]}" for name in changed)
                return f"the one in the cache is stale, {changes}"
        return ""

    def records(self) -> Iterator[EngineRecord]:
        """Of every engine that is whole, the last used first."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}"), key=_used, reverse=True):
            with suppress(SealError, OSError):
                manifest, _ = read_sealed(path, self._secret)
                yield EngineRecord(path, manifest["key"], manifest["facts"])

    @contextmanager
    def locked(self, progress: Progress) -> Iterator[None]:
        """Be the only process that builds; builds at the same time would spoil each other's timings and memory."""
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    progress("waiting for another process that builds an engine", float("nan"))
                    time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def timings(self, key: EngineKey) -> bytes:
        """TensorRT's timing cache of this device; empty where there is none."""
        try:
            return read_sealed(self._timing_path(key), self._secret)[1]
        except FileNotFoundError:
            return b""
        except SealError as error:
            _LOGGER.warning("timing all kernels again: the timing cache %s", error)
            return b""

    def keep(self, key: EngineKey, built: BuiltEngine) -> Path | None:
        """Write engine and timings; a full disk costs no more than the cache."""
        path = self._folder / f"{key.digest}{_SUFFIX}"
        try:
            write_sealed(path, {"key": _plain(key), "facts": dict(built.facts)}, built.engine, self._secret)
            if built.timings:
                write_sealed(self._timing_path(key), {}, built.timings, self._secret)
        except OSError as error:
            _LOGGER.warning("the TensorRT engine is not kept for the next start: %s", error)
            return None
        return path

    def remove_oldest(self, limit: int, spared: Path | None) -> None:
        """Remove the files used least recently until the others are within the limit, and what killed writers left."""
        total = spared.stat().st_size if spared is not None else 0
        files = [path for path in self._folder.iterdir() if path.suffix in (_SUFFIX, _TIMING_SUFFIX, ".partial")]
        for path in sorted(files, key=_used, reverse=True):
            if path == spared:
                continue
            total += path.lstat().st_size
            if total > limit or path.suffix == ".partial":
                path.unlink(missing_ok=True)

    def _timing_path(self, key: EngineKey) -> Path:
        return self._folder / f"{key.timing_digest}{_TIMING_SUFFIX}"


def _plain(key: EngineKey) -> dict[str, Any]:
    """The key as JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(key)))
    return plain


def _used(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
