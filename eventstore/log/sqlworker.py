"""$sql in a process of its own: whatever a stranger's SELECT does, it can be ended, and its memory is bounded.

The parent keeps `SqlWorkers`; the child runs this module. They speak length-prefixed JSON over pipes.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
import signal
import sqlite3
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from eventstore.errors import Invalid, Malformed, QuireError, Throttled, TooLarge, Unavailable
from eventstore.log import guard

SQL_WORKERS = 2
SQL_WAITING_MAX = 16
SQL_KILL_SECONDS = 1.0
"""How long after the deadline a worker that did not end by itself is killed."""
SQL_MEMORY_BYTES_MAX = 1024 * 1024 * 1024

_LENGTH = struct.Struct(">I")
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
        self._idle: list[asyncio.subprocess.Process] = []
        self._all: set[asyncio.subprocess.Process] = set()
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

    async def _worker(self) -> asyncio.subprocess.Process:
        """One that is idle and alive, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.returncode is None:
                return worker
            self._all.discard(worker)
        return await self._start()

    async def _start(self) -> asyncio.subprocess.Process:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", __name__, str(self._path.absolute()),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._all.add(worker)
        if self._closed:
            await self._end(worker)
        return worker

    async def _run(self, worker: asyncio.subprocess.Process, request: bytes) -> bytes:
        try:
            async with asyncio.timeout(guard.SQL_SECONDS_MAX + SQL_KILL_SECONDS):
                refused, answer = await _ask(worker, request)
        except TimeoutError:
            await self._end(worker)
            raise guard.too_slow() from None
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError) as error:
            killed = await self._exit_code(worker) == -signal.SIGKILL
            if self._closed or not killed:
                raise Unavailable("the process of $sql ended; try again") from error
            raise TooLarge("the query's process was ended: too much memory", code="too-costly") from error
        except BaseException:
            await self._end(worker)
            raise
        self._idle.append(worker)
        if refused:
            refusal = msgspec.json.decode(answer, type=_Refusal)
            raise _REFUSALS[refusal.kind](refusal.message, code=refusal.code)
        return answer

    async def _exit_code(self, worker: asyncio.subprocess.Process) -> int | None:
        """How a worker that is going ended by itself; it is ended when it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SQL_KILL_SECONDS):
                await worker.wait()
        await self._end(worker)
        return worker.returncode

    async def _end(self, worker: asyncio.subprocess.Process) -> None:
        self._all.discard(worker)
        with suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()


async def _ask(worker: asyncio.subprocess.Process, request: bytes) -> tuple[bool, bytes]:
    """Send a request; whether it was refused, and the answer."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(_LENGTH.pack(len(request)) + request)
    await worker.stdin.drain()
    head = await worker.stdout.readexactly(1 + _LENGTH.size)
    (length,) = _LENGTH.unpack(head[1:])
    if length > guard.SQL_ANSWER_BYTES_MAX:
        raise asyncio.IncompleteReadError(head, length)
    return head[:1] == b"!", await worker.stdout.readexactly(length)


def main(path: str) -> None:
    """Answer requests from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):  # memory, and files that sorting spills to
        resource.setrlimit(limit, (SQL_MEMORY_BYTES_MAX, SQL_MEMORY_BYTES_MAX))
    connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, isolation_level=None)
    guard.prepare(connection)
    while head := sys.stdin.buffer.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        request = msgspec.json.decode(sys.stdin.buffer.read(length), type=_Request)
        mark, answer = _answer(connection, request)
        sys.stdout.buffer.write(mark + _LENGTH.pack(len(answer)) + answer)
        sys.stdout.buffer.flush()


def _answer(connection: sqlite3.Connection, request: _Request) -> tuple[bytes, bytes]:
    try:
        rows = guard.select(connection, request.sql, request.parameters, request.views)
        answer = msgspec.json.encode(rows)
        if len(answer) > guard.SQL_ANSWER_BYTES_MAX:
            raise guard.too_long()
        return b"=", answer
    except QuireError as error:
        (issue,) = error.issues
        refusal = _Refusal(type(error).__name__, issue.message, issue.code)
    except MemoryError:
        refusal = _Refusal("TooLarge", "the query needs too much memory", "too-costly")
    return b"!", msgspec.json.encode(refusal)


if __name__ == "__main__":
    main(sys.argv[1])
