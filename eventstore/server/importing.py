"""Bulk import: resources as lines, each a write of its own, many of them in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
from uuid_utils import uuid7

from eventstore.body import Document, read
from eventstore.command import Accepted, Command
from eventstore.errors import Conflict, Invalid, Malformed, QuireError, Throttled, TooLarge, Unavailable
from eventstore.log.base import AppendFailed
from eventstore.server.outcomes import expression
from eventstore.server.routes import ID
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


class _Item(msgspec.Struct, frozen=True):
    document: Document
    type: str
    id: str | None


async def import_lines(
    store: Store, lines: Sequence[bytes], *, define_open: bool, context: bytes
) -> list[Imported]:
    """Store each line's resource: one with an id as by PUT, no event when it is there already; one without as by POST.

    With `define_open`, a type that is not there is made, open. Blank lines answer nothing.
    """
    lines = [line for line in lines if line.strip()]
    if len(lines) > IMPORT_LINES_MAX:
        raise TooLarge(f"{len(lines)} lines; at most {IMPORT_LINES_MAX} are taken in one request")
    answers: list[Imported] = []
    await store.catch_up()
    for start in range(0, len(lines), IN_FLIGHT_MAX):
        part = [_parse(line) for line in lines[start : start + IN_FLIGHT_MAX]]
        refused = await _define(store, part, context) if define_open else {}
        answers.extend(await _store(store, part, refused, context))
    return answers


def _parse(line: bytes) -> _Item | QuireError:
    try:
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
    except QuireError as error:
        return error
    return _Item(document, type, id)


async def _define(store: Store, items: Sequence[_Item | QuireError], context: bytes) -> dict[str, QuireError]:
    """Make the open types that the items need; why each of those that could not be made could not."""
    refused: dict[str, QuireError] = {}
    types = {item.type for item in items if isinstance(item, _Item)}
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


async def _store(
    store: Store, items: Sequence[_Item | QuireError], refused: dict[str, QuireError], context: bytes
) -> list[Imported]:
    queued = [_queue(store, item, refused, context) for item in items]
    return [
        _refused(name, what) if isinstance(what, QuireError) else await _done(name, what)
        for name, what in queued
    ]


def _queue(
    store: Store, item: _Item | QuireError, refused: dict[str, QuireError], context: bytes
) -> tuple[str, asyncio.Future[list[Accepted]] | QuireError]:
    """The item's name, and the write under way or why there is none."""
    if not isinstance(item, _Item):
        return "", item
    name = f"{item.type}/{item.id or ''}"
    if item.type in refused:
        return name, refused[item.type]
    id = item.id or str(uuid7())
    method: Literal["PUT", "POST"] = "PUT" if item.id else "POST"
    try:
        command = Command(
            method, item.type, id, context, item.document,
            given=item.id is None, unless_same=True, short_references=True,
        )  # fmt: skip
        return f"{item.type}/{id}", store.queue(command)
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
