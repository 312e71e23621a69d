"""What the SQLite log does on a connection, in one go on that connection's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from eventstore.command import Key
from eventstore.decide import Previous
from eventstore.errors import Corrupt, Unavailable
from eventstore.event import Event, Position
from eventstore.log.base import Identity, Query, Span
from eventstore.log.sql import migrations, queries
from eventstore.log.sqlite_rows import Insert, RowWriter
from eventstore.log.sqlite_tables import rollback, transaction
from eventstore.projection import Rows
from eventstore.types.registry import DEFINITION_TYPES

APPLICATION_ID = 0x51554952  # "QUIR"
PAGE_CACHE_KIB = 64 * 1024
READER_CACHE_KIB = 16 * 1024
BUSY_SECONDS_MAX = 5.0
ROWS_AT_ONCE = 24
_WAIT = f"PRAGMA busy_timeout = {int(BUSY_SECONDS_MAX * 1000)}"

SQL = queries("eventstore.log.sql", "sqlite")
_KINDS = msgspec.json.encode(sorted(DEFINITION_TYPES)).decode()
_EVENTS = Insert("quire_event", [f'"{name}"' for name in Event.__struct_fields__])

_decode_previous = msgspec.json.Decoder(list[tuple[str, str, Position, str, str]]).decode


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"


def prepare(connection: sqlite3.Connection, query_only: bool) -> None:
    connection.execute(_WAIT)
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB if query_only else PAGE_CACHE_KIB}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA temp_store = MEMORY")
    if query_only:
        connection.execute("PRAGMA query_only = 1")
        return
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise Unavailable("the data directory does not allow SQLite's WAL; it must be a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA legacy_alter_table = 1")  # to rename a table does not touch the views over it


def check(connection: sqlite3.Connection) -> None:
    """Refuse a file that is not a log, or that a newer Quire wrote."""
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"not a SQLite file: {error}") from error
    known = len(migrations("sqlite"))
    if application not in (0, APPLICATION_ID):
        raise Unavailable("this SQLite file belongs to another application")
    if version > known:
        raise Unavailable(
            f"a newer Quire wrote this log (schema {version}, this one knows {known}); update Quire"
        )


def migrate(connection: sqlite3.Connection, identity: Identity) -> None:
    """Bring the schema up to date, each step in a transaction; a new log gets its identity."""
    check(connection)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(migrations("sqlite")[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    logs, events = connection.execute(
        "SELECT (SELECT count(*) FROM quire_log), (SELECT count(*) FROM quire_event)"
    ).fetchone()
    if logs == 0 and events == 0:
        connection.execute("INSERT INTO quire_log VALUES (?, ?, ?)", identity)


def identity(connection: sqlite3.Connection) -> tuple[str, str, str]:
    """The log's id, FHIR version and time of making. Raises Corrupt when its one row is not one."""
    rows = connection.execute("SELECT id, fhir_version, created FROM quire_log").fetchall()
    if len(rows) != 1:
        raise Corrupt(
            f"the log has {len(rows)} rows that say which log it is, and must have one; restore a backup"
        )
    return tuple(rows[0])


def look(
    connection: sqlite3.Connection, keys: Iterable[Key]
) -> tuple[tuple[Any, ...] | None, Position, dict[Key, Previous]]:
    """The tip, the last definition, and the last event of each key, without its body."""
    *tip, definition, found = connection.execute(SQL["take"], (_KINDS, _encode(list(keys)))).fetchone()
    previous = {(row[0], row[1]): Previous(*row[2:], None) for row in _decode_previous(found)}
    return (tuple(tip) if tip[0] is not None else None, definition or 0, previous)


def bodies_at(connection: sqlite3.Connection, positions: Sequence[Position]) -> dict[Position, bytes | None]:
    return dict(connection.execute(SQL["bodies_at"], (_encode(positions),)))


