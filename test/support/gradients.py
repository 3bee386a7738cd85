"""Gradients of one training step and errors of one validation, by one process or, under torchrun, by several.

python -m torch.distributed.run --standalone --nproc-per-node 2 gradients.py ROOT BATCH_SIZE RESULT
"""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from training.data.augmentation import Augmentation
from training.data.module import DepthData
from training.data.source import Source
from training.losses.options import SelfSupervisedLosses
from training.networks.depth import DepthNetworkOptions
from training.tasks.self_supervised import SelfSupervisedDepth
from training.tasks.supervised import SupervisedDepth

ENCODER = "mobilenetv3_small_050"


class Gradients(Callback):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Called after the processes have averaged their gradients."""
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                self.values[name] = parameter.grad.clone()


def tasks() -> dict[str, L.LightningModule]:
    """Both, with batch normalisation as in evaluation: its statistics are those of one process's batch."""
    made = {
        "supervised": SupervisedDepth(DepthNetworkOptions(ENCODER), pretrained=False),
        "self_supervised": SelfSupervisedDepth(
            DepthNetworkOptions(ENCODER),
            ENCODER,
            pretrained=False,
            source_offsets=(-1,),
            losses=SelfSupervisedLosses(automask=False),
        ),
    }
    for task in made.values():
        for module in task.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    return made


def step_and_validate(root: Path, batch_size: int, processes: int) -> dict[str, Tensor]:
    """Gradients by `TASK.PARAMETER`, and `TASK/val/abs_rel`; frames below `root`, nothing random on batches."""
    result: dict[str, Tensor] = {}
    L.seed_everything(0, verbose=False)
    for name, task in tasks().items():
        data = DepthData(
            root,
            [Source("synthetic")],
            [Source("synthetic")],
            width=96,
            height=64,
            batch_size=batch_size,
            workers=0,
            source_offsets=[-1] if name == "self_supervised" else [],
            depth=name == "supervised",
            min_crop=0.7,
            augmentation=Augmentation(flip=0, jitter=0),
        )
        data.seed = 3
        gradients = Gradients()
        trainer = L.Trainer(
            accelerator="cpu",
            devices=processes,
            strategy="ddp" if processes > 1 else "auto",
            use_distributed_sampler=False,
            max_steps=1,
            num_sanity_val_steps=0,
            callbacks=[gradients],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        (metrics,) = trainer.validate(task, datamodule=data, verbose=False)
        result[f"{name}/val/abs_rel"] = torch.tensor(metrics["val/abs_rel"], dtype=torch.float64)
        trainer.fit(task, datamodule=data)
        result |= {f"{name}.{key}": value for key, value in gradients.values.items()}
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = step_and_validate(Path(sys.argv[1]), int(sys.argv[2]), processes=2)
    if torch.distributed.get_rank() == 0:
        torch.save(found, sys.argv[3])
