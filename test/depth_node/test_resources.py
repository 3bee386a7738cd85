"""Share files are found in every kind of install; caches belong to the user."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from depth_node import resources
from depth_node.errors import DepthNodeError, ModelFileError
from depth_node.resources import cache_directory, find_model, share_directory, share_file

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_FOLDERS = ("launch", "config", "models")


def files_below(*folders: Path) -> set[str]:
    return {
        str(path.relative_to(REPOSITORY))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, with a model and a nested file added, so that building leaves no trace here."""
    copy = tmp_path_factory.mktemp("source") / "depth_node"
    copy.mkdir()
    for name in ("package.xml", "setup.py", "setup.cfg", "pyproject.toml", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("depth_node", "training", "resource", *SHARED_FOLDERS):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "models" / "packaged.onnx").write_bytes(b"a model")
    (copy / "config" / "nested").mkdir()
    (copy / "config" / "nested" / "packaged.yaml").write_text("a: 1\n")
    return copy


@pytest.fixture(scope="module")
def wheel(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the copy, built without the internet."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=source_tree, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_source_tree_is_its_own_share_folder() -> None:
    assert share_directory() == REPOSITORY
    assert share_file("package.xml") == REPOSITORY / "package.xml"


def test_a_wheel_carries_launch_config_and_models(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split(".data/data/", 1)[1] for name in archive.namelist() if ".data/data/" in name}
    folders = [REPOSITORY / name for name in SHARED_FOLDERS]
    expected = files_below(*folders) | {"models/packaged.onnx", "config/nested/packaged.yaml", "package.xml"}
    assert {f"share/depth_node/{name}" for name in expected} <= names
    assert "share/ament_index/resource_index/packages/depth_node" in names
    scripts = {path.name for path in (REPOSITORY / "depth_node" / "tools" / "scripts").iterdir() if path.is_file()}
    assert {f"lib/depth_node/{name}" for name in scripts} <= names


def found_from(site_packages: Path) -> Path:
    """The share folder that a fresh interpreter finds for the package in `site_packages`."""
    script = "from depth_node import resources; print(resources.__file__); print(resources.find_model('packaged'))"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(site_packages)},
        capture_output=True,
        text=True,
        check=True,
    )
    code, model = run.stdout.split()
    assert Path(code).is_relative_to(site_packages)
    return Path(model).parents[1]


def install(wheel: Path, packages: Path, data: Path) -> None:
    """Unpack a wheel as pip does: packages into site-packages, data below the prefix."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (unpacked,) = packages.glob("*.data/data")
    shutil.copytree(unpacked, data, dirs_exist_ok=True)


def test_an_installed_package_finds_its_share_files(wheel: Path, tmp_path: Path) -> None:
    # pip install ., and colcon's install/depth_node: PREFIX/lib/pythonX.Y/site-packages beside PREFIX/share.
    packages = tmp_path / "prefix" / "lib" / "python3.11" / "site-packages"
    install(wheel, packages, tmp_path / "prefix")
    assert found_from(packages) == tmp_path / "prefix" / "share" / "depth_node"


def test_a_package_installed_into_a_folder_finds_its_share_files(wheel: Path, tmp_path: Path) -> None:
    install(wheel, tmp_path / "target", tmp_path / "target")  # pip install --target
    assert found_from(tmp_path / "target") == tmp_path / "target" / "share" / "depth_node"


def test_a_linked_source_tree_finds_its_share_files(source_tree: Path, tmp_path: Path) -> None:
    # colcon build --symlink-install: the package is a link to the source tree.
    (tmp_path / "depth_node").symlink_to(source_tree / "depth_node")
    assert found_from(tmp_path) == source_tree


def test_the_ament_index_is_asked_where_nothing_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ament_index_python")
    share = tmp_path / "ws" / "share" / "depth_node"
    share.mkdir(parents=True)
    (share / "package.xml").touch()
    index = tmp_path / "ws" / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "depth_node").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "ws"))
    move_code(monkeypatch, tmp_path / "elsewhere")
    assert share_directory() == share


def test_an_install_without_share_files_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    move_code(monkeypatch, tmp_path / "a" / "b" / "c" / "d")
    with pytest.raises(DepthNodeError, match=f"are in none of: .*{tmp_path}.*reinstall"):
        share_directory()


def move_code(monkeypatch: pytest.MonkeyPatch, site_packages: Path) -> None:
    """Let the module believe that it is installed in `site_packages`, of a Python that has no share files."""
    monkeypatch.setattr(resources, "__file__", str(site_packages / "depth_node" / "resources.py"))
    monkeypatch.setattr(sys, "prefix", str(site_packages / "no-prefix"))
    share_directory.cache_clear()


@pytest.fixture(autouse=True)
def _fresh_share_directory() -> Iterator[None]:
    share_directory.cache_clear()
    yield
    share_directory.cache_clear()


def test_a_missing_share_file_is_named() -> None:
    with pytest.raises(DepthNodeError, match=r"config/absent.yaml does not exist"):
        share_file("config/absent.yaml")


def test_models_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    for name in ("depth-base", "depth-small"):
        (tmp_path / "models" / f"{name}.onnx").touch()
    monkeypatch.setattr(resources, "share_directory", lambda: tmp_path)
    shipped = tmp_path / "models" / "depth-small.onnx"
    assert find_model("depth-small") == find_model("depth-small.onnx") == find_model(str(shipped)) == shipped
    assert resources.default_model() == tmp_path / "models" / "depth-base.onnx"
    with pytest.raises(ModelFileError, match=r"'depth-huge' is neither a file nor .*: depth-base, depth-small"):
        find_model("depth-huge")


def test_a_cache_folder_is_the_user_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "depth_node").mkdir(parents=True, mode=0o777)
    folder = cache_directory("openvino/abc")
    assert folder == tmp_path / "cache" / "depth_node" / "openvino" / "abc"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (folder, *folder.parents[:2]))
    assert cache_directory("openvino/abc") == folder


@pytest.mark.parametrize("value", ["", "relative/cache"])
def test_without_an_absolute_cache_home_it_is_below_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory("x") == tmp_path / ".cache" / "depth_node" / "x"


def test_somebody_else_s_cache_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(DepthNodeError, match=f"belongs to user {mine}, expected {mine + 1}.*XDG_CACHE_HOME"):
        cache_directory("openvino")
