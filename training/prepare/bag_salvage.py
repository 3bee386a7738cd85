"""What can be read of a bag file that is cut off, damaged in places, or has lost its index.

Formats: MCAP (mcap.dev/spec), ROS 1 bag 2.0 (wiki.ros.org/Bags/Format/2.0), and rosbag2's SQLite tables. Files are read
from their beginning; what a chunk that is cut off still holds is read, too.
"""

from __future__ import annotations

import bz2
import io
import struct
import sys
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import apsw
import lz4.frame  # type: ignore[import-untyped]
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1.reader import Chunk, ChunkInfo, Header, IndexData, ReaderError, RecordType, read_uint32

from depth_node.bags import Bag
from depth_node.errors import BagError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_CHUNK_BYTES = 1 << 30

_BLOCK = 1 << 16
_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 2, 3, 4, 5, 6


class SalvagedBag(Bag):
    """What can be read of a bag file; `readable_share` of its bytes."""

    def __init__(self, path: Path, reader: SalvagedMcap | SalvagedDb3 | SalvagedRos1) -> None:
        super().__init__(path, reader)
        self.readable_share = reader.readable_share


@contextmanager
def open_salvaged(path: Path) -> Iterator[SalvagedBag]:
    """The bag file at `path` with whatever of it can be read.

    Raises:
        BagError: nothing can be read.
    """
    reader: SalvagedMcap | SalvagedDb3 | SalvagedRos1
    try:
        if path.suffix == ".mcap":
            reader = SalvagedMcap(path)
        elif path.suffix == ".db3":
            reader = SalvagedDb3(path)
        else:
            reader = SalvagedRos1(path)
            reader.open()
    except (OSError, apsw.Error, ReaderError, struct.error) as error:
        raise BagError(f"nothing of bag {path} can be read: {error}") from error
    try:
        yield SalvagedBag(path, reader)
    finally:
        reader.close()


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


def expand(data: bytes, compression: str, size: int = MAX_CHUNK_BYTES) -> bytes:
    """Data of a chunk that may be cut off or damaged: what can be decompressed of it, `size` bytes at most."""
    if compression == "none":
        return data[:size]
    makers: dict[str, Any] = {
        "zstd": zstd.ZstdDecompressor,
        "lz4": lz4.frame.LZ4FrameDecompressor,
        "bz2": bz2.BZ2Decompressor,
    }
    if compression not in makers:
        raise ReaderError(f"chunks are compressed as {compression!r}; expected {', '.join(makers)}")
    decompressor = makers[compression]()
    expanded = bytearray()
    size = min(size, MAX_CHUNK_BYTES)
    with suppress(zstd.ZstdError, RuntimeError, OSError, EOFError, ValueError):
        for start in range(0, len(data), _BLOCK):
            expanded += decompressor.decompress(data[start : start + _BLOCK], size - len(expanded))
            while not decompressor.needs_input and not decompressor.eof and len(expanded) < size:
                expanded += decompressor.decompress(b"", size - len(expanded))
            if decompressor.eof or len(expanded) >= size:
                break
    return bytes(expanded)


