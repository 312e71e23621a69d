"""A real `quire serve` process: started, waited for, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp

START_SECONDS_MAX = 20.0
QUIRE = (sys.executable, "-c", "from eventstore.server.cli import main; main()")
PAINTING = (sys.executable, "-P", str(Path(__file__).with_name("colours.py")))
"""A server with a projection of the tests."""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server in a process of its own, over a data directory that outlives it."""

    def __init__(self, data: Path, port: int = 0) -> None:
        self.data = data
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.options: tuple[str, ...] = ()
        """More options of `quire serve`."""
        self.command: tuple[str, ...] = (*QUIRE, "serve")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command, "--port", str(self.port), "--data", str(self.data), *self.options,
            stderr=asyncio.subprocess.DEVNULL, env={**os.environ},
        )  # fmt: skip
        async with asyncio.timeout(START_SECONDS_MAX), aiohttp.ClientSession() as session:
            while not await self._answers(session):
                assert self.process.returncode is None, f"the server ended with {self.process.returncode}"
                await asyncio.sleep(0.02)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self, seconds: float = 5) -> int:
        """SIGTERM; the exit code. Raises TimeoutError when it takes longer."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(seconds):
            return await self.process.wait()
