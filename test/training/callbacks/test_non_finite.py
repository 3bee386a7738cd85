"""Steps without a finite loss or gradient: left out, kept to be looked at, and the end of a run after ten."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import DataLoader

from training.callbacks.non_finite import NonFiniteSteps
from training.data.sample import Views
from training.errors import NonFiniteLossError

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]

FACTORS = {"nan": float("nan"), "inf": float("inf"), "good": 1.0}


def views(kind: str, index: int) -> Views:
    image = torch.full((2, 3, 4, 4), FACTORS[kind])
    sources = torch.zeros(2, 0, 3, 4, 4)
    return Views(image, sources, image, sources, torch.ones(2, 4), None, None, (f"drive/{index}", "drive/x"))


class Line(L.LightningModule):
    """One weight; its loss is what the image says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.norm = torch.nn.BatchNorm1d(1)
        self.seen: list[float] = []

    def transfer_batch_to_device(self, batch: Views, device: torch.device, dataloader_idx: int) -> Views:
        return batch

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        return (self.weight * batch.image).mean()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen.append(float(self.weight.detach()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.1)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Line]:
    def run(kinds: Sequence[str], model: Line | None = None, **options: Any) -> Line:
        model = model or Line()
        batches: Any = [views(kind, index) for index, kind in enumerate(kinds)]
        callbacks: list[Callback] = [NonFiniteSteps()]
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            default_root_dir=tmp_path,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        trainer.fit(model, DataLoader(batches, batch_size=None))
        return model

    return run


def dumps(folder: Path) -> list[Path]:
    return sorted((folder / "non_finite").glob("*"))


def test_a_step_without_a_loss_changes_nothing(
    fit: Callable[..., Line], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights and the optimiser's state are those of a run without these batches."""
    with caplog.at_level(logging.WARNING, "training"):
        got = fit(["good", "nan", "good", "inf", "good"])
    assert got.seen[1] == got.seen[0]
    assert got.seen[3] == got.seen[2]
    expected = fit(["good"] * 3)
    assert [got.seen[i] for i in (0, 2, 4)] == expected.seen
    paths = dumps(tmp_path)
    assert [path.name for path in paths] == ["step_00000001_rank_0.safetensors", "step_00000003_rank_0.safetensors"]
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("training")]
    assert [str(path) in message for path, message in zip(paths, messages, strict=True)] == [True, True]
    assert "step 1 left out: loss nan" in messages[0]


def test_the_batch_is_kept(fit: Callable[..., Line], tmp_path: Path) -> None:
    fit(["good", "inf"])
    (path,) = dumps(tmp_path)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        assert json.loads(facts["names"]) == ["drive/1", "drive/x"]
        assert facts["loss"] == "inf"
        assert set(file.keys()) == {"image", "sources", "network_image", "network_sources", "intrinsics"}
        assert torch.equal(file.get_tensor("image"), views("inf", 1).image)


def test_a_gradient_that_is_no_number_is_left_out(fit: Callable[..., Line], tmp_path: Path) -> None:
    class Root(Line):
        def training_step(self, batch: Views, batch_idx: int) -> Tensor:
            return ((self.weight - self.weight.detach()) * batch.image).mean().sqrt()  # infinite slope at 0

    model = fit(["good"], Root())
    assert model.seen == [1.0]
    assert len(dumps(tmp_path)) == 1


def test_one_bad_batch_of_an_accumulated_step(fit: Callable[..., Line], tmp_path: Path) -> None:
    """Its sum of gradients is no number, so the whole step is left out."""
    model = fit(["nan", "good", "good", "good"], accumulate_grad_batches=2)
    assert model.seen[:3] == [1.0, 1.0, 1.0]
    assert model.seen[3] < 1.0


def test_ten_in_a_row_end_the_run(fit: Callable[..., Line], tmp_path: Path) -> None:
    fit((["nan"] * 9 + ["good"]) * 2)
    assert len(dumps(tmp_path)) == 10  # and no more
    with pytest.raises(NonFiniteLossError, match="10 steps in a row had no finite loss") as caught:
        fit(["good"] + ["nan"] * 12)
    assert str(tmp_path / "non_finite") in str(caught.value)


def test_broken_statistics_end_the_run_at_once(fit: Callable[..., Line]) -> None:
    class Broken(Line):
        def training_step(self, batch: Views, batch_idx: int) -> Tensor:
            if not batch.image.isfinite().all():
                self.norm(torch.full((2, 1), torch.inf))
            return super().training_step(batch, batch_idx)

    with pytest.raises(NonFiniteLossError, match=r"norm.running_mean is not finite any more.*last checkpoint"):
        fit(["good", "nan"], Broken())
