"""Optimiser and learning-rate schedule of a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.nn import Parameter
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import OneCycleLR, StepLR


@dataclass(frozen=True)
class Optimization:
    """How weights are updated.

    Args:
        optimizer: adam, or adamw with decoupled weight decay.
        learning_rate: of the first step (step), or the highest (one_cycle).
        weight_decay: decoupled for adamw, L2 for adam.
        schedule: step divides by ten every `step_epochs`; one_cycle rises over `warmup` of all steps and falls by a
            cosine to 0, while Adam's first beta goes from 0.95 down to 0.85 and back (Smith, 2018).
        step_epochs: epochs between two steps of the step schedule.
        warmup: share of the steps over which one_cycle rises.
    """

    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: Literal["step", "one_cycle"] = "step"
    step_epochs: int = 15
    warmup: float = 0.05

    def configure(self, parameters: Iterable[Parameter], total_steps: int) -> OptimizerLRSchedulerConfig:
        """What LightningModule.configure_optimizers returns; `total_steps` is trainer.estimated_stepping_batches."""
        kind = Adam if self.optimizer == "adam" else AdamW
        optimizer = kind(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.schedule == "step":
            return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, self.step_epochs)}
        cycle = OneCycleLR(optimizer, self.learning_rate, total_steps, pct_start=self.warmup, final_div_factor=1e4)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
