"""MCAP files (mcap.dev/spec) read from their beginning, without their index."""

from __future__ import annotations

import io
import struct
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat

from training.prepare.salvage.compression import expand

_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 2, 3, 4, 5, 6


class SalvagedMcap:
    """Messages of an MCAP file in the order of its chunks, up to the first record that is cut off.

    A chunk whose checksum is wrong is left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._lost_bytes = 0
        self._times = [2**63 - 1, 0]
        self._connections: dict[int, Connection] = {}
        with path.open("rb") as file:
            if file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
                raise OSError("it does not begin as an mcap file")
        schemas: dict[int, str] = {}
        counts: dict[int, int] = defaultdict(int)
        for code, record in self._records():
            if code == _SCHEMA:
                schemas[struct.unpack_from("<H", record)[0]] = _string(record, 2)[0]
            elif code == _CHANNEL:
                self._add_channel(record, schemas)
            elif code == _MESSAGE:
                channel, _, time_ns = struct.unpack_from("<HIQ", record)
                counts[channel] += 1
                self._times = [min(self._times[0], time_ns), max(self._times[1], time_ns + 1)]
        self.readable_share = 1 - self._lost_bytes / self._size
        self.connections = [c._replace(msgcount=counts[c.id]) for c in self._connections.values()]
        self.start_time, self.end_time = self._times

    def close(self) -> None:
        """Nothing is open between reads."""

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time, serialized message)."""
        wanted = {connection.id: connection for connection in connections}
        for code, record in self._records():
            if code == _MESSAGE:
                channel, _, time_ns = struct.unpack_from("<HIQ", record)
                if channel in wanted:
                    yield wanted[channel], time_ns, record[22:]

    def _add_channel(self, record: bytes, schemas: dict[int, str]) -> None:
        channel, schema = struct.unpack_from("<HH", record)
        topic, end = _string(record, 4)
        encoding, _ = _string(record, end)
        details = ConnectionExtRosbag2(encoding, [])
        self._connections[channel] = Connection(
            channel, topic, schemas.get(schema, ""), _NO_DEFINITION, "", 0, details, self
        )

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """(code, content) of schemas, channels and messages, those in chunks and in the summary included."""
        self._lost_bytes = 0
        with self._path.open("rb") as file:
            file.seek(len(_MCAP_MAGIC))
            for code, content, is_whole in _mcap_records(file, self._size):
                if code == _FOOTER:
                    return
                if code == _CHUNK:
                    chunk = _mcap_chunk(content, is_whole)
                    records = [(c, r) for c, r, whole in _mcap_records(io.BytesIO(chunk), len(chunk)) if whole]
                    self._lost_bytes += 0 if chunk else len(content)
                    yield from sorted(records, key=_time_of_message)
                elif is_whole:
                    yield code, content
                else:
                    self._lost_bytes += len(content)
            self._lost_bytes += self._size - file.tell()


def _mcap_records(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """(code, content, whether it is whole) of the records up to and including the first that is cut off."""
    while True:
        start = file.read(9)
        if len(start) < 9 or start[0] == 0:
            return
        code, length = struct.unpack("<BQ", start)
        available = min(length, size - file.tell())
        yield code, file.read(available), available == length
        if available < length:
            return


def _mcap_chunk(content: bytes, is_whole: bool) -> bytes:
    """The records in a chunk, as many as there are; none where the checksum is wrong."""
    if len(content) < 40:
        return b""
    size, checksum = struct.unpack_from("<QI", content, 16)
    compression, end = _string(content, 28)
    chunk = expand(content[end + 8 :], compression or "none", size)
    return b"" if is_whole and checksum and zlib.crc32(chunk) != checksum else chunk


def _time_of_message(record: tuple[int, bytes]) -> int:
    """For sorting: schemas and channels first."""
    code, content = record
    return int(struct.unpack_from("<Q", content, 6)[0]) if code == _MESSAGE else -1


def _string(data: bytes, position: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    (length,) = struct.unpack_from("<I", data, position)
    end = position + 4 + length
    return data[position + 4 : end].decode(errors="replace"), end
