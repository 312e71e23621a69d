"""A process of ours that answers requests, one at a time, and dies with us.

The parent keeps a `Child`; the child's module runs `serve`. They speak length-prefixed messages over pipes.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import struct
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

END_SECONDS_MAX = 1.0
"""How long a child that is going may take, before it is killed."""

_LENGTH = struct.Struct(">I")


class Ended(Exception):
    """A child ended before it answered."""

    def __init__(self, *, killed: bool) -> None:
        super().__init__("the process ended")
        self.killed = killed
        """By SIGKILL, which neither it nor we sent: of too much memory."""


class Child:
    """One process, between its start and its end."""

    def __init__(self, process: asyncio.subprocess.Process, answer_bytes_max: int) -> None:
        self._process = process
        self._answer_bytes_max = answer_bytes_max
        self._killed = False
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        """Who asked and has no answer yet, in the order of the requests, which is that of the answers."""
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, module: str, *arguments: str, answer_bytes_max: int) -> Self:
        """Run `python -m module`; its `main` takes the arguments and calls `serve`."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", module, *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # the terminal's Ctrl-C is for us, even while it begins
            ),
            answer_bytes_max,
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._killed

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left of it."""
        return self._process.returncode is not None and self._reading.done()

    async def ask(self, request: bytes) -> bytes:
        """The answer. Requests wait their turn in the child. Raises Ended when the process ends before it answers, and
        when the answer is too long: then it is ended.
        """
        assert self._process.stdin is not None
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            raise self._ended()
        self._waiting.append(waiting)
        with suppress(ConnectionError, RuntimeError):  # it has ended: the reading tells
            self._process.stdin.write(_LENGTH.pack(len(request)) + request)
        return await waiting

    def kill(self) -> None:
        """Let it end at once."""
        self._killed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """End it at once, and wait until it has ended."""
        self.kill()
        await self._process.wait()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        """Hand on the answers; at the end tell who still waits."""
        assert self._process.stdout is not None
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
                if length > self._answer_bytes_max:
                    break
                answer = await self._process.stdout.readexactly(length)
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS_MAX):
                    await self._process.wait()
        ended = self._ended()
        self.kill()
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(ended)

    def _ended(self) -> Ended:
        return Ended(killed=self._process.returncode == -signal.SIGKILL and not self._killed)


def serve(answer: Callable[[bytes], bytes]) -> None:
    """In the child: answer requests from standard input until it ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # where the parent is gone before the next line can tell
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
    while head := sys.stdin.buffer.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        told = answer(sys.stdin.buffer.read(length))
        sys.stdout.buffer.write(_LENGTH.pack(len(told)) + told)
        sys.stdout.buffer.flush()
