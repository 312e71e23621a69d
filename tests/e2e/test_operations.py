"""`docs/operations.md` as it stands: backups beside a server that takes writes, restores, and the epoch after each."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from harness import postgres
from harness.client import Client, Reply
from harness.command import quire
from harness.process import Published, Server

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = f"""#!/bin/sh
exec {sys.executable} -c 'from eventstore.server.cli import main; main()' "$@"
"""
AS_POSTGRES = f"""#!{sys.executable}
import os, pwd, sys
if os.geteuid() == 0:
    user = pwd.getpwnam("pgserver")
    os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid)
os.execv("PROGRAM", ["PROGRAM", *sys.argv[1:]])
"""
READY_SECONDS_MAX = 30.0


def section(title: str) -> list[tuple[str, str, str]]:
    """The blocks under a heading: language, what stands beside it, text."""
    text = GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [(match[1], match[2].strip(), match[3]) for match in BLOCK.finditer(text)]


class Reader:
    """Somebody who follows the guide, in a directory, with its programs on their path."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir()
        self.program("quire", PROGRAM)
        self.environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **environment}

    def program(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    async def run(self, command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "sh", "-e", "-c", command, cwd=self.home, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, problem = await process.communicate()
        assert process.returncode == 0, (command, out, problem)
        return out.decode()

    async def follow(self, blocks: list[tuple[str, str, str]], was: str = "", now: str = "") -> None:
        """Run the commands and compare what they print with what is shown; `was` in them stands for `now`."""
        told = ""
        for language, _, text in blocks:
            if language == "sh":
                assert was in text
                told = await self.run(text.replace(was, now) if was else text)
            else:
                assert alike(text, told), (text, told)


def alike(shown: str, real: str) -> bool:
    return re.fullmatch(re.escape(shown).replace(r"\.\.\.", ".*"), real, re.DOTALL) is not None


async def put(client: Client, id: str) -> Reply:
    reply = await client.put(f"/Shift/{id}", {"ward": "ICU"})
    assert reply.status == 201, reply.data
    return reply


async def ready(client: Client, wanted: str) -> Reply:
    """Wait until `/ready` says something; its answer."""
    async with asyncio.timeout(READY_SECONDS_MAX):
        while True:
            try:
                reply = await client.get("/ready")
            except aiohttp.ClientError:
                reply = None
            if reply is not None and wanted in reply.data.decode():
                return reply
            await asyncio.sleep(0.05)


async def cursor(client: Client) -> str:
    """The cursor of the log's end."""
    return str((await client.get("/_changes?since=now")).json["cursor"])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Published]:
    made = Published(tmp_path / "quire-data")
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.kill()


async def test_the_guide_on_sqlite(server: Published, tmp_path: Path) -> None:
    reader = Reader(tmp_path, QUIRE_NATS="embedded", QUIRE_NATS_PORT=str(server.nats_port))
    await server.start()
    async with aiohttp.ClientSession() as session:
        client = Client(session, server.url)
        await client.define("Shift")
        first = (await put(client, "a")).json["meta"]["lastUpdated"]
        last = await put(client, "b")
        while last.json["meta"]["lastUpdated"] == first:
            last = await put(client, f"more-{last.version}")
        shared = await cursor(client)
        await reader.follow(section("A copy, beside the server"))
        await put(client, "c")
        highest = (await put(client, "d")).version
        lost = await cursor(client)
        await ready(client, f'"position":{highest},"lagEvents":0')
        await server.stop()

        away, look, epoch = split(section("Restore"))
        await reader.follow(away)
        await server.launch()
        answer = await ready(client, "ahead of the log")
        assert answer.status == 503
        assert alike(look[1][2], answer.data.decode() + "\n")
        assert (await client.put("/Shift/e", {})).status == 503
        assert (await client.get("/Shift/a")).status == 200
        await server.stop()
        await reader.follow(epoch)
        await server.start()
        assert (await put(client, "e")).version == highest + 2
        assert (await client.get(f"/_changes?since={shared}")).status == 200
        gone = await client.get(f"/_changes?since={lost}")
        assert gone.status == 410
        assert f"position {last.version}" in gone.data.decode()

        moment = last.json["meta"]["lastUpdated"]
        await reader.follow(section("To a moment"), "2026-11-20T17:45:00Z", moment)
        told = quire("status", "--json", "--data", tmp_path / "before").json
        assert told["tip"].startswith(f"{last.version - 1}:")
        await reader.follow(section("The file, by SQLite"))
        assert await server.stop() == 0
    assert quire("verify", "--data", tmp_path / "quire-data").code == 0


def split(blocks: list[tuple[str, str, str]]) -> list[list[tuple[str, str, str]]]:
    """The blocks of a section, command by command with what it prints."""
    assert [language for language, *_ in blocks] == ["sh", "text"] * 3
    return [blocks[0:2], blocks[2:4], blocks[4:6]]


class Database:
    """A PostgreSQL of the test's own in a directory, which archives as the guide says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"postgresql://postgres@/postgres?host={home}"
        self.reader = Reader(
            home, QUIRE_DB=self.url, RESTORED_DB=self.url.replace("/postgres?", "/restored?")
        )
        for program in ("initdb", "pg_ctl", "pg_dump", "createdb", "pg_restore", "pg_basebackup"):
            self.reader.program(program, AS_POSTGRES.replace("PROGRAM", postgres.program(program)))

    async def make(self) -> None:
        archive = self.home / "archive"
        archive.mkdir()
        _give(self.home, archive)
        await self.reader.run("initdb --auth trust -U postgres -D first >initdb.log")
        self.configure("first", "conf")
        await self.start("first")

    def configure(self, cluster: str, block: str, time: str = "") -> None:
        """Append a block of the guide to the configuration."""
        (text,) = (text for _, beside, text in section("PostgreSQL, to any moment") if beside == block)
        text = text.replace("/archive/", f"{self.home}/archive/").replace("2026-11-20 17:45:00Z", time)
        with (self.home / cluster / "postgresql.conf").open("a") as file:
            file.write(f"\n{text}")

    async def start(self, cluster: str) -> None:
        await self.reader.run(
            f"""pg_ctl -w -D {cluster} -l {cluster}.log -o "-h '' -k {self.home}" start >pg_ctl.log"""
        )

    async def stop(self, cluster: str) -> None:
        if (self.home / cluster / "postmaster.pid").exists():
            await self.reader.run(f"pg_ctl -w -D {cluster} -m immediate stop >pg_ctl.log")

    async def ask(self, sql: str) -> Any:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    async def archived(self) -> None:
        """Wait until what was written is in the archive."""
        segment = await self.ask("SELECT pg_walfile_name(pg_current_wal_lsn())")
        await self.ask("SELECT pg_switch_wal()")
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not (self.home / "archive" / segment).exists():
                await asyncio.sleep(0.05)

    async def promoted(self) -> None:
        async with asyncio.timeout(READY_SECONDS_MAX):
            while await self.ask("SELECT pg_is_in_recovery()"):
                await asyncio.sleep(0.05)


def _give(*directories: Path) -> None:
    """To the user whom PostgreSQL runs as, when we are root."""
    if os.geteuid() == 0:
        import pwd

        user = pwd.getpwnam("pgserver")
        for directory in directories:
            os.chown(directory, user.pw_uid, user.pw_gid)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """Started after the session's own, which makes the user and lets the programs be read.

    Not in `tmp_path`: every run of pytest closes that to other users, PostgreSQL's too.
    """
    with tempfile.TemporaryDirectory(prefix="quire-pg-") as home:
        made = Database(Path(home))
        await made.make()
        yield made
        for cluster in ("first", "base"):
            await made.stop(cluster)


async def _begun_epoch(url: str, seen: int) -> None:
    """The node that was killed serves the restored log too, as far as that knows, until its lease is over."""
    async with asyncio.timeout(READY_SECONDS_MAX):
        while (told := quire("epoch", "--db", url, "--nats", "off", "--seen", str(seen))).code != 0:
            assert "stop these first" in told.error
            await asyncio.sleep(0.2)


async def test_the_guide_on_postgresql(database: Database, tmp_path: Path) -> None:
    reader = database.reader
    server = Server(tmp_path / "data")
    server.environment["QUIRE_DB"] = database.url
    await server.start()
    async with aiohttp.ClientSession() as session:
        client = Client(session, server.url)
        await client.define("Shift")
        await put(client, "a")
        dump = section("PostgreSQL, by dump")
        pitr = section("PostgreSQL, to any moment")
        await reader.follow(dump[:1])
        await reader.follow([block for block in pitr if "pg_basebackup" in block[2]])
        kept = await put(client, "b")
        moment: datetime = await database.ask("SELECT clock_timestamp()")
        lost = (await put(client, "c")).version
        await reader.follow(dump[1:])
        assert _tip(reader.environment["RESTORED_DB"]) == 2
        await database.archived()
        await server.kill()
    await database.stop("first")

    database.configure("base", "recovery", moment.isoformat(sep=" "))
    (database.home / "base" / "recovery.signal").touch()
    await database.start("base")
    await database.promoted()
    reader.environment["RESTORED_DB"] = database.url
    await reader.follow(pitr[-2:])
    assert _tip(database.url) == kept.version == lost - 1
    await _begun_epoch(database.url, lost)
    await server.start()
    async with aiohttp.ClientSession() as session:
        assert (await put(Client(session, server.url), "d")).version == lost + 2
    assert await server.stop() == 0
    assert quire("verify", "--db", database.url).code == 0


def _tip(db: str) -> int:
    return int(quire("status", "--json", "--db", db).json["tip"].partition(":")[0])
