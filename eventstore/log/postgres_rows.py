"""Renders what projections ask for to PostgreSQL: tables, one statement per table per batch, and views.

A table whose rows are only added to is kept as steps: each batch inserts a row with the new sums and deletes the one
before. A row that was updated in place would have to be sought behind all its dead versions as long as somebody keeps
an old snapshot open; the newest step is the first entry of the index. A view with the table's name shows the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from asyncpg import Connection

from eventstore.log.sql import queries
from eventstore.projection import Column, RowKey, Rows, Table

_SQL = queries("eventstore.log.sql", "postgres")
_TYPES = {"text": "text", "integer": "bigint", "bytes": "bytea"}
_DROP = """DO $$ BEGIN IF EXISTS (
    SELECT FROM pg_class WHERE oid = to_regclass('{table}') AND relkind = 'r'
) THEN DROP TABLE {table}; END IF; END $$"""
COPIED_ROWS_MIN = 128
"""Fewer new rows are upserted like others."""
_NONE: frozenset[RowKey] = frozenset()
STEPS = "_step"
"""What the name of the table with the steps ends with."""


class RowWriter:
    """The statements for the tables it was told of."""

    def __init__(self) -> None:
        self._upsert: dict[str, str] = {}
        self._columns: dict[str, list[str]] = {}
        self._add: dict[str, str] = {}
        self._delete: dict[str, str] = {}
        self.grantee = ""
        """The role that may read the views; empty when there is none."""

    def learn(self, tables: Iterable[Table]) -> None:
        """Prepare the statements of these tables."""
        for table in tables:
            if table.summed:
                self._add[table.name] = _step(table)
            else:
                self._delete[table.name] = _delete(table)
                self._upsert[table.name] = _upsert(table)
                self._columns[table.name] = [column.name for column in (*table.key, *table.columns)]

    async def write(self, connection: Connection, rows: Rows) -> None:
        """Write the rows, inside the transaction that is open."""
        for name, deleted in rows.deletes.items():
            if deleted:
                await connection.execute(self._delete[name], *_arrays(deleted))
        for name, upserts in rows.upserts.items():
            new = rows.new.get(name, _NONE)
            copied = new if len(new) >= COPIED_ROWS_MIN else _NONE
            if copied:
                records = [key + values for key, values in upserts.items() if key in copied]
                await self._copy(connection, name, records)
            if len(upserts) > len(copied):
                others = [key + values for key, values in upserts.items() if key not in copied]
                await connection.execute(self._upsert[name], *_arrays(others))
        for name, sums in rows.sums.items():
            await connection.execute(
                self._add[name], *_arrays([key + tuple(amounts) for key, amounts in sums.items()])
            )
        if rows.views:
            await self._views(connection, rows.views)

    async def _copy(self, connection: Connection, table: str, rows: Sequence[RowKey]) -> None:
        """Insert rows by COPY. Where one is there after all that fails, and is asked again in parts: these are upserted."""
        await connection.copy_records_to_table(table, records=rows, columns=self._columns[table])

    async def drop_views(self, connection: Connection, wanted: Iterable[str]) -> None:
        """Drop the views of types, whatever they are, so that they are made anew."""
        for type in wanted:
            for name in (type.lower(), f"{type.lower()}_history"):
                await connection.execute(f'DROP VIEW IF EXISTS "{name}"')

    async def _views(self, connection: Connection, wanted: dict[str, bool]) -> None:
        """Make or drop the two views of each type, where that changes anything. Type names hold no quote."""
        names = {
            name: (kind, type.lower(), type, exists)
            for type, exists in wanted.items()
            for name, kind in ((type.lower(), "view"), (f"{type.lower()}_history", "view_history"))
        }
        there = {row[0] for row in await connection.fetch(_SQL["views_there"], list(names))}
        for name, (kind, view, type, exists) in names.items():
            if exists and name not in there:
                await connection.execute(_SQL[kind].format(view=view, type=type))
                if self.grantee:
                    await connection.execute(f'GRANT SELECT ON "{name}" TO "{self.grantee}"')
            elif not exists and name in there:
                await connection.execute(f'DROP VIEW "{name}"')


def _arrays(rows: Iterable[RowKey]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


Views = list[tuple[str, str]]
"""Views of types, each with the SELECT that it is."""


async def make_anew(connection: Connection, tables: Iterable[Table], grantee: str) -> None:
    """Drop the tables and make them empty, inside the transaction that is open; views of types stay over the new."""
    for table in tables:
        views = await take_views(connection, [table.name])
        for statement in (*drop(table.name), *create(table)):
            await connection.execute(statement)
        await restore_views(connection, views, grantee)


async def take_views(connection: Connection, tables: Sequence[str]) -> Views:
    """Drop the views of types that read these tables. To be made again when other tables have the names."""
    names = [name for table in tables for name in (table, table + STEPS)]
    views = [(row[0], row[1]) for row in await connection.fetch(_SQL["views_over"], names)]
    for view, _ in views:
        await connection.execute(f'DROP VIEW "{view}"')
    return views


async def restore_views(connection: Connection, views: Views, grantee: str) -> None:
    for view, definition in views:
        await connection.execute(f'CREATE VIEW "{view}" AS {definition}')
        if grantee:
            await connection.execute(f'GRANT SELECT ON "{view}" TO "{grantee}"')


def drop(table: str) -> list[str]:
    """The statements that take a table away: it, or its steps with the view over them."""
    return [f"DROP TABLE IF EXISTS {table}{STEPS} CASCADE", _DROP.format(table=table)]


def create(table: Table) -> list[str]:
    """The statements that make a table."""
    columns = [
        f"{column.name} {_TYPES[column.type]}{_collation(column)}{' NOT NULL' if column.required else ''}"
        for column in (*table.key, *table.columns)
    ]
    keys = _names(table.key)
    if table.summed:
        return [
            f"CREATE TABLE {table.name}{STEPS} ({', '.join(columns)}, step bigint NOT NULL)",
            f"CREATE UNIQUE INDEX {table.name}{STEPS}_newest ON {table.name}{STEPS} ({keys}, step DESC)",
            _sums(table),
        ]
    return [
        f"CREATE TABLE {table.name} ({', '.join(columns)}, PRIMARY KEY ({keys}))",
        *(
            f"CREATE INDEX {table.name}_{'_'.join(index)} ON {table.name} ({', '.join(index)})"
            for index in table.indexes
        ),
    ]


def _collation(column: Column) -> str:
    return ' COLLATE "C"' if column.type == "text" else ""


def _names(columns: Sequence[Column], prefix: str = "") -> str:
    return ", ".join(prefix + column.name for column in columns)


def _sums(table: Table) -> str:
    """The view over the steps: from key to key, the newest step of each."""
    columns, keys = _names((*table.key, *table.columns)), _names(table.key)
    newest = f"ORDER BY {keys}, step DESC LIMIT 1"
    return (
        f"CREATE VIEW {table.name} AS WITH RECURSIVE newest AS ("
        f"(SELECT {columns} FROM {table.name}{STEPS} {newest}) UNION ALL "
        f"SELECT following.* FROM newest CROSS JOIN LATERAL (SELECT {columns} FROM {table.name}{STEPS} AS one "
        f"WHERE ({_names(table.key, 'one.')}) > ({_names(table.key, 'newest.')}) {newest}) AS following"
        f") SELECT {columns} FROM newest"
    )


def _unnest(columns: Sequence[Column]) -> str:
    return f"unnest({', '.join(f'${n}::{_TYPES[column.type]}[]' for n, column in enumerate(columns, 1))})"


def _upsert(table: Table) -> str:
    columns = (*table.key, *table.columns)
    updates = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns)
    return (
        f"INSERT INTO {table.name} ({_names(columns)}) SELECT * FROM {_unnest(columns)} "
        f"ON CONFLICT ({_names(table.key)}) DO " + (f"UPDATE SET {updates}" if updates else "NOTHING")
    )


def _delete(table: Table) -> str:
    same = " AND ".join(f"t.{column.name} = gone.{column.name}" for column in table.key)
    return (
        f"DELETE FROM {table.name} AS t USING {_unnest(table.key)} AS gone ({_names(table.key)}) WHERE {same}"
    )


def _step(table: Table) -> str:
    """Insert the next step of each key, and delete the one before it, by its place."""
    columns = (*table.key, *table.columns)
    sums = ", ".join(f"added.{column.name} + coalesce(last.{column.name}, 0)" for column in table.columns)
    same = " AND ".join(f"t.{column.name} = added.{column.name}" for column in table.key)
    return (
        f"WITH next AS MATERIALIZED (SELECT {_names(table.key, 'added.')}, {sums}, coalesce(last.step, 0) + 1, "
        f"last.place FROM {_unnest(columns)} AS added ({_names(columns)}) LEFT JOIN LATERAL ("
        f"SELECT {_names(table.columns)}, step, ctid AS place FROM {table.name}{STEPS} AS t "
        f"WHERE {same} ORDER BY step DESC LIMIT 1) AS last ON true), "
        f"made AS (INSERT INTO {table.name}{STEPS} ({_names(columns)}, step) "
        f"SELECT {_names(columns)}, step FROM next AS n ({_names(columns)}, step, place)) "
        f"DELETE FROM {table.name}{STEPS} "
        f"WHERE ctid = ANY (ARRAY(SELECT place FROM next AS n ({_names(columns)}, step, place)))"
    )
