"""Flip post-processing (Godard, Mac Aodha, Brostow, CVPR 2017, section 4.2, "Post-processing")."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.records import Intrinsics
from training.evaluation.predictors import Predictor, predict_batch

EDGE = 0.05  # of the width: here only one of the two predictions counts; another 5 % blend into their mean


def blend_flipped(disparity: NDArray[np.float32], mirrored: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of two disparities [H, W], the second of the mirrored image and mirrored back; edges from the better one.

    What a stereo-trained network cannot see is at the left edge of its image: there the mirrored prediction counts
    alone, at the right edge the plain one. NaN in one of them is NaN in the result, where that one counts.
    """
    place = np.linspace(0, 1, disparity.shape[1], dtype=np.float32)
    only_mirrored = np.clip(2 - place / EDGE, 0, 1)
    only_plain = only_mirrored[::-1]
    plain_weight = only_plain + (1 - only_mirrored - only_plain) / 2
    mirrored_weight = 1 - plain_weight
    return np.asarray(
        np.where(plain_weight > 0, plain_weight * disparity, 0)
        + np.where(mirrored_weight > 0, mirrored_weight * mirrored, 0),
        np.float32,
    )


class FlipPostProcessed:
    """A predictor asked twice, once with the image mirrored: better numbers at twice the cost; the node does not."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.name = f"{predictor.name}, flip post-processed"

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        """Blended inverse depth; see `Predictor`."""
        return self.disparities([rgb], [intrinsics])[0]

    def disparities(
        self, images: Sequence[NDArray[np.uint8]], intrinsics: Sequence[Intrinsics | None]
    ) -> list[NDArray[np.float32]]:
        """Blended inverse depths; see `BatchPredictor`."""
        mirrored_images = [np.ascontiguousarray(image[:, ::-1]) for image in images]
        mirrored_intrinsics = [None if k is None else (k[0], k[1], 1 - k[2], k[3]) for k in intrinsics]
        plain = predict_batch(self._predictor, images, intrinsics)
        mirrored = predict_batch(self._predictor, mirrored_images, mirrored_intrinsics)
        return [blend_flipped(a, np.asarray(cv2.flip(b, 1), np.float32)) for a, b in zip(plain, mirrored, strict=True)]
