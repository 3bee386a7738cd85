"""The writer: what is kept, where sequences are split, and runs that are killed and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.camera import PinholeCamera
from training.data.prepared import read_prepared
from training.errors import DataError
from training.prepare.format import INDEX_FILE, read_index
from training.prepare.frames import PrepareOptions, RawFrame, UnreadableFrame
from training.prepare.writer import prepare_stream

WORLD = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 700, 3), np.uint8), (0, 0), 2)
CAMERA = PinholeCamera(256, 96, 200.0, 201.0, 120.0, 50.0)
OPTIONS = PrepareOptions(width=128, height=48)
PERIOD_NS = 100_000_000


def frame(place: int, stamp_ns: int, **what: object) -> RawFrame:
    """A camera that looks at the world from `place`, in pixels."""
    shown = np.ascontiguousarray(WORLD[:, place : place + 256] // 2 + 60)
    return RawFrame(shown, stamp_ns, CAMERA, **what)  # type: ignore[arg-type]


@dataclass
class Stream:
    """Frames given one by one; reading stops with an error before position `stop_at`."""

    content: list[RawFrame | UnreadableFrame]
    name: str = "drive/front"
    source: str = "somewhere"
    stop_at: int | None = None
    asked: list[int] = field(default_factory=list)

    @property
    def expected_frames(self) -> int:
        return len(self.content)

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        self.asked.append(first)
        for position, item in enumerate(self.content[first:], start=first):
            if position == self.stop_at:
                raise InterruptedError
            yield item


def moving(count: int) -> list[RawFrame | UnreadableFrame]:
    return [frame(8 * i, i * PERIOD_NS) for i in range(count)]


def varied() -> list[RawFrame | UnreadableFrame]:
    """Movement, a stop, an unreadable frame, a gap, depth, poses."""
    depth = np.zeros((48, 128), np.float32)
    depth[10, 20] = 12.5
    pose = np.eye(4)
    pose[:3, 3] = 1.25, -0.1, 1e6 / 3
    return [
        UnreadableFrame("frame 0", "torn"),
        frame(0, 0),
        frame(8, PERIOD_NS, depth=depth, pose=pose, speed=3.1),
        frame(8, 2 * PERIOD_NS),
        frame(8, 3 * PERIOD_NS),
        UnreadableFrame("frame 5", "torn"),
        frame(16, 4 * PERIOD_NS, depth=depth),
        frame(24, 30 * PERIOD_NS),
        frame(24, 31 * PERIOD_NS),
        frame(32, 32 * PERIOD_NS),
    ]


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_is_kept_of_a_varied_drive(tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    summary = prepare_stream(Stream(varied()), tmp_path, OPTIONS, lambda done, total: calls.append((done, total)))
    assert (summary.written, summary.skipped_still, summary.gaps) == (5, 3, 1)
    assert summary.unreadable == ("frame 0: torn", "frame 5: torn")
    assert calls[-1] == (10, 10)
    records = read_prepared(tmp_path)
    assert [(r.sequence, r.index) for r in records] == [
        ("drive/front/000", 0),
        ("drive/front/000", 1),
        ("drive/front/000", 2),
        ("drive/front/001", 3),
        ("drive/front/001", 4),
    ]
    assert [r.stamp_ns // PERIOD_NS for r in records] == [0, 1, 4, 30, 32]
    assert [r.depth is not None for r in records] == [False, True, True, False, False]
    assert records[1].depth is not None
    assert records[1].depth.read()[10, 20] == 12.5
    expected = np.eye(4)
    expected[:3, 3] = 1.25, -0.1, 1e6 / 3
    assert records[1].pose is not None
    assert np.array_equal(records[1].pose, expected)
    assert records[0].intrinsics == (200 / 256, 201 / 96, 120.5 / 256, 50.5 / 96)
    index = read_index(tmp_path / "drive/front" / INDEX_FILE)
    assert index is not None
    assert index.kept[1].speed == 3.1
    assert (index.header.width, index.header.height, index.header.source) == (128, 48, "somewhere")


def test_still_frames_are_kept_where_asked_for(tmp_path: Path) -> None:
    summary = prepare_stream(Stream(varied()), tmp_path, replace(OPTIONS, keep_still=True))
    assert (summary.written, summary.skipped_still) == (8, 0)


def test_longer_gaps_can_be_borne(tmp_path: Path) -> None:
    assert prepare_stream(Stream(varied()), tmp_path, replace(OPTIONS, max_gap=2.7)).gaps == 0


def test_frames_that_do_not_follow_each_other_may_look_the_same(tmp_path: Path) -> None:
    assert prepare_stream(Stream([frame(0, 0), frame(0, 0)]), tmp_path, OPTIONS).written == 2


def test_stamps_that_do_not_ascend_split(tmp_path: Path) -> None:
    assert prepare_stream(Stream([frame(0, 5), frame(9, 5), frame(18, 4)]), tmp_path, OPTIONS).gaps == 2


@pytest.mark.parametrize("stop_at", range(10))
def test_a_stopped_run_goes_on_to_the_same_files(stop_at: int, tmp_path: Path) -> None:
    prepare_stream(Stream(varied()), tmp_path / "whole", OPTIONS)
    stopped = Stream(varied(), stop_at=stop_at)
    with pytest.raises(InterruptedError):
        prepare_stream(stopped, tmp_path / "stopped", OPTIONS)
    rest = Stream(varied())
    summary = prepare_stream(rest, tmp_path / "stopped", OPTIONS)
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")
    assert summary == prepare_stream(Stream(varied()), tmp_path / "whole", OPTIONS)
    if stop_at > 2:
        assert rest.asked[0] > 0  # not from the beginning


def test_any_part_of_an_index_line_may_be_lost(tmp_path: Path) -> None:
    prepare_stream(Stream(varied()), tmp_path / "whole", OPTIONS)
    prepare_stream(Stream(varied()), tmp_path / "cut", OPTIONS)
    expected, path = tree(tmp_path / "whole"), tmp_path / "cut" / "drive/front" / INDEX_FILE
    content = path.read_bytes()
    for length in range(0, len(content), 41):
        path.write_bytes(content[:length])
        prepare_stream(Stream(varied()), tmp_path / "cut", OPTIONS)
        assert tree(tmp_path / "cut") == expected


def test_a_finished_recording_is_not_read_again(tmp_path: Path) -> None:
    prepare_stream(Stream(moving(4)), tmp_path, OPTIONS)
    before = tree(tmp_path)
    again = Stream(moving(4))
    assert prepare_stream(again, tmp_path, OPTIONS).written == 4
    assert again.asked == []
    assert tree(tmp_path) == before


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_writer as t
class Slow(t.Stream):
    def frames(self, first):
        for item in super().frames(first):
            time.sleep(0.02)
            yield item
t.prepare_stream(Slow(t.moving(40)), Path(sys.argv[1]), t.OPTIONS)
"""


