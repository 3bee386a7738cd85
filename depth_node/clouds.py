"""Points -> PointCloud2, organised like the image they come from.

The bytes are those of sensor_msgs_py's `create_cloud`, written where the message keeps them: `create_cloud` wants the
points packed in a structured array first.
"""

from __future__ import annotations

import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

POINT_STEP = 16
FIELD_OFFSETS = {"x": 0, "y": 4, "z": 8, "rgb": 12}


def organized_cloud(points: NDArray[np.float32], rgb: NDArray[np.uint8], header: Header) -> PointCloud2:
    """Cloud of h rows and w columns with the fields of `FIELD_OFFSETS`, all float32.

    points: float32 [h, w, 3] metres in the frame of `header`, NaN where invalid.
    rgb: uint8 [h, w, 3]; packed as PCL and RViz expect it, 0x00RRGGBB in the bits of a float32.
    """
    height, width = points.shape[:2]
    data = array.array("B", b"\0") * (height * width * POINT_STEP)
    cells = np.frombuffer(data, np.float32).reshape(height, width, 4)
    cv2.mixChannels([points, _packed_rgb(rgb)], [cells], [0, 0, 1, 1, 2, 2, 3, 3])
    message = PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=[
            PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
            for name, offset in FIELD_OFFSETS.items()
        ],
        is_bigendian=False,
        point_step=POINT_STEP,
        row_step=POINT_STEP * width,
        is_dense=False,
    )
    message.data = data  # the setter keeps the array; the constructor would copy it
    return message


def _packed_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [h, w] whose bits are 0x00RRGGBB. The top byte is not alpha: with 255 there, red would make a NaN."""
    packed = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0]
    return (packed & np.uint32(0x00FFFFFF)).view(np.float32)
