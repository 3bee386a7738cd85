"""Imports of a library without parts of it that it can do without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent_modules(*names: str) -> Iterator[None]:
    """Inside, importing these modules raises ImportError, unless they were imported before."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None, as `import` has it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
