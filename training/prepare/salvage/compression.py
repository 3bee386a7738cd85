"""Chunks of bags, decompressed as far as that is possible."""

from __future__ import annotations

import bz2
import sys
from contextlib import suppress
from typing import Any

import lz4.frame  # type: ignore[import-untyped]

from depth_node.errors import BagError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_CHUNK_BYTES = 1 << 30

_BLOCK = 1 << 16


def expand(data: bytes, compression: str, size: int = MAX_CHUNK_BYTES) -> bytes:
    """Data of a chunk that may be cut off or damaged: what can be decompressed of it, `size` bytes at most."""
    if compression == "none":
        return data[:size]
    makers: dict[str, Any] = {
        "zstd": zstd.ZstdDecompressor,
        "lz4": lz4.frame.LZ4FrameDecompressor,
        "bz2": bz2.BZ2Decompressor,
    }
    if compression not in makers:
        raise BagError(f"chunks are compressed as {compression!r}; expected {', '.join(makers)}")
    decompressor = makers[compression]()
    expanded = bytearray()
    size = min(size, MAX_CHUNK_BYTES)
    with suppress(zstd.ZstdError, RuntimeError, OSError, EOFError, ValueError):
        for start in range(0, len(data), _BLOCK):
            expanded += decompressor.decompress(data[start : start + _BLOCK], size - len(expanded))
            while not decompressor.needs_input and not decompressor.eof and len(expanded) < size:
                expanded += decompressor.decompress(b"", size - len(expanded))
            if decompressor.eof or len(expanded) >= size:
                break
    return bytes(expanded)
