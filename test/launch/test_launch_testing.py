"""The suite of depth_launch_suite.py, run by launch_testing where it is installed.

Its runner is called here, since its own pytest plugin imports every test file of the repository by itself.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.usefixtures("private_ros_domain")
def test_suite(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("launch_testing", reason="needs launch_testing of a ROS machine")
    from launch_testing.loader import LoadTestsFromPythonModule
    from launch_testing.test_runner import LaunchTestRunner

    monkeypatch.setenv("DEPTH_NODE_TEST_MODEL", str(tiny_model_path))
    path = Path(__file__).with_name("depth_launch_suite.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    runner = LaunchTestRunner(test_runs=LoadTestsFromPythonModule(suite, name=path.stem))
    runner.validate()
    results = list(runner.run().values())
    failures = [text for result in results for _, text in (*result.errors, *result.failures)]
    assert not failures, "\n".join(failures)
    assert sum(result.testsRun for result in results) == 4
