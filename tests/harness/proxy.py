"""A TCP proxy on the way to a server that cuts its connections in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

CHUNK_BYTES = 16 * 1024


class Cutter:
    """Passes on so many bytes of answers on each connection, then cuts it; when the numbers are used up, all."""

    def __init__(self, port: int, budgets_bytes: Iterable[int]) -> None:
        self._port = port
        self._budgets_bytes = iter(budgets_bytes)
        self.url = ""
        self.cuts = 0
        self.done = asyncio.Event()
        """Set when there are no more cuts to come."""

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end. Every second cut is a reset, the others a plain end."""
        budget_bytes = next(self._budgets_bytes, None)
        if budget_bytes is None:
            self.done.set()
        try:
            above, up = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        asking = asyncio.create_task(_copy(reader, up, None))
        try:
            if await _copy(above, writer, budget_bytes):
                self.cuts += 1
                if self.cuts % 2:
                    writer.transport.abort()
        finally:
            asking.cancel()
            writer.close()
            up.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, left_bytes: int | None) -> bool:
    """Copy until the end, or so many bytes; whether it was these."""
    try:
        while data := await source.read(CHUNK_BYTES):
            target.write(data if left_bytes is None else data[:left_bytes])
            await target.drain()
            if left_bytes is not None:
                left_bytes -= len(data)
                if left_bytes <= 0:
                    return True
    except ConnectionError:
        pass
    return False


@asynccontextmanager
async def cutting(port: int, budgets_bytes: Iterable[int]) -> AsyncIterator[Cutter]:
    """A proxy to a port of this machine."""
    cutter = Cutter(port, budgets_bytes)
    server = await asyncio.start_server(cutter.pass_on, "127.0.0.1", 0)
    cutter.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cutter
    finally:
        server.close()
