"""`python -m training import_monodepth2`: weights in Monodepth2's published layout become a checkpoint of this package.

The layout (Godard et al., "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019, and the files published
with it) is a folder of state dictionaries: `encoder.pth` (a torchvision ResNet under `encoder.`, with `height`, `width`
and `use_stereo` beside the weights), `depth.pth`, `pose_encoder.pth` (six input channels) and `pose.pth`. Networks are
those of this package, so that importing is renaming, with one exception: the pose decoder's translations are scaled by
0.01 there and by TRANSLATION_SCALE here, which its last convolution makes up for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.checkpoints import CARD, POSE_CARD, PREFIX, DepthNetworkCard
from training.command_line import run_function
from training.errors import CheckpointError
from training.networks.depth import DepthNetwork
from training.networks.pose import TRANSLATION_SCALE, PoseNetwork
from training.networks.unet import DECODER_CHANNELS
from training.pose_checkpoints import POSE_PREFIX, PoseNetworkCard

MIN_DEPTH, MAX_DEPTH = 0.1, 100.0
STEREO_SCALE = 5.4  # stereo models are trained with a baseline of 0.1 for KITTI's 0.54 m
MONODEPTH2_TRANSLATION_SCALE = 0.01
LAST_OF_POSE_DECODER = 3
FX, FY = 0.58, 1.92  # of the image's width and height, for all of KITTI
BLOCKS_OF_RESNET = {
    "resnet18": ("conv2", [2, 2, 2, 2]),
    "resnet34": ("conv2", [3, 4, 6, 3]),
    "resnet50": ("conv3", [3, 4, 6, 3]),
    "resnet101": ("conv3", [3, 4, 23, 3]),
}

Weights = dict[str, Tensor]

logger = logging.getLogger(__name__)


def import_monodepth2(folder: Path, output: Path | None = None) -> int:
    """Make a checkpoint of weights in Monodepth2's published layout.

    The checkpoint is evaluated, fine-tuned (`train --weights`) and exported like those of `train`, and gives the same
    disparities. Weights of a model trained with stereo give metres for KITTI's focal length, others depth up to scale.

    Args:
        folder: holds encoder.pth and depth.pth, and pose_encoder.pth and pose.pth if the pose network is wanted.
        output: checkpoint to write, ending in .ckpt; by default the folder's name, here.
    """
    checkpoint = monodepth2_checkpoint(folder)
    output = output or Path(f"{folder.resolve().name}.ckpt")
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, output)
    card = checkpoint[CARD]
    pose = checkpoint.get(POSE_CARD, {"encoder": "no"})["encoder"]
    scale = "metres" if card["metric"] else "up to scale"
    print(f"{output}: {card['encoder']}, {card['width']}x{card['height']}, {scale}, {pose} pose network")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command-line entry."""
    return run_function(import_monodepth2, arguments, operand="folder")


def monodepth2_checkpoint(folder: Path) -> dict[str, Any]:
    """The contents of a checkpoint: weights and cards of the networks in `folder`.

    Raises:
        CheckpointError: a file is missing or damaged, or holds another network than Monodepth2's with a ResNet.
    """
    encoder_file = folder / "encoder.pth"
    encoder_content = _read(encoder_file)
    encoder = _of_encoder(encoder_content)
    name = _resnet(encoder, encoder_file)
    size = {side: int(encoder_content.get(side, 0)) for side in ("width", "height")}
    if not all(size.values()):
        raise CheckpointError(f"{encoder_file} does not say its width and height: expected the file as published")
    decoder, scales = _depth_decoder(_read(folder / "depth.pth"), folder / "depth.pth")
    weights = _fitted(
        DepthNetwork(name, pretrained=False, scales=scales),
        {**_prefixed("encoder.", encoder), **_prefixed("decoder.", decoder)},
        folder,
    )
    stereo = bool(encoder_content.get("use_stereo", False))
    card = DepthNetworkCard(
        encoder=name,
        scales=scales,
        min_depth=MIN_DEPTH * (STEREO_SCALE if stereo else 1),
        max_depth=MAX_DEPTH * (STEREO_SCALE if stereo else 1),
        metric=stereo,
        prior=(FX, FY, 0.5 + 0.5 / size["width"], 0.5 + 0.5 / size["height"]),
        width=size["width"],
        height=size["height"],
    )
    checkpoint: dict[str, Any] = {"state_dict": _prefixed(PREFIX, weights), "global_step": 0, CARD: asdict(card)}
    if (folder / "pose_encoder.pth").is_file() and (folder / "pose.pth").is_file():
        pose_name, pose_weights = _pose_network(folder)
        checkpoint["state_dict"].update(_prefixed(POSE_PREFIX, pose_weights))
        checkpoint[POSE_CARD] = asdict(PoseNetworkCard(pose_name))
    else:
        logger.warning("%s has no pose_encoder.pth and pose.pth: imported without a pose network", folder)
    return checkpoint


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no {path}: expected encoder.pth and depth.pth as Monodepth2 publishes them") from error
    except Exception as error:  # torch raises many types for damaged or foreign files
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}: expected a dictionary of weights")
    return content


