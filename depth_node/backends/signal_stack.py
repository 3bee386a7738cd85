"""The stack that this thread's signal handlers run on, where a library replaces it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Leave this thread's alternate signal stack as it was, whatever happens inside; elsewhere than on Linux, nothing.

    OpenVINO's CPU plugin sets one of its own, and puts the former one back when it is unloaded. Of two models that are
    not unloaded in reverse order, the second leaves the freed stack of the first, and the next signal ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
