"""The log on SQLite: one connection writes and checkpoints, the others only read."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from eventstore.command import Key
from eventstore.decide import Previous
from eventstore.errors import Invalid, Unavailable
from eventstore.event import EPOCH_TYPE, Event, Position, Tip, genesis
from eventstore.log import sqlite_run as run
from eventstore.log import sqlite_schema
from eventstore.log import sqlite_tables as run_tables
from eventstore.log.base import (
    FEW_ROWS,
    AppendFailed,
    Hole,
    Identity,
    Pressure,
    Query,
    Snapshot,
    Span,
    body_bytes_of,
    new_identity,
)
from eventstore.log.leases import NodesHere
from eventstore.log.lock import WriterLock, others_with
from eventstore.log.sqlite_connection import Writing, database_errors, on_thread
from eventstore.log.sqlite_rows import RowWriter
from eventstore.log.sqlworker import SqlWorkers
from eventstore.projection import Parked, Rows, Table, beside

LOG_FILE = "log.db"
READERS = 2
READ_SECONDS_MAX = 5.0
CHECKPOINT_AFTER_BYTES = 64 * 1024 * 1024
ROW_BYTES = 2048
"""About what a row of a projection adds to the write-ahead log."""
WAL_BYTES_MAX = 1024 * 1024 * 1024
PINNED_SECONDS = 1.0
HERE_BYTES_MAX = 1024 * 1024
HERE_SECONDS_MAX = 0.005
COUNTED_HERE_MAX = 1000

_log = logging.getLogger("quire.log")


class SQLiteLog:
    """See `EventLog`. A log opened without `write` only reads, beside whatever process writes."""

    dialect = "sqlite"

    def __init__(self, path: Path, lock: WriterLock | None) -> None:
        self.path = path
        self.lock = lock
        self.id = ""
        self.fhir_version = ""
        self.created = ""
        self.genesis = b""
        self._writer: Writing | None = None
        self._sql = SqlWorkers(path)
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._here: sqlite3.Connection | None = None
        self._held = asyncio.Lock()
        self._rows = RowWriter()
        self.nodes = NodesHere()
        self._wal_written = 0
        self._wal_bytes = 0
        self._wal_bytes_max = WAL_BYTES_MAX
        self._pinned_by = ""
        self._pinned_until = 0.0

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        fhir_version: str = "",
        write: bool = True,
        wal_bytes_max: int = WAL_BYTES_MAX,
        copy_of: Identity | None = None,
    ) -> SQLiteLog:
        """Open the log of a data directory, making it when `write`.

        `fhir_version` is for a new log; for one that exists it must be empty or the same.
        Raises Unavailable when another process writes or there is no log, Invalid for another FHIR version.
        """
        if write:
            directory.mkdir(parents=True, exist_ok=True)
        path = directory / LOG_FILE
        if not write and not path.exists():
            raise Unavailable(f"there is no log in {directory}; `quire serve --data {directory}` makes one")
        log = cls(path, WriterLock(directory) if write else None)
        log._wal_bytes_max = wal_bytes_max
        try:
            await log._start(fhir_version, copy_of)
        except BaseException:
            await log.close()
            raise
        return log

    async def _start(self, fhir_version: str, copy_of: Identity | None) -> None:
        if self.lock is not None:
            self._writer = Writing(await self._connect(query_only=False))
            await self._writer.call(run.migrate, copy_of or new_identity(fhir_version))
        for _ in range(READERS):
            self._readers.put_nowait(await self._connect())
        self._here = sqlite3.connect(run.uri(self.path, "rw"), uri=True, isolation_level=None)
        run.prepare(self._here, query_only=True)
        with database_errors():
            run.check(self._here)
            self.id, self.fhir_version, self.created = run.identity(self._here)
        self.genesis = genesis(self.id, self.fhir_version, self.created)
        if fhir_version not in ("", self.fhir_version):
            raise Invalid(
                f"this log is of FHIR {self.fhir_version}, not {fhir_version}; a log has one version"
            )

    async def _connect(self, *, query_only: bool = True, mode: str = "") -> aiosqlite.Connection:
        uri = run.uri(self.path, mode or ("rw" if query_only else "rwc"))
        connection = await aiosqlite.connect(
            uri, uri=True, isolation_level=None, check_same_thread=query_only
        )
        try:
            await on_thread(connection, run.prepare, query_only)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        await self._sql.close()
        if self._here is not None:
            self._here.close()
            self._here = None
        for connection in [self._readers.get_nowait() for _ in range(self._readers.qsize())]:
            await connection.close()
        if self._writer is not None:
            with suppress(Unavailable, AppendFailed, sqlite3.Error):
                await self._writer.call(run.checkpoint, "TRUNCATE")
            await self._writer.close()
        if self.lock is not None:
            self.lock.release()
        self._writer = None

    # Writing: take, then append or release.

    async def take(self) -> None:
        await self._held.acquire()
        try:
            self._write()
            await self._make_room()
        except BaseException:
            self._held.release()
            raise

    async def look(self, keys: Mapping[Key, bool] = {}, count: Mapping[str, int] = {}) -> Snapshot:
        """Nobody writes while the log is held. Bodies and counts are the thread's to read.

        The connection that writes has the pages still in its cache; those that read lose theirs with each commit.
        """
        writer = self._write()
        tip, definition, previous = await writer.soon(run.look, keys)
        with_body = {previous[key].position: key for key, body in keys.items() if body and key in previous}
        if with_body:
            for position, data in (await writer.call(run.bodies_at, list(with_body))).items():
                key = with_body[position]
                previous[key] = msgspec.structs.replace(previous[key], data=data)
        live = await writer.call(run.live, count) if count else {}
        return Snapshot(Tip(*tip) if tip else Tip(0, "", self.genesis), definition, previous, live)

    async def append(self, events: Sequence[Event], rows: Rows) -> None:
        try:
            await self._write().append(events, rows, self._rows)
            self._wal_written += 3 * body_bytes_of(events) + 4096 * len(events)
        finally:
            self._held.release()

    async def release(self) -> None:
        self._held.release()

    async def landed(self, event: Event) -> bool:
        found = await self.at(event.position)
        return found is not None and found.hash == event.hash

    async def declare(self, name: str, version: int, tables: Sequence[Table]) -> Position | None:
        async with self._held:
            self._rows.learn(tables)
            return await self._write().call(run_tables.declare, name, version, tables)

    async def advance(
        self,
        name: str,
        after: Position,
        until: Position,
        rows: Rows,
        *,
        parked: Sequence[Parked] = (),
        resolved: Sequence[Position] = (),
    ) -> bool:
        async with self._held:
            await self._make_room()
            self._wal_written += ROW_BYTES * rows.count() + 4096
            return await self._write().call(
                run_tables.advance, name, after, until, rows, self._rows, parked, resolved
            )

    async def beside(self, name: str, version: int, tables: Sequence[Table]) -> None:
        await self.discard(name)
        own = [msgspec.structs.replace(table, name=beside(table.name)) for table in tables]
        async with self._held:
            self._rows.learn([*tables, *own])
            await self._write().call(run_tables.make, beside(name), version, own)

    async def switch(self, name: str, after: Position, until: Position, rows: Rows, *, inline: bool) -> bool:
        try:
            return await self._write().call(
                run_tables.switch, name, after, until, rows, self._rows, inline=inline
            )
        finally:
            self._held.release()

    async def discard(self, name: str = "", *, but: Collection[str] = ()) -> None:
        for (one,) in self._read_here(run.SQL["checkpoint_names"]):
            projection = run_tables.projection_of(one)
            cleared = run_tables.stands(one) or name not in ("", projection) or projection in but
            while not cleared:
                async with self._held:
                    await self._make_room()
                    self._wal_written += ROW_BYTES * run_tables.CLEARED_ROWS_MAX
                    cleared = await self._write().call(run_tables.clear, one)

    async def _make_room(self) -> None:
        """Checkpoint when enough was written, between batches. Raises Unavailable when the WAL is over its limit."""
        if self._wal_written > CHECKPOINT_AFTER_BYTES or self._wal_bytes > self._wal_bytes_max:
            self._wal_bytes = await self._write().call(run.checkpoint, "PASSIVE")
            self._wal_written = 0
            if self._wal_bytes > CHECKPOINT_AFTER_BYTES:
                _log.warning("a reader holds back the write-ahead log", extra=await self._pinned())
        problem = (await self.pressure()).problem
        if problem:
            raise Unavailable(problem)

    async def pressure(self) -> Pressure:
        if self._wal_bytes <= self._wal_bytes_max:
            return Pressure(self._wal_bytes)
        pinned = await self._pinned()
        return Pressure(
            self._wal_bytes,
            f"the write-ahead log holds {self._wal_bytes} bytes that cannot be checkpointed, over the limit of "
            f"{self._wal_bytes_max}: a reader keeps an old snapshot of {self.path} open; "
            f"end it (processes with the file open: {pinned['processes'] or 'not known'})",
        )

    async def _pinned(self) -> dict[str, Any]:
        """The bytes that are held back, and by whom: looked up once in PINNED_SECONDS, beside the event loop."""
        now = asyncio.get_running_loop().time()
        if now > self._pinned_until:
            self._pinned_by = ", ".join(map(str, await asyncio.to_thread(others_with, self.path)))
            self._pinned_until = now + PINNED_SECONDS
        return {"bytes": self._wal_bytes, "processes": self._pinned_by}

    # Reading: by key, and a few rows, on the event loop (2 us a row, warm); all else on the readers' threads.

    async def tip(self) -> Tip:
        found = self._read_here(run.SQL["tip"])
        return Tip(*found[0]) if found else Tip(0, "", self.genesis)

    async def last(self, type: str, id: str) -> Previous | None:
        found = self._read_here(run.SQL["last"], (type, id))
        return Previous(*found[0]) if found else None

    async def at(self, position: Position) -> Event | None:
        if position >= 2**63:
            return None
        found = self._read_here(run.SQL["at"], (position,))
        return Event(*found[0]) if found else None

    async def checkpoint(self, name: str) -> Position | None:
        found = self._read_here(run.SQL["checkpoint"], (name,))
        return found[0][1] if found else None

    async def events(self, span: Span) -> list[Event]:
        where, parameters = run.conditions(span)
        sql = run.SQL["events"].format(where=where, order="DESC" if span.newest_first else "ASC")
        asked = (sql, (*parameters, span.limit))
        (found,) = await self.rows(asked, bytes_max=span.bytes_max, few=span.limit <= FEW_ROWS)
        return [Event(*row) for row in found]

    async def count(self, span: Span) -> int:
        where, parameters = run.conditions(span)
        if span.id is not None:
            some = self._read_here(run.SQL["count_some"].format(where=where), (*parameters, COUNTED_HERE_MAX))
            if some[0][0] < COUNTED_HERE_MAX:
                return int(some[0][0])
        (found,) = await self.rows((run.SQL["count"].format(where=where), parameters))
        return int(found[0][0])

    async def before(
        self, wanted: Iterable[tuple[str, str, Position]], bodies: bool
    ) -> dict[Position, Previous]:
        asked = msgspec.json.encode(list(wanted)).decode()
        (found,) = await self.rows((run.SQL["before"], (asked, bodies)))
        return {row[0]: Previous(*row[1:]) for row in found}

    async def since(self, at: str) -> Position:
        async with self._reader() as connection:
            return await on_thread(connection, run.since, at)

    async def holes(self) -> list[Hole]:
        (found,) = await self.rows((run.SQL["holes"], (EPOCH_TYPE,)))
        return [Hole(*row) for row in found]

    async def rows(
        self, *queries: Query, bytes_max: int | None = None, few: bool = False
    ) -> list[list[tuple[Any, ...]]]:
        if few and (found := self._rows_here(queries)) is not None:
            return found
        async with self._reader() as connection:
            return await on_thread(connection, run.fetch, queries, bytes_max)

    async def interrupt(self) -> None:
        await self._sql.close()

    async def schema_faults(self, tables: Sequence[Table]) -> list[str]:
        async with self._reader() as connection:
            return await on_thread(connection, sqlite_schema.faults, tables)

    async def select(self, sql: str, parameters: Sequence[Any], views: Iterable[str]) -> bytes:
        return await self._sql.select(sql, parameters, views)

    def _read_here(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        if self._here is None:
            raise Unavailable("the log is closed")
        with database_errors():
            return self._here.execute(sql, parameters).fetchall()

    def _rows_here(self, queries: Sequence[Query]) -> list[list[tuple[Any, ...]]] | None:
        """The rows, when they are not too many bytes and come quickly enough not to hold up everybody else."""
        if self._here is None:
            raise Unavailable("the log is closed")
        with database_errors():
            return run.fetch_soon(self._here, queries, HERE_BYTES_MAX, HERE_SECONDS_MAX)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[aiosqlite.Connection]:
        """A reading connection, interrupted when it is kept for too long."""
        if self._here is None:
            raise Unavailable("the log is closed")
        connection = await self._readers.get()
        timer = asyncio.get_running_loop().call_later(READ_SECONDS_MAX, connection._conn.interrupt)
        try:
            yield connection
        finally:
            timer.cancel()
            self._readers.put_nowait(connection)

    def _write(self) -> Writing:
        if self._writer is None:
            raise Unavailable("this log is open for reading only, or closed")
        return self._writer
