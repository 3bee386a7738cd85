"""Frames in memory: the pixels of their files, shared by worker processes, and no more than there is room for."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from training.data import frame_store
from training.data.frame_store import FramesInMemory, available_memory, check_room
from training.data.image_files import read_rgb
from training.errors import DataError, FrameError


def write_noise(folder: Path, count: int, width: int, height: int) -> list[Path]:
    random = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        cv2.imwrite(str(path), random.integers(0, 256, (height, width, 3), np.uint8))
    return paths


def test_smaller_images_stay_as_they_are_and_larger_ones_are_reduced(tmp_path: Path) -> None:
    (small,) = write_noise(tmp_path, 1, 30, 20)
    large = tmp_path / "large.png"
    checkers = np.kron(np.indices((20, 40)).sum(0) % 2, np.full((4, 4), 200)).astype(np.uint8)
    cv2.imwrite(str(large), checkers)
    store = FramesInMemory([small, large], [], (40, 20))
    assert np.array_equal(store.image(small), read_rgb(small))
    assert np.array_equal(store.image(large)[..., 0], checkers[::4, ::4])


def test_what_cannot_be_read_fails_where_it_is_asked_for(tmp_path: Path) -> None:
    good, bad = write_noise(tmp_path, 2, 16, 8)
    bad.write_bytes(b"no image")
    store = FramesInMemory([bad, good], [], (16, 8))
    assert np.array_equal(store.image(good), read_rgb(good))
    with pytest.raises(FrameError, match=r"1\.png cannot be decoded"):
        store.image(bad)


class PrivateMemory(Dataset[tuple[int, int]]):
    """What a worker process has for itself in MiB after it has read all frames, and the sum of their pixels."""

    def __init__(self, store: FramesInMemory, paths: list[Path]) -> None:
        self.store, self.paths = store, paths

    def __len__(self) -> int:
        return 4

    def __getitem__(self, position: int) -> tuple[int, int]:
        total = sum(int(self.store.image(path).sum()) for path in self.paths)
        status = Path("/proc/self/smaps_rollup").read_text()
        private = sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("Private"))
        return private // 1024, total


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not tell private memory")
def test_workers_share_one_copy(tmp_path: Path) -> None:
    (path,) = write_noise(tmp_path, 1, 2000, 1000)
    links = [tmp_path / f"link{i}.png" for i in range(40)]
    for link in links:
        link.symlink_to(path)
    store = FramesInMemory(links, [], (2000, 1000))  # 229 MiB
    expected = 40 * int(read_rgb(path).astype(np.int64).sum())
    loader = DataLoader(PrivateMemory(store, links), num_workers=2, batch_size=None)
    for private, total in loader:
        assert total == expected
        assert private < 100


def test_room_is_asked_for_before_anything_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"7 frames need 3\.0 GiB of memory, and 2\.0 GiB are free: set data.cache: none"
    ):
        check_room(3 * 2**30, 2 * 2**30, "7 frames", "memory")
    check_room(3 * 2**30, None, "7 frames", "memory")
    monkeypatch.setattr(frame_store, "available_memory", lambda: 1000)
    with pytest.raises(DataError, match="100000 frames need"):
        FramesInMemory([Path("absent.png")] * 100_000, [], (640, 192))


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="not Linux")
def test_available_memory_is_a_part_of_what_there_is() -> None:
    available = available_memory()
    assert available is not None
    assert 2**20 < available < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
