"""Supervision by known depth: measured, rendered, or triangulated (`proxy_depth`)."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from training.checkpoints import DepthNetworkCard, write_card
from training.data.module import DepthData
from training.data.sample import Views
from training.errors import DataError
from training.losses.supervised import gradient_matching, log_l1, log_residual, scale_invariant, to_canonical_focal
from training.networks.depth import DepthNetworkOptions, create_depth_network, sigmoid_to_inverse_depth
from training.networks.execution import full_precision, prepare_network
from training.processes import mean_over_processes
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
        scale_invariant_weight: weight of the scale-invariant logarithmic error.
        gradient_weight: weight of the multi-scale gradient matching.
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
        scale_invariant_weight: float = 1.0,
        gradient_weight: float = 0.5,
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
        self.scale_invariant_weight, self.gradient_weight = scale_invariant_weight, gradient_weight
        self.optimization = optimization

    def forward(self, image: Tensor) -> Tensor:
        """Inverse depth float32 [B, 1, H, W], 1/m of the canonical camera.

        image: float [B, 3, H, W], RGB in 0..1.
        """
        return sigmoid_to_inverse_depth(self.depth_network.disparity(image).float(), self.min_depth, self.max_depth)

    def setup(self, stage: str) -> None:
        """Refuse data of another size than the network can take.

        Raises:
            RecipeError: sides are no multiples of what it needs.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, DepthData):
            self.depth_network.check_input_size(data.width, data.height)

    def training_step(self, views: Views, batch_idx: int) -> Tensor:
        """Weighted sum of the log-depth losses."""
        inverse_depth = self(views.network_image)
        with full_precision(inverse_depth.device):
            residual, known = self._residual(inverse_depth, views)
            l1 = log_l1(residual, known, average=mean_over_processes)
            invariant = scale_invariant(residual, known, average=mean_over_processes)
            gradient = gradient_matching(residual, known, average=mean_over_processes)
            loss = l1 + self.scale_invariant_weight * invariant + self.gradient_weight * gradient
        terms = {"loss": loss, "log_l1": l1, "scale_invariant": invariant, "gradient": gradient}
        self.log_dict({f"train/{k}": v.detach() for k, v in terms.items()}, batch_size=len(views.image))
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def validation_step(self, views: Views, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Median-scaled abs_rel, and the logarithmic error in metres."""
        inverse_depth = self(views.network_image)
        residual, known = self._residual(inverse_depth, views)
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
            scales=1,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
            metric=True,
            prior=self.canonical_intrinsics,
            width=data.width,
            height=data.height,
        )

    def _residual(self, inverse_depth: Tensor, views: Views) -> tuple[Tensor, Tensor]:
        return log_residual(
            inverse_depth, to_canonical_focal(_depth(views), views.intrinsics, self.canonical_intrinsics[0])
        )


def _depth(views: Views) -> Tensor:
    if views.depth is None:
        raise DataError("supervised training got frames without depth: set data.depth: true")
    return views.depth
