"""Typed errors of training's boundaries. Each message says what was got, what was expected, and what to do."""

from __future__ import annotations

from depth_node.errors import DepthNodeError


class DataError(DepthNodeError):
    """A data set that is absent, incomplete or not laid out as its reader expects."""


class FrameError(DataError):
    """One file of a frame that cannot be read: missing, truncated, or of an unknown format."""


class CheckpointError(DepthNodeError):
    """A checkpoint that is missing, damaged, or was not written by this package."""


class RecipeError(DepthNodeError):
    """Options of a training that cannot be, or do not go together."""


class TrainingError(DepthNodeError):
    """A training that cannot go on."""


class NonFiniteLossError(TrainingError):
    """Losses or gradients that are no numbers, step after step."""


class DiskFullError(TrainingError):
    """No space left for what a training writes."""


class MemoryExhaustedError(TrainingError):
    """A training that needs more memory, of the machine or of a GPU, than there is."""


class ExportError(DepthNodeError):
    """An exported file that does not compute what its network computes."""
