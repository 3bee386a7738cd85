"""Weather: one for a target and its sources, the same for the same seed, for the networks alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.data.augmentation import Augmentation
from training.data.dataset import FrameDataset
from training.data.module import DepthData
from training.data.sample import Batch
from training.data.source import Source
from training.data.synthetic import read_synthetic
from training.data.weather import ALBUMENTATIONS, Weather
from training.errors import DataError

NEVER = dict.fromkeys(ALBUMENTATIONS, 0.0)


@pytest.fixture(scope="module")
def frame() -> Tensor:
    """Noise uint8 [3, 64, 96]."""
    return torch.randint(256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ALBUMENTATIONS)
def test_frames_of_a_sample_are_in_one_weather(kind: str, frame: Tensor) -> None:
    weather = Weather(**{**NEVER, kind: 1.0})
    torch.manual_seed(3)
    seen = weather.draw(torch.stack([frame] * 3))
    assert seen is not None
    assert not torch.equal(seen[0], frame)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("kind", ["sun_flare", "fog", "rain"])
def test_another_seed_is_another_weather(kind: str, frame: Tensor) -> None:
    weather = Weather(**{**NEVER, kind: 1.0})
    results = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        results.append(weather.draw(frame[None]))
    first, other, again = results
    assert first is not None
    assert other is not None
    assert again is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_sky_is_clear_as_often_as_it_should(frame: Tensor) -> None:
    torch.manual_seed(0)
    assert Weather(**NEVER).draw(frame[None]) is None
    clear = [Weather(**{**NEVER, "rain": 0.25}).draw(frame[None]) is None for _ in range(200)]
    assert sum(clear) / len(clear) == pytest.approx(0.75, abs=0.1)


def test_losses_see_a_clear_sky(streets: Path) -> None:
    records = read_synthetic(streets)
    options = {"width": 96, "height": 64, "source_offsets": (-1, 1)}
    clear = FrameDataset(records, **options)[0]  # type: ignore[arg-type]
    sample = FrameDataset(records, **options, weather=Weather(snow=1.0))[0]  # type: ignore[arg-type]
    assert clear.weathered is None
    assert sample.weathered is not None
    assert torch.equal(sample.image, clear.image)
    assert torch.equal(sample.sources, clear.sources)

    plain = Augmentation(flip=0, jitter=0)
    views = plain(Batch.collate([sample, clear]))
    torch.testing.assert_close(views.image[0], clear.image / 255.0)
    torch.testing.assert_close(views.network_image[0], sample.weathered[0] / 255.0)
    torch.testing.assert_close(views.network_sources[0], sample.weathered[1:] / 255.0)
    torch.testing.assert_close(views.network_image[1], views.image[1])
    mirrored = Augmentation(flip=1, jitter=0)(Batch.collate([sample, clear]))
    torch.testing.assert_close(mirrored.network_image, views.network_image.flip(-1))


def test_workers_do_not_change_the_weather(streets: Path) -> None:
    """It belongs to the seed of the run, the epoch and the sample."""
    batches = []
    for workers in (0, 2):
        torch.manual_seed(5)
        data = DepthData(
            streets, [Source("synthetic")], width=96, height=64, batch_size=2, workers=workers, weather=Weather()
        )
        batches.append([batch.weathered for batch in data.train_dataloader()])
    assert any(weathered is not None for weathered in batches[0])
    for ours, theirs in zip(*batches, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


def test_what_cannot_be_is_refused(streets: Path) -> None:
    with pytest.raises(DataError, match=r"weather.fog is 1.5: expected a probability"):
        Weather(fog=1.5)
    with pytest.raises(DataError, match=r"data\.cache is device"):
        DepthData(streets, width=96, height=64, cache="device", weather=Weather())
