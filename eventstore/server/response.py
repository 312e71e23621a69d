"""The bytes of an answer that is there to its last byte, and the same as a response of aiohttp's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from time import time
from wsgiref.handlers import format_date_time

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE, HttpVersion10

_FIRST_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
_BODILESS = (204, 304)
"""Statuses of answers that have no body, and no length of one."""

Reply = tuple[int, dict[str, str], bytes | None]
"""Status, headers and body."""


def whole(
    status: int, fields: Mapping[str, str], body: bytes | None, *, has_body: bool = True, connection: str = ""
) -> bytes:
    """The bytes of an answer. Without `has_body` only its head, as for HEAD; `connection` is that header's value."""
    lines = [_FIRST_LINES[status], *[f"{name}: {value}" for name, value in fields.items()]]
    if status not in _BODILESS:
        lines.append(f"Content-Length: {len(body or b'')}")
    if connection:
        lines.append(f"Connection: {connection}")
    text = "\r\n".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) - 1:
        raise ValueError("a header's value has a line break in it")
    head = f"{text}\r\n{_same_for_a_second(int(time()))}".encode()
    return head + body if body and has_body else head


class WholeResponse(web.StreamResponse):
    """The same through aiohttp, past what it does for answers that are still being made."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        super().__init__(status=status)
        self._fields = headers
        self._whole = body
        self._stays = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection is kept for the next request."""
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write it. Raises ConnectionResetError when the client is gone."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._stays = request.keep_alive
        kept = "keep-alive" if request.version == HttpVersion10 else ""
        connection = kept if self._stays else "close"
        has_body = request.method != "HEAD"
        transport.write(
            whole(self.status, self._fields, self._whole, has_body=has_body, connection=connection)
        )
        await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left."""


@lru_cache(maxsize=2)
def _same_for_a_second(second: int) -> str:
    """The last header fields, and the empty line."""
    return f"Date: {format_date_time(second)}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
