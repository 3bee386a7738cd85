"""Supervision by known depth: measured, rendered, or triangulated (`proxy_depth`)."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from training.checkpoints import DepthNetworkCard, write_card
from training.data.module import DepthData
from training.data.sample import Views
from training.errors import DataError
from training.losses.options import SupervisedLosses
from training.losses.supervised import log_l1, log_residual, to_canonical_focal
from training.losses.supervision import supervised_terms
from training.networks.depth import DepthNetworkOptions, create_depth_network, sigmoid_to_inverse_depth
from training.networks.execution import full_precision, prepare_network
from training.processes import mean_over_processes
from training.tasks.cameras import check_cameras
from training.tasks.optimization import Optimization
from training.tasks.validation import log_abs_rel, log_validation

KITTI_INTRINSICS = (0.5809, 1.9241, 0.4912, 0.4623)  # rectified cameras of 2011_09_26, normalised


class SupervisedDepth(L.LightningModule):
    """Depth network trained on depth, in metres of a canonical camera.

    Args:
        network: encoder and decoder of the depth network.
        pretrained: start the encoder from timm's ImageNet weights.
        min_depth: depth at disparity 1, in metres.
        max_depth: depth at disparity 0, in metres.
        canonical_intrinsics: (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H) of the canonical camera; the prior of the
            exported model.
        losses: weights of what compares predicted with known depth.
        channels_last: the network keeps the channels of a pixel together (NHWC).
        compile: torch.compile encoder and decoder: minutes at the start, faster steps on a GPU.
        optimization: optimiser and schedule.
    """

    def __init__(
        self,
        network: DepthNetworkOptions = DepthNetworkOptions(),
        pretrained: bool = True,
        min_depth: float = 0.1,
        max_depth: float = 100.0,
        canonical_intrinsics: tuple[float, float, float, float] = KITTI_INTRINSICS,
        losses: SupervisedLosses = SupervisedLosses(),
        channels_last: bool = True,
        compile: bool = False,
        optimization: Optimization = Optimization("adamw", 3e-4, 1e-2, "one_cycle"),
    ) -> None:
        super().__init__()
        self.network = network
        self.depth_network = create_depth_network(network, pretrained, scales=1)
        prepare_network(self.depth_network, channels_last, compile)
        self.min_depth, self.max_depth = min_depth, max_depth
        self.canonical_intrinsics = canonical_intrinsics
        self.losses = losses
        self.optimization = optimization

    def forward(self, image: Tensor) -> Tensor:
        """Inverse depth float32 [B, 1, H, W], 1/m of the canonical camera.

        image: float [B, 3, H, W], RGB in 0..1.
        """
        return sigmoid_to_inverse_depth(self.depth_network.disparity(image).float(), self.min_depth, self.max_depth)

    def setup(self, stage: str) -> None:
        """Refuse data that the network cannot take.

        Raises:
            RecipeError: sides are no multiples of what it needs, or cameras may be unknown.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, DepthData):
            self.depth_network.check_input_size(data.width, data.height)
            check_cameras(None, data)

    def training_step(self, views: Views, batch_idx: int) -> Tensor:
        """Sum of the recipe's losses, at the network's own resolution where they ask for that."""
        (disparity,) = self.depth_network(views.network_image)
        with full_precision(disparity.device):
            terms = supervised_terms(
                sigmoid_to_inverse_depth(disparity.float(), self.min_depth, self.max_depth),
                self._canonical_depth(views),
                self.losses,
                min_depth=self.min_depth,
                max_depth=self.max_depth,
                average=mean_over_processes,
            )
            loss = torch.stack([*terms.values()]).sum()
        logged = {f"train/{name}": value.detach() for name, value in {"loss": loss, **terms}.items()}
        self.log_dict(logged, batch_size=len(views.image))
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def validation_step(self, views: Views, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Median-scaled abs_rel, and the logarithmic error in metres."""
        inverse_depth = self(views.network_image)
        residual, known = log_residual(inverse_depth, self._canonical_depth(views))
        error = log_l1(residual, known, limit=float("inf"))
        log_validation(self, "val/log_l1", error, len(views.image), dataloader_idx)
        log_abs_rel(self, inverse_depth, _depth(views), dataloader_idx)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimiser and schedule of the recipe."""
        return self.optimization.configure(self.parameters(), self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network for evaluation and export."""
        write_card(checkpoint, self.card)

    @property
    def card(self) -> DepthNetworkCard:
        """How to rebuild the network and read its output."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return DepthNetworkCard(
            encoder=self.network.encoder,
            decoder=self.network.decoder,
            decoder_channels=self.network.decoder_channels,
            scales=1,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
            metric=True,
            prior=self.canonical_intrinsics,
            width=data.width,
            height=data.height,
        )

    def _canonical_depth(self, views: Views) -> Tensor:
        return to_canonical_focal(_depth(views), views.intrinsics, self.canonical_intrinsics[0])


def _depth(views: Views) -> Tensor:
    if views.depth is None:
        raise DataError("supervised training got frames without depth: set data.depth: true")
    return views.depth
