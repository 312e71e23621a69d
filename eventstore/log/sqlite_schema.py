"""Compares the schema of a log's file with what this version makes: a view or a trigger changed by hand is found.

Tables that are built beside others, or were replaced, are passed over: `quire_checkpoint` names them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from eventstore.log.sql import migrations, queries
from eventstore.log.sqlite_rows import SECOND, RowWriter, make_anew
from eventstore.log.sqlite_tables import stands
from eventstore.projection import Rows, Table

_SQL = queries("eventstore.log.sql", "sqlite")
_Schema = dict[str, str]
"""The SQL of each object by its name."""


class _Entity(msgspec.Struct):
    id: str
    type: str


def faults(connection: sqlite3.Connection, tables: Sequence[Table]) -> list[str]:
    """What differs, in one snapshot. `tables` are those of the projections."""
    connection.execute("BEGIN")
    try:
        real = _schema(connection)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        types = list(_types(connection))
        passing = set(_passing(connection, version))
    finally:
        connection.execute("ROLLBACK")
    standing = {_plain(name): _plain(sql) for name, sql in real.items() if name not in passing}
    return [*_version(version), *_differences(_expected(tables, types), standing)]


def _passing(connection: sqlite3.Connection, version: int) -> Iterator[str]:
    """The tables that a rebuild makes or leaves, and their indexes. The first schema had none."""
    if version < 2:
        return
    for (name,) in connection.execute(_SQL["checkpoint_names"]):
        if not stands(name):
            tables = connection.execute(_SQL["checkpoint"], (name,)).fetchone()[2]
            yield from (row[0] for row in connection.execute(_SQL["objects_of"], (tables,)))


def _plain(text: str) -> str:
    """A name or an SQL as it was before any rebuild: SQLite puts a new name in quotes, and an index has one of two."""
    return re.sub(r'"(quire_\w+)"', r"\1", text).replace(f"{SECOND}_", "_")


def _version(version: int) -> Iterator[str]:
    known = len(migrations("sqlite"))
    if version != known:
        yield f"the file says that its schema is {version}, and this version's is {known}"


def _types(connection: sqlite3.Connection) -> Iterator[str]:
    """The types that have views: the built-in ones when there is an event, and the Entities that are resources."""
    if connection.execute(_SQL["tip"]).fetchone() is None:
        return
    yield from ("Entity", "Attribute")
    for (data,) in connection.execute(_SQL["entities"]):
        try:
            entity = msgspec.json.decode(data, type=_Entity)
        except msgspec.MsgspecError:
            continue  # a damaged body: told where bodies are looked at
        if entity.type == "resource":
            yield entity.id


def _expected(tables: Sequence[Table], types: Iterable[str]) -> _Schema:
    """The schema as this version makes it, made in memory."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for script in migrations("sqlite"):
            memory.executescript(script)
        make_anew(memory, tables)
        rows = Rows()
        for type in types:
            rows.view(type, exists=True)
        RowWriter().write(memory, rows)
        return _schema(memory)
    finally:
        memory.close()


def _schema(connection: sqlite3.Connection) -> _Schema:
    rows = connection.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    )
    return {str(name): " ".join(str(sql).split()) for name, sql in rows}


def _differences(expected: _Schema, real: _Schema) -> Iterator[str]:
    for name in sorted(expected.keys() | real.keys()):
        if name not in real:
            yield f"the {name} is missing"
        elif name not in expected:
            yield f"there is a {name} that this version does not make"
        elif expected[name] != real[name]:
            yield f"the {name} is not as this version makes it"
