"""ROS 1 bags 2.0 (wiki.ros.org/Bags/Format/2.0) read from their beginning, without their index."""

from __future__ import annotations

import io
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1.reader import Chunk, ChunkInfo, Header, IndexData, ReaderError, RecordType, read_uint32

from training.prepare.salvage.compression import expand


class SalvagedRos1(Ros1Reader):
    """A ROS 1 bag whose index is made anew from its chunks, as `rosbag reindex` does."""

    readable_share = 1.0

    def open(self) -> None:
        """Read the chunks from the beginning, up to the end or what is cut off.

        Raises:
            ReaderError: it is no ROS 1 bag, or encrypted.
        """
        self.bio = self.path.open("rb")
        try:
            self._index(self.bio, self.path.stat().st_size)
        except ReaderError:
            self.close()
            raise

    def _index(self, file: BinaryIO, size: int) -> None:
        if not file.readline(16).startswith(b"#ROSBAG V2.0"):
            raise ReaderError("it does not begin as a bag of ROS 1")
        header = Header.read(file, RecordType.BAGHEADER)
        if header.get("encryptor"):
            raise ReaderError("it is encrypted")
        file.seek(read_uint32(file), io.SEEK_CUR)
        index_position = header.get_uint64("index_pos")
        connections: dict[int, Connection] = {}
        indexes: dict[int, list[IndexData]] = defaultdict(list)
        end = file.tell()
        with suppress(ReaderError):
            while end < size and (not index_position or end < index_position):
                end = self._index_record(file, size, connections, indexes)
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
