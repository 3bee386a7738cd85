"""rosbag2's SQLite files, as many pages as there are."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat

_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")


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
