"""The servers that are measured: Quire with everything on, PocketBase as it comes, and the bare handler."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import string
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from harness.process import QUIRE, Server, free_port

from benchmarks import workload
from benchmarks.load import FIRST_NUMBER, Plan, Result, cpu_seconds, family_cpu_seconds

TESTS = Path(__file__).parents[1]
START_SECONDS_MAX = 20.0
SETTLE_SECONDS_MAX = 120.0
SETTLED_SECONDS = 0.2
SETTLED_CPU = 0.1
"""Of a core: a server that uses less does nothing that was put off."""
EMAIL, PASSWORD = "bench@example.org", "bench-bench-bench"
POCKETBASE = Path(sys.executable).parent / "pocketbase"
ID_LETTERS = string.ascii_lowercase + string.digits


class Target:
    """A server that runs: where, its processes, and the ids that it holds."""

    def __init__(self, port: int, processes: dict[str, int], other_ports: Sequence[int] = ()) -> None:
        self.port = port
        self.other_ports = other_ports
        """Of servers that share the load."""
        self.nats_port = 0
        self.processes = processes
        self.families: dict[str, int] = {}
        """Processes whose children count with them."""
        self.ids = ""
        """A file with the ids of all that was there at the start."""
        self.old = ""
        """A file with the ids of what has many versions."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rss_mib(self) -> dict[str, float]:
        """What each process holds in memory now."""
        return {name: _rss(pid) for name, pid in self.processes.items()}

    async def settle(self) -> float:
        """Wait until nothing is done any more that was put off; the CPU seconds that it took."""
        first = used = self._used()
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while True:
                await asyncio.sleep(SETTLED_SECONDS)
                before, used = used, self._used()
                if used - before < SETTLED_CPU * SETTLED_SECONDS:
                    return round(used - first, 2)

    def _used(self) -> float:
        alone, families = self.processes.values(), self.families.values()
        return sum(map(cpu_seconds, alone)) + sum(map(family_cpu_seconds, families))


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) / 1024, 1)


async def load(target: Target, **asked: Any) -> Result:
    """Run a load in a process of its own."""
    plan = Plan(
        port=target.port, other_ports=target.other_ports, processes=target.processes, families=target.families, **asked
    )  # fmt: skip
    return await client("benchmarks.load", plan, Result)


async def client(module: str, plan: Any, type: type[Any]) -> Any:
    """Run a module of ours with a plan on its input; what it answers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=TESTS,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    answer, _ = await process.communicate(msgspec.json.encode(plan))
    if process.returncode != 0:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    return msgspec.json.decode(answer, type=type)


async def quire(*arguments: str) -> str:
    """Run a command of Quire's; what it printed."""
    process = await asyncio.create_subprocess_exec(
        *QUIRE, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, trouble = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"quire {' '.join(arguments)}: {told.decode()}{trouble.decode()}")
    return told.decode()


@asynccontextmanager
async def quire_server(directory: Path, *, settled: bool = True) -> AsyncIterator[Target]:
    """`quire serve` over what `directory` holds, with the embedded broker and its publisher."""
    server = Server(directory)
    nats_port = free_port()
    server.options = ("--nats", "embedded", "--nats-port", str(nats_port), "--log-level", "warning")
    await server.start()
    assert server.process is not None
    broker = json.loads((directory / "nats/server.json").read_bytes())["pid"]
    target = Target(server.port, {"quire": server.process.pid, "broker": broker})
    target.nats_port = nats_port
    try:
        if settled:
            await target.settle()
        yield target
    finally:
        await server.stop(30)


async def seeded_quire(directory: Path, count: int) -> list[str]:
    """Import the type and so many resources; their ids."""
    lines = directory.with_suffix(".ndjson")
    ids = workload.write_lines(lines, count)
    await quire("import", "--data", str(directory), str(lines))
    lines.unlink()
    return ids


@asynccontextmanager
async def quire_of_r5(directory: Path) -> AsyncIterator[Target]:
    """Quire with the closed type and the Patient of R5, and no resources. Its packages have to be here."""
    lines = directory.with_suffix(".ndjson")
    workload.write_types(lines)
    await quire("import", "--data", str(directory), "--fhir-version", workload.FHIR_VERSION, str(lines))
    lines.unlink()
    async with quire_server(directory) as target:
        yield target


