"""The tables of projections on a connection: declared, moved on, built beside, switched and cleared away.

`quire_checkpoint` has a row for each set of tables: those that stand, those that are built beside them, and those that
a switch replaced, which are emptied a little at a time because to drop many rows at once would hold up writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from eventstore.event import Position
from eventstore.log.base import KEPT_INLINE
from eventstore.log.sql import queries
from eventstore.log.sqlite_rows import RowWriter, make_anew
from eventstore.projection import BESIDE, Parked, Rows, Table, beside

REPLACED = "__old"
"""What the names of a projection and of its tables end with after others took their place."""
CLEARED_ROWS_MAX = 2000

_SQL = queries("eventstore.log.sql", "sqlite")
_names = msgspec.json.Decoder(list[str]).decode


def rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One that writes; what somebody left open who was cancelled is undone first."""
    rollback(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        if connection.in_transaction:
            connection.execute("COMMIT")
    except BaseException:
        rollback(connection)
        raise


def declare(
    connection: sqlite3.Connection, name: str, version: int, tables: Sequence[Table]
) -> Position | None:
    found = connection.execute(_SQL["checkpoint"], (name,)).fetchone()
    if found is not None:
        return int(found[1]) if found[0] == version else None
    make(connection, name, version, tables)
    return 0


def make(connection: sqlite3.Connection, name: str, version: int, tables: Sequence[Table]) -> None:
    """Make empty tables under these names, with a checkpoint at 0."""
    with transaction(connection):
        make_anew(connection, tables)
        _checkpoint(connection, name, version, 0, [table.name for table in tables])


def advance(
    connection: sqlite3.Connection,
    name: str,
    after: Position,
    until: Position,
    rows: Rows,
    writer: RowWriter,
    parked: Sequence[Parked],
    resolved: Sequence[Position],
) -> bool:
    with transaction(connection):
        moved = connection.execute(_SQL["checkpoint_move"], (name, after, until)).rowcount == 1
        there = [connection.execute(_SQL["unpark"], (name, one)).rowcount == 1 for one in resolved]
        if not (moved and all(there)):
            rollback(connection)
            return False
        writer.write(connection, rows)
        connection.executemany(_SQL["park"], [(name, one.position, one.error) for one in parked])
    return True


def switch(
    connection: sqlite3.Connection,
    name: str,
    after: Position,
    until: Position,
    rows: Rows,
    writer: RowWriter,
    *,
    inline: bool,
) -> bool:
    with transaction(connection):
        new = beside(name)
        if connection.execute(_SQL["checkpoint_move"], (new, after, until)).rowcount != 1:
            rollback(connection)
            return False
        writer.write(connection, rows)
        _rename(connection, name, "", REPLACED)
        _rename(connection, name, BESIDE, "")
        if inline:
            connection.execute(_SQL["checkpoint_move"], (name, until, KEPT_INLINE))
        connection.execute(_SQL["parked_clear"], (name,))
        connection.execute(_SQL["parked_move"], (new, name))
    return True


def _rename(connection: sqlite3.Connection, name: str, end: str, new_end: str) -> None:
    """Let the names of a set of tables, and of its checkpoint, end with something else."""
    found = connection.execute(_SQL["checkpoint"], (name + end,)).fetchone()
    if found is None:
        return
    version, position, tables = found
    there = [table for table in _names(tables) if _there(connection, table)]
    renamed = [table.removesuffix(end) + new_end for table in there]
    for old, new in zip(there, renamed, strict=True):
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    connection.execute(_SQL["checkpoint_drop"], (name + end,))
    _checkpoint(connection, name + new_end, version, position, renamed)


def stands(name: str) -> bool:
    """Whether a checkpoint of this name is of tables that stand: neither built beside others nor replaced."""
    return not name.endswith((BESIDE, REPLACED))


def projection_of(name: str) -> str:
    """The projection whose checkpoint has this name."""
    return name.removesuffix(BESIDE).removesuffix(REPLACED)


def clear(connection: sqlite3.Connection, name: str) -> bool:
    """Drop a set of tables and its checkpoint, or as many of the rows as one step may; whether all is gone."""
    with transaction(connection):
        found = connection.execute(_SQL["checkpoint"], (name,)).fetchone()
        for table in _names(found[2]) if found is not None else ():
            if not _there(connection, table):
                continue
            if _thin(connection, table) == CLEARED_ROWS_MAX:
                return False
            connection.execute(f"DROP TABLE {table}")
        connection.execute(_SQL["checkpoint_drop"], (name,))
        connection.execute(_SQL["parked_clear"], (name,))
    return True


def _thin(connection: sqlite3.Connection, table: str) -> int:
    """Delete some rows of a table; how many."""
    keys = [row[0] for row in connection.execute(_SQL["key_columns"], (table,))]
    key = ", ".join(keys)
    sql = f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} LIMIT {CLEARED_ROWS_MAX})"
    return connection.execute(sql).rowcount


def _there(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute(_SQL["table_there"], (table,)).fetchone() is not None


def _checkpoint(
    connection: sqlite3.Connection, name: str, version: int, position: Position, tables: Sequence[str]
) -> None:
    connection.execute(
        _SQL["checkpoint_new"], (name, version, position, msgspec.json.encode(tables).decode())
    )
