"""`make cluster`: every node takes writes, a killed one comes back, it ends in seconds and goes on with its data."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from harness.client import Client

SCRIPT = Path(__file__).parents[2] / "deploy" / "cluster.py"
START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 30.0
PORTS_FROM = 18000
BROKERS_AFTER = 100
"""The first broker's port is so far from the first node's: both, and what follows from them, are below the system's own."""


def ports(first: int) -> Iterator[int]:
    """Every port of a cluster whose first node has this one."""
    for n in range(3):
        yield first + n
        yield from (first + BROKERS_AFTER + n + more for more in (0, 2000, 4000))


def taken(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports() -> int:
    """The first port of a cluster that can be started now."""
    return next(
        first
        for first in count(PORTS_FROM + os.getpid() % 1000, 7)
        if not any(taken(port) for port in ports(first))
    )


class Running:
    """`make cluster` as a process; `said` is what it printed."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port
        self.said = ""

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), "--data", str(self.home), "--port", str(self.port),
            "--nats-port", str(self.port + BROKERS_AFTER),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1]), "QUIRE_PORT": "1"},
        )  # fmt: skip

    async def until(self, text: str) -> None:
        """Read what it prints, up to a text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS_MAX):
            while text not in self.said:
                line = await self.process.stdout.readline()
                assert line, self.said
                self.said += line.decode()

    def pid(self, name: str) -> int:
        """The process of that name, as it was told last."""
        return int(re.findall(rf"{name} .*process (\d+)", self.said)[-1])

    async def end(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(STOP_SECONDS_MAX):
            out, _ = await self.process.communicate()
        self.said += out.decode()
        return self.process.returncode or 0


@pytest.fixture
def home() -> Iterator[Path]:
    """Not `tmp_path`: every run of pytest closes that to other users, PostgreSQL's too."""
    with tempfile.TemporaryDirectory(prefix="quire-cluster-") as directory:
        yield Path(directory)


async def test_a_cluster_to_play_with(home: Path, tmp_path: Path) -> None:
    cluster = Running(home, free_ports())
    await cluster.start()
    try:
        await cluster.until("logs ")
        await play(cluster)
        await refused(cluster, tmp_path)
        cluster.process.send_signal(signal.SIGTERM)
        assert await cluster.end() == 0, cluster.said
        assert [port for port in ports(cluster.port) if taken(port)] == []
        assert not (cluster.home / "postgres" / "postmaster.pid").exists()
        await cluster.start()
        cluster.said = ""
        await cluster.until("logs ")
        async with aiohttp.ClientSession() as session:
            second = Client(session, f"http://127.0.0.1:{cluster.port + 1}")
            assert (await second.get("/Shift/n2")).json["by"] == 2
            assert (await second.put("/Shift/n2", {"by": "again"})).version == 6
        cluster.process.send_signal(signal.SIGINT)
        assert await cluster.end() == 0, cluster.said
        assert not (cluster.home / "postgres" / "postmaster.pid").exists()
    finally:
        with suppress(ProcessLookupError):
            cluster.process.send_signal(signal.SIGTERM)
        await cluster.process.wait()


async def play(cluster: Running) -> None:
    """Write through each node, kill one and its brokers' leader, and read it all from the others and the stream."""
    async with aiohttp.ClientSession() as session:
        nodes = [Client(session, f"http://127.0.0.1:{cluster.port + n}") for n in range(3)]
        await nodes[0].define("Shift")
        for n, node in enumerate(nodes):
            assert (await node.put(f"/Shift/n{n + 1}", {"by": n + 1})).status == 201
        os.kill(cluster.pid("node-2"), signal.SIGKILL)
        assert (await nodes[2].put("/Shift/after", {})).status == 201
        for node in (nodes[0], nodes[2]):
            assert (await node.get("/Shift/n2", X_Min_Position="5")).json["by"] == 2
        stream = f"http://127.0.0.1:{cluster.port + BROKERS_AFTER + 4000}/jsz?streams=true&config=true"
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                async with session.get(stream) as answer:
                    found = (await answer.json())["account_details"][0]["stream_detail"][0]
                if found["state"]["last_seq"] == 5:
                    break
                await asyncio.sleep(0.05)
        assert found["config"]["num_replicas"] == 3
        os.kill(cluster.pid(found["cluster"]["leader"]), signal.SIGKILL)
        await cluster.until("node-2 is started again")
        await cluster.until(f"{found['cluster']['leader']} is started again")


async def refused(cluster: Running, elsewhere: Path) -> None:
    """A second one in the same place, or on the same ports, says what is in the way, and harms nothing."""
    for home, port, why in (
        (cluster.home, cluster.port + 10, f"process {cluster.process.pid} writes to {cluster.home}"),
        (
            elsewhere / "other",
            cluster.port,
            f"port {cluster.port} is in use; end what uses it, or choose others",
        ),
    ):
        other = Running(home, port)
        await other.start()
        assert await other.end() == 3
        assert why in other.said
