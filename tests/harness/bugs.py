"""Six bugs that can be planted into a server, each of a kind that event stores have had. The checkers must find them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from eventstore.batch import Batch
from eventstore.command import Accepted, Command, Key
from eventstore.decide import Previous
from eventstore.deciding import commands_of, keys_of
from eventstore.delivery import fence, message
from eventstore.log import postgres_session, postgres_tables
from eventstore.log import sqlite_run as run
from eventstore.log import sqlite_tables as tables
from eventstore.log.base import Snapshot
from eventstore.log.postgres import PostgresLog
from eventstore.log.sqlite import SQLiteLog
from eventstore.writer import Writer

BATCHES_AT_ONCE = 2
FAR = 2**62
"""Later than any event."""


def read_before_lock() -> None:
    """What the batch is decided by is read before the log is taken, as a second node or a pipeline might.

    Two batches are then under way: one reads while the other writes.
    """
    read: ContextVar[Mapping[Key, Previous]] = ContextVar("read")
    scanned_and_committed = Writer._scanned_and_committed

    async def early(self: Writer, batch: list[Any]) -> None:
        keys = list(keys_of(commands_of(batch)))
        asked = [(*key, FAR + number) for number, key in enumerate(keys)]
        found = await self._log.before(asked, bodies=True)
        read.set({keys[position - FAR]: previous for position, previous in found.items()})
        await scanned_and_committed(self, batch)

    def late(look: Callable[..., Awaitable[Snapshot]]) -> Callable[..., Awaitable[Snapshot]]:
        async def looked(self: Any, *about: Any) -> Snapshot:
            snapshot = await look(self, *about)
            return msgspec.structs.replace(snapshot, previous=read.get(snapshot.previous))

        return looked

    async def pipelined(self: Writer) -> None:
        running: set[asyncio.Task[None]] = set()
        while self._queue or not self._closing:
            await self._arrived.wait()
            if not self._closing:
                self._arrived.clear()
            while batch := self._take():
                running.add(asyncio.create_task(self._write(batch)))
                while len(running) >= BATCHES_AT_ONCE:
                    _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*running)

    _patch(SQLiteLog, look=late(SQLiteLog.look))
    _patch(PostgresLog, look=late(PostgresLog.look))
    _patch(Writer, _run=pipelined, _scanned_and_committed=early)


def checkpoint_before_write() -> None:
    """An async projection's checkpoint is committed first, and then its rows."""

    advance = tables.advance

    def parted(connection: sqlite3.Connection, *args: Any, **kwargs: Any) -> bool:
        watched: Any = _Parted(connection)
        return advance(watched, *args, **kwargs)

    advance_beside = postgres_tables.advance

    async def parted_beside(connection: Any, *args: Any, **kwargs: Any) -> bool:
        return await advance_beside(_PartedSession(connection), *args, **kwargs)

    _patch(tables, advance=parted)
    _patch(postgres_tables, advance=parted_beside)


class _Parted:
    """A connection that ends its transaction when a checkpoint was moved, and begins another."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *args: Any) -> Any:
        found = self._connection.execute(sql, *args)
        if sql.startswith("UPDATE quire_checkpoint"):
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN IMMEDIATE")
        return found


class _PartedSession:
    """The same for a session of PostgreSQL."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, sql: str, *args: Any) -> Any:
        found = await self._connection.execute(sql, *args)
        if sql.startswith("UPDATE quire_checkpoint"):
            await self._connection.execute("COMMIT; BEGIN")
        return found


def fence_off() -> None:
    """The broker is not told which sequence a message has to get, and stream and log are not compared."""

    async def trust(_self: fence.Fence, _info: object) -> None:
        return

    _patch(message.Composer, _fence=lambda _self, position: f"{message.POSITION}: {position}\r\n")
    _patch(fence.Fence, _of_one_history=trust)


def reply_before_commit() -> None:
    """Who waits is answered when the batch is decided, while it is being written."""
    from eventstore import deciding

    answer, append = deciding._answer, Writer._append
    answered: list[tuple[Any, deciding.Answer]] = []

    def noted(batch: Batch, waiting: deciding.Transaction) -> deciding.Answer:
        found = answer(batch, waiting)
        answered.append((waiting, found))
        return found

    async def answered_first(self: Writer, decided: deciding.Decided) -> None:
        for waiting, found in answered:
            if isinstance(found, list):
                waiting.accept(found)
        answered.clear()
        await append(self, decided)

    _patch(deciding, _answer=noted)
    _patch(Writer, _append=answered_first)


def batch_overlay_off() -> None:
    """A command does not see what the commands before it in its batch have done."""
    event = Batch._event

    def forgotten(self: Batch, command: Command, *args: Any) -> Accepted:
        before = self._last.get(command.key)
        accepted = event(self, command, *args)
        if before is None:
            del self._last[command.key]
        else:
            self._last[command.key] = before
        return accepted

    _patch(Batch, _event=forgotten)


def commit_not_synced() -> None:
    """COMMIT leaves it to the operating system when to write."""
    prepare = run.prepare

    def hasty(connection: sqlite3.Connection, query_only: bool) -> None:
        prepare(connection, query_only)
        if not query_only:
            connection.execute("PRAGMA synchronous = OFF")

    prepare_session = postgres_session.prepare

    async def hasty_session(connection: Any) -> None:
        await prepare_session(connection)
        await connection.execute("SET synchronous_commit = off")

    _patch(run, prepare=hasty)
    _patch(postgres_session, prepare=hasty_session)


def _patch(owner: Any, **functions: Callable[..., Any]) -> None:
    for name, function in functions.items():
        assert hasattr(owner, name), f"{owner} has no {name}"
        setattr(owner, name, function)


BUGS: Mapping[str, Callable[[], None]] = {
    "read before lock": read_before_lock,
    "checkpoint before write": checkpoint_before_write,
    "fence off": fence_off,
    "reply before commit": reply_before_commit,
    "batch overlay off": batch_overlay_off,
    "commit not synced": commit_not_synced,
}
