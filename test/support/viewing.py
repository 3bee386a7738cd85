"""What the viewer is tested with: messages, recordings read back, ports, and an HTTP client."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rerun.chunk import RrdReader
from rerun.encodings import ChannelDatatype
from sensor_msgs.msg import CameraInfo

from depth_node.tools.view import scene

K = (500.0, 0.0, 3.25, 0.0, 510.0, 1.5, 0.0, 0.0, 1.0)

Rows = dict[str, list[dict[str, Any]]]


def read_recording(path: Path) -> Rows:
    """Rows by entity: components by name (`DepthImage:buffer`), and `ros_stamp` in ns where the row has one."""
    rows: Rows = defaultdict(list)
    for chunk in RrdReader(path).stream().to_chunks():
        batch = chunk.to_record_batch()
        columns = {
            name: column.cast("int64") if name in (scene.STAMP, scene.ARRIVAL) else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        for index in range(batch.num_rows):
            row = {name: column[index].as_py() for name, column in columns.items()}
            rows[chunk.entity_path.lstrip("/")].append({name: v for name, v in row.items() if v is not None})
    for entity in rows:
        rows[entity].sort(key=lambda row: row.get(scene.ARRIVAL, 0))
    return rows


def pixels(row: dict[str, Any], archetype: str) -> NDArray[Any]:
    """Of a row of the archetype `DepthImage` or `Image`."""
    (form,), (data,) = row[f"{archetype}:format"], row[f"{archetype}:buffer"]
    dtypes = {
        ChannelDatatype.U8: np.uint8,
        ChannelDatatype.U16: np.uint16,
        ChannelDatatype.F16: np.float16,
        ChannelDatatype.F32: np.float32,
    }
    dtype = dtypes[ChannelDatatype(form["channel_datatype"])]
    return np.array(data, np.uint8).view(dtype).reshape(form["height"], form["width"])


def jpeg_of(row: dict[str, Any]) -> NDArray[np.uint8]:
    """RGB of a row of the archetype EncodedImage."""
    assert row["EncodedImage:media_type"] == ["image/jpeg"]
    decoded = cv2.imdecode(np.array(row["EncodedImage:blob"][0], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def camera_info(width: int = 4, height: int = 3, distortion_model: str = "plumb_bob") -> CameraInfo:
    return CameraInfo(width=width, height=height, k=K, distortion_model=distortion_model)


def diagnostics(
    level: bytes = DiagnosticStatus.OK, message: str = "depth at 9.9 Hz", **values: str
) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name="/depth_node: depth",
        message=message,
        values=[KeyValue(key=k, value=v) for k, v in values.items()],
    )


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def get(port: int, path: str, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