def _of_encoder(content: Mapping[str, Any]) -> Weights:
    """The ResNet without its classifier, named as timm names it, which is as torchvision does."""
    renamed = {k.removeprefix("encoder."): v for k, v in content.items() if k.startswith("encoder.")}
    return {name: value for name, value in renamed.items() if not name.startswith("fc.")}


def _resnet(weights: Weights, path: Path) -> str:
    """Which ResNet it is, by the number and kind of its blocks."""
    depths = [len({name.split(".")[1] for name in weights if name.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)]
    last = "conv3" if "layer1.0.conv3.weight" in weights else "conv2"
    for name, expected in BLOCKS_OF_RESNET.items():
        if expected == (last, depths):
            return name
    raise CheckpointError(f"{path} is no ResNet of {', '.join(BLOCKS_OF_RESNET)}: its stages have {depths} blocks")


def _depth_decoder(content: Mapping[str, Tensor], path: Path) -> tuple[Weights, int]:
    """Weights of DepthDecoder, and the number of disparity heads.

    There, one list holds for each stage, coarsest first, the convolution before upsampling and the one after, then the
    disparity heads, finest first.
    """
    first_head = 2 * len(DECODER_CHANNELS)
    weights = {}
    for name, value in content.items():
        place, parameter = _place_and_parameter(name, path)
        if place < first_head:
            weights[f"{('reduce', 'merge')[place % 2]}.{place // 2}.0.{parameter}"] = value
        else:
            weights[f"heads.{place - first_head}.0.{parameter}"] = value
    scales = sum(name.startswith("heads.") and name.endswith("weight") for name in weights)
    if scales == 0:
        raise CheckpointError(f"{path} has no disparity heads: expected Monodepth2's depth decoder")
    return weights, scales


def _pose_network(folder: Path) -> tuple[str, Weights]:
    """Encoder name and weights of PoseNetwork."""
    encoder = _of_encoder(_read(folder / "pose_encoder.pth"))
    name = _resnet(encoder, folder / "pose_encoder.pth")
    decoder = {}
    for key, value in _read(folder / "pose.pth").items():
        place, parameter = _place_and_parameter(key, folder / "pose.pth")
        # A ReLU stands between two convolutions here; the last one gives rotation, then translation.
        scale = torch.ones(value.shape[0], *[1] * (value.ndim - 1))
        if place == LAST_OF_POSE_DECODER:
            scale[3:] = MONODEPTH2_TRANSLATION_SCALE / TRANSLATION_SCALE
        decoder[f"{2 * place}.{parameter}"] = scale * value
    weights = {**_prefixed("encoder.", encoder), **_prefixed("decoder.", decoder)}
    return name, _fitted(PoseNetwork(name, pretrained=False), weights, folder)


def _place_and_parameter(name: str, path: Path) -> tuple[int, str]:
    """Place in the list of convolutions, and `weight` or `bias`, of a name such as `decoder.3.conv.conv.weight`."""
    match = re.fullmatch(r"(?:decoder|net)\.(\d+)\.(?:conv\.)*(weight|bias)", name)
    if match is None:
        raise CheckpointError(f"{path} has {name!r}: expected a list of convolutions, as Monodepth2's decoders are")
    return int(match[1]), match[2]


def _fitted(network: torch.nn.Module, weights: Weights, folder: Path) -> Weights:
    """The weights, once they are known to be all of the network's."""
    # Weights of PyTorch before 0.4.1 lack these counters, which evaluation does not use.
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counters, **weights})
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {folder} are not Monodepth2's ({error}): expected its ResNet encoder, its decoder with "
            "the finest scales, and the pose network with an encoder of its own for two frames"
        ) from error
    return dict(network.state_dict())


def _prefixed(prefix: str, weights: Mapping[str, Tensor]) -> Weights:
    return {f"{prefix}{name}": value for name, value in weights.items()}
