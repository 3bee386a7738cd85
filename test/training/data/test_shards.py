"""Shards written, and streamed by several processes and workers: every frame once, nothing twice, the same again."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depth_node.camera import PinholeCamera
from training.data.dataset import FrameDataset
from training.data.instance_files import encode_instances, instance_file
from training.data.module import DepthData
from training.data.prepared import read_prepared
from training.data.records import FrameRecord
from training.data.sample import Batch
from training.data.sampling import Position
from training.data.shard_files import read_shards
from training.data.shards import ShardLoader, ShardSamples
from training.data.source import Source
from training.errors import DataError
from training.prepare.frames import PrepareOptions, RawFrame
from training.prepare.shards import CLIP_LENGTH, clips, write_shards
from training.prepare.writer import prepare_stream

CAMERA = PinholeCamera(64, 64, 50.0, 51.0, 30.0, 32.0)
START = Position(0, 0)
LENGTHS = {"a/front": 70, "b": 40, "c": 3, "d": 1}


class Noise:
    """A recording of noise with depth and poses."""

    source, expected_frames = "noise", None

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def frames(self, first: int) -> Iterator[RawFrame]:
        for index in range(first, self.count):
            rng = np.random.default_rng((index, self.count))
            depth = rng.uniform(1, 50, (64, 64)).astype(np.float32)
            pose = np.eye(4)
            pose[0, 3] = index / 3
            rgb = rng.integers(0, 256, (64, 64, 3), np.uint8)
            yield RawFrame(rgb, index * 100_000_000, CAMERA, depth, pose, speed=10.0 / 3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prepared")
    for name, count in LENGTHS.items():
        prepare_stream(Noise(name, count), output, PrepareOptions(64, 64, keep_still=True))
    for record in read_prepared(output):
        instance_file(record.image).write_bytes(encode_instances(np.full((64, 64), 1 + record.index, np.uint8)))
    write_shards(output, 0.2)  # MB
    return output


def samples(prepared: Path, batch_size: int = 2, **options: object) -> ShardSamples:
    given = {"width": 64, "height": 64, "seed": 7, "source_offsets": (-1, 1), "depth": True, "known_poses": True}
    return ShardSamples(read_shards(str(prepared / "shards")), batch_size=batch_size, **{**given, **options})  # type: ignore[arg-type]


def batches(of: ShardSamples, position: Position = START, workers: int = 0) -> list[Batch]:
    return list(ShardLoader(of, lambda: position, workers, prefetch=2))


@given(st.lists(st.integers(0, 60), max_size=4), st.sets(st.integers(0, 100)), st.integers(1, 20), st.integers(0, 3))
def test_every_target_is_in_one_clip_with_its_neighbours(
    lengths: list[int], absent: set[int], length: int, neighbours: int
) -> None:
    records = [
        FrameRecord(Path("x.jpg"), None, f"s{s}", i, i, is_target=i % 7 != 3)
        for s, count in enumerate(lengths)
        for i in range(count)
        if i not in absent
    ]
    places = {(r.sequence, r.index) for r in records}
    found = clips(records, length, neighbours)
    targets = [(clip.frames[place].sequence, clip.frames[place].index) for clip in found for place in clip.targets]
    assert sorted(targets) == sorted((r.sequence, r.index) for r in records if r.is_target)
    assert len({clip.key for clip in found}) == len(found)
    for clip in found:
        assert len(clip.frames) <= length + 2 * neighbours
        inside = {(frame.sequence, frame.index) for frame in clip.frames}
        for place in clip.targets:
            target = clip.frames[place]
            for k in range(-neighbours, neighbours + 1):
                between = [(target.sequence, target.index + j) for j in (range(k, 0) if k < 0 else range(k + 1))]
                if all(other in places for other in between):
                    assert (target.sequence, target.index + k) in inside


def test_samples_are_those_of_the_prepared_frames(prepared: Path) -> None:
    frames = FrameDataset(read_prepared(prepared), 64, 64, source_offsets=(-1, 1), depth=True, known_poses=True)
    expected = {frames.targets[i].name: frames[i] for i in range(len(frames))}
    streamed = batches(samples(prepared, batch_size=1))
    seen = set()
    for batch in streamed:
        sample = expected[batch.names[0]]
        seen.add(batch.names[0])
        assert torch.equal(batch.image[0], sample.image)
        assert torch.equal(batch.sources[0], sample.sources)
        assert torch.equal(batch.intrinsics[0], sample.intrinsics)
        assert batch.depth is not None
        assert sample.depth is not None
        assert torch.equal(batch.depth[0], sample.depth)
        assert batch.T_source_target is not None
        assert torch.allclose(batch.T_source_target[0], sample.T_source_target)
    assert seen == set(expected)  # an epoch is as long as all frames, and repeats some for those without neighbours


def test_no_two_processes_or_workers_read_the_same_shard(prepared: Path) -> None:
    for epoch in range(2):
        read: list[str] = []
        for rank in range(2):
            part = batches(samples(prepared, rank=rank, world_size=2), Position(epoch, 0), workers=2)
            assert len(part) == sum(LENGTHS.values()) // 4
            read += {name for batch in part for name in batch.names}
        assert len(read) == len(set(read))


def test_epochs_differ_and_seeds_tell_all(prepared: Path) -> None:
    def order(epoch: int, seed: int = 7) -> list[str]:
        return [name for batch in batches(samples(prepared, seed=seed), Position(epoch, 0)) for name in batch.names]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != order(0, seed=8)


@pytest.mark.parametrize("done", [1, 5, 8])
def test_a_resumed_epoch_goes_on_to_the_last_bit(done: int, prepared: Path) -> None:
    cropped = samples(prepared, batch_size=4, min_crop=0.6)
    whole = batches(cropped, workers=2)
    rest = batches(cropped, Position(0, done), workers=2)
    assert len(rest) == len(whole) - done
    for a, b in zip(whole[done:], rest, strict=True):
        assert a.names == b.names
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.sources, b.sources)


def test_stopped_packing_goes_on_to_the_same_files(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(prepared, tmp_path / "again", ignore=shutil.ignore_patterns("shards"))
    original, calls = Path.replace, []

    def replace_twice(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == 3:
            raise InterruptedError
        return original(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_twice)
        with pytest.raises(InterruptedError):
            write_shards(tmp_path / "again", 0.2)
    with pytest.raises(DataError, match=r"shards\.json cannot be read"):
        read_shards(str(tmp_path / "again" / "shards"))
    write_shards(tmp_path / "again", 0.2)
    written, expected = (
        {p.name: p.read_bytes() for p in (root / "shards").iterdir()} for root in (tmp_path / "again", prepared)
    )
    assert written == expected
    assert len(expected) > 4


def test_shards_of_other_frames_are_not_mixed(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "more")
    prepare_stream(Noise("e", 5), tmp_path / "more", PrepareOptions(64, 64, keep_still=True))
    with pytest.raises(DataError, match="holds shards of other frames"):
        write_shards(tmp_path / "more", 0.2)


@pytest.mark.parametrize("damage", ["absent", "cut within a member", "cut between members", "not a tar"])
def test_damaged_shards_end_the_run_with_their_name(damage: str, prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared / "shards", tmp_path / "shards")
    path = tmp_path / "shards" / "000001.tar"
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "cut within a member":
        path.write_bytes(content[:20_000])
    elif damage == "cut between members":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"no tar" * 300)
    with pytest.raises(DataError, match=r"shard .*000001\.tar (cannot be read|ends early)"):
        batches(samples(tmp_path, batch_size=1), workers=1)


def test_damaged_frames_are_left_out_and_named(tmp_path: Path) -> None:
    prepare_stream(Noise("a", 210), tmp_path, PrepareOptions(64, 64, keep_still=True))
    torn = tmp_path / "a" / f"{100:010d}.jpg"
    torn.write_bytes(torn.read_bytes()[:300])
    write_shards(tmp_path, 0.2)
    found = batches(samples(tmp_path, batch_size=10, source_offsets=(), depth=False, known_poses=False))
    reasons = [reason for batch in found for reason in batch.unreadable]
    assert "a/000/0000000100" not in {name for batch in found for name in batch.names}
    assert any("tar: a/000/" in reason and "cannot be decoded" in reason for reason in reasons)


def test_more_workers_than_shards_are_refused(prepared: Path) -> None:
    with pytest.raises(DataError, match="for 64 workers: prepare smaller shards"):
        batches(samples(prepared, batch_size=1, rank=63, world_size=64))


def test_neighbours_that_shards_do_not_keep_are_refused(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"sources 2 frames away: the shards in .* keep 1"):
        samples(prepared, source_offsets=(-2, 2))


def test_shards_say_how_many_frames_and_which_camera(prepared: Path) -> None:
    shards = read_shards(str(prepared / "shards"))
    assert shards.targets == sum(LENGTHS.values())
    assert shards.intrinsics == pytest.approx(CAMERA.normalized())


def test_frames_without_what_the_recipe_needs_end_the_run(tmp_path: Path) -> None:
    prepare_stream(Noise("single", 1), tmp_path, PrepareOptions(64, 64))
    write_shards(tmp_path, 1)
    with pytest.raises(DataError, match=r"no frame of 000000\.tar in .* has what the recipe needs"):
        batches(samples(tmp_path, batch_size=1))


def test_training_data_from_shards(prepared: Path) -> None:
    data = DepthData(Path(), width=64, height=64, batch_size=4, workers=0, shards=str(prepared / "shards"))
    loader = data.train_dataloader()
    assert len(loader) == sum(LENGTHS.values()) // 4
    assert next(iter(loader)).sources.shape == (4, 2, 3, 64, 64)
    assert data.intrinsics_prior() == pytest.approx(CAMERA.normalized())
    with pytest.raises(DataError, match="leave out train, stereo and cache"):
        DepthData(Path(), train=[Source("prepared")], shards=str(prepared / "shards"))


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"shards": {"pipe:touch hacked": 3}}, {"shards": {"../000000.tar": 3}}, {"shards": 3}]
)
def test_another_shards_json_is_refused(change: dict[str, object], prepared: Path, tmp_path: Path) -> None:
    content = json.loads((prepared / "shards" / "shards.json").read_text())
    (tmp_path / "shards.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(DataError, match="expected what `prepare --shards` writes"):
        read_shards(str(tmp_path))


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset opens http with curl, which is not installed")
def test_over_http(prepared: Path) -> None:
    handler = functools.partial(_Quiet, directory=str(prepared / "shards"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shards = read_shards(f"http://127.0.0.1:{server.server_port}/")
        found = sum(len(clip.records) for name in shards.names for clip in shards.clips(name))
        server.shutdown()
    ends = sum(2 * ((count - 1) // CLIP_LENGTH) for count in LENGTHS.values())
    assert found == sum(LENGTHS.values()) + ends


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_shards_carry_instance_masks_and_speeds(prepared: Path) -> None:
    seen = 0
    for batch in batches(samples(prepared, instances=True, speed=True)):
        assert batch.instances is not None
        assert batch.distances is not None
        indices = torch.tensor([int(name.rsplit("/", 1)[1]) for name in batch.names])
        assert torch.equal(batch.instances.amax((1, 2, 3)), (1 + indices).byte())
        torch.testing.assert_close(batch.distances, torch.full_like(batch.distances, 1 / 3))
        seen += len(batch.names)
    assert seen > 100
