"""A TCP proxy on loopback that passes bytes on, swallows them, stalls or resets."""

import asyncio
import contextlib
import socket
import struct

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Between a client and a server. An async context manager; faults hold until changed.

    With an ``ssl`` context it speaks TLS with the client, and plain TCP with the server.
    """

    def __init__(self, port, host="127.0.0.1", *, ssl=None):
        self._target = (host, port)
        self._ssl = ssl
        self._server = None
        self._writers = set()
        self._flow = asyncio.Event()
        self._flow.set()
        self.swallow_down = False
        """What the server says does not arrive, and nobody is told."""
        self.swallow_up = False
        self.swallowed = 0
        self.connections = 0
        self.refusing = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self._flow.set()
        self.reset()
        await asyncio.sleep(0)

    def stall(self):
        """Pass nothing on, and keep every socket open."""
        self._flow.clear()

    def go_on(self):
        """End every lasting fault."""
        self.swallow_down = self.swallow_up = self.refusing = False
        self._flow.set()

    def reset(self):
        """Cut every connection with RST."""
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        if self.refusing:
            self.reset()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(up_writer)
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, down=False),
                self._pump(up_reader, writer, down=True),
            )
        finally:
            for each in (writer, up_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _pump(self, reader, writer, *, down):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flow.wait()
                if self.swallow_down if down else self.swallow_up:
                    self.swallowed += len(data)
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
