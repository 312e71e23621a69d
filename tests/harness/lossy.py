"""A proxy before PostgreSQL that loses the answer to a COMMIT, the COMMIT itself, or delivers it late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

COMMIT = b"COMMIT\0"
SOCKET = ".s.PGSQL.5432"
What = Literal["nothing", "answer", "commit", "late"]
Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Lossy:
    """`lose` says what becomes of the next COMMIT; then all is passed on again."""

    def __init__(self, server: Open) -> None:
        self.url = ""
        self.lose: What = "nothing"
        self.cuts = 0
        self.refusing = False
        """Whether new connections are cut at once."""
        self.late = asyncio.Event()
        """A COMMIT that is to be late is delivered when this is set."""
        self._server = server

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        if self.refusing:
            writer.transport.abort()
            return
        try:
            above, up = await self._server()
        except OSError:
            writer.transport.abort()
            return
        answers = asyncio.create_task(_copy(above, writer))
        try:
            while data := await reader.read(65536):
                if COMMIT in data and self.lose != "nothing":
                    what, self.lose = self.lose, "nothing"
                    self.cuts += 1
                    answers.cancel()
                    writer.transport.abort()
                    await self._end(what, data, up)
                    return
                up.write(data)
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            writer.close()
            up.close()

    async def _end(self, what: What, data: bytes, up: asyncio.StreamWriter) -> None:
        """The client is gone; what the server still gets of it."""
        if what == "late":
            await self.late.wait()
        if what != "commit":
            up.write(data)
            await up.drain()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
    except ConnectionError:
        pass
    target.close()


@asynccontextmanager
async def lossy(url: str, directory: Path) -> AsyncIterator[Lossy]:
    """The proxy, before the server that the URL names by its socket, or by its port of this machine."""
    port = urlsplit(url).port
    if port:
        proxy = Lossy(lambda: asyncio.open_connection("127.0.0.1", port))
        server = await asyncio.start_server(proxy.pass_on, "127.0.0.1", 0)
        proxy.url = url.replace(str(port), str(server.sockets[0].getsockname()[1]))
    else:
        host = parse_qs(urlsplit(url).query)["host"][0]
        proxy = Lossy(lambda: asyncio.open_unix_connection(f"{host}/{SOCKET}"))
        server = await asyncio.start_unix_server(proxy.pass_on, directory / SOCKET)
        proxy.url = url.replace(host, str(directory))
    try:
        yield proxy
    finally:
        server.close()
