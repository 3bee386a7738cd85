"""The door to Rerun's data server, for browsers on the network.

That server waits for the slowest of its viewers, and for ever for one that has stopped reading (a closed laptop, a lost
network), while memory grows. It listens on the loopback only, and this relay in front of it ends such a connection.
"""

from __future__ import annotations

import asyncio
import os
import threading

from depth_node.errors import DepthNodeError

STALL_SECONDS = 10.0
CHUNK_BYTES = 1 << 18
CONNECT_SECONDS = 5.0


class Relay:
    """Passes TCP connections on to `127.0.0.1:target_port`, in a thread, until closed.

    bind: IPv4 address to listen on. stall_seconds: how long a peer may take for `CHUNK_BYTES` before it is cut off.

    Raises:
        DepthNodeError: the port is taken, or the address is not one of this machine.
    """

    def __init__(self, bind: str, port: int, target_port: int, stall_seconds: float = STALL_SECONDS) -> None:
        self._target_port = target_port
        self._stall_seconds = stall_seconds
        self._ends: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        try:
            self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, bind, port))
        except OSError as error:
            self._loop.close()
            reason = os.strerror(error.errno or 0)
            raise DepthNodeError(f"cannot serve data on {bind}:{port}: {reason}; choose another --grpc-port") from error
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        while self._ends:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connecting = asyncio.open_connection("127.0.0.1", self._target_port)
            target_reader, target_writer = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError):
            writer.transport.abort()
            return
        ends = {writer, target_writer}
        self._ends |= ends
        directions = [
            asyncio.ensure_future(self._pass_on(reader, target_writer)),
            asyncio.ensure_future(self._pass_on(target_reader, writer)),
        ]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        for end in ends:
            end.close()  # what was written is still sent, to a peer that reads
        self._ends -= ends

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                writer.write(data)
                await asyncio.wait_for(writer.drain(), self._stall_seconds)
        except (OSError, asyncio.TimeoutError):
            writer.transport.abort()
