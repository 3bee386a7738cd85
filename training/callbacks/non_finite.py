"""Losses and gradients that are no numbers: their step is left out, their batch is kept to be looked at."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from training.data.sample import Views
from training.errors import NonFiniteLossError
from training.processes import mean_over_processes

MAX_IN_A_ROW = 10
MAX_DUMPS = 10

logger = logging.getLogger(__name__)


class NonFiniteSteps(Callback):
    """Leaves out optimiser steps whose loss or gradient is not finite, and ends the run after ten in a row.

    The views of such a step go to FOLDER/non_finite/step_N_rank_R.safetensors, N being the optimiser steps until then:
    at most ten files a process, later ones are only reported. With several processes, all leave out the same steps.

    Args:
        folder: where the dumps go; by default the folder of the run.

    Raises:
        NonFiniteLossError: ten steps in a row, or the network's own statistics are no numbers any more.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.in_a_row, self.dumps = 0, 0
        self._views: Views | None = None
        self._losses: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Views, batch_idx: int
    ) -> None:
        """Keep the batch until its step is done."""
        self._views = batch

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Keep the loss; there are several to a step where gradients accumulate."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Without gradients, an optimiser changes nothing: neither weights nor its own state."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        losses, self._losses = self._losses, []
        finite = torch.stack([*losses, norm.to(losses[0])]).isfinite().all()
        if float(mean_over_processes(finite)) == 1:
            self.in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.in_a_row += 1
        folder = (self.folder or Path(trainer.log_dir or trainer.default_root_dir)) / "non_finite"
        where = self._dump(folder, trainer, losses[-1])
        logger.warning(
            "epoch %d, step %d left out: loss %s, gradient norm %s; %s",
            *(trainer.current_epoch, trainer.global_step, float(losses[-1]), float(norm), where),
        )
        self._end_where_hopeless(pl_module, folder)

    def _dump(self, folder: Path, trainer: L.Trainer, loss: Tensor) -> str:
        """Write the views of this step, if there are not too many of them yet; says where."""
        if self._views is None or self.dumps == MAX_DUMPS:
            return f"{MAX_DUMPS} batches are in {folder} already"
        self.dumps += 1
        path = folder / f"step_{trainer.global_step:08d}_rank_{trainer.global_rank}.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {field.name: getattr(self._views, field.name) for field in fields(Views)}
        facts = {"names": json.dumps(self._views.names), "loss": str(float(loss)), "epoch": str(trainer.current_epoch)}
        copies = {name: _copy(value) for name, value in tensors.items() if isinstance(value, Tensor)}
        save_file(copies, path, facts)
        return f"its batch is in {path}"

    def _end_where_hopeless(self, module: nn.Module, folder: Path) -> None:
        broken = [name for name, value in module.named_buffers() if not value.isfinite().all()]
        if broken:
            raise NonFiniteLossError(
                f"{broken[0]} is not finite any more: activations overflowed. Go on from the last checkpoint with a "
                f"lower learning rate, or with --trainer.precision 32-true; the batch is in {folder}"
            )
        if self.in_a_row == MAX_IN_A_ROW:
            raise NonFiniteLossError(
                f"{MAX_IN_A_ROW} steps in a row had no finite loss or gradient. Their batches are in {folder}: look at "
                "these (depth, intrinsics), or go on from the last checkpoint with a lower learning rate"
            )


def _copy(tensor: Tensor) -> Tensor:
    """On the CPU, in memory of its own: views may share theirs, which safetensors refuses."""
    return tensor.cpu().clone(memory_format=torch.contiguous_format)
