"""HTTP/1.1 for load: one connection, each request sent once and never again by itself, cut off when told to."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, NamedTuple

HEAD_BYTES_MAX = 64 * 1024


class Unanswered(Exception):
    """No answer came. `sent` is False when nothing can have reached the server."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Answer(NamedTuple):
    """An answer, read to its end."""

    status: int
    headers: dict[str, str]
    """By name in lower case."""
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def version(self) -> int | None:
        """The position in the ETag, where there is one."""
        tag = self.headers.get("etag")
        return int(tag[3:-1]) if tag else None


class Wire:
    """A connection to a server on this machine, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        seconds: float = 10,
    ) -> Answer:
        """Send a request, and wait so long for its answer. Raises Unanswered; the connection is cut off then."""
        data = b"" if body is None else json.dumps(body).encode()
        sent = False
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await self._connection()
                sent = True
                writer.write(_head(method, path, len(data), headers or {}) + data)
                return await _answer(reader)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.cut()
            raise Unanswered(f"{type(error).__name__}: {error}", sent=sent) from error
        except BaseException:
            self.cut()
            raise

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._writer is None or self._reader is None or self._writer.is_closing() or self._reader.at_eof():
            self.cut()
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self.port, limit=HEAD_BYTES_MAX
            )
        return self._reader, self._writer

    def move(self, port: int) -> None:
        """Go on at another server of this machine."""
        if port != self.port:
            self.cut()
            self.port = port

    def cut(self) -> None:
        """Break the connection off, whatever is under way on it."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def close(self) -> None:
        writer = self._writer
        self.cut()
        if writer is not None:
            with suppress(OSError):
                await writer.wait_closed()


def _head(method: str, path: str, length: int, headers: dict[str, str]) -> bytes:
    fields = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(length),
        **headers,
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    """Raises ValueError for what is no answer with a length."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(first.split(" ")[1])
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    if status in (204, 304):
        return Answer(status, headers, b"")
    return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
