"""Batch normalisation over the samples of all processes (`--trainer.sync_batchnorm true`)."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers.norm_act import convert_sync_batchnorm
from torch.nn import Module


class SynchronizedBatchNorm(TorchSyncBatchNorm):
    """Lightning's plugin, but with timm's conversion.

    torch's own drops the activation that timm's BatchNormAct2d (MobileNet, EfficientNet) has inside: another network.
    """

    def apply(self, model: Module) -> Module:
        """Replace the layers in place; names of weights stay."""
        converted: Module = convert_sync_batchnorm(model)
        return converted

    def revert(self, model: Module) -> Module:
        """Nothing: a run ends with its fit, and synchronised layers evaluate as the others do."""
        return model
