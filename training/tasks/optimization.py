"""Optimiser and learning-rate schedule of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.nn import Parameter
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR


@dataclass(frozen=True)
class OwnRate:
    """Parameters that learn `factor` times as fast as the others, without weight decay."""

    parameters: tuple[Parameter, ...]
    factor: float


@dataclass(frozen=True)
class Optimization:
    """How weights are updated.

    Args:
        optimizer: adam, or adamw with decoupled weight decay.
        learning_rate: of the first step (step, cosine), or the highest (one_cycle).
        weight_decay: decoupled for adamw, L2 for adam.
        schedule: step divides by ten every `step_epochs`; cosine falls to 0 over all steps (Loshchilov and Hutter,
            2017); one_cycle rises over `warmup` of all steps and falls by a cosine to 0, while Adam's first beta goes
            from 0.95 down to 0.85 and back (Smith, 2018).
        step_epochs: epochs between two steps of the step schedule.
        warmup: share of the steps over which one_cycle rises.
        rate_rule: with another number of samples per step than `base_samples`, the rate stays (fixed), grows with
            their ratio (linear; Goyal et al., 2017) or with its root (sqrt; Krizhevsky, 2014).
        base_samples: samples per step that `learning_rate` is meant for.
    """

    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: Literal["step", "cosine", "one_cycle"] = "step"
    step_epochs: int = 15
    warmup: float = 0.05
    rate_rule: Literal["fixed", "linear", "sqrt"] = "fixed"
    base_samples: int = 12

    def rate(self, samples: int) -> float:
        """Learning rate for so many samples per optimiser step, over all devices and accumulated batches."""
        exponent = {"fixed": 0.0, "linear": 1.0, "sqrt": 0.5}[self.rate_rule]
        return self.learning_rate * (samples / self.base_samples) ** exponent

    def configure(
        self, parameters: Iterable[Parameter], trainer: L.Trainer, own_rates: Sequence[OwnRate] = ()
    ) -> OptimizerLRSchedulerConfig:
        """What LightningModule.configure_optimizers returns."""
        steps = int(trainer.estimated_stepping_batches)
        return self.schedule_for(parameters, steps, samples_per_step(trainer), own_rates)

    def schedule_for(
        self, parameters: Iterable[Parameter], total_steps: int, samples: int, own_rates: Sequence[OwnRate] = ()
    ) -> OptimizerLRSchedulerConfig:
        """Optimiser and schedule of a run of `total_steps`, each of `samples`; `own_rates` are some of `parameters`."""
        kind = Adam if self.optimizer == "adam" else AdamW
        rate = self.rate(samples)
        apart = {id(parameter) for own in own_rates for parameter in own.parameters}
        groups: list[dict[str, Any]] = [{"params": [p for p in parameters if id(p) not in apart], "lr": rate}]
        groups += [{"params": own.parameters, "lr": rate * own.factor, "weight_decay": 0.0} for own in own_rates]
        optimizer = kind(groups, lr=rate, weight_decay=self.weight_decay)
        if self.schedule == "step":
            return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, self.step_epochs)}
        if self.schedule == "cosine":
            cosine = CosineAnnealingLR(optimizer, total_steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
        rates = [group["lr"] for group in groups]
        cycle = OneCycleLR(optimizer, rates, total_steps, pct_start=self.warmup, final_div_factor=1e4)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def samples_per_step(trainer: L.Trainer) -> int:
    """Samples of one optimiser step: batch size x processes x accumulated batches."""
    batch_size: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]
    return batch_size * trainer.world_size * trainer.accumulate_grad_batches
