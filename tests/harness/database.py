"""A PostgreSQL of our own on a port of this machine, fsync and all: killed, copied, followed by a standby."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import asyncpg

from harness.postgres import package, program
from harness.process import free_port

START_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.02
NAME = "quire"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_keep_size": "256MB",
    "checkpoint_timeout": "30s",
    "log_min_messages": "warning",
    "client_connection_check_interval": "1s",
}
"""As PostgreSQL comes, but small, on a port only, and with checkpoints often."""


class Postgres:
    """A PostgreSQL server over a directory that outlives it. Its processes run as another user when we are root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return url_at(self.port)

    @classmethod
    async def made(cls, directory: Path) -> Self:
        """One with an empty database, started."""
        database = cls(directory)
        _give(directory)
        await _run(
            "initdb", "-D", directory / "data", "-U", "postgres", "--auth", "trust", "--encoding", "utf8"
        )
        await database.start()
        await database.execute(f"CREATE DATABASE {NAME}", on="postgres")
        return database

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        await self.launch()
        async with asyncio.timeout(START_SECONDS_MAX):
            while not await self.ready():
                assert self.running, f"postgres ended: {self.last_words()}"
                await asyncio.sleep(LOOK_SECONDS)

    async def launch(self) -> None:
        with (self.directory / "log").open("ab") as told:
            settings = [word for pair in SETTINGS.items() for word in ("-c", "=".join(pair))]
            self._process = await asyncio.create_subprocess_exec(
                program("postgres"), "-D", self.directory / "data", "-p", str(self.port), *settings,
                stdout=told, stderr=told, **_as_its_user(),
            )  # fmt: skip

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url.replace(NAME, "postgres"), timeout=1)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        connection.terminate()
        return True

    def last_words(self) -> str:
        return "\n".join((self.directory / "log").read_text("utf-8", "replace").splitlines()[-10:])

    async def stop(self) -> None:
        """End its sessions, write everything, and end."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)
            await self._process.wait()

    async def kill(self) -> None:
        """kill -9 of all its processes: what is not in its files, and not even in the kernel, is lost."""
        if self._process is None or not self.running:
            return
        family = self.family()
        self.signal(signal.SIGKILL)
        await self._process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in family):
            await asyncio.sleep(LOOK_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """To all its processes."""
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def family(self) -> list[int]:
        """Its processes, the first of all first."""
        assert self._process is not None
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    async def execute(self, *statements: str, on: str = NAME) -> None:
        async with self.session(on) as session:
            for statement in statements:
                await session.execute(statement)

    async def value(self, sql: str, *parameters: Any) -> Any:
        async with self.session() as session:
            return await session.fetchval(sql, *parameters)

    @asynccontextmanager
    async def session(self, on: str = NAME) -> AsyncIterator[Any]:
        """A session of nobody in particular."""
        connection = await asyncpg.connect(self.url.removesuffix(NAME) + on)
        try:
            yield connection
        finally:
            connection.terminate()

    # Copies and standbys.

    def keep(self) -> None:
        """Copy its files, while it is stopped, so that they can be put back."""
        subprocess.run(["cp", "-a", self.directory / "data", self.directory / "kept"], check=True)

    def put_back(self) -> None:
        """What was kept takes the place of what is there."""
        shutil.rmtree(self.directory / "data")
        (self.directory / "kept").rename(self.directory / "data")

    async def standby(self, directory: Path, port: int) -> Postgres:
        """A copy that follows asynchronously, and reaches this one at a port."""
        _give(directory)
        await _run(
            "pg_basebackup", "-D", directory / "data", "-R", "-X", "stream", "--checkpoint", "fast",
            "-h", "127.0.0.1", "-p", str(port), "-U", "postgres",
        )  # fmt: skip
        standby = Postgres(directory)
        await standby.start()
        return standby

    async def promote(self) -> None:
        """Let a standby be the primary."""
        await self.execute("SELECT pg_promote()", on="postgres")


def url_at(*ports: int) -> str:
    """The URL of the database; with several ports, of the one among them that takes writes."""
    where = ",".join(f"127.0.0.1:{port}" for port in ports)
    only = "" if len(ports) == 1 else "?target_session_attrs=read-write"
    return f"postgresql://postgres@{where}/{NAME}{only}"


@asynccontextmanager
async def database(disk: Path | None = None) -> AsyncIterator[Postgres]:
    """One with an empty database, in a directory of its own that its user can reach; killed at the end."""
    with tempfile.TemporaryDirectory(prefix="quire-pg-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        made = await Postgres.made((disk or Path(name)) / "primary")
        try:
            yield made
        finally:
            await made.kill()


async def _run(command: str, *words: Any) -> None:
    process = await asyncio.create_subprocess_exec(
        program(command), *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **_as_its_user()
    )
    _, problem = await process.communicate()
    assert process.returncode == 0, problem.decode()


def _give(directory: Path) -> None:
    """Make a directory that PostgreSQL's user owns."""
    directory.mkdir(parents=True, exist_ok=True)
    if user := _as_its_user().get("user"):
        shutil.chown(directory, user)


def _as_its_user() -> dict[str, Any]:
    """PostgreSQL does not run as root; the package that brings it has a user for that."""
    if os.geteuid():
        return {}
    package().utils.ensure_user_exists("pgserver")
    return {"user": "pgserver", "group": pwd.getpwnam("pgserver").pw_gid, "extra_groups": [], "cwd": "/"}
