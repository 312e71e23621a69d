"""The log on PostgreSQL: any number of processes append to it, one at a time, under an advisory lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg
import msgspec
from asyncpg import Connection

from eventstore.command import Key
from eventstore.decide import Previous
from eventstore.errors import Invalid, OutcomeUnknown, Unavailable
from eventstore.event import EPOCH_TYPE, Event, Position, Tip, genesis
from eventstore.log import postgres_run as run
from eventstore.log import postgres_schema as schema
from eventstore.log import postgres_session as session
from eventstore.log import postgres_tables as run_tables
from eventstore.log.base import AppendFailed, Hole, Identity, Pressure, Query, Snapshot, Span, new_identity
from eventstore.log.opening import shown
from eventstore.log.postgres_nodes import PostgresNodes
from eventstore.log.postgres_rows import RowWriter
from eventstore.log.postgres_session import ConnectionLost, database_errors
from eventstore.log.postgres_sql import SqlSessions
from eventstore.projection import Parked, Rows, Table, beside

READERS_MAX = 8
CLOSE_SECONDS_MAX = 3.0
OUTCOME_SECONDS_MAX = 8.0
"""For how long to look whether a commit that was not answered was made."""

T = TypeVar("T")


class PostgresLog:
    """See `EventLog`. One connection writes, a pool reads. A log opened without `write` only reads."""

    dialect = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url
        self.id = ""
        self.fhir_version = ""
        self.created = ""
        self.genesis = b""
        self._writes = False
        self._lock = 0
        self._readers: asyncpg.Pool[asyncpg.Record] | None = None
        self._writer: Connection | None = None
        self._sql = SqlSessions(url)
        self._held = asyncio.Lock()
        self._rows = RowWriter()
        self.nodes = PostgresNodes(url)

    @classmethod
    async def open(
        cls, url: str, *, fhir_version: str = "", write: bool = True, copy_of: Identity | None = None
    ) -> PostgresLog:
        """Open the log of a database, making it when `write`.

        `fhir_version` is for a new log; for one that exists it must be empty or the same.
        Raises Unavailable when the database cannot be reached or has no log, Invalid for another FHIR version.
        """
        log = cls(url)
        log._writes = write
        try:
            await log._start(fhir_version, copy_of)
        except BaseException:
            await log.close()
            raise
        return log

    async def _start(self, fhir_version: str, copy_of: Identity | None) -> None:
        connection = await session.connect(self.url)
        try:
            with database_errors():
                name, self._lock = await schema.place(connection)
                self.nodes.channel = f"quire_{self._lock}"
                if self._writes:
                    await schema.migrate(connection, self._lock, copy_of or new_identity(fhir_version))
                    await schema.give_views(connection, self._lock, name)
                elif await schema.version(connection) is None:
                    raise Unavailable(
                        f"there is no log in {shown(self.url)}, schema {name}; `quire serve --db` makes one"
                    )
                self.id, self.fhir_version, self.created = await schema.identity(connection)
                role = schema.ROLE + name
                self._rows.grantee = role if await schema.usable(connection, role) else ""
                self._sql.role, self._sql.wanted_role = self._rows.grantee, role
                self._readers = await session.pool(self.url, READERS_MAX, patient=not self._writes)
        finally:
            connection.terminate()
        self.genesis = genesis(self.id, self.fhir_version, self.created)
        if fhir_version not in ("", self.fhir_version):
            raise Invalid(
                f"this log is of FHIR {self.fhir_version}, not {fhir_version}; a log has one version"
            )

    async def close(self) -> None:
        self._writes = False
        await self._sql.close()
        await self.nodes.close()
        self._drop_writer()
        if self._readers is not None:
            pool, self._readers = self._readers, None
            try:
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await pool.close()
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pool.terminate()

    # Writing: take, then append or release.

    async def take(self) -> None:
        await self._held.acquire()
        try:
            await self._begin(_nothing)
        except BaseException:
            self._held.release()
            raise

    async def look(self, keys: Mapping[Key, bool] = {}, count: Mapping[str, int] = {}) -> Snapshot:
        async with self._undone_on_error() as connection:
            rows = await run.snapshot(connection, keys, count)
        return run.read_snapshot(rows, self.genesis)

    async def append(self, events: Sequence[Event], rows: Rows) -> None:
        try:
            async with self._undone_on_error() as connection:
                await run.insert(connection, events)
                await self._rows.write(connection, rows)
                await run.commit(connection)
            self.nodes.appended(events[-1].position)
        finally:
            self._held.release()

    async def release(self) -> None:
        try:
            await self._rollback()
        finally:
            self._held.release()

    async def landed(self, event: Event) -> bool:
        """The lock first: who has it waited for the end of the transaction that was not answered."""

        async def look(connection: Connection) -> bytes | None:
            found = await connection.fetchrow(run.SQL["at"], event.position)
            return Event(*found).hash if found is not None else None

        async with self._held:
            try:
                async with asyncio.timeout(OUTCOME_SECONDS_MAX):
                    while True:
                        with suppress(Unavailable):
                            return await self._begin(look) == event.hash
                        await asyncio.sleep(run.RETRY_SECONDS)
            except TimeoutError:
                raise OutcomeUnknown(
                    "the database went away during a commit, and whether this was written is not known yet; "
                    "look, or send it again with the same id or If-Match"
                ) from None
            finally:
                await self._rollback()

    async def _begin(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        """Begin a transaction that holds the log, and read. Once more when the connection turns out to be dead."""
        for last in (False, True):
            try:
                with database_errors():
                    connection = await self._write()
                    await connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock({self._lock})")
                    return await read(connection)
            except ConnectionLost:
                self._drop_writer()
                if last:
                    raise
            except BaseException:
                self._drop_writer()
                raise
        raise AssertionError

    async def _write(self) -> Connection:
        """The connection that writes, made when there is none."""
        if not self._writes:
            raise Unavailable("this log is open for reading only, or closed")
        if self._writer is None or self._writer.is_closed():
            self._writer = await session.connect(self.url)
        return self._writer

    def _drop_writer(self) -> None:
        """Whatever its transaction did, nothing more of it will be asked."""
        if self._writer is not None:
            self._writer.terminate()
        self._writer = None

    async def _rollback(self) -> None:
        if self._writer is None:
            return
        try:
            with database_errors():
                await self._writer.execute("ROLLBACK")
        except (Unavailable, AppendFailed):
            self._drop_writer()

    @asynccontextmanager
    async def _undone_on_error(self) -> AsyncIterator[Connection]:
        """Within the transaction that is open: when this fails, nothing of it is written, as far as we can say."""
        if self._writer is None:
            raise ConnectionLost("the connection to PostgreSQL ended")
        try:
            with database_errors():
                yield self._writer
        except AppendFailed:
            await self._rollback()
            raise
        except BaseException:
            self._drop_writer()
            raise

    async def declare(self, name: str, version: int, tables: Sequence[Table]) -> Position | None:
        self._rows.learn(tables)
        async with self._held:
            found = await self._begin(lambda connection: connection.fetchrow(run.SQL["checkpoint"], name))
            if found is not None:
                await self._rollback()
                return int(found[1]) if found[0] == version else None
            async with self._undone_on_error() as connection:
                await run_tables.make(connection, name, version, tables, self._rows)
                await run.commit(connection)
            return 0

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
        async with self._reader(write=True) as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                moved = await run_tables.advance(
                    connection, name, after, until, rows, self._rows, parked, resolved
                )
            except BaseException:
                await transaction.rollback()
                raise
            await (transaction.commit() if moved else transaction.rollback())
            return moved

    async def beside(self, name: str, version: int, tables: Sequence[Table]) -> None:
        await self.discard(name)
        own = [msgspec.structs.replace(table, name=beside(table.name)) for table in tables]
        self._rows.learn([*tables, *own])
        async with self._transaction() as connection:
            await run_tables.make(connection, beside(name), version, own, self._rows)

    async def switch(self, name: str, after: Position, until: Position, rows: Rows, *, inline: bool) -> bool:
        try:
            async with self._undone_on_error() as connection:
                done = await run_tables.switch(
                    connection, name, after, until, rows, self._rows, inline=inline
                )
                if done:
                    await run.commit(connection)
            if not done:
                await self._rollback()
            return done
        finally:
            self._held.release()

    async def discard(self, name: str = "", *, but: Collection[str] = ()) -> None:
        for (one,) in (await self.rows((run.SQL["checkpoint_names"], ())))[0]:
            projection = run_tables.projection_of(one)
            if run_tables.stands(one) or name not in ("", projection) or projection in but:
                continue
            async with self._transaction() as connection:
                await run_tables.clear(connection, one)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        """A short one that holds the log."""
        async with self._held:
            await self._begin(_nothing)
            async with self._undone_on_error() as connection:
                yield connection
                await run.commit(connection)

    # Reading.

    @asynccontextmanager
    async def _reader(self, *, write: bool = False) -> AsyncIterator[Connection]:
        if self._readers is None or (write and not self._writes):
            raise Unavailable(
                "this log is open for reading only, or closed" if write else "the log is closed"
            )
        with database_errors():
            async with self._readers.acquire(timeout=session.STATEMENT_SECONDS_MAX) as connection:
                try:
                    yield connection
                except session.LOST:
                    connection.terminate()
                    raise

    async def _read(self, function: Callable[[Connection], Awaitable[T]]) -> T:
        """Read on a connection of the pool; on another one when it turns out to be dead."""
        for last in (False, True):
            try:
                async with self._reader() as connection:
                    return await function(connection)
            except ConnectionLost:
                if last:
                    raise
        raise AssertionError

    async def tip(self) -> Tip:
        found = await self._read(lambda connection: connection.fetchrow(run.SQL["tip"]))
        return Tip(*found) if found is not None else Tip(0, "", self.genesis)

    async def last(self, type: str, id: str) -> Previous | None:
        found = await self._read(lambda connection: connection.fetchrow(run.SQL["last"], type, id))
        return Previous(*found) if found is not None else None

    async def at(self, position: Position) -> Event | None:
        if position > run.POSITION_MAX:
            return None
        found = await self._read(lambda connection: connection.fetchrow(run.SQL["at"], position))
        return Event(*found) if found is not None else None

    async def checkpoint(self, name: str) -> Position | None:
        found = await self._read(lambda connection: connection.fetchrow(run.SQL["checkpoint"], name))
        return int(found[1]) if found is not None else None

    async def events(self, span: Span) -> list[Event]:
        (found,) = await self.rows(run.events_of(span), bytes_max=span.bytes_max)
        return [Event(*row) for row in found]

    async def count(self, span: Span) -> int:
        (found,) = await self.rows(run.count_of(span))
        return int(found[0][0])

    async def before(
        self, wanted: Iterable[tuple[str, str, Position]], bodies: bool
    ) -> dict[Position, Previous]:
        asked = list(wanted)
        columns = [list(column) for column in zip(*asked, strict=True)] if asked else [[], [], []]
        (found,) = await self.rows((run.SQL["before"], (*columns, bodies)))
        return {row[0]: Previous(*row[1:]) for row in found}

    async def since(self, at: str) -> Position:
        return await self._read(lambda connection: run.since(connection, at))

    async def holes(self) -> list[Hole]:
        (found,) = await self.rows((run.SQL["holes"], (EPOCH_TYPE,)))
        return [Hole(*row) for row in found]

    async def rows(
        self, *queries: Query, bytes_max: int | None = None, few: bool = False
    ) -> list[list[tuple[Any, ...]]]:
        return await self._read(lambda connection: run.fetch(connection, queries, bytes_max))

    async def select(self, sql: str, parameters: Sequence[Any], views: Iterable[str]) -> bytes:
        return msgspec.json.encode(await self._sql.select(sql, parameters, views))

    async def schema_faults(self, tables: Sequence[Table]) -> list[str]:
        return await self._read(lambda connection: schema.faults(connection, tables))

    async def pressure(self) -> Pressure:
        try:
            await self.tip()
        except Unavailable as error:
            return Pressure(0, str(error))
        return Pressure(0)

    async def interrupt(self) -> None:
        await self._sql.close()


async def _nothing(connection: Connection) -> None:
    return
