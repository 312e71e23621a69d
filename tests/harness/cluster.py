"""Three nats-servers that keep each stream three times: one killed, stopped or without its files, or all of them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors

from harness.network import NatsServer, Network
from harness.process import free_port
from harness.stream import connected, stream_of

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

    async def leader(self) -> NatsServer:
        """The server that leads the stream's replicas now."""
        info = await self._until(lambda info: info.cluster is not None and info.cluster.leader)
        return self.servers[int(info.cluster.leader[1:])]

    async def whole(self) -> None:
        """Wait until every replica of the stream is current."""
        await self._until(
            lambda info: (
                info.cluster is not None
                and len(info.cluster.replicas or ()) == SERVERS - 1
                and all(replica.current for replica in info.cluster.replicas)
            )
        )

    async def _until(self, condition: Callable[[Any], Any]) -> Any:
        """The stream's description, once it is so. Raises TimeoutError when it is not for START_SECONDS_MAX."""
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                with suppress(OSError, TimeoutError, nats.errors.Error, nats.js.errors.Error):
                    async with stream_of(self.url, 1) as (js, name):
                        info = await js.stream_info(name)
                    if condition(info):
                        return info
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
