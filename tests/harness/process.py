"""A real `quire serve` process: started, waited for, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp

START_SECONDS_MAX = 60.0
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
        self.program: tuple[str, ...] = (*QUIRE, "serve")
        self.options: tuple[str, ...] = ()
        """More options of `quire serve`."""
        self.environment: dict[str, str] = {}
        """More of the environment."""
        self.told: int = asyncio.subprocess.DEVNULL
        """A file for what it says on stderr."""
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        await self.launch()
        assert await self.ready(), f"quire serve ended with {self.process and self.process.returncode}"

    async def launch(self) -> None:
        """Start it."""
        self.process = await asyncio.create_subprocess_exec(
            *self.program, "--port", str(self.port), "--data", str(self.data), *self.options,
            stderr=self.told, env={**os.environ, **self.environment},
        )  # fmt: skip

    async def ready(self) -> bool:
        """Wait until it answers; False when it ends before."""
        assert self.process is not None
        async with asyncio.timeout(START_SECONDS_MAX), aiohttp.ClientSession() as session:
            while self.process.returncode is None:
                if await self._answers(session):
                    return True
                await asyncio.sleep(0.02)
        return False

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

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

    async def command(self, *words: str) -> None:
        """Another command over its data: `epoch`, `verify`."""
        process = await asyncio.create_subprocess_exec(
            *QUIRE, *words, "--data", str(self.data),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        _, problem = await process.communicate()
        assert process.returncode == 0, problem.decode()


class Published(Server):
    """A server with a broker of its own, or on the one whose URL is given."""

    def __init__(self, data: Path, *options: str) -> None:
        super().__init__(data)
        self.nats_port = free_port()
        self.options = options or ("--nats", "embedded", "--nats-port", str(self.nats_port))

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.nats_port}"
