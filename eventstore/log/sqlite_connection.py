"""A connection to SQLite with its thread, and the one that writes: a small batch is written on the event loop itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import aiosqlite

from eventstore.errors import Unavailable
from eventstore.event import Event
from eventstore.log import sqlite_run as run
from eventstore.log.base import AppendFailed, body_bytes_of
from eventstore.log.sqlite_rows import RowWriter
from eventstore.projection import Rows

HERE_EVENTS_MAX = 128
HERE_BYTES_MAX = 256 * 1024
"""A batch of more events, or of more bytes in their bodies, is written on the thread: the loop would stand still."""

P = ParamSpec("P")
T = TypeVar("T")


async def on_thread(
    connection: aiosqlite.Connection,
    function: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a function on the connection's thread: one hop. Only here is aiosqlite's private name for that known."""

    def work() -> T:
        with database_errors():
            return function(connection._conn, *args, **kwargs)

    try:
        answer: T = await connection._execute(work)  # type: ignore[no-untyped-call]
    except ValueError as error:
        if connection._connection is not None:
            raise
        raise Unavailable("the log is closed") from error
    return answer


class Writing:
    """The connection that writes. One thing at a time is done with it: who calls holds the log."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._begun = 0
        self._ended = 0
        """Of what was given to the thread: who is cancelled leaves it there, at work."""

    async def call(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function on the thread."""

        def counted(connection: sqlite3.Connection) -> T:
            try:
                return function(connection, *args, **kwargs)
            finally:
                self._ended += 1

        self._begun += 1
        return await on_thread(self._connection, counted)

    async def soon(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a quick function on the event loop; on the thread when that is still at work."""
        if not self._is_idle:
            return await self.call(function, *args, **kwargs)
        with database_errors():
            return function(self._connection._conn, *args, **kwargs)

    async def append(self, events: Sequence[Event], rows: Rows, writer: RowWriter) -> None:
        """Write a batch and commit it. A small one is written here, and only its COMMIT, which waits for the disk, there.

        Between any two statements the thread would have to wait for Python's lock, which the loop holds (decision 0028).
        """
        if self._is_idle and len(events) <= HERE_EVENTS_MAX and body_bytes_of(events) <= HERE_BYTES_MAX:
            with database_errors():
                is_written = run.write_now(self._connection._conn, events, rows, writer)
            if is_written:
                return await self.call(run.commit)
        return await self.call(run.append, events, rows, writer)

    @property
    def _is_idle(self) -> bool:
        return self._begun == self._ended

    async def close(self) -> None:
        await self._connection.close()


class database_errors:
    """Turn SQLite's errors into ours: what concerns one row, and what concerns the whole storage."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError):
            raise AppendFailed(f"SQLite: {error}") from error
        if isinstance(error, sqlite3.Error):
            raise Unavailable(f"SQLite: {error}") from error