def test_kill_9_in_the_middle(tmp_path: Path) -> None:
    prepare_stream(Stream(moving(40)), tmp_path / "whole", OPTIONS)
    killed, kills = tmp_path / "killed", 0
    for wanted in (3, 20):
        process = subprocess.Popen([sys.executable, "-c", SLOW, str(killed), str(Path(__file__).parent)])
        while process.poll() is None and not (killed / f"drive/front/{wanted:010d}.jpg").exists():
            time.sleep(0.002)
        kills += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert kills == 2
    index = read_index(killed / "drive/front" / INDEX_FILE)
    assert index is not None
    assert 20 <= len(index.kept) < 40
    assert not index.is_complete
    prepare_stream(Stream(moving(40)), killed, OPTIONS)
    assert tree(killed) == tree(tmp_path / "whole")


def test_calibration_of_another_size_is_taken_to_the_image(tmp_path: Path) -> None:
    stream = Stream([replace(frame(0, 0), camera=CAMERA.resized(512, 192))])
    prepare_stream(stream, tmp_path, OPTIONS)
    assert read_prepared(tmp_path)[0].intrinsics == pytest.approx(CAMERA.normalized(), rel=1e-12)


def test_distortion_is_undone_or_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lens = replace(CAMERA, distortion=(-0.2, 0.0, 0.0, 0.0))
    stream = Stream([replace(frame(0, 0), camera=lens)])
    prepare_stream(stream, tmp_path / "ideal", replace(OPTIONS, format="png"))
    prepare_stream(stream, tmp_path / "bent", replace(OPTIONS, format="png", rectify=False))
    ideal, bent = (cv2.imread(str(next((tmp_path / name).rglob("*.png")))).astype(int) for name in ("ideal", "bent"))
    assert np.abs(ideal - bent)[24, 60].max() <= 1  # beside the principal point
    assert np.abs(ideal - bent)[:8, :8].mean() > 3
    assert read_prepared(tmp_path / "ideal")[0].intrinsics == CAMERA.normalized()
    assert not caplog.records
    read_prepared(tmp_path / "bent")
    assert "lens distortion is left in the images" in caplog.text
    index = json.loads((tmp_path / "bent/drive/front" / INDEX_FILE).read_text().splitlines()[1])
    assert index["frame"]["distortion"] == ["plumb_bob", -0.2, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("options", "stream", "message"),
    [
        (replace(OPTIONS, width=64), Stream([]), "prepared with width 128, not 64"),
        (OPTIONS, Stream([], source="elsewhere"), "prepared with source somewhere, not elsewhere"),
        (replace(OPTIONS, keep_still=True), Stream([]), "prepared with keep_still False, not True"),
        (OPTIONS, Stream([], name="../out"), r"a sequence cannot be called '\.\./out'"),
        (OPTIONS, Stream([], name="."), r"a sequence cannot be called '\.'"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    options: PrepareOptions, stream: Stream, message: str, tmp_path: Path
) -> None:
    prepare_stream(Stream(moving(1)), tmp_path, OPTIONS)
    with pytest.raises(DataError, match=message):
        prepare_stream(stream, tmp_path, options)


def test_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"No space left on device.*run the same command again"):
        prepare_stream(Stream(moving(1)), tmp_path, OPTIONS)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": 70000}, {"quality": 0}, {"max_gap": 0.0}])
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"expected"):
        replace(PrepareOptions(), **wrong)  # type: ignore[arg-type]


def test_damaged_index_is_named(tmp_path: Path) -> None:
    prepare_stream(Stream(moving(2)), tmp_path, OPTIONS)
    path = tmp_path / "drive/front" / INDEX_FILE
    path.write_text(path.read_text().replace('"part"', '"prt"'))
    with pytest.raises(DataError, match=r"index\.jsonl is damaged.*delete its folder"):
        read_prepared(tmp_path)
