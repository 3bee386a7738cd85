"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real KITTI data; absent on a user's machine (skip), never in CI (fail)."""
    folder = Path(os.environ.get("DEPTH_NODE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no real data: {folder} does not exist (set DEPTH_NODE_DATA)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
