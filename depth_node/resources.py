"""Where the package's files are (launch, config, models) in every kind of install, and where its caches go."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from depth_node.errors import DepthNodeError, ModelFileError

PACKAGE = "depth_node"
DEFAULT_MODEL = "depth-base"


@lru_cache(maxsize=1)
def share_directory() -> Path:
    """Folder that holds launch/, config/ and models/: the source tree, or share/depth_node of the install.

    Raises:
        DepthNodeError: the package was installed without them.
    """
    candidates = list(_share_candidates())
    for candidate in candidates:
        if (candidate / "package.xml").is_file():
            return candidate
    places = ", ".join(str(candidate) for candidate in candidates)
    raise DepthNodeError(
        f"the share files of {PACKAGE} (launch, config, models) are in none of: {places}; reinstall it"
    )


def _share_candidates() -> Iterator[Path]:
    """Nearest to the running code first, so that code never meets the files of another install."""
    package = Path(__file__).resolve().parent
    share = Path("share") / PACKAGE
    yield package.parent  # source tree: pip install -e, colcon build --symlink-install
    yield package.parent / share  # pip install --target
    if len(package.parents) > 3:
        yield package.parents[3] / share  # PREFIX/lib/pythonX.Y/site-packages: pip, colcon install
    yield Path(sys.prefix) / share
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return
    try:
        yield Path(get_package_share_directory(PACKAGE))
    except (PackageNotFoundError, OSError):  # OSError: no workspace is sourced
        return


def share_file(relative: str | os.PathLike[str]) -> Path:
    """Path of a file below the share folder, such as `config/depth.yaml`.

    Raises:
        DepthNodeError: there is no such file.
    """
    path = share_directory() / relative
    if not path.is_file():
        raise DepthNodeError(f"{path} does not exist; reinstall {PACKAGE}")
    return path


def default_model() -> Path:
    """The shipped model that is used when none is named."""
    return find_model(DEFAULT_MODEL)


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Path of a model file: a path as it is, or the name of a shipped model, such as `depth-base`.

    Raises:
        ModelFileError: neither exists.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    shipped = {model.stem: model for model in sorted(models_directory().glob("*.onnx"))}
    name = str(name_or_path).removesuffix(".onnx")
    if name not in shipped:
        names = ", ".join(shipped) or "none"
        raise ModelFileError(
            f"model '{name_or_path}' is neither a file nor a shipped model (shipped in {models_directory()}: {names})"
        )
    return shipped[name]


def models_directory() -> Path:
    """Folder of the shipped models."""
    return share_directory() / "models"


def cache_directory(name: str) -> Path:
    """Folder for files that can be made again: $XDG_CACHE_HOME/depth_node/NAME, created, of this user alone (0700).

    Raises:
        DepthNodeError: a folder on the way belongs to somebody else, who could plant files in it.
    """
    return _own_directory("XDG_CACHE_HOME", ".cache", name)


def data_directory(name: str) -> Path:
    """Folder for files that cannot be made again: $XDG_DATA_HOME/depth_node/NAME; otherwise as `cache_directory`."""
    return _own_directory("XDG_DATA_HOME", ".local/share", name)


def _own_directory(variable: str, default: str, name: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    if not base.is_absolute():  # also unset; the XDG specification has relative paths ignored
        base = Path.home() / default
    folder = base
    base.mkdir(parents=True, exist_ok=True)
    for part in (PACKAGE, *Path(name).parts):
        folder = folder / part
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid():
            raise DepthNodeError(
                f"folder {folder} belongs to user {status.st_uid}, expected {os.getuid()}: "
                f"remove it, or set {variable} to a folder of your own"
            )
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
    return folder


def owned_directory(folder: Path) -> None:
    """Make a folder of this user alone (0700); one that exists is left as it is.

    Raises:
        DepthNodeError: it is somebody else's, or everybody may write there, so that others could plant files in it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & stat.S_IWOTH:
        raise DepthNodeError(
            f"folder {folder} belongs to user {status.st_uid} and has mode {stat.S_IMODE(status.st_mode):o}; expected "
            f"user {os.getuid()}, and that others may not write there: choose a folder of your own"
        )
