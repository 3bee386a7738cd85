"""How this process's malloc treats the large, short-lived buffers of images and clouds."""

from __future__ import annotations

import ctypes
import platform

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024  # glibc takes no more
_KEPT_BYTES = 256 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Have malloc keep freed memory for the next image, where glibc is the C library. Returns whether it does.

    By default it gets every buffer of a few hundred kilobytes from the system and gives it back at once, and the
    system clears each page of it at the first touch: several times what it costs to fill it with a cloud.
    All threads share one arena, since each would keep an image's worth of its own: a new one with every activation.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    options = {_M_ARENA_MAX: 1, _M_TRIM_THRESHOLD: _KEPT_BYTES, _M_MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD}
    return all(bool(libc.mallopt(option, value)) for option, value in options.items())
