"""Who may import whom (docs/architecture.md), read from the source and checked on a running interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

ROS_PACKAGES = {
    "rclpy",
    "rcl_interfaces",
    "builtin_interfaces",
    "cv_bridge",
    "sensor_msgs_py",
    "launch",
    "launch_ros",
    "diagnostic_updater",
}
MAY_IMPORT_ROS = {
    "node.py",
    "node_main.py",
    "inputs.py",
    "services.py",
    "ros_logging.py",
    "frame_handler.py",
    "online_intrinsics.py",
    "online_scale.py",
    "odometry_messages.py",
    "outputs.py",
    "ros_parameters.py",
    "clouds.py",
    "scans.py",
    "camera_messages.py",
    "images.py",
    "diagnostics.py",
    "diagnostics_publisher.py",
}
TRAINING_LIBRARIES = {"torch", "torchvision", "timm", "lightning", "jsonargparse", "tensorboard"}
BACKEND_LIBRARIES = {
    "openvino": "openvino.py",
    "onnxruntime": "onnxruntime.py",
    "tensorrt": "tensorrt/tensorrt_api.py",
    "cuda": "tensorrt/cuda_api.py",
}


def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file of every module of a package."""
    root = REPOSITORY / package
    names = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path, at_import_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; with `at_import_only` not those inside functions or for type checkers."""

    def walk(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            is_lazy = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if not (at_import_only and (is_lazy or is_typing)):
                yield from walk(child)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")))


def imported_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def is_ros(package: str) -> bool:
    return package in ROS_PACKAGES or package.endswith(("_msgs", "_srvs")) or package.startswith(("tf2_", "rosbag2_"))


def test_the_runtime_never_imports_training_or_its_libraries() -> None:
    forbidden = TRAINING_LIBRARIES | {"training"}
    guilty = {
        name: found for name, path in modules("depth_node").items() if (found := imported_packages(path) & forbidden)
    }
    assert not guilty


def test_ros_is_imported_only_at_the_edge() -> None:
    root = REPOSITORY / "depth_node"
    guilty = {
        name: found
        for name, path in modules("depth_node").items()
        if (found := {package for package in imported_packages(path) if is_ros(package)})
        and root / "tools" not in path.parents
        and not (path.parent == root and path.name in MAY_IMPORT_ROS)
    }
    assert not guilty


def test_training_imports_no_ros() -> None:
    guilty = {
        name: found
        for name, path in modules("training").items()
        if (found := {package for package in imported_packages(path) if is_ros(package)})
    }
    assert not guilty


def test_an_inference_library_is_imported_by_its_backend_alone() -> None:
    backends = REPOSITORY / "depth_node" / "backends"
    for library, file in BACKEND_LIBRARIES.items():
        users = [path for path in modules("depth_node").values() if library in imported_packages(path)]
        assert users == [backends / file]


@pytest.mark.parametrize("package", ["depth_node", "training"])
def test_no_circular_imports(package: str) -> None:
    files = modules(package)
    graph = {
        name: {target for target in imports(path, at_import_only=True) if target in files and target != name}
        for name, path in files.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


LIBRARIES = sorted(
    TRAINING_LIBRARIES | set(BACKEND_LIBRARIES) | {"rclpy", "sensor_msgs", "cv_bridge", "rosbags", "rich"}
)


@pytest.mark.parametrize(
    "module",
    [
        "pipeline",
        "backends",
        "camera",
        "color",
        "frames",
        "model",
        "resources",
        "tools",
        "worker",
        "statistics",
        "parameters",
    ],
)
def test_the_core_loads_light(module: str) -> None:
    script = f"import sys, depth_node.{module}; print(*(set({LIBRARIES}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