def live(connection: sqlite3.Connection, count: Mapping[str, int]) -> dict[str, int]:
    """How many resources are live of each type, counted up to so many."""
    return {type: connection.execute(SQL["live"], (type, most)).fetchone()[0] for type, most in count.items()}


def append(connection: sqlite3.Connection, events: Sequence[Event], rows: Rows, writer: RowWriter) -> None:
    with transaction(connection):
        _write(connection, events, rows, writer)


def write_now(connection: sqlite3.Connection, events: Sequence[Event], rows: Rows, writer: RowWriter) -> bool:
    """Begin a transaction and write what is to be committed; False, and nothing done, when another program writes."""
    rollback(connection)
    if not _begin_now(connection):
        return False
    try:
        _write(connection, events, rows, writer)
    except BaseException:
        rollback(connection)
        raise
    return True


def commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except BaseException:
        rollback(connection)
        raise


def _begin_now(connection: sqlite3.Connection) -> bool:
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        connection.execute(_WAIT)
    return True


def _write(connection: sqlite3.Connection, events: Sequence[Event], rows: Rows, writer: RowWriter) -> None:
    _EVENTS.write(connection, [msgspec.structs.astuple(event) for event in events])
    writer.write(connection, rows)


def fetch(
    connection: sqlite3.Connection, queries: Sequence[Query], bytes_max: int | None
) -> list[list[tuple[Any, ...]]]:
    connection.execute("BEGIN")
    try:
        cursors = (connection.execute(sql, parameters) for sql, parameters in queries)
        return [cursor.fetchall() if bytes_max is None else _until(cursor, bytes_max) for cursor in cursors]
    finally:
        rollback(connection)


def fetch_soon(
    connection: sqlite3.Connection, queries: Sequence[Query], bytes_max: int, seconds_max: float
) -> list[list[tuple[Any, ...]]] | None:
    """All rows of the queries; None as soon as they took too long, or when they are too many bytes."""
    end = perf_counter() + seconds_max
    answer: list[list[tuple[Any, ...]]] = []
    connection.execute("BEGIN")
    try:
        for sql, parameters in queries:
            rows = []
            for row in connection.execute(sql, parameters):
                rows.append(row)
                if perf_counter() > end:
                    return None
            if _weight(rows) > bytes_max:
                return None
            answer.append(rows)
        return answer
    finally:
        rollback(connection)


def _until(cursor: sqlite3.Cursor, bytes_max: int) -> list[tuple[Any, ...]]:
    """The rows until their bytes values reach the limit, a few more perhaps."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    while size < bytes_max and (some := cursor.fetchmany(ROWS_AT_ONCE)):
        rows += some
        size += _weight(some)
    cursor.close()
    return rows


def _weight(rows: Iterable[tuple[Any, ...]]) -> int:
    return sum(len(value) for row in rows for value in row if type(value) is bytes)


def checkpoint(connection: sqlite3.Connection, mode: str) -> int:
    """Move the WAL into the file; answer how many bytes of it could not be moved."""
    _, frames, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    page = connection.execute("PRAGMA page_size").fetchone()[0]
    return max(0, int(frames) - int(moved)) * (int(page) + 24)


def since(connection: sqlite3.Connection, at: str) -> Position:
    """Times never decrease along positions: halve the log until the last event before `at` is found."""
    low, high = 0, (connection.execute(SQL["tip"]).fetchone() or (0,))[0]
    while low < high:
        middle = (low + high + 1) // 2
        found = connection.execute(SQL["time_at"], (middle,)).fetchone()
        if found is None or found[1] < at:
            low = middle
        else:
            high = found[0] - 1
    return int(low)


def conditions(span: Span) -> tuple[str, list[Any]]:
    where, parameters = ["position > ?"], [span.after]  # type: tuple[list[str], list[Any]]
    for column, value in (("type", span.type), ("id", span.id)):
        if value is not None:
            where.append(f"{column} = ?")
            parameters.append(value)
    if span.until is not None:
        where.append("position <= ?")
        parameters.append(span.until)
    return " AND ".join(where), parameters
