"""Monodepth2: depth and camera motion from video (Godard et al., ICCV 2019)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from training.checkpoints import DepthNetworkCard, write_card
from training.data.depth_fog import DepthFog
from training.data.module import DepthData
from training.data.sample import Views
from training.errors import DataError
from training.geometry.framing import Framing
from training.losses.options import SelfSupervisedLosses
from training.losses.reprojection import ReprojectionDiagnostics, photometric_reprojection_loss
from training.losses.velocity import velocity_loss
from training.networks.depth import DepthNetworkOptions, create_depth_network, sigmoid_to_inverse_depth
from training.networks.execution import full_precision, prepare_network
from training.networks.intrinsics import (
    CameraIntrinsics,
    IntrinsicsHead,
    LearnedIntrinsics,
    create_learned_intrinsics,
    describe,
)
from training.networks.pose import PoseNetwork, source_bottlenecks, source_poses
from training.pose_checkpoints import SHARED_ENCODER, PoseNetworkCard, write_pose_card
from training.tasks.cameras import check_cameras, focal_terms
from training.tasks.fog import in_depth_fog
from training.tasks.needs import check_losses, is_metric
from training.tasks.optimization import Optimization, OwnRate
from training.tasks.pictures import reprojection_panel
from training.tasks.predictions import Predictions
from training.tasks.validation import log_abs_rel, log_validation

logger = logging.getLogger(__name__)


class SelfSupervisedDepth(L.LightningModule):
    """Depth network and pose network trained on video alone; depth is up to scale unless the batches bring poses,
    stereo partners or speeds.

    Args:
        network: encoder and decoder of the depth network.
        pose_encoder: encoder of the pose network, named as the depth network's; `shared` for that one itself.
        pretrained: start encoders from timm's ImageNet weights.
        scales: number of disparity maps that are trained; 1 for the decoders dense_depth and dpt.
        min_depth: depth at disparity 1.
        max_depth: depth at disparity 0.
        losses: how the reconstructed target is compared with the real one.
        intrinsics: learn the camera, too; without it, data must bring intrinsics.
        depth_fog: fog by the depth network's own depth, on what the networks see in training.
        source_offsets: frame numbers of the sources relative to the target's, as `data.source_offsets`; the pose
            network gets frames in temporal order.
        picture_interval: steps between two pictures in TensorBoard.
        channels_last: networks keep the channels of a pixel together (NHWC).
        compile: torch.compile encoders and decoders: minutes at the start, faster steps on a GPU.
        optimization: optimiser and schedule.
    """

    def __init__(
        self,
        network: DepthNetworkOptions = DepthNetworkOptions(),
        pose_encoder: str = "resnet18",
        pretrained: bool = True,
        scales: int = 4,
        min_depth: float = 0.1,
        max_depth: float = 100.0,
        losses: SelfSupervisedLosses = SelfSupervisedLosses(),
        intrinsics: LearnedIntrinsics | None = None,
        depth_fog: DepthFog | None = None,
        source_offsets: tuple[int, ...] = (-1, 1),
        picture_interval: int = 250,
        channels_last: bool = True,
        compile: bool = False,
        optimization: Optimization = Optimization(),
    ) -> None:
        super().__init__()
        self.network, self.pose_encoder = network, pose_encoder
        self.depth_network = create_depth_network(network, pretrained, scales)
        sees_through = self.depth_network.encoder if pose_encoder == SHARED_ENCODER else pose_encoder
        self.pose_network = PoseNetwork(sees_through, pretrained)
        prepare_network(self.depth_network, channels_last, compile)
        prepare_network(self.pose_network, channels_last, compile)
        self.min_depth, self.max_depth = min_depth, max_depth
        self.losses, self.depth_fog = losses, depth_fog
        channels = self.pose_network.bottleneck_channels
        self.learned_intrinsics = None if intrinsics is None else create_learned_intrinsics(intrinsics, channels)
        self.source_offsets = source_offsets
        self.picture_interval = picture_interval
        self.optimization = optimization

    def forward(self, image: Tensor) -> Tensor:
        """Inverse depth float32 [B, 1, H, W], up to scale, of image: float [B, 3, H, W], RGB in 0..1."""
        return sigmoid_to_inverse_depth(self.depth_network.disparity(image).float(), self.min_depth, self.max_depth)

    def _depth_as_it_is(self, image: Tensor) -> Tensor:
        """What `forward` gives, with the batch norms of validation, which stay as they are."""
        self.depth_network.eval()
        inverse_depth = self(image)
        self.depth_network.train()
        return inverse_depth

    def setup(self, stage: str) -> None:
        """Refuse data that the networks cannot take.

        Raises:
            RecipeError: the depth network needs images of another size, unknown cameras are not learned, or a loss
                needs what the data does not bring.
            DataError: data.source_offsets differ from this task's, in whose order the pose network is told of frames.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, DepthData):
            self.depth_network.check_input_size(data.width, data.height)
            check_cameras(self.learned_intrinsics, data)
            check_losses(self.losses, data)
        if isinstance(data, DepthData) and (data.known_poses or not data.source_offsets):
            # It has no part in the loss, and DDP would wait for its gradients.
            self.pose_network.freeze(bottleneck=not isinstance(self.learned_intrinsics, IntrinsicsHead))
        if isinstance(data, DepthData) and tuple(data.source_offsets) != tuple(self.source_offsets):
            raise DataError(
                f"data.source_offsets is {list(data.source_offsets)}, and model.init_args.source_offsets is "
                f"{list(self.source_offsets)}: set both to the same frames in the same order"
            )

    def predictions(self, views: Views) -> Predictions:
        """What the networks say of a batch.

        Raises:
            DataError: the sources are not those of `source_offsets`, where the pose network has to look at them.
        """
        pairs = self._pairs(views)
        T_source_target = views.T_source_target  # of the last sources, of all of them, or none
        if T_source_target is None or T_source_target.shape[1] < views.sources.shape[1]:
            learned = source_poses(self.pose_network, pairs, self.source_offsets)
            T_source_target = learned if T_source_target is None else torch.cat([learned, T_source_target], dim=1)
        intrinsics = self._intrinsics(views, pairs)
        if self.learned_intrinsics is not None and self.training:
            height, width = views.image.shape[-2:]
            self.learned_intrinsics.note_motion(T_source_target, intrinsics.detach(), width, height)
        source_disparities = None
        if self.losses.consistency is not None:
            finest = self.depth_network(views.network_sources.flatten(0, 1))[0]
            source_disparities = finest.unflatten(0, views.network_sources.shape[:2])
        return Predictions(self.depth_network(views.network_image), T_source_target, intrinsics, source_disparities)

    def _pairs(self, views: Views) -> Tensor:
        """What the pose network sees of a target and each neighbour, [B, N, C, h, w]; nothing where nobody asks it."""
        neighbours = views.sources.shape[1]
        if views.T_source_target is not None:
            neighbours -= views.T_source_target.shape[1]
            if not neighbours and isinstance(self.learned_intrinsics, IntrinsicsHead):
                neighbours = min(len(self.source_offsets), views.sources.shape[1])
            elif not neighbours:
                return views.image.new_empty(0)
        if neighbours != len(self.source_offsets):
            raise DataError(
                f"batches have {neighbours} source frames without poses, and the task's source_offsets is "
                f"{list(self.source_offsets)}: set it to the value of data.source_offsets"
            )
        sources = views.network_sources[:, :neighbours]
        return source_bottlenecks(self.pose_network, views.network_image, sources, self.source_offsets)

    def _intrinsics(self, views: Views, pairs: Tensor) -> Tensor:
        """Normalised [B, 4]: the batch's, or learned."""
        learned = self.learned_intrinsics
        if learned is None:
            return views.intrinsics
        framing = views.framing or Framing.whole(views.image, camera=0)
        if isinstance(learned, IntrinsicsHead):
            return learned(pairs, framing)
        if not self.training and learned.options.cameras > 1:
            return views.intrinsics  # frames of validation may be of none of the cameras that are learned
        return learned(framing)

    def loss(self, views: Views, predictions: Predictions) -> tuple[Tensor, ReprojectionDiagnostics]:
        """Loss of `predictions`, and what to log of it; in float32 whatever precision the networks run in."""
        with full_precision(views.image.device):
            loss, diagnostics = photometric_reprojection_loss(
                predictions.disparities,
                views.image,
                views.sources,
                predictions.intrinsics,
                predictions.T_source_target,
                min_depth=self.min_depth,
                max_depth=self.max_depth,
                options=self.losses,
                source_disparities=predictions.source_disparities,
                instances=views.instances,
            )
            if not self.losses.velocity or views.distances is None:
                return loss, diagnostics
            velocity = self.losses.velocity * velocity_loss(predictions.T_source_target, views.distances)
            return loss + velocity, replace(diagnostics, velocity=velocity.detach())

    def reprojection(self, views: Views) -> tuple[Tensor, ReprojectionDiagnostics]:
        """Loss of a batch that has sources, and what to log of it."""
        return self.loss(views, self.predictions(views))

    def training_step(self, views: Views, batch_idx: int) -> Tensor:
        """Sum of the recipe's losses."""
        if self.depth_fog is not None:
            views = in_depth_fog(views, self.depth_fog, self._depth_as_it_is)
        predictions = self.predictions(views)
        loss, diagnostics = self.loss(views, predictions)
        terms = {
            "loss": loss.detach(),
            **diagnostics.terms,
            "mask": diagnostics.finest.mask.float().mean(),
            "median_depth": diagnostics.finest.depth.median(),
            **({} if self.learned_intrinsics is None else focal_terms(predictions.intrinsics, views)),
        }
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(views.image))
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        if self.global_step % self.picture_interval == 0 and isinstance(self.logger, TensorBoardLogger):
            panel = reprojection_panel(views.image, diagnostics.finest)
            self.logger.experiment.add_image("train/reprojection", panel, self.global_step)
        return loss

    def validation_step(self, views: Views, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Photometric loss where the batch has sources, median-scaled abs_rel where it has depth."""
        if views.sources.shape[1]:
            photometric = self.reprojection(views)[1].photometric
            log_validation(self, "val/photometric", photometric, len(views.image), dataloader_idx)
        if views.depth is not None:
            log_abs_rel(self, self(views.network_image), views.depth, dataloader_idx)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimiser and schedule of the recipe."""
        own_rates = []
        if isinstance(self.learned_intrinsics, CameraIntrinsics):
            factor = self.learned_intrinsics.options.learning_rate_factor
            own_rates = [OwnRate(tuple(self.learned_intrinsics.parameters()), factor)]
        return self.optimization.configure(self.parameters(), self.trainer, own_rates)

    def on_train_end(self) -> None:
        """Say which camera was learned, or that none could be."""
        if self.learned_intrinsics is not None:
            logger.info("%s", describe(self.learned_intrinsics))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the networks for evaluation and export."""
        write_card(checkpoint, self.card)
        learned = self.learned_intrinsics
        write_pose_card(checkpoint, PoseNetworkCard(self.pose_encoder, None if learned is None else learned.options))

    @property
    def card(self) -> DepthNetworkCard:
        """How to rebuild the depth network and read its output."""
        data: DepthData = self.trainer.datamodule  # type: ignore[attr-defined]
        return DepthNetworkCard(
            encoder=self.network.encoder,
            decoder=self.network.decoder,
            decoder_channels=self.network.decoder_channels,
            scales=self.depth_network.scales,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
            metric=is_metric(self.losses, data),
            prior=data.intrinsics_prior() if self.learned_intrinsics is None else self.learned_intrinsics.prior,
            width=data.width,
            height=data.height,
        )