class SalvagedRos1(Ros1Reader):
    """A ROS 1 bag whose index is made anew from its chunks, as `rosbag reindex` does."""

    readable_share = 1.0

    def open(self) -> None:
        """Read the chunks from the beginning, up to the end or what is cut off.

        Raises:
            ReaderError: it is no ROS 1 bag, or encrypted.
        """
        size = self.path.stat().st_size
        self.bio = self.path.open("rb")
        if not self.bio.readline(16).startswith(b"#ROSBAG V2.0"):
            raise ReaderError("it does not begin as a bag of ROS 1")
        header = Header.read(self.bio, RecordType.BAGHEADER)
        if header.get("encryptor"):
            raise ReaderError("it is encrypted")
        self.bio.seek(read_uint32(self.bio), io.SEEK_CUR)
        index_position = header.get_uint64("index_pos")
        connections: dict[int, Connection] = {}
        indexes: dict[int, list[IndexData]] = defaultdict(list)
        end = self.bio.tell()
        with suppress(ReaderError):
            while end < size and (not index_position or end < index_position):
                end = self._index_record(self.bio, size, connections, indexes)
        self.readable_share = min(end, size) / max(size, index_position)
        self.indexes = {number: sorted(indexes[number]) for number in connections}
        self.connections = [c._replace(msgcount=len(self.indexes[c.id])) for c in connections.values()]

    def _index_record(
        self,
        file: BinaryIO,
        size: int,
        connections: dict[int, Connection],
        indexes: dict[int, list[IndexData]],
    ) -> int:
        """Take in the record at the file's position, if it is a chunk; where the next one begins."""
        position = file.tell()
        header = Header.read(file)
        length = read_uint32(file)
        start = file.tell()
        if header.get_uint8("op") == RecordType.CHUNK:
            # A recorder that is killed leaves its last chunk open: without its length, before its messages.
            available = min(length or size - start, size - start)
            compression = header.get_string("compression")
            self.chunks[position] = Chunk(available, start, partial(expand, compression=compression))
            self._index_chunk(position, expand(file.read(available), compression), connections, indexes)
            length = length or available
        file.seek(start + length)
        return start + length

    def _index_chunk(
        self,
        position: int,
        content: bytes,
        connections: dict[int, Connection],
        indexes: dict[int, list[IndexData]],
    ) -> None:
        chunk = io.BytesIO(content)
        counts: dict[int, int] = defaultdict(int)
        times = []
        file, self.bio = self.bio, chunk  # where read_connection reads
        try:
            while True:
                offset = chunk.tell()
                header = Header.read(chunk)
                if header.get_uint8("op") == RecordType.CONNECTION:
                    chunk.seek(offset)
                    connection = self.read_connection()
                    connections.setdefault(connection.id, connection)
                    continue
                length = read_uint32(chunk)
                if chunk.tell() + length > len(content):
                    break
                chunk.seek(length, io.SEEK_CUR)
                if header.get_uint8("op") == RecordType.MSGDATA:
                    number, time_ns = header.get_uint32("conn"), header.get_time("time")
                    indexes[number].append(IndexData(time_ns, position, offset))
                    counts[number] += 1
                    times.append(time_ns)
        except ReaderError:
            pass
        finally:
            self.bio = file
        if times:
            self.chunk_infos.append(ChunkInfo(position, min(times), max(times) + 1, dict(counts)))


class SalvagedDb3:
    """Messages of a rosbag2 SQLite file in the order in which they were written, up to the first page that is lost."""

    def __init__(self, path: Path) -> None:
        self._files = _WholePages(path)
        self.readable_share = self._files.share
        uri = f"{path.resolve().as_uri()}?immutable=1"
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        self._database = apsw.Connection(uri, flags=flags, vfs=self._files.name)
        try:
            topics = list(self._database.execute("SELECT id, name, type, serialization_format FROM topics"))
        except apsw.Error:
            self.close()
            raise
        counts: dict[int, int] = defaultdict(int)
        self.start_time, self.end_time = 2**63 - 1, 0
        for topic, time_ns in self._rows("topic_id, timestamp"):
            counts[topic] += 1
            self.start_time, self.end_time = min(self.start_time, time_ns), max(self.end_time, time_ns + 1)
        self.connections = [
            Connection(number, name, kind, _NO_DEFINITION, "", counts[number], ConnectionExtRosbag2(encoding, []), self)
            for number, name, kind, encoding in topics
        ]

    def close(self) -> None:
        """Close the database."""
        self._database.close()
        self._files.unregister()

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time, serialized message)."""
        wanted = {connection.id: connection for connection in connections}
        for topic, time_ns, data in self._rows("topic_id, timestamp, data"):
            if topic in wanted:
                yield wanted[topic], time_ns, data

    def _rows(self, columns: str) -> Iterator[tuple[Any, ...]]:
        with suppress(apsw.Error):
            yield from self._database.execute(f"SELECT {columns} FROM messages ORDER BY id")


class _WholePages(apsw.VFS):
    """Lets SQLite see a file that is cut off as one of as many pages as there are; by its header it is damaged.

    Otherwise what lies behind the end is read as zeros. Header: sqlite.org/fileformat.html.
    """

    _PAGE_COUNT = 28  # its place in the header, four bytes

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            header = file.read(100)
        if len(header) < 100:
            raise OSError("it is shorter than the header of a database")
        (page_size,), (pages,) = (
            struct.unpack_from(">H", header, 16),
            struct.unpack_from(">I", header, self._PAGE_COUNT),
        )
        present = path.stat().st_size // (65536 if page_size == 1 else max(page_size, 512))
        self.share = min(1.0, present / pages) if pages else 1.0
        self.page_count = struct.pack(">I", min(present, pages) if pages else present)
        self.name = f"whole pages {id(self)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        """As SQLite's own, but for the page count."""
        return _WholePagesFile(self.page_count, name, flags)


class _WholePagesFile(apsw.VFSFile):
    def __init__(self, page_count: bytes, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._page_count = page_count

    def xRead(self, amount: int, offset: int) -> bytes:
        """Bytes of the file, with the number of pages that there are."""
        data = bytearray(super().xRead(amount, offset))
        for place, value in enumerate(self._page_count, start=28 - offset):
            if 0 <= place < len(data):
                data[place] = value
        return bytes(data)
