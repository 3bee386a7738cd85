"""What a run is about to do, in one line: samples per optimiser step, and the learning rate."""

from __future__ import annotations

import logging

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from training.tasks.optimization import Optimization, samples_per_step

logger = logging.getLogger(__name__)


class StepSummary(Callback):
    """Logs batch x processes x accumulation, and the rate that follows."""

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say it once."""
        optimization: Optimization = pl_module.optimization  # type: ignore[assignment]
        rule: str = optimization.rate_rule
        if rule != "fixed":
            rule += f", {optimization.learning_rate:g} for {optimization.base_samples}"
        samples = samples_per_step(trainer)
        logger.info(
            "%d samples per step: %d (batch) x %d (processes) x %d (accumulated); learning rate %g (%s), now %g",
            *(samples, samples // (trainer.world_size * trainer.accumulate_grad_batches)),
            *(trainer.world_size, trainer.accumulate_grad_batches, optimization.rate(samples), rule),
            trainer.optimizers[0].param_groups[0]["lr"],
        )
