"""Bulk import: resources as lines, each a write of its own, many of them in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Literal

import msgspec

from eventstore.body import read
from eventstore.command import Accepted, Command
from eventstore.errors import Conflict, QuireError, Throttled, TooLarge, Unavailable
from eventstore.log.base import AppendFailed
from eventstore.server.checkers import Checkers
from eventstore.server.checking import parse
from eventstore.server.outcomes import expression
from eventstore.store import Store
from eventstore.types.builtin import core_resources, core_types

IMPORT_LINES_MAX = 10_000
IN_FLIGHT_MAX = 1024


class Imported(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one line."""

    status: Literal["created", "updated", "unchanged", "refused"]
    resource: str = ""
    """Type/id, as far as it is known."""
    position: int = 0
    reason: str = ""
    transient: bool = False
    """Refused for now only: the queue was full or the disk was; the same line may be taken later."""


_Queued = asyncio.Future[list[Accepted]] | QuireError
"""A write under way, or why there is none."""


class Importer:
    """Stores lines of resources."""

    def __init__(self, store: Store, checkers: Checkers) -> None:
        self._store = store
        self._checkers = checkers

    async def store(self, lines: Sequence[bytes], *, define_open: bool, context: bytes) -> list[Imported]:
        """Store each line's resource: one with an id as by PUT, no event when it is there already; one without as by POST.

        With `define_open`, a type that is not there is made, open. Blank lines answer nothing.
        """
        lines = [line for line in lines if line.strip()]
        if len(lines) > IMPORT_LINES_MAX:
            raise TooLarge(f"{len(lines)} lines; at most {IMPORT_LINES_MAX} are taken in one request")
        answers: list[Imported] = []
        await self._store.catch_up()
        for start in range(0, len(lines), IN_FLIGHT_MAX):
            part = await self._commands(lines[start : start + IN_FLIGHT_MAX], context)
            refused = await _define(self._store, part, context) if define_open else {}
            answers += await self._stored(part, refused)
        return answers

    async def _stored(
        self, part: Sequence[Command | QuireError], refused: Mapping[str, QuireError]
    ) -> list[Imported]:
        """Have them written, but those that cannot be or whose type cannot; what became of each."""
        good = [one for one in part if isinstance(one, Command) and one.type not in refused]
        queued: Iterator[_Queued]
        try:
            queued = iter(self._store.queue_each(good))
        except (Throttled, Unavailable) as error:
            queued = repeat(error)
        return [
            _refused("", one)
            if isinstance(one, QuireError)
            else await _answer(one, refused.get(one.type) or next(queued))
            for one in part
        ]

    async def _commands(self, lines: Sequence[bytes], context: bytes) -> list[Command | QuireError]:
        found = await self._checkers.check(lines, self._store.registry, context)
        return [one or _command(line, context) for one, line in zip(found, lines, strict=True)]


def _command(line: bytes, context: bytes) -> Command | QuireError:
    try:
        return parse(line).command(context)
    except QuireError as error:
        return error


async def _define(
    store: Store, commands: Sequence[Command | QuireError], context: bytes
) -> dict[str, QuireError]:
    """Make the open types that the commands need; why each of those that could not be made could not."""
    refused: dict[str, QuireError] = {}
    types = {command.type for command in commands if isinstance(command, Command)}
    for type in sorted(type for type in types if store.registry.served(type) is None):
        value = {"resourceType": "Entity", "id": type, "type": "resource", "isOpen": True}
        if type in core_resources(store.log.fhir_version) | core_types(store.log.fhir_version):
            value["meta"] = {"tag": [{"code": "shadows-core"}]}
        try:
            await store.submit(Command("POST", "Entity", type, context, read(msgspec.json.encode(value))))
        except Conflict:
            continue
        except QuireError as error:
            refused[type] = error
    return refused


async def _answer(command: Command, queued: _Queued) -> Imported:
    name = f"{command.type}/{'' if command.given else command.id}"
    try:
        if isinstance(queued, QuireError):
            return _refused(name, queued)
        (accepted,) = await queued
    except QuireError as error:
        return _refused(name, error)
    except AppendFailed as error:
        return Imported("refused", name, reason=f"the database refuses it: {error}")
    action = "updated" if accepted.action == "deleted" else accepted.action
    return Imported(action, f"{command.type}/{accepted.id or command.id}", accepted.position or 0)


def _refused(name: str, error: QuireError) -> Imported:
    transient = isinstance(error, Throttled | Unavailable)
    return Imported("refused", name, reason=_reason(error, name), transient=transient)


def _reason(error: QuireError, name: str) -> str:
    root = name.partition("/")[0]
    return "; ".join(
        f"{expression(issue.path, root)}: {issue.message}" if issue.path else issue.message
        for issue in error.issues
    )
