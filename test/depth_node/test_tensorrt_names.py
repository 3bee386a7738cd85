"""Every name of TensorRT in our source exists in every version in whose branch it stands (tensorrt_names.txt)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorrt_names import SOURCE, used_names

RECORD = Path(__file__).with_name("tensorrt_names.txt")
VERSIONS = ("8.6", "10.3", "10.16", "11.4")


def recorded(version: str) -> set[str]:
    lines = [line.split() for line in RECORD.read_text().splitlines() if not line.startswith("#")]
    return {name for name, *versions in lines if version in versions}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists(version: str) -> None:
    used = used_names(SOURCE.read_text(encoding="utf-8"), int(version.split(".", maxsplit=1)[0]))
    assert len(used) > 40
    assert not used - recorded(version)


def test_what_is_known_of_the_versions_is_recorded() -> None:
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" not in recorded("8.6")
    assert "BuilderFlag.FP16" in recorded("10.16")
    gone = {"BuilderFlag.FP16", "BuilderFlag.INT8", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"}
    assert not gone & recorded("11.4")
    everywhere = {"IExecutionContext.execute_async_v3", "ICudaEngine.num_io_tensors", "ICudaEngine.get_tensor_name"}
    assert all(everywhere <= recorded(version) for version in VERSIONS)


def test_names_are_found_in_their_branches() -> None:
    source = """
config = builder.create_builder_config()
if MAJOR >= 10:
    config.progress_monitor = monitor
else:
    config.set_flag(trt.BuilderFlag.FP16)
if MAJOR < 10 and precision == "int8":
    parser.get_error(0).desc()
class Monitor(trt.IProgressMonitor):
    def phase_start(self): ...
    def _own(self): ...
"""
    always = {"Builder.create_builder_config", "IProgressMonitor", "IProgressMonitor.phase_start"}
    assert used_names(source, 11) == always | {"IBuilderConfig.progress_monitor"}
    old = {"IBuilderConfig.set_flag", "BuilderFlag", "BuilderFlag.FP16", "OnnxParser.get_error", "ParserError.desc"}
    assert used_names(source, 8) == always | old
