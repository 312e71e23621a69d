"""A process of ours that answers requests, one at a time, and dies with us.

The parent keeps a `Child`; the child's module runs `serve`. They speak length-prefixed messages over pipes.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import struct
import sys
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

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        """Run `python -m module`; its `main` takes the arguments and calls `serve`."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", module, *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # the terminal's Ctrl-C is for us, even while it begins
            )
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._killed

    async def ask(self, request: bytes, answer_bytes_max: int) -> bytes:
        """The answer. Raises Ended when the process ends before it, or the answer is longer than that.

        Whoever is interrupted in here must end the child: it would answer later.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(_LENGTH.pack(len(request)) + request)
            await self._process.stdin.drain()
            (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
            if length <= answer_bytes_max:
                return await self._process.stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS_MAX):
                    await self._process.wait()
        killed = self._process.returncode == -signal.SIGKILL
        await self.end()
        raise Ended(killed=killed)

    def kill(self) -> None:
        """Let it end at once."""
        self._killed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """End it at once, and wait until it has ended."""
        self.kill()
        await self._process.wait()


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
