"""The prepared format's shared file: claimed by several at once, and by one who wants other images."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.errors import DataError
from training.prepare.format import claim_output
from training.prepare.frames import PrepareOptions

OPTIONS = PrepareOptions(width=48, height=32)


def test_an_output_is_claimed_by_all_who_come_at_once(tmp_path: Path) -> None:
    at_once = threading.Barrier(8)

    def claim(output: Path) -> None:
        at_once.wait()
        claim_output(output, OPTIONS)

    with ThreadPoolExecutor(8) as pool:
        for number in range(25):
            list(pool.map(claim, [tmp_path / str(number)] * 8))
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["prepared.json"]


def test_an_output_of_other_images_is_refused(tmp_path: Path) -> None:
    claim_output(tmp_path, OPTIONS)
    with pytest.raises(DataError, match="width 48, not 64"):
        claim_output(tmp_path, PrepareOptions(width=64, height=32))
