"""Fixtures of the tests that run a real node: node_harness.py in test/support has what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def start(
    private_ros_domain: dict[str, str], tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path
) -> Callable[..., AbstractContextManager[Any]]:
    """`with start(PARAMETER=VALUE) as (process, client)`; the tiny model in fp32 unless another is named."""
    pytest.importorskip("rclpy")
    from node_harness import running_node

    def start_node(*ros_arguments: str, **options: Any) -> AbstractContextManager[Any]:
        log = tmp_path_factory.mktemp("node") / "log"
        return running_node(log, *ros_arguments, **{"model": tiny_model_path, "precision": "fp32", **options})

    return start_node


@pytest.fixture(scope="module")
def running(start: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """(process, client) of one node for all tests of a module that leave it as it was."""
    with start() as (process, client):
        client.wait_until_active()
        yield process, client
