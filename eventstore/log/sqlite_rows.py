"""Renders what projections ask for to SQLite: tables, one statement per table per batch, and views."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

from eventstore.log.sql import queries
from eventstore.projection import BESIDE, Rows, Table, Value

_SQL = queries("eventstore.log.sql", "sqlite")
# As they are: else sqlite3 looks at each value for attributes that are not there.
sqlite3.register_adapter(bytes, bytes)
SECOND = "__2"
"""What stands in the name of an index while the first of its two names is taken."""
SIZES = (64, 32, 16, 8, 4, 2, 1)
_TYPES = {"text": "TEXT", "integer": "INTEGER", "bytes": "BLOB"}


class Insert:
    """An INSERT of any number of rows, in few statements: 64 rows at once, then 32, 16 ...

    SQLite works on a statement beside Python's other threads, but after each, and after each row of `executemany`,
    waits for Python's lock.
    """

    def __init__(self, table: str, columns: Sequence[str], conflict: str = "") -> None:
        row = f"({', '.join('?' * len(columns))})"
        into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
        self._sql = {size: into + ", ".join([row] * size) + conflict for size in SIZES}

    def write(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Value]]) -> None:
        done = 0
        for size, sql in self._sql.items():
            while len(rows) - done >= size:
                connection.execute(sql, list(chain.from_iterable(rows[done : done + size])))
                done += size


class RowWriter:
    """The statements for the tables it was told of."""

    def __init__(self) -> None:
        self._upsert: dict[str, Insert] = {}
        self._add: dict[str, Insert] = {}
        self._delete: dict[str, str] = {}

    def learn(self, tables: Iterable[Table]) -> None:
        """Prepare the statements of these tables."""
        for table in tables:
            if table.summed:
                self._add[table.name] = _insert(table, "{0} = {0} + excluded.{0}")
                continue
            keys = " AND ".join(f"{column.name} = ?" for column in table.key)
            self._delete[table.name] = f"DELETE FROM {table.name} WHERE {keys}"
            self._upsert[table.name] = _insert(table, "{0} = excluded.{0}")

    def write(self, connection: sqlite3.Connection, rows: Rows) -> None:
        """Write the rows, inside the transaction that is open."""
        for name, deleted in rows.deletes.items():
            connection.executemany(self._delete[name], deleted)
        for name, upserts in rows.upserts.items():
            self._upsert[name].write(connection, [key + values for key, values in upserts.items()])
        for name, sums in rows.sums.items():
            self._add[name].write(connection, [(*key, *amounts) for key, amounts in sums.items()])
        for type, exists in rows.views.items():
            _view(connection, type, exists)


def make_anew(connection: sqlite3.Connection, tables: Iterable[Table]) -> None:
    """Drop the tables and make them empty, inside the transaction that is open."""
    for table in tables:
        connection.execute(f"DROP TABLE IF EXISTS {table.name}")
        connection.execute(_create(table))
        for index in table.indexes:
            name = _free(connection, f"{table.name.removesuffix(BESIDE)}{{}}_{'_'.join(index)}")
            connection.execute(f"CREATE INDEX {name} ON {table.name} ({', '.join(index)})")


def _create(table: Table) -> str:
    columns = ", ".join(
        f"{column.name} {_TYPES[column.type]}{' NOT NULL' if column.required else ''}"
        for column in (*table.key, *table.columns)
    )
    key = ", ".join(column.name for column in table.key)
    return f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY ({key})) STRICT, WITHOUT ROWID"


def _free(connection: sqlite3.Connection, name: str) -> str:
    """One of two names for an index: it keeps its name when its table gets another."""
    taken = connection.execute(_SQL["index_there"], (name.format(""),)).fetchone()
    return name.format(SECOND if taken else "")


def _insert(table: Table, change: str) -> Insert:
    updates = ", ".join(change.format(column.name) for column in table.columns)
    conflict = f" ON CONFLICT ({', '.join(column.name for column in table.key)}) DO " + (
        f"UPDATE SET {updates}" if updates else "NOTHING"
    )
    return Insert(table.name, [column.name for column in (*table.key, *table.columns)], conflict)


def _view(connection: sqlite3.Connection, type: str, exists: bool) -> None:
    """Make or drop the two views of a type. Type names hold no quote."""
    view = type.lower()
    for name, kind in ((view, "view"), (f"{view}_history", "view_history")):
        connection.execute(f'DROP VIEW IF EXISTS "{name}"')
        if exists:
            connection.execute(_SQL[kind].format(view=view, type=type))
