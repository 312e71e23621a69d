"""$sql in a process of its own: whatever a stranger's SELECT does, it can be ended, and its memory is bounded.

The parent keeps `SqlWorkers`; the child runs this module.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eventstore.child import Child, Ended, serve
from eventstore.errors import Invalid, Malformed, QuireError, Throttled, TooLarge, Unavailable
from eventstore.log import guard

SQL_WORKERS = 2
SQL_WAITING_MAX = 16
SQL_KILL_SECONDS = 1.0
"""How long after the deadline a worker that did not end by itself is killed."""
SQL_MEMORY_BYTES_MAX = 1024 * 1024 * 1024

_ROWS = b"="
"""Before an answer that is no refusal."""
_REFUSALS: dict[str, type[QuireError]] = {kind.__name__: kind for kind in (Invalid, Malformed, TooLarge)}


class _Request(msgspec.Struct):
    sql: str
    parameters: list[Any]
    views: list[str]


class _Refusal(msgspec.Struct):
    kind: str
    message: str
    code: str


class SqlWorkers:
    """A few processes, started when they are needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turns = asyncio.Semaphore(SQL_WORKERS)
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._waiting = 0
        self._closed = False

    async def select(self, sql: str, parameters: Sequence[Any], views: Iterable[str]) -> bytes:
        """The rows as a JSON array of objects.

        Raises Malformed or Invalid for what is no SELECT over the views, TooLarge for one that was cut off, and
        Throttled when too many wait.
        """
        if self._waiting >= SQL_WAITING_MAX:
            raise Throttled(f"{SQL_WAITING_MAX} queries are waiting; try again", retry_after_seconds=2)
        request = msgspec.json.encode(_Request(sql, list(parameters), list(views)))
        self._waiting += 1
        try:
            async with self._turns:
                if self._closed:
                    raise Unavailable("the log is closed")
                return await self._run(await self._worker(), request)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End every worker at once."""
        self._closed = True
        for worker in list(self._all):
            await self._end(worker)

    async def _worker(self) -> Child:
        """One that is idle and alive, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._all.discard(worker)
        worker = await Child.start(
            __name__, str(self._path.absolute()), answer_bytes_max=guard.SQL_ANSWER_BYTES_MAX + len(_ROWS)
        )
        self._all.add(worker)
        if self._closed:
            await self._end(worker)
        return worker

    async def _run(self, worker: Child, request: bytes) -> bytes:
        try:
            async with asyncio.timeout(guard.SQL_SECONDS_MAX + SQL_KILL_SECONDS):
                answer = await worker.ask(request)
        except TimeoutError:
            await self._end(worker)
            raise guard.too_slow() from None
        except Ended as error:
            self._all.discard(worker)
            if self._closed or not error.killed:
                raise Unavailable("the process of $sql ended; try again") from error
            raise TooLarge("the query's process was ended: too much memory", code="too-costly") from error
        except BaseException:
            await self._end(worker)
            raise
        self._idle.append(worker)
        if not answer.startswith(_ROWS):
            refusal = msgspec.json.decode(answer, type=_Refusal)
            raise _REFUSALS[refusal.kind](refusal.message, code=refusal.code)
        return answer[len(_ROWS) :]

    async def _end(self, worker: Child) -> None:
        self._all.discard(worker)
        await worker.end()


def main(path: str) -> None:
    """Answer requests from standard input until it ends."""
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):  # memory, and files that sorting spills to
        resource.setrlimit(limit, (SQL_MEMORY_BYTES_MAX, SQL_MEMORY_BYTES_MAX))
    connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, isolation_level=None)
    guard.prepare(connection)
    serve(partial(_answer, connection))


def _answer(connection: sqlite3.Connection, data: bytes) -> bytes:
    """The rows, _ROWS before them; or a refusal."""
    request = msgspec.json.decode(data, type=_Request)
    try:
        rows = guard.select(connection, request.sql, request.parameters, request.views)
        answer = msgspec.json.encode(rows)
        if len(answer) > guard.SQL_ANSWER_BYTES_MAX:
            raise guard.too_long()
        return _ROWS + answer
    except QuireError as error:
        (issue,) = error.issues
        refusal = _Refusal(type(error).__name__, issue.message, issue.code)
    except MemoryError:
        refusal = _Refusal("TooLarge", "the query needs too much memory", "too-costly")
    return msgspec.json.encode(refusal)


if __name__ == "__main__":
    main(sys.argv[1])
