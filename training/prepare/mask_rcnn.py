"""Instance masks by Mask R-CNN (He et al., ICCV 2017), with torchvision's weights for COCO."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn

from training.errors import DataError

MIN_SCORE = 0.7
MIN_PIXELS = 64
RIDDEN_OVERLAP = 0.03
"""Share of a bicycle that a person must cover to be one thing with it (Niklaus et al., 3D Ken Burns Effect, 2019)."""

PERSON = 1
RIDDEN = (2, 4)  # COCO's numbers of bicycle and motorcycle
MOVABLE = (PERSON, *range(2, 10), *range(16, 26))  # person; bicycle to boat; bird to giraffe


class MaskRcnn:
    """Mask R-CNN with a ResNet-50 and feature pyramid, as torchvision has it.

    Args:
        weights: file of its state dict; None for those that torchvision downloads on first use, trained on COCO.

    Raises:
        DataError: the weights cannot be had, or are another network's.
    """

    def __init__(self, weights: Path | None = None) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        try:
            self._network.load_state_dict(_downloaded() if weights is None else _read(weights))
        except RuntimeError as error:
            raise DataError(
                f"{weights} is no state dict of torchvision's maskrcnn_resnet50_fpn ({str(error).splitlines()[0]})"
            ) from error
        self._network.eval().to(self._device)

    @torch.inference_mode()
    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Instance numbers uint8 [H, W], 0 for none."""
        image = torch.from_numpy(rgb).permute(2, 0, 1).to(self._device) / 255.0
        (found,) = self._network([image])
        return merged_instances(found["masks"][:, 0] > 0.5, found["labels"], found["scores"])


def merged_instances(masks: Tensor, labels: Tensor, scores: Tensor) -> NDArray[np.uint8]:
    """Instance numbers uint8 [H, W], 0 for none: of what may move, the surest in front, riders one with what they ride.

    Args:
        masks: bool [K, H, W].
        labels: COCO's numbers, [K].
        scores: float [K], 0 to 1.
    """
    sure = (scores >= MIN_SCORE) & torch.isin(labels, labels.new_tensor(MOVABLE))
    order = scores[sure].argsort(descending=True)
    things = [mask.clone() for mask in masks[sure][order]]
    kinds = labels[sure][order].tolist()
    for place, kind in enumerate(kinds):
        if kind in RIDDEN:
            _join_rider(things, kinds, place)
    numbers = torch.zeros(masks.shape[1:], dtype=torch.uint8, device=masks.device)
    kept = [thing for thing in things if thing.sum() >= MIN_PIXELS][: np.iinfo(np.uint8).max]
    for number, thing in reversed([*enumerate(kept, start=1)]):
        numbers[thing] = number
    return np.asarray(numbers.cpu().numpy(), np.uint8)


def _join_rider(things: list[Tensor], kinds: list[int], ridden: int) -> None:
    """Give what is ridden to the surest person that covers some of it."""
    whole = things[ridden].sum()
    for place, kind in enumerate(kinds):
        if kind == PERSON and (things[place] & things[ridden]).sum() > RIDDEN_OVERLAP * whole:
            things[place] |= things[ridden]
            things[ridden] = torch.zeros_like(things[ridden])
            return


def _downloaded() -> dict[str, Tensor]:
    known = MaskRCNN_ResNet50_FPN_Weights.DEFAULT
    try:
        return dict(known.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        file = known.url.rsplit("/", 1)[-1]
        raise DataError(
            f"the weights of Mask R-CNN cannot be downloaded ({error}): fetch {known.url} elsewhere and give it with "
            f"--instances-weights, or put it into {Path(torch.hub.get_dir()) / 'checkpoints'} as {file}; or let "
            "another segmenter write the masks (docs/training.md)"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file makes torch raise anything
        raise DataError(f"{path} cannot be read as weights ({error}): expected a state dict") from error
