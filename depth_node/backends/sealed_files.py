"""Files in a cache that are checked before use: whole, ours, and written with this user's secret key.

An engine is code, and a checksum beside it helps against damage only: whoever can write one can write the other. The
seal is an HMAC (RFC 2104) with a key that is kept apart from the cache, so that what was put into the cache by
somebody else (a cache on a shared disk, an unpacked archive, another container) is not run.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depth_node.errors import DepthNodeError
from depth_node.resources import data_directory

MAX_FILE_BYTES = 4 * 2**30
_MAGIC = b"depth_node sealed file 1\n"
_KEY_BYTES = 32
_MAX_MANIFEST_BYTES = 2**20


class SealError(DepthNodeError):
    """A sealed file that must not be used; says why in one clause."""


def secret_key() -> bytes:
    """This user's key, made at the first call: 32 random bytes in a file of mode 0600 in the user's data folder.

    Raises:
        DepthNodeError: the file or its folder belongs to somebody else, or others may read it.
    """
    path = data_directory("keys") / "seal"
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
            os.link(partial, path)  # the first of several processes wins
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    try:
        key = _read_own(path, _KEY_BYTES)
    except SealError as error:
        raise DepthNodeError(f"the key {path} cannot be used: it {error}; remove it") from error
    if len(key) != _KEY_BYTES or stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DepthNodeError(f"the key {path} is readable by others or damaged; remove it")
    return key


def write_sealed(path: Path, manifest: Mapping[str, Any], payload: bytes, key: bytes) -> None:
    """Write a file at once or not at all. manifest: what can be said of the payload, as JSON."""
    header = json.dumps(manifest, sort_keys=True).encode()
    if len(header) > _MAX_MANIFEST_BYTES:
        raise ValueError(f"manifest of {len(header)} bytes; expected at most {_MAX_MANIFEST_BYTES}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + _seal(header, payload, key) + len(header).to_bytes(4, "big") + header)
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_sealed(path: Path, key: bytes) -> tuple[dict[str, Any], bytes]:
    """Manifest and payload of a file, which are of this user and unchanged.

    Raises:
        FileNotFoundError: there is none.
        SealError: it must not be used.
    """
    content = _read_own(path, MAX_FILE_BYTES)
    if not content.startswith(_MAGIC):
        raise SealError("is of another format")
    seal_end = len(_MAGIC) + hashlib.sha256().digest_size
    header_start = seal_end + 4
    header_end = header_start + int.from_bytes(content[seal_end:header_start], "big")
    header, payload = content[header_start:header_end], memoryview(content)[header_end:]
    if not hmac.compare_digest(content[len(_MAGIC) : seal_end], _seal(header, payload, key)):
        raise SealError("is damaged, or was not written by this user")
    return json.loads(header), bytes(payload)


def _seal(header: bytes, payload: bytes | memoryview, key: bytes) -> bytes:
    # The length keeps header and payload apart.
    mac = hmac.new(key, len(header).to_bytes(8, "big") + header, hashlib.sha256)
    mac.update(payload)
    return mac.digest()


def _read_own(path: Path, limit: int) -> bytes:
    """Content of a regular file of this user that nobody else may write to; checked on what was opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SealError(f"cannot be opened ({error.strerror})") from error
    try:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            raise SealError("is no regular file")
        if status.st_uid != os.getuid():
            raise SealError(f"belongs to user {status.st_uid}, expected {os.getuid()}")
        if mode & 0o022:
            raise SealError(f"can be written by others (mode {mode:04o})")
        if status.st_size > limit:
            raise SealError(f"has {status.st_size} bytes, expected at most {limit}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)
