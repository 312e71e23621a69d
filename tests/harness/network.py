"""A nats-server of our own, and a network before it that loses, holds back and delivers late."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from eventstore.server.broker import _binary
from harness.process import free_port

START_SECONDS_MAX = 20.0
LOOK_SECONDS = 0.02
CHUNK_BYTES = 64 * 1024


class NatsServer:
    """A nats-server with JetStream, over a directory that outlives it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.directory = directory
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self.directory.mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            _binary(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.directory),
            "-l", str(self.directory / "nats.log"), *self._options,
        )  # fmt: skip
        async with asyncio.timeout(START_SECONDS_MAX):
            while not await self._listens():
                assert self._process.returncode is None, f"nats-server ended with {self._process.returncode}"
                await asyncio.sleep(LOOK_SECONDS)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.transport.abort()
        return True

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def wipe(self) -> None:
        """Lose its files, while it is stopped."""
        shutil.rmtree(self.directory)

    async def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)
            await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


class Network:
    """Forwards connections to a port. What is on its way can be held back, and come when nobody expects it."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._to = port
        self._listener: asyncio.Server | None = None
        self._ways: set[_Ways] = set()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Take connections."""
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break off every connection, and take no new ones until `open`."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for ways in list(self._ways):
            ways.abort()
        await asyncio.gather(*(ways.done for ways in list(self._ways)))

    def hold(self, *, there: bool, back: bool) -> list[_Ways]:
        """Hold back what the connections of now carry in these directions; new connections are not concerned."""
        held = list(self._ways)
        for ways in held:
            ways.there.held, ways.back.held = there, back
        return held

    @staticmethod
    def release(held: list[_Ways]) -> None:
        """What was held back comes now, also on connections that their client has given up."""
        for ways in held:
            ways.there.release()
            ways.back.release()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        ways = _Ways((reader, writer), server)
        self._ways.add(ways)
        await asyncio.shield(ways.done)
        self._ways.discard(ways)


_Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Ways:
    """One connection: the way there and the way back."""

    def __init__(self, client: _Side, server: _Side) -> None:
        self.there = _Way(client[0], server[1])
        self.back = _Way(server[0], client[1])
        self.done = asyncio.ensure_future(asyncio.gather(self.there.run(), self.back.run()))

    def abort(self) -> None:
        for way in (self.there, self.back):
            way.release()
            way.to.transport.abort()


class _Way:
    """Bytes from here to there. They are read at once, and go on when nothing holds them."""

    def __init__(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        self.to = to
        self.held = False
        self._source = source
        self._kept = bytearray()
        self._free = asyncio.Event()

    def release(self) -> None:
        self.held = False
        self._flush()
        self._free.set()

    async def run(self) -> None:
        with suppress(OSError):
            while data := await self._source.read(CHUNK_BYTES):
                self._kept += data
                if not self.held:
                    self._flush()
                    await self.to.drain()
        if self.held:
            await self._free.wait()
        self.to.close()

    def _flush(self) -> None:
        if self._kept and not self.to.is_closing():
            self.to.write(bytes(self._kept))
        self._kept.clear()
