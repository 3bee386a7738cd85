"""`python -m training prepare` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.cli import main
from training.command_line import plain_options
from training.data.source import Source
from training.prepare.command import MISSING_FILE, prepare

WORLD = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 400, 3), np.uint8), (0, 0), 2)


def make_frames(folder: Path, count: int = 6) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:04d}.jpg"), WORLD[:, 6 * number : 6 * number + 128])


def run(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments)])


def test_folder_to_frames_and_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_frames(tmp_path / "drive" / "a")
    make_frames(tmp_path / "drive" / "b", 4)
    arguments = (tmp_path / "drive", "--output", tmp_path / "out", "--width", 64, "--height", 32, "--shards", 1)
    assert run(*arguments) == 0
    assert "folder, 2 sequences" in capsys.readouterr().out
    records = Source("prepared", Path("out")).read(tmp_path)
    assert [r.name for r in records][:2] == ["drive/a/000/0000000000", "drive/a/000/0000000001"]
    assert len(records) == 10
    assert (tmp_path / "out" / "shards" / "000000.tar").is_file()
    assert run(*arguments) == 0  # nothing left to do


def test_partly_readable_source_is_exit_code_3(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_frames(tmp_path / "drive")
    (tmp_path / "drive" / "0002.jpg").write_bytes(b"\xff\xd8torn")
    assert run(tmp_path / "drive", "--output", tmp_path / "out", "--jobs", 1) == 3
    assert "0002.jpg cannot be decoded" in caplog.text
    assert len(Source("prepared").read(tmp_path / "out")) == 5


def test_missing_files_are_counted_and_all_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_frames(tmp_path / "drive", 10)
    for number in range(1, 9):
        (tmp_path / "drive" / f"{number:04d}.jpg").unlink()
    drive = tmp_path / "raw" / "2011_09_26" / "2011_09_26_drive_0001_sync" / "image_02"
    drive.mkdir(parents=True)
    (tmp_path / "drive").rename(drive / "data")
    (drive.parents[1] / "calib_cam_to_cam.txt").write_text(
        "S_rect_02: 128 64\nP_rect_02: 90 0 63 0 0 90 31 0 0 0 1 0\n"
    )
    (drive.parents[1] / "calib_cam_to_cam.txt").open("a").write("P_rect_03: 90 0 63 -9 0 90 31 0 0 0 1 0\n")
    assert run(tmp_path / "raw", "--output", tmp_path / "out", "--jobs", 1) == 0
    assert "8 missing (image)" in caplog.text
    listed = (tmp_path / "out" / MISSING_FILE).read_text().splitlines()
    assert len(listed) == 8
    assert listed[3] == f"image\t{drive.resolve() / 'data' / '0000000004'}"


def test_what_the_user_can_mend_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "absent", "--output", tmp_path / "out") == 2
    assert "absent: expected a file or folder of frames" in capsys.readouterr().err
    make_frames(tmp_path / "x" / "drive", 1)
    make_frames(tmp_path / "y" / "drive", 1)
    assert run(tmp_path / "x" / "drive", tmp_path / "y" / "drive", "--output", tmp_path / "out") == 2
    assert "several recordings are called drive" in capsys.readouterr().err


def test_nothing_left_to_prepare_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_frames(tmp_path / "2011_09_26_drive_0002_sync", 1)
    arguments = (tmp_path / "2011_09_26_drive_0002_sync", "--output", tmp_path / "out", "--exclude-eigen-test")
    assert run(*arguments) == 2
    assert "all sequences are of Eigen's test drives (2011_09_26_drive_0002_sync)" in capsys.readouterr().err


def test_flags_need_no_value() -> None:
    given = ["a", "--keep-still", "--exclude-eigen-test", "--rectify", "false", "--max-gap=2", "--split_file", "x-y"]
    assert plain_options(prepare, given) == [
        "a",
        "--keep_still=true",
        "--exclude_eigen_test=true",
        "--rectify",
        "false",
        "--max_gap=2",
        "--split_file",
        "x-y",
    ]
