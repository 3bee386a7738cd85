"""Typed errors of training's boundaries. Each message says what was got, what was expected, and what to do."""

from __future__ import annotations

from depth_node.errors import DepthNodeError


class DataError(DepthNodeError):
    """A data set that is absent, incomplete or not laid out as its reader expects."""


class CheckpointError(DepthNodeError):
    """A checkpoint that is missing, damaged, or was not written by this package."""


class ExportError(DepthNodeError):
    """An exported file that does not compute what its network computes."""
