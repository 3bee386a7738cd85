"""Fixtures of the training tests."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Tiny networks gain nothing from threads, and on a busy machine these wait for each other twenty times as long."""
    torch.set_num_threads(1)
