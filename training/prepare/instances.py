"""Instance masks of prepared frames, made once and read from disk ever after.

Any segmenter does: what it has to write says `training.data.instance_files`. `mask_rcnn` is the one that comes along.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from training.data.image_files import read_rgb
from training.data.instance_files import encode_instances, instance_file
from training.data.prepared import read_prepared
from training.errors import FrameError
from training.prepare.format import write_atomically

Segmenter = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Instance numbers uint8 [H, W], 0 for none, of an image uint8 [H, W, 3], RGB."""

logger = logging.getLogger(__name__)


def write_instance_masks(prepared: Path, segment: Segmenter) -> int:
    """Write the masks that frames of an output of `prepare` lack; returns how many that were.

    Masks that are there, of an earlier call or of another segmenter, are kept. A frame that cannot be decoded has none.

    Raises:
        DataError: there are no frames, or a mask cannot be written.
    """
    images = [record.image for record in read_prepared(prepared) if record.instances is None]
    written = 0
    for image in track(images, description="instances", disable=not images):
        try:
            mask = segment(read_rgb(image))
        except FrameError as error:
            logger.warning("no instance mask: %s", error)
            continue
        write_atomically(instance_file(image), encode_instances(mask))
        written += 1
    return written
