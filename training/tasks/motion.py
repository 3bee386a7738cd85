"""Supervision by known motion and known intrinsics: recorded poses of calibrated cameras, or rendered ones."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from training.data.module import DepthData
from training.data.sample import Views
from training.errors import DataError, RecipeError
from training.geometry.framing import Framing
from training.losses.motion import focal_error, motion_terms, rotation_error
from training.losses.options import MotionLosses
from training.networks.execution import full_precision, prepare_network
from training.networks.intrinsics import IntrinsicsHead, LearnedIntrinsics
from training.networks.pose import PoseNetwork, source_bottlenecks, source_poses
from training.pose_checkpoints import SHARED_ENCODER, PoseNetworkCard, PoseTraining, write_pose_card
from training.tasks.optimization import Optimization
from training.tasks.validation import log_validation

logger = logging.getLogger(__name__)


class SupervisedMotion(L.LightningModule):
    """Pose network with an intrinsics head, trained on poses in metres and on cameras that are known.

    Args:
        encoder: of the pose network, as of a depth network.
        pretrained: start the encoder from timm's ImageNet weights.
        intrinsics: what the head learns, from which prior.
        losses: weights of what compares predicted with known motion and intrinsics.
        source_offsets: frame numbers of the sources relative to the target's, as `data.source_offsets`; the network
            gets frames in temporal order.
        channels_last: the network keeps the channels of a pixel together (NHWC).
        compile: torch.compile the encoder: minutes at the start, faster steps on a GPU.
        optimization: optimiser and schedule.

    Raises:
        RecipeError: the intrinsics are no head's, or the encoder would be a depth network's.
    """

    def __init__(
        self,
        encoder: str = "regnetx_002",
        pretrained: bool = True,
        intrinsics: LearnedIntrinsics = LearnedIntrinsics(any_aspect=True),
        losses: MotionLosses = MotionLosses(),
        source_offsets: tuple[int, ...] = (1,),
        channels_last: bool = True,
        compile: bool = False,
        optimization: Optimization = Optimization("adamw", 1e-3, 1e-2, "one_cycle"),
    ) -> None:
        super().__init__()
        if intrinsics.per != "pair":
            raise RecipeError(f"intrinsics.per is {intrinsics.per}: known cameras teach a head; set it to pair")
        if encoder == SHARED_ENCODER:
            raise RecipeError(f"encoder is {SHARED_ENCODER}: there is no depth network here; name one, as regnetx_002")
        self.encoder = encoder
        self.pose_network = PoseNetwork(encoder, pretrained)
        prepare_network(self.pose_network, channels_last, compile)
        self.learned_intrinsics = IntrinsicsHead(self.pose_network.bottleneck_channels, intrinsics)
        self.losses, self.source_offsets, self.optimization = losses, source_offsets, optimization

    def setup(self, stage: str) -> None:
        """Refuse data that do not say what is to be learned.

        Raises:
            RecipeError: neighbours, their poses or intrinsics are not asked for, or stereo partners are.
            DataError: data.source_offsets differ from this task's.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, DepthData):
            return
        if (
            not (data.known_poses and data.known_intrinsics and data.source_offsets)
            or data.stereo
            or data.validate != "motion"
        ):
            raise RecipeError(
                "SupervisedMotion needs known motion and cameras: set data.known_poses: true, data.known_intrinsics: "
                "true, data.validate: motion, and data.source_offsets to at least one neighbour; leave out data.stereo"
            )
        if tuple(data.source_offsets) != tuple(self.source_offsets):
            raise DataError(
                f"data.source_offsets is {list(data.source_offsets)}, and model.init_args.source_offsets is "
                f"{list(self.source_offsets)}: set both to the same frames in the same order"
            )
        if data.min_crop == 1:
            logger.warning("data.min_crop is 1: a head learns the K of few cameras by heart; set data.min_crop: 0.5")

    def forward(self, views: Views) -> tuple[Tensor, Tensor]:
        """T_source_target [B, N, 4, 4] in metres, and normalised intrinsics [B, 4]; float32."""
        pairs = source_bottlenecks(self.pose_network, views.network_image, views.network_sources, self.source_offsets)
        framing = views.framing or Framing.whole(views.image)
        return source_poses(self.pose_network, pairs, self.source_offsets), self.learned_intrinsics(pairs, framing)

    def training_step(self, views: Views, batch_idx: int) -> Tensor:
        """Sum of the recipe's losses."""
        T_source_target, intrinsics, terms = self._compare(views)
        height, width = views.image.shape[-2:]
        self.learned_intrinsics.note_motion(T_source_target.detach(), intrinsics.detach(), width, height)
        loss = torch.stack([*terms.values()]).sum()
        logged = {"loss": loss, **terms, "focal_error": focal_error(intrinsics, views.intrinsics).mean()}
        self.log_dict({f"train/{name}": value.detach() for name, value in logged.items()}, batch_size=len(views.image))
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def validation_step(self, views: Views, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The loss, the relative error of the focal length, and that of the rotation in degrees."""
        T_source_target, intrinsics, terms = self._compare(views)
        turn = rotation_error(T_source_target, _known(views)).rad2deg().mean()
        scores = {
            "val/motion": torch.stack([*terms.values()]).sum(),
            "val/focal_error": focal_error(intrinsics, views.intrinsics).mean(),
            "val/rotation_degrees": turn,
        }
        for name, value in scores.items():
            log_validation(self, name, value, len(views.image), dataloader_idx)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimiser and schedule of the recipe."""
        return self.optimization.configure(self.parameters(), self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network for evaluation and export."""
        data: DepthData = self.trainer.datamodule  # type: ignore[attr-defined]
        head = self.learned_intrinsics
        training = PoseTraining(data.width, data.height, metric=True, prior=head.prior)
        write_pose_card(checkpoint, PoseNetworkCard(self.encoder, head.options, training))

    def _compare(self, views: Views) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What `forward` gives, and the weighted terms of its loss."""
        T_source_target, intrinsics = self(views)
        with full_precision(views.image.device):
            terms = motion_terms(T_source_target, intrinsics, _known(views), views.intrinsics, self.losses)
        return T_source_target, intrinsics, terms


def _known(views: Views) -> Tensor:
    if views.T_source_target is None:
        raise DataError("motion is supervised, and a batch has no poses: set data.known_poses: true")
    return views.T_source_target
