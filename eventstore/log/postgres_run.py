"""What the PostgreSQL log asks on a connection, and how the answers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec
from asyncpg import Connection

from eventstore.command import Key
from eventstore.decide import Previous
from eventstore.event import Event, Position, Tip
from eventstore.log.base import Query, Snapshot, Span
from eventstore.log.postgres_session import ConnectionLost
from eventstore.log.sql import queries
from eventstore.types.registry import DEFINITION_TYPES

RETRY_SECONDS = 0.2
POSITION_MAX: Position = 2**63 - 1
ROWS_AT_ONCE = 32
ROWS_AT_ONCE_MAX = 2000
COPIED_EVENTS_MIN = 128
"""A batch of fewer is inserted by one statement."""

SQL = queries("eventstore.log.sql", "postgres")
_encode = msgspec.json.Encoder().encode
_KINDS = sorted(DEFINITION_TYPES)
_COLUMNS = list(Event.__struct_fields__)


async def snapshot(
    connection: Connection, keys: Mapping[Key, bool], count: Mapping[str, int]
) -> list[asyncpg.Record]:
    """One statement, after the one that took the lock: its snapshot is younger than the lock."""
    wanted = [[type, id, body] for (type, id), body in keys.items()]
    rows: list[asyncpg.Record] = await connection.fetch(
        SQL["snapshot"], _encode(wanted).decode(), _KINDS, list(count), list(count.values())
    )
    return rows


def read_snapshot(rows: Sequence[asyncpg.Record], genesis: bytes) -> Snapshot:
    tip, definition, now = Tip(0, "", genesis), 0, ""
    previous: dict[Key, Previous] = {}
    live: dict[str, int] = {}
    for what, type, id, position, action, at, data in rows:
        match what:
            case "tip":
                tip = Tip(position, at, data)
            case "now":
                now = at
            case "definition":
                definition = position
            case "live":
                live[type] = position
            case _:
                previous[type, id] = Previous(position, action, at, data)
    return Snapshot(tip, definition, previous, live, now)


async def insert(connection: Connection, events: Sequence[Event]) -> None:
    """Insert a batch: many by COPY, for which asyncpg looks at each value once; few in one statement, a round trip less."""
    rows = [msgspec.structs.astuple(event) for event in events]
    if len(rows) >= COPIED_EVENTS_MIN:
        await connection.copy_records_to_table("quire_event", records=rows, columns=_COLUMNS)
    else:
        await connection.execute(SQL["insert"], *(list(column) for column in zip(*rows, strict=True)))


async def commit(connection: Connection) -> None:
    """A commit of a transaction that has failed is answered with ROLLBACK, and is no error."""
    if await connection.execute("COMMIT") != "COMMIT":
        raise ConnectionLost("PostgreSQL undid the transaction")


async def fetch(
    connection: Connection, queries: Sequence[Query], bytes_max: int | None
) -> list[list[tuple[Any, ...]]]:
    """On one snapshot; a single statement is one by itself."""
    if len(queries) == 1 and bytes_max is None:
        ((sql, parameters),) = queries
        return [[tuple(row) for row in await connection.fetch(sql, *parameters)]]
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return [await _until(connection, sql, parameters, bytes_max) for sql, parameters in queries]


async def _until(
    connection: Connection, sql: str, parameters: Sequence[Any], bytes_max: int | None
) -> list[tuple[Any, ...]]:
    """The rows until their bytes values reach the limit, a few more perhaps."""
    if bytes_max is None:
        return [tuple(row) for row in await connection.fetch(sql, *parameters)]
    cursor = await connection.cursor(sql, *parameters)
    rows: list[tuple[Any, ...]] = []
    size, wanted = 0, ROWS_AT_ONCE
    while size < bytes_max and (some := await cursor.fetch(wanted)):
        rows += [tuple(row) for row in some]
        size += sum(len(value) for row in some for value in row if type(value) is bytes)
        if len(some) < wanted:
            break
        wanted = max(1, min(ROWS_AT_ONCE_MAX, (bytes_max - size) * len(rows) // max(1, size)))
    return rows


async def since(connection: Connection, at: str) -> Position:
    """Times never decrease along positions: halve the log until the last event before `at` is found."""
    low, high = 0, (await connection.fetchval(SQL["tip"])) or 0
    while low < high:
        middle = (low + high + 1) // 2
        found = await connection.fetchrow(SQL["time_at"], middle)
        if found is None or found[1] < at:
            low = middle
        else:
            high = found[0] - 1
    return int(low)


def events_of(span: Span) -> Query:
    where, order, parameters = _conditions(span)
    direction = " DESC" if span.newest_first else ""
    ordered = ", ".join(name + direction for name in order)
    return SQL["events"].format(where=where, order=ordered, limit=span.limit), parameters


def count_of(span: Span) -> Query:
    where, _, parameters = _conditions(span)
    return SQL["count"].format(where=where), parameters


def _conditions(span: Span) -> tuple[str, list[str], list[Any]]:
    """The conditions, the order, and the parameters. See the head of `postgres.sql` for those of a type."""
    until = POSITION_MAX if span.until is None else min(span.until, POSITION_MAX)
    positions = [min(span.after, POSITION_MAX), until]
    if span.type is None:
        return "position > $1 AND position <= $2", ["position"], positions
    if span.id is None:
        where = "(type, position) > ($1::text, $2::bigint) AND (type, position) <= ($1::text, $3::bigint)"
        return where, ["type", "position"], [span.type, *positions]
    where = "type = $1 AND id = $2 AND position > $3 AND position <= $4"
    return where, ["position"], [span.type, span.id, *positions]
