"""A small network in all its forms."""

from __future__ import annotations

import onnx
import pytest

from depth_node.model import ModelFile
from depth_node.precision.frames import ModelFrames
from depth_node.precision.graph import clean_graph
from residual_model import images, write_residual_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A network with all that real ones have."""
    return write_residual_model(tmp_path_factory.mktemp("precision") / "residual.onnx")


@pytest.fixture(scope="session")
def graph(model: ModelFile) -> onnx.ModelProto:
    """Its clean graph."""
    return clean_graph(onnx.load(model.path))


@pytest.fixture(scope="session")
def frames() -> ModelFrames:
    """Six inputs of it."""
    return ModelFrames(tuple({"image": image} for image in images(6)), "6 random images")
