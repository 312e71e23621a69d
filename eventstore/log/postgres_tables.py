"""The tables of projections on PostgreSQL: declared, moved on, built beside, switched and cleared away.

`quire_checkpoint` has a row for each set of tables: those that stand, those that are built beside them, and those that
a switch replaced. All of this is inside a transaction that the caller has begun and commits. The row of
`quire_checkpoint` is locked before the tables, always, so that no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from asyncpg import Connection

from eventstore.event import Position
from eventstore.log.base import KEPT_INLINE
from eventstore.log.postgres_rows import RowWriter, drop, make_anew, restore_views, take_views
from eventstore.log.sql import queries
from eventstore.projection import BESIDE, Parked, Rows, Table, beside

REPLACED = "__old"
"""What the names of a projection and of its tables end with after others took their place."""

_SQL = queries("eventstore.log.sql", "postgres")
_KINDS = {"r": "TABLE", "v": "VIEW", "i": "INDEX"}
_names = msgspec.json.Decoder(list[str]).decode


async def make(
    connection: Connection, name: str, version: int, tables: Sequence[Table], writer: RowWriter
) -> None:
    """Make empty tables under these names, with a checkpoint at 0."""
    await _checkpoint(connection, name, version, 0, [table.name for table in tables])
    await make_anew(connection, tables, writer.grantee)


async def advance(
    connection: Connection,
    name: str,
    after: Position,
    until: Position,
    rows: Rows,
    writer: RowWriter,
    parked: Sequence[Parked],
    resolved: Sequence[Position],
) -> bool:
    """False when somebody else was there; then the transaction is to be undone."""
    if await connection.execute(_SQL["checkpoint_move"], name, after, until) != "UPDATE 1":
        return False
    if resolved:
        gone = await connection.execute(_SQL["unpark"], name, list(resolved))
        if gone != f"DELETE {len(resolved)}":
            return False
    await writer.write(connection, rows)
    if parked:
        positions, errors = [one.position for one in parked], [one.error for one in parked]
        await connection.execute(_SQL["park"], name, positions, errors)
    return True


async def switch(
    connection: Connection,
    name: str,
    after: Position,
    until: Position,
    rows: Rows,
    writer: RowWriter,
    *,
    inline: bool,
) -> bool:
    """False when the checkpoint beside is elsewhere; then the transaction is to be undone."""
    new = beside(name)
    if await connection.execute(_SQL["checkpoint_move"], new, after, until) != "UPDATE 1":
        return False
    await connection.execute(_SQL["checkpoint_hold"], name)
    views = await take_views(connection, await tables_of(connection, name))
    await _rename(connection, name, "", REPLACED)
    await _rename(connection, name, BESIDE, "")
    await restore_views(connection, views, writer.grantee)
    await writer.drop_views(connection, rows.views)
    await writer.write(connection, _standing(rows))
    if inline:
        await connection.execute(_SQL["checkpoint_move"], name, until, KEPT_INLINE)
    await connection.execute(_SQL["parked_clear"], name)
    await connection.execute(_SQL["parked_move"], new, name)
    return True


def _standing(rows: Rows) -> Rows:
    """The same for the tables that were beside and stand now. The views they are read by are made with them."""
    made = Rows()
    made.upserts = {table.removesuffix(BESIDE): upserts for table, upserts in rows.upserts.items()}
    made.deletes = {table.removesuffix(BESIDE): deletes for table, deletes in rows.deletes.items()}
    made.sums = {table.removesuffix(BESIDE): sums for table, sums in rows.sums.items()}
    made.views = rows.views
    return made


async def tables_of(connection: Connection, name: str) -> list[str]:
    """The tables of a set, by the name of its checkpoint."""
    found = await connection.fetchrow(_SQL["checkpoint"], name)
    return _names(found[2]) if found is not None else []


async def _rename(connection: Connection, name: str, end: str, new_end: str) -> None:
    """Let the names of a set of tables, of what belongs to them, and of its checkpoint end with something else."""
    found = await connection.fetchrow(_SQL["checkpoint"], name + end)
    if found is None:
        return
    version, position, tables = found[0], found[1], _names(found[2])
    renamed = []
    for table in tables:
        plain = table.removesuffix(end) + new_end
        for relation, kind in await connection.fetch(_SQL["relations"], table):
            own = plain + relation.removeprefix(table)
            await connection.execute(f"ALTER {_KINDS[kind]} {relation} RENAME TO {own}")
        renamed.append(plain)
    await connection.execute(_SQL["checkpoint_drop"], name + end)
    await _checkpoint(connection, name + new_end, version, position, renamed)


def stands(name: str) -> bool:
    """Whether a checkpoint of this name is of tables that stand: neither built beside others nor replaced."""
    return not name.endswith((BESIDE, REPLACED))


def projection_of(name: str) -> str:
    """The projection whose checkpoint has this name."""
    return name.removesuffix(BESIDE).removesuffix(REPLACED)


async def clear(connection: Connection, name: str) -> None:
    """Drop a set of tables and its checkpoint."""
    tables = await tables_of(connection, name)
    await connection.execute(_SQL["checkpoint_drop"], name)
    await connection.execute(_SQL["parked_clear"], name)
    for table in tables:
        for statement in drop(table):
            await connection.execute(statement)


async def _checkpoint(
    connection: Connection, name: str, version: int, position: Position, tables: Sequence[str]
) -> None:
    names = msgspec.json.encode(tables).decode()
    await connection.execute(_SQL["checkpoint_new"], name, version, position, names)
