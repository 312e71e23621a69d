"""Checks documents in a process of its own: parses them, and validates them by the definitions in the log.

The process that serves or imports keeps `server.checkers`; a child runs this module. What a child finds valid is stored
without being looked at again; for everything else, and where there is no child, the process that asked looks itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from uuid_utils import uuid7

from eventstore.batch import is_needed
from eventstore.body import Document, read
from eventstore.child import serve
from eventstore.command import Command
from eventstore.deciding import registry_at
from eventstore.errors import Invalid, Issue, Malformed, QuireError
from eventstore.event import Position
from eventstore.log.opening import Place, open_log
from eventstore.server.opening import tune
from eventstore.server.routes import ID
from eventstore.splicing import Body
from eventstore.store import checked
from eventstore.types.registry import Registry


class Line(msgspec.Struct, frozen=True):
    """One resource, parsed."""

    document: Document
    type: str
    id: str | None

    def command(self, context: bytes, *, short_references: bool = True) -> Command:
        """As by PUT, no event when it is there already; without an id as by POST."""
        return Command(
            "PUT" if self.id else "POST", self.type, self.id or str(uuid7()), context, self.document,
            given=self.id is None, unless_same=True, short_references=short_references,
        )  # fmt: skip


def parse(line: bytes) -> Line:
    """Parse a line. Raises Malformed, Invalid."""
    document = read(line)
    if not isinstance(document.value, dict):
        raise Malformed("a resource is an object")
    type, id = document.value.get("resourceType"), document.value.get("id")
    if not isinstance(type, str):
        raise Malformed("no resourceType")
    if id is not None and not (isinstance(id, str) and ID.match(id)):
        raise Invalid(
            f"an id is a string of 1 to 64 of A-Z a-z 0-9 - and ., not {str(id)[:80]!r}", path=("id",)
        )
    return Line(document, type, id)


class Request(msgspec.Struct, array_like=True):
    """What a child is asked: of none, only to read the definitions."""

    log: Place
    base_url: str
    position: Position
    """The registry is to be as new as this."""
    documents: Sequence[bytes]
    short_references: bool
    """Whether `{resourceType, id}` is taken for a reference."""


class Valid(msgspec.Struct, array_like=True):
    """A resource that may be stored."""

    type: str
    id: str
    given: bool
    """It was sent without an id, and this is one for it."""
    body: Body
    checked: Position
    warnings: tuple[Issue, ...]


encode = msgspec.msgpack.Encoder(enc_hook=str).encode
_decode = msgspec.msgpack.Decoder(Request, dec_hook=lambda type, text: type(text)).decode
decode_answer = msgspec.msgpack.Decoder(list[Valid | None]).decode


class _Checking:
    """In the child: the registry, and lines checked by it."""

    def __init__(self) -> None:
        self._registry: Registry | None = None

    def answer(self, data: bytes) -> bytes:
        request = _decode(data)
        registry = self._registry
        if registry is None or registry.position < request.position:
            try:
                registry = asyncio.run(_caught_up(request, registry))
            except QuireError as error:
                raise SystemExit(f"the process that checks cannot read the definitions: {error}") from None
            if self._registry is None:
                tune()
            self._registry = registry
        return encode([_valid(registry, one, request.short_references) for one in request.documents])


async def _caught_up(request: Request, registry: Registry | None) -> Registry:
    log = await open_log(request.log, write=False)
    try:
        return await registry_at(
            log, registry or Registry.empty(log.fhir_version, request.base_url), request.position
        )
    finally:
        await log.close()


def _valid(registry: Registry, data: bytes, short_references: bool) -> Valid | None:
    try:
        line = parse(data)
        kind = registry.served(line.type)
        if kind is None or is_needed(kind):
            return None
        command = checked(line.command(b"", short_references=short_references), kind, registry)
    except QuireError:
        return None
    if command.body is None:
        return None
    return Valid(line.type, command.id, command.given, command.body, command.checked, command.warnings)


if __name__ == "__main__":
    serve(_Checking().answer)
