"""Named places in a running server where it can be killed, stopped, cut off, held up, or told that the disk is full.

`QUIRE_FAILPOINTS` says where and how: `insert=kill@37,commit=sleep:20` kills the process when `insert` is reached for
the 37th time, and sleeps 20 ms at every `commit`. `stop` is SIGSTOP; `vanish` lets the session with PostgreSQL hear
nothing any more, as if the other end had lost its power. `@n` is the nth time only, `@n%` every nth; without it every time.
The product knows nothing of this: `install` wraps its functions, those of SQLite and those of PostgreSQL.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import asyncpg
from aiohttp import web_protocol

from eventstore import writer
from eventstore.delivery import sender
from eventstore.delivery.connection import Connection
from eventstore.log import postgres_run, postgres_schema, postgres_tables
from eventstore.log import sqlite_run as run
from eventstore.log import sqlite_tables as tables
from eventstore.log.postgres import PostgresLog
from eventstore.log.sqlite import SQLiteLog
from eventstore.server import connection
from harness.crowd import deafen

POINTS = {
    "start": "the log is not open; the data directory is locked, where the log is in it",
    "migrate": "the schema is made, a new log has no identity yet",
    "build": "a projection's tables are partly made from the log",
    "switch": "a projection's tables are made anew, and beside those that stand",
    "switched": "they have taken their place, and what they replaced is still there",
    "take": "requests wait to be written, the log is not taken",
    "begin": "the transaction of a batch is begun",
    "insert": "the events are inserted, the rows of projections are not",
    "commit": "everything is written, COMMIT is not run",
    "committed": "COMMIT is done, nobody is answered",
    "answering": "some of a batch are answered",
    "answered": "an answer is written to the client",
    "published": "messages are sent to the broker, and not acknowledged",
    "acknowledged": "the broker's acknowledgement is taken",
    "advancing": "of an async projection, between its checkpoint and its rows",
    "checkpoint": "SQLite: before the write-ahead log is moved into the file",
    "checkpointed": "SQLite: after it was",
}
"""Each failpoint, and what is so when it is reached."""

_SPEC = re.compile(r"(\w+)=(kill|stop|vanish|sleep|full|error)(?::(\d+))?(?:@(\d+)(%?))?")


SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
Failures = Mapping[str, Exception]


def _sqlite_error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


SQLITE: Failures = {
    "full": _sqlite_error("database or disk is full", sqlite3.SQLITE_FULL),
    "error": _sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR),
}
POSTGRES: Failures = {
    "full": asyncpg.DiskFullError("no space left on device"),
    "error": asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
}
"""What each backend raises; what of it the storage has done, is another matter."""


class Failpoint(NamedTuple):
    """What happens at a place, and when."""

    action: str
    milliseconds: int
    nth: int
    """0: every time."""
    again: bool

    def due(self, count: int) -> bool:
        return self.nth == 0 or (count % self.nth == 0 if self.again else count == self.nth)

    def act(self, failures: Failures) -> None:
        if self.action in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self.action])
        elif self.action in failures:
            raise failures[self.action]


class Failpoints:
    """Those that are armed, and how often each place was reached."""

    def __init__(self, armed: Mapping[str, Failpoint]) -> None:
        self._armed = armed
        self._reached: Counter[str] = Counter()

    def hit(self, name: str) -> None:
        """The place is reached on a thread, which stands still there."""
        if (found := self._due(name)) is not None:
            time.sleep(found.milliseconds / 1000)
            found.act(SQLITE)

    async def reached(self, name: str, session: Any = None) -> None:
        """The place is reached on the event loop, which goes on with other things."""
        if (found := self._due(name)) is not None:
            await asyncio.sleep(found.milliseconds / 1000)
            if found.action == "vanish":
                deafen(session._transport.get_extra_info("socket"))
            found.act(POSTGRES)

    def _due(self, name: str) -> Failpoint | None:
        assert name in POINTS, name
        found = self._armed.get(name)
        if found is None:
            return None
        self._reached[name] += 1
        return found if found.due(self._reached[name]) else None


def parse(text: str) -> dict[str, Failpoint]:
    """What `QUIRE_FAILPOINTS` says. Raises ValueError."""
    found = {}
    for part in filter(None, text.split(",")):
        match = _SPEC.fullmatch(part)
        if match is None or match[1] not in POINTS:
            raise ValueError(f"{part!r} is no failpoint")
        found[match[1]] = Failpoint(match[2], int(match[3] or 0), int(match[4] or 0), bool(match[5]))
    return found


class Watched:
    """A SQLite connection that reaches failpoints before and after statements that begin so."""

    def __init__(
        self, connection: sqlite3.Connection, points: Failpoints, statements: Mapping[str, tuple[str, str]]
    ) -> None:
        self._connection = connection
        self._points = points
        self._statements = statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *args: Any) -> Any:
        return self._around(sql, self._connection.execute, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        return self._around(sql, self._connection.executemany, *args)

    def _around(self, sql: str, statement: Callable[..., Any], *args: Any) -> Any:
        before, after = next(
            (names for begins, names in self._statements.items() if sql.startswith(begins)), ("", "")
        )
        if before:
            self._points.hit(before)
        found = statement(sql, *args)
        if after:
            self._points.hit(after)
        return found


def install(points: Failpoints) -> None:
    """Wrap the functions of the product that the places are in."""
    _install_sqlite(points)
    _install_postgres(points)
    _around(points, writer._Waiting, "accept", after="answering")
    _around_async(points, connection.Connection, "_answer", after="answered", only=_writes)
    _around_async(points, web_protocol.RequestHandler, "finish_response", after="answered", only=_writes)
    _around(points, Connection, "write", after="published")
    _around(points, sender.Window, "_answered", after="acknowledged")


def _install_sqlite(points: Failpoints) -> None:
    _watch(points, run, "migrate", {"PRAGMA application_id =": ("migrate", "")})
    appending = {
        "BEGIN": ("", "begin"),
        "INSERT INTO quire_event": ("", "insert"),
        "COMMIT": ("commit", "committed"),
    }
    for function in ("append", "write_now", "commit"):
        _watch(points, run, function, appending)
    _watch(points, tables, "advance", {"INSERT INTO": ("advancing", "")})
    _around(points, run, "checkpoint", before="checkpoint", after="checkpointed")
    _around_async(points, SQLiteLog, "_start", before="start")
    _around_async(points, SQLiteLog, "take", before="take")
    _around_async(points, SQLiteLog, "advance", after="build", only=_builds)
    _around_async(points, SQLiteLog, "switch", before="switch", after="switched")


def _install_postgres(points: Failpoints) -> None:
    _around_async(points, PostgresLog, "_start", before="start")
    _in_statements(points, postgres_schema, "migrate", {"INSERT INTO quire_log": "migrate"})
    _around_async(points, PostgresLog, "take", before="take")
    _around_async(points, postgres_run, "snapshot", after="begin")
    _around_async(points, postgres_run, "insert", after="insert")
    _around_async(points, postgres_run, "commit", before="commit", after="committed")
    _around_async(points, PostgresLog, "advance", after="build", only=_builds)
    _around_async(points, PostgresLog, "switch", before="switch", after="switched")
    _in_statements(points, postgres_tables, "advance", {"WITH ": "advancing", "INSERT ": "advancing"})


class Session:
    """A session of PostgreSQL that reaches failpoints before statements that begin so."""

    def __init__(self, connection: Any, points: Failpoints, statements: Mapping[str, str]) -> None:
        self._connection = connection
        self._points = points
        self._statements = statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, sql: str, *args: Any) -> Any:
        for begins, name in self._statements.items():
            if sql.lstrip().startswith(begins):
                await self._points.reached(name)
        return await self._connection.execute(sql, *args)


def _in_statements(points: Failpoints, owner: Any, name: str, statements: Mapping[str, str]) -> None:
    function = getattr(owner, name)

    @wraps(function)
    async def watched(connection: Any, *args: Any, **kwargs: Any) -> Any:
        return await function(Session(connection, points, statements), *args, **kwargs)

    setattr(owner, name, watched)


def _builds(_log: object, name: str, *_: object) -> bool:
    return "current" in name


def _writes(_handler: object, request: Any, *_: object) -> bool:
    return bool(request.method not in ("GET", "HEAD"))


def _watch(points: Failpoints, owner: Any, name: str, statements: Mapping[str, tuple[str, str]]) -> None:
    function = getattr(owner, name)

    @wraps(function)
    def watched(connection: sqlite3.Connection, *args: Any, **kwargs: Any) -> Any:
        return function(Watched(connection, points, statements), *args, **kwargs)

    setattr(owner, name, watched)


def _around(points: Failpoints, owner: Any, name: str, before: str = "", after: str = "") -> None:
    function = getattr(owner, name)

    @wraps(function)
    def around(*args: Any, **kwargs: Any) -> Any:
        if before:
            points.hit(before)
        found = function(*args, **kwargs)
        if after:
            points.hit(after)
        return found

    setattr(owner, name, around)


def _around_async(
    points: Failpoints,
    owner: Any,
    name: str,
    before: str = "",
    after: str = "",
    only: Callable[..., bool] = lambda *_: True,
) -> None:
    function = getattr(owner, name)

    @wraps(function)
    async def around(*args: Any, **kwargs: Any) -> Any:
        if before and only(*args):
            await points.reached(before, *args[:1])
        found = await function(*args, **kwargs)
        if after and only(*args):
            await points.reached(after, *args[:1])
        return found

    setattr(owner, name, around)
