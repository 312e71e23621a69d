"""Three nats-servers that keep each stream three times: one killed, stopped or without its files, or all of them."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path

import nats.errors
import nats.js.errors

from harness.network import NatsServer, Network
from harness.process import free_port
from harness.stream import connected

SERVERS = 3
START_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.05


class NatsCluster:
    """Each server over a directory that outlives it. `url` names all of them, with commas between."""

    def __init__(self, directory: Path) -> None:
        routes = [free_port() for _ in range(SERVERS)]
        self.servers = [NatsServer(directory / f"n{n}", *_options(n, routes)) for n in range(SERVERS)]
        self.url = ",".join(server.url for server in self.servers)
        self._directory = directory

    async def start(self) -> None:
        """Start those that do not run, and wait until they have a leader."""
        self._directory.mkdir(parents=True, exist_ok=True)
        await asyncio.gather(*(server.start() for server in self.servers if not server.running))
        async with asyncio.timeout(START_SECONDS_MAX):
            while not await self._answers():
                await asyncio.sleep(LOOK_SECONDS)

    async def _answers(self) -> bool:
        try:
            async with connected(self.url, allow_reconnect=False) as client:
                await client.jetstream(timeout=1).account_info()
        except (OSError, TimeoutError, nats.errors.Error, nats.js.errors.Error):
            return False
        return True

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers))

    async def kill(self) -> None:
        await asyncio.gather(*(server.kill() for server in self.servers))

    async def leader(self, stream: str = "QUIRE") -> NatsServer:
        """The server that leads the stream's replicas now. Raises TimeoutError when none does for long."""
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                try:
                    async with connected(self.url, allow_reconnect=False) as client:
                        info = await client.jetstream(timeout=1).stream_info(stream)
                    if info.cluster is not None and info.cluster.leader:
                        return self.servers[int(info.cluster.leader[1:])]
                except (OSError, TimeoutError, nats.errors.Error, nats.js.errors.Error):
                    pass
                await asyncio.sleep(LOOK_SECONDS)

    async def kill_leader(self) -> NatsServer:
        """kill -9 of the stream's leader, which is told."""
        leader = await self.leader()
        await leader.kill()
        return leader

    def keep(self) -> None:
        """Copy the files of all, while all are stopped, so that they can be put back."""
        for server in self.servers:
            shutil.copytree(server.directory, server.directory.with_suffix(".kept"))

    def put_back(self) -> None:
        for server in self.servers:
            server.wipe()
            server.directory.with_suffix(".kept").rename(server.directory)


class Networks:
    """A network before each server of a cluster; what is done is done to all."""

    def __init__(self, cluster: NatsCluster) -> None:
        self._each = [Network(server.port) for server in cluster.servers]

    @property
    def url(self) -> str:
        return ",".join(one.url for one in self._each)

    async def open(self) -> None:
        for one in self._each:
            await one.open()

    async def cut(self) -> None:
        for one in self._each:
            await one.cut()

    def hold(self, *, there: bool, back: bool) -> list:
        return [held for one in self._each for held in one.hold(there=there, back=back)]

    release = staticmethod(Network.release)


def _options(number: int, routes: list[int]) -> tuple[str, ...]:
    others = ",".join(f"nats://127.0.0.1:{port}" for n, port in enumerate(routes) if n != number)
    return (
        "-n", f"n{number}", "--cluster_name", "quire", "--cluster", f"nats://127.0.0.1:{routes[number]}",
        "--routes", others, "--no_advertise",
    )  # fmt: skip
