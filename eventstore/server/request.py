"""A request as the handlers see it, and the reading of one that came whole, as nearly all do. Pure.

RFC 9112, but only what needs no thought: a known method, a path without escapes, one value to a header, a body whose
length is told. Whatever else there is in HTTP/1.1 is left to aiohttp (`Unusual`): its parser decides what is right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from aiohttp import web
from yarl import URL

PLAIN_HEAD_BYTES_MAX = 8 * 1024
PLAIN_BODY_BYTES_MAX = 64 * 1024

FIELDS_KEPT = 512
"""How many different header sections are remembered: a client sends the same ones again and again."""

_FIRST_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE) "
    rb"(/(?![/$]|fhir/\$)[A-Za-z0-9\-._$/]*+(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*+)?) "
    rb"HTTP/1\.1\Z"
)
"""The operations of the whole server (`/$sql`, `/$import` ...) are not among them: they stream what they take or tell."""
_FIELDS = re.compile(rb"(?:[A-Za-z0-9!#$%&'*+\-.^_`|~]++:[\t\x20-\x7e]*+\r\n)++\Z")
_STRANGE = frozenset(("transfer-encoding", "content-encoding", "upgrade", "expect"))
_LENGTH = re.compile(r"[0-9]{1,9}\Z")


class Unusual(Exception):
    """It may well be right, but it is not plain."""


class Request:
    """Method, target, headers (names in lower case) and, when it came whole, the body. `wire` is aiohttp's, if any."""

    __slots__ = ("body", "headers", "method", "path", "query_string", "remote", "target", "wire")

    def __init__(
        self,
        method: str,
        target: str,
        path: str,
        query_string: str,
        headers: Mapping[str, str],
        body: bytes | None,
        remote: str | None = None,
        wire: web.BaseRequest | None = None,
    ) -> None:
        self.method = method
        self.target = target
        """Path and query as they were sent."""
        self.path = path
        """Still percent-encoded."""
        self.query_string = query_string
        self.headers = headers
        self.body = body
        """None where it is still on its way; then it is read from the wire."""
        self.remote = remote
        """The client's address."""
        self.wire = wire

    @property
    def query(self) -> dict[str, str]:
        """The parameters; of one that is there more than once, the first."""
        return dict(URL.build(query_string=self.query_string, encoded=True).query)

    @property
    def has_body(self) -> bool:
        """Whether a body came or is coming."""
        return bool(self.body) if self.wire is None else self.wire.body_exists

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more; known only of what came over aiohttp."""
        wire = self.wire
        return wire is not None and (wire.transport is None or wire.transport.is_closing())

    def cancel(self) -> None:
        """End the work for a request that came over aiohttp."""
        if self.wire is not None:
            self.wire.task.cancel()

    @classmethod
    def of(cls, wire: web.BaseRequest) -> Request:
        """What aiohttp has read: the body is to come, and headers that came twice are one (RFC 9110, 5.3)."""
        headers: dict[str, str] = {}
        for name, value in wire.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        url = wire.rel_url
        return cls(
            wire.method, str(url), url.raw_path, url.raw_query_string, headers, None, wire.remote, wire
        )  # fmt: skip


def parse(data: bytes) -> Request | None:
    """The one request that the bytes are; None when its body has not wholly come. Raises Unusual for all else."""
    end_of_line = data.find(b"\r\n", 0, PLAIN_HEAD_BYTES_MAX)
    end_of_head = data.find(b"\r\n\r\n", end_of_line, PLAIN_HEAD_BYTES_MAX)
    first = _FIRST_LINE.match(data, 0, end_of_line) if 0 <= end_of_line < end_of_head else None
    if first is None:
        raise Unusual
    headers, length = _fields(data[end_of_line + 2 : end_of_head + 2])
    body = data[end_of_head + 4 :]
    if len(body) != length:
        if len(body) > length or length > PLAIN_BODY_BYTES_MAX:
            raise Unusual
        return None
    method, target = first[1].decode(), first[2].decode()
    path, _, query = target.partition("?")
    return Request(method, target, path, query, headers, body)


@lru_cache(FIELDS_KEPT)
def _fields(section: bytes) -> tuple[Mapping[str, str], int]:
    """The headers and the length of the body. Raises Unusual."""
    if not _FIELDS.match(section):
        raise Unusual
    lines = section.decode("ascii").split("\r\n")
    lines.pop()
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip("\t ")
    length = headers.get("content-length", "0")
    if len(headers) != len(lines) or not _LENGTH.match(length) or "host" not in headers:
        raise Unusual
    if not _STRANGE.isdisjoint(headers) or headers.get("connection", "keep-alive").lower() != "keep-alive":
        raise Unusual
    if "text/event-stream" in headers.get("accept", ""):
        raise Unusual
    return headers, int(length)
