"""One request and its answer, as the handlers see them: no aiohttp in here but the reading of the body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from eventstore.body import Document, read
from eventstore.errors import Malformed, NotAllowed, Throttled, TooLarge, UnsupportedMedia
from eventstore.event import Context, encode_context
from eventstore.server.encoding import ENCODINGS, unpacked
from eventstore.server.negotiation import Format, Preferences, body_format, number
from eventstore.server.request import Request
from eventstore.server.routes import Route
from eventstore.server.settings import (
    BODIES_BYTES_MAX,
    BODY_BYTES_MAX,
    BODY_SECONDS_MAX,
    YAML_BYTES_MAX,
)
from eventstore.store import Store
from eventstore.yaml import to_json

POSITION_MAX = 2**53
COMMON = ("_format", "_pretty")
"""Parameters about the answer's form, known everywhere."""


class InFlight:
    """The bytes of all bodies that are under way."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Call:
    """A request on its way: what it names, what it asks for, and the store it goes to."""

    __slots__ = (
        "base_url",
        "format",
        "held",
        "id_ignored",
        "in_flight",
        "prefer",
        "query",
        "request",
        "request_id",
        "route",
        "store",
    )

    def __init__(
        self, request: Request, route: Route, store: Store, request_id: str, in_flight: InFlight
    ) -> None:
        self.in_flight = in_flight
        self.held = 0
        self.request = request
        self.route = route
        self.store = store
        self.request_id = request_id
        self.query = request.query if request.query_string else {}
        self.prefer = Preferences()
        self.format: Format = "json"
        self.base_url = ""
        self.id_ignored = False

    @property
    def strict(self) -> bool:
        """Whether the base is /fhir."""
        return self.route.base != ""

    def header(self, name: str) -> str | None:
        """The value of a header, by its name in lower case."""
        return self.request.headers.get(name)

    async def body(self, most: int = BODY_BYTES_MAX) -> bytes:
        """The bytes of the body, `most` of them.

        Raises TooLarge when it is too big, Malformed when it is too slow or breaks off, UnsupportedMedia for an
        encoding that is not known, Throttled when too many large ones are under way.
        """
        wire = self.request.wire
        if wire is None:
            body = self.request.body or b""
            return body if self.held else self._come(body, most)
        encoding = (self.header("content-encoding") or "identity").lower()
        if encoding not in ENCODINGS:
            raise UnsupportedMedia(f"Content-Encoding {encoding[:80]}: send it plain, or as gzip or deflate")
        sent = await self._sent(wire, most)
        body = unpacked(sent, encoding, most)
        if body is not sent:
            self._weigh(len(body), len(body), most)
        return body

    async def _sent(self, wire: web.BaseRequest, most: int) -> bytes:
        """The body as it was sent."""
        length = wire.content_length
        if length is not None and length > most:
            raise _too_large(length, most)
        if wire.content.is_eof():
            with _breaking_off():
                return self._come(wire.content.read_nowait(), most)
        if (self.header("expect") or "").lower() == "100-continue" and wire.transport is not None:
            wire.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await _in_time(self._read(wire.content.readany, most))

    async def upload(self, most: int) -> bytes:
        """The first file of a form, `most` bytes of it. Raises as `body` does, and Malformed without a file."""
        if self.header("content-encoding") is not None:
            raise UnsupportedMedia("Content-Encoding of a form: send it plain")
        return await _in_time(self._first_file(most))

    async def _first_file(self, most: int) -> bytes:
        wire = self.request.wire
        if wire is None:
            raise Malformed("the form has no file")
        try:
            with _breaking_off():
                reader = await wire.multipart()
                while (part := await reader.next()) is not None:
                    if isinstance(part, BodyPartReader) and part.filename is not None:
                        return await self._read(part.read_chunk, most)
        except ValueError as error:
            raise Malformed(f"the form cannot be read: {error}") from None
        raise Malformed("the form has no file")

    def _come(self, data: bytes, most: int) -> bytes:
        """The body, which is there, all of it."""
        self._weigh(len(data), len(data), most)
        return data

    async def _read(self, read: Callable[[], Awaitable[bytes]], most: int) -> bytes:
        """The body as it comes."""
        parts: list[bytes] = []
        size = 0
        with _breaking_off():
            while part := await read():
                size += len(part)
                self._weigh(len(part), size, most)
                parts.append(part)
        return b"".join(parts)

    def _weigh(self, size: int, whole: int, most: int) -> None:
        """Count what this request holds.

        Raises TooLarge when the `whole` of it is too much, Throttled when all of them together hold too much.
        """
        if whole > most:
            raise _too_large(whole, most)
        self.in_flight.bytes += size
        self.held += size
        if self.in_flight.bytes > BODIES_BYTES_MAX and self.held < self.in_flight.bytes:
            raise Throttled(f"more than {BODIES_BYTES_MAX} bytes of bodies are under way; try again")

    def release(self) -> None:
        """The request is answered: it holds nothing any more."""
        self.in_flight.bytes -= self.held
        self.held = 0

    @property
    def json(self) -> bytes | None:
        """The body, when it came whole and as JSON."""
        data = self.request.body
        return (
            data if data and body_format(self.header("content-type") or "", patch=False) == "json" else None
        )

    async def document(self, *, patch: bool = False) -> Document:
        """The body, parsed. Raises Malformed, TooLarge or UnsupportedMedia."""
        content_type = self.header("content-type") or ""
        if not content_type and not self.request.has_body:
            raise Malformed("the body is empty")
        written = body_format(content_type, patch=patch)
        data = await self.body()
        if not data:
            raise Malformed("the body is empty")
        if written == "yaml" and len(data) > YAML_BYTES_MAX:
            raise _too_large(len(data), YAML_BYTES_MAX, " as YAML; send JSON")
        return read(to_json(data) if written == "yaml" else data)

    def context(self) -> bytes:
        """Who and why, as the event keeps it."""
        return encode_context(
            Context(
                url=self.request.target,
                request=self.request_id,
                correlation=self._text("x-correlation-id"),
                reason=self._text("x-quire-reason"),
            )
        )

    def _text(self, name: str) -> str:
        """A header as text that can be stored, whatever bytes it was made of."""
        return (self.header(name) or "").encode("utf-8", "replace").decode()

    def only(self, *methods: str) -> None:
        """Raises NotAllowed for any other method."""
        if self.request.method not in methods:
            raise NotAllowed(f"{self.request.method} on {self.request.path[:200]}", methods)

    def unknown(self, *known: str) -> list[str]:
        """The parameters that are not known. Raises Malformed when the client wants to be told so."""
        names = [name for name in self.query if name not in known and name not in COMMON]
        if names and self.prefer.strict:
            raise Malformed(
                f"unknown parameters: {', '.join(names)} (Prefer: handling=strict)", code="not-supported"
            )
        return names

    def count(self, default: int, most: int) -> int:
        return number(self.query, "_count", default, most)

    def position(self, name: str) -> int | None:
        """A position from the URL."""
        return number(self.query, name, 0, POSITION_MAX) if name in self.query else None


class Answer(msgspec.Struct, frozen=True):
    """What to send: JSON bytes (written as YAML when that was asked for) and headers."""

    status: int
    body: bytes | None = None
    headers: dict[str, str] = {}
    content_type: str = ""
    """Only where it is neither JSON nor YAML."""
    fhir: bool = True
    """Whether it is a FHIR resource, and under /fhir is called one."""


class Streamed(msgspec.Struct, frozen=True):
    """An answer without an end: chunks, sent as fast as the client takes them."""

    content_type: str
    chunks: AsyncIterator[bytes]


def answer(
    value: Any, status: int = 200, headers: dict[str, str] | None = None, *, fhir: bool = True
) -> Answer:
    return Answer(status, msgspec.json.encode(value), headers or {}, fhir=fhir)


def ignored_header(names: list[str]) -> dict[str, str]:
    """For answers with no place for an outcome: a header names what was ignored."""
    safe = ", ".join("".join(c for c in name if c.isascii() and c.isprintable()) for name in names)
    return {"X-Quire-Ignored": safe[:1000]} if names else {}


async def _in_time(reading: Awaitable[bytes]) -> bytes:
    """What is read. Raises Malformed when it takes longer than BODY_SECONDS_MAX."""
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await reading
    except TimeoutError:
        raise Malformed(f"the body had not arrived after {BODY_SECONDS_MAX:g} seconds") from None


class _breaking_off:
    """Turn what can go wrong with a body on its way into ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, web.RequestPayloadError | HttpProcessingError | ConnectionError):
            raise Malformed(f"the body broke off: {' '.join(str(error).split())}") from error


def _too_large(size: int, limit: int, hint: str = "") -> TooLarge:
    return TooLarge(f"a body of {size} bytes or more; at most {limit} bytes are taken{hint}")
