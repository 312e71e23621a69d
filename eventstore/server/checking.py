"""Checks the lines of an import in processes of their own: other cores parse and validate, ours decides and writes.

The process that imports keeps `Checkers`; a child runs this module. What a child finds valid is stored without being
looked at again; for everything else, and where there is no child, the process that imports looks itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Self

import msgspec
from uuid_utils import uuid7

from eventstore.batch import is_needed
from eventstore.body import Document, read
from eventstore.child import Child, Ended, serve
from eventstore.command import Command
from eventstore.deciding import registry_at
from eventstore.errors import Invalid, Malformed, QuireError
from eventstore.event import Position
from eventstore.log.opening import Place, open_log
from eventstore.server.routes import ID
from eventstore.splicing import Body
from eventstore.store import checked
from eventstore.types.registry import Registry

CHECKERS_MAX = 3
CHECKED_LINES_MIN = 256
"""Fewer at once are checked sooner than sent."""
IDLE_SECONDS_MAX = 10.0
"""How long a child waits for lines, before it is ended."""
CHECK_SECONDS_MAX = 60.0
"""Less than the client of an import waits for its answer."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024

_log = logging.getLogger("quire.import")


class Line(msgspec.Struct, frozen=True):
    """One line of an import, parsed."""

    document: Document
    type: str
    id: str | None

    def command(self, context: bytes) -> Command:
        """As by PUT, no event when it is there already; without an id as by POST."""
        return Command(
            "PUT" if self.id else "POST", self.type, self.id or str(uuid7()), context, self.document,
            given=self.id is None, unless_same=True, short_references=True,
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


class _Request(msgspec.Struct, array_like=True):
    log: Place
    base_url: str
    position: Position
    """The registry is to be as new as this."""
    lines: Sequence[bytes]


class _Valid(msgspec.Struct, array_like=True):
    """A line that may be stored."""

    type: str
    id: str
    given: bool
    body: Body
    checked: Position

    def command(self, context: bytes) -> Command:
        return Command(
            "POST" if self.given else "PUT", self.type, self.id, context,
            body=self.body, checked=self.checked, given=self.given, unless_same=True, short_references=True,
        )  # fmt: skip


_encode = msgspec.msgpack.Encoder(enc_hook=str).encode
_decode_request = msgspec.msgpack.Decoder(_Request, dec_hook=lambda type, text: type(text)).decode
_decode_answer = msgspec.msgpack.Decoder(list[_Valid | None]).decode


class _Checker:
    """A child, and how many lots of lines wait for it."""

    def __init__(self, child: Child) -> None:
        self.waiting = 0
        self.child = child
        self._turn = asyncio.Lock()

    async def ask(self, request: bytes) -> list[_Valid | None]:
        """Raises Ended. Who is interrupted while it works ends it."""
        self.waiting += 1
        try:
            async with self._turn:
                try:
                    async with asyncio.timeout(CHECK_SECONDS_MAX):
                        return _decode_answer(await self.child.ask(request, ANSWER_BYTES_MAX))
                except BaseException:
                    self.child.kill()
                    raise
        finally:
            self.waiting -= 1


class Checkers:
    """The processes: one begins when there are many lines, one more when all are busy; all end when no lines come."""

    def __init__(self, log: Place, most: int | None = None) -> None:
        """At most so many; by itself one for each core but one, and no more than CHECKERS_MAX."""
        self._place = log
        self._most = min(CHECKERS_MAX, _cores() - 1) if most is None else most
        self.ready: list[_Checker] = []
        """Those that have read the definitions."""
        self._start: asyncio.Task[None] | None = None
        """Of the one that begins; of one that could not begin too: no other is tried before a pause."""
        self._pause: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *about: object) -> None:
        """End every process at once."""
        self._most = 0
        if self._pause is not None:
            self._pause.cancel()
        if self._start is not None:
            self._start.cancel()
            await asyncio.wait([self._start])
        while self.ready:
            await self.ready.pop().child.end()

    async def check(self, lines: Sequence[bytes], registry: Registry, context: bytes) -> list[Command | None]:
        """For each line a command whose body is valid by the registry, or None: it must be looked at here."""
        if len(lines) >= CHECKED_LINES_MIN:
            request = _Request(self._place, registry.base_url, registry.position, lines)
            self._grow(request)
            if self.ready:
                found = await self._ask(request)
                return [None if valid is None else valid.command(context) for valid in found]
        return [None] * len(lines)

    def _grow(self, request: _Request) -> None:
        if self._start is None and len(self.ready) < self._most and all(one.waiting for one in self.ready):
            self._start = asyncio.create_task(self._begin(msgspec.structs.replace(request, lines=())))

    async def _begin(self, request: _Request) -> None:
        """Begin one; it is of use when it has read the definitions."""
        try:
            checker = _Checker(await Child.start(__name__))
            await checker.ask(_encode(request))
        except (Ended, OSError) as error:  # TimeoutError is an OSError
            why = str(error) or "it does not answer"
            _log.warning("no process that checks lines can be had (%s): they are checked in this one", why)
        else:
            self.ready.append(checker)
            self._start = None
        self._rest()

    async def _ask(self, request: _Request) -> Sequence[_Valid | None]:
        checker = min(self.ready, key=lambda one: one.waiting)
        try:
            return await checker.ask(_encode(request))
        except (Ended, TimeoutError):
            if checker in self.ready:
                _log.warning("a process that checks lines ended: those it had are checked in this one")
            return [None] * len(request.lines)
        finally:
            if not checker.child.alive and checker in self.ready:
                self.ready.remove(checker)
            self._rest()

    def _rest(self) -> None:
        """From here on it may be that no lines come."""
        if self._pause is not None:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(IDLE_SECONDS_MAX, self._retire)

    def _retire(self) -> None:
        """No lines have come for a while."""
        idle = [one for one in self.ready if not one.waiting]
        self.ready = [one for one in self.ready if one.waiting]
        for one in idle:
            one.child.kill()
        if self._start is not None and self._start.done():
            self._start = None


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Checking:
    """In the child: the registry, and lines checked by it."""

    def __init__(self) -> None:
        self._registry: Registry | None = None

    def answer(self, data: bytes) -> bytes:
        request = _decode_request(data)
        registry = self._registry
        if registry is None or registry.position < request.position:
            try:
                registry = self._registry = asyncio.run(_caught_up(request, registry))
            except QuireError as error:
                raise SystemExit(
                    f"the process that checks lines cannot read the definitions: {error}"
                ) from None
        return _encode([_valid(registry, line) for line in request.lines])


async def _caught_up(request: _Request, registry: Registry | None) -> Registry:
    log = await open_log(request.log, write=False)
    try:
        return await registry_at(
            log, registry or Registry.empty(log.fhir_version, request.base_url), request.position
        )
    finally:
        await log.close()


def _valid(registry: Registry, data: bytes) -> _Valid | None:
    try:
        line = parse(data)
        kind = registry.served(line.type)
        if kind is None or is_needed(kind):
            return None
        command = checked(line.command(b""), kind, registry)
    except QuireError:
        return None
    if command.body is None:
        return None
    return _Valid(line.type, command.id, command.given, command.body, command.checked)


if __name__ == "__main__":
    serve(_Checking().answer)
