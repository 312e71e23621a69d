"""Bulk import: resources as lines, each a write of its own, many of them in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
            queued = [_queue(self._store, one, refused) for one in part]
            answers += [
                _refused(name, what) if isinstance(what, QuireError) else await _done(name, what)
                for name, what in queued
            ]
        return answers

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


def _queue(
    store: Store, command: Command | QuireError, refused: dict[str, QuireError]
) -> tuple[str, asyncio.Future[list[Accepted]] | QuireError]:
    """What the command is for, and the write under way or why there is none."""
    if not isinstance(command, Command):
        return "", command
    name = f"{command.type}/{'' if command.given else command.id}"
    if command.type in refused:
        return name, refused[command.type]
    try:
        return f"{command.type}/{command.id}", store.queue(command)
    except QuireError as error:
        return name, error


async def _done(name: str, future: asyncio.Future[list[Accepted]]) -> Imported:
    try:
        (accepted,) = await future
    except QuireError as error:
        return _refused(name, error)
    except AppendFailed as error:
        return Imported("refused", name, reason=f"the database refuses it: {error}")
    name = f"{name.partition('/')[0]}/{accepted.id}" if accepted.id else name
    status = "unchanged" if accepted.action == "unchanged" else accepted.action
    return Imported("updated" if status == "deleted" else status, name, accepted.position or 0)


def _refused(name: str, error: QuireError) -> Imported:
    transient = isinstance(error, Throttled | Unavailable)
    return Imported("refused", name, reason=_reason(error, name), transient=transient)


def _reason(error: QuireError, name: str) -> str:
    root = name.partition("/")[0]
    return "; ".join(
        f"{expression(issue.path, root)}: {issue.message}" if issue.path else issue.message
        for issue in error.issues
    )