@asynccontextmanager
async def quire_with(directory: Path, count: int) -> AsyncIterator[Target]:
    """Quire with so many resources, of which a few have many versions."""
    ids = await seeded_quire(directory, count)
    async with quire_server(directory) as target:
        old = random.Random(0).sample(ids, min(count, workload.OLD))
        target.ids = workload.write_ids(directory.with_suffix(".ids"), ids)
        target.old = workload.write_ids(directory.with_suffix(".old"), old)
        await _aged(target, old)
        yield target


async def _aged(target: Target, ids: list[str]) -> None:
    """Give the resources many versions."""
    async with aiohttp.ClientSession() as session:
        for number in range(workload.VERSIONS):
            for id in ids:
                body = workload.fields(number)
                async with session.put(f"{target.url}/{workload.TYPE}/{id}", json=body) as reply:
                    assert reply.status == 200, await reply.text()
    await target.settle()


@asynccontextmanager
async def pocketbase(home: Path, count: int) -> AsyncIterator[Target]:
    """PocketBase with default settings, a collection open to all, and so many records."""
    if not POCKETBASE.exists():
        raise RuntimeError("PocketBase is not installed: `make bench` does it, or pip install -e '.[bench]'")
    data = home / "pocketbase"
    await _run(POCKETBASE, "superuser", "upsert", EMAIL, PASSWORD, "--dir", str(data))
    port = free_port()
    async with running(POCKETBASE, "serve", "--http", f"127.0.0.1:{port}", "--dir", str(data)) as pid:
        target = Target(port, {"pocketbase": pid})
        await answering(f"{target.url}/api/health")
        async with aiohttp.ClientSession() as session:
            await _collection(session, target.url)
        ids = ["".join(random.choices(ID_LETTERS, k=15)) for _ in range(count)]
        await asyncio.to_thread(_fill, data / "data.db", ids)
        target.ids = workload.write_ids(home / "pocketbase.ids", ids)
        await target.settle()
        yield target


async def _collection(session: aiohttp.ClientSession, url: str) -> None:
    """Make the collection, as the type is described to Quire; every rule lets everyone in."""
    identity = {"identity": EMAIL, "password": PASSWORD}
    async with session.post(f"{url}/api/collections/_superusers/auth-with-password", json=identity) as reply:
        token = (await reply.json())["token"]
    async with session.get(f"{url}/api/settings", headers={"Authorization": token}) as reply:
        assert not (await reply.json())["rateLimits"]["enabled"]
    stamp = {"type": "autodate", "onCreate": True}
    wanted = {
        "name": workload.TYPE,
        "type": "base",
        **dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), ""),
        "fields": [
            {"name": "theme", "type": "select", "values": workload.THEMES, "maxSelect": 1, "required": True},
            {"name": "number", "type": "number", "onlyInt": True},
            {"name": "filters", "type": "json"},
            {"name": "notes", "type": "text"},
            {"name": "created", **stamp},
            {"name": "updated", **stamp, "onUpdate": True},
        ],
    }
    async with session.post(f"{url}/api/collections", json=wanted, headers={"Authorization": token}) as reply:
        assert reply.status == 200, await reply.text()


def _fill(file: Path, ids: Iterable[str]) -> None:
    """Write the records straight into the table: over HTTP it would take half a minute."""
    body, at = workload.fields(0), "2026-01-01 00:00:00.000Z"
    filters = json.dumps(body["filters"], separators=(",", ":"))
    connection = sqlite3.connect(file)
    connection.executemany(
        f"INSERT INTO {workload.TYPE} (id, theme, number, filters, notes, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((id, body["theme"], FIRST_NUMBER + n, filters, body["notes"], at, at) for n, id in enumerate(ids)),
    )
    connection.commit()
    connection.close()


@asynccontextmanager
async def bare(body: bytes) -> AsyncIterator[Target]:
    """The bare handler, answering one stored body."""
    port = free_port()
    async with running(sys.executable, "-m", "benchmarks.bare", str(port), body.decode()) as pid:
        target = Target(port, {"bare": pid})
        await answering(f"{target.url}/{workload.TYPE}/x")
        yield target


@asynccontextmanager
async def running(*command: str | Path) -> AsyncIterator[int]:
    """A program that says nothing and is ended with the block; its process."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=TESTS, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def _run(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0, command


async def answering(url: str) -> None:
    """Wait until a server answers there."""
    async with asyncio.timeout(START_SECONDS_MAX), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
