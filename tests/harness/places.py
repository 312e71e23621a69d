"""Copies of logs, on each backend as its users make them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from eventstore.log.opening import Place
from eventstore.log.sqlite import LOG_FILE
from harness import postgres


class Copy:
    """A log as it is now, while nobody writes, to be put back."""

    def __init__(self, place: Place, aside: Path) -> None:
        self.place = place
        self.aside = aside
        self.dump = postgres.dump(place.db) if place.db else b""
        if not place.db:
            shutil.copytree(place.data, aside)

    def restore(self) -> None:
        """Put it in the place of what is there now."""
        if self.place.db:
            postgres.restore(self.place.db, self.dump)
            return
        shutil.rmtree(self.place.data)
        shutil.copytree(self.aside, self.place.data)


async def change(place: Place, *statements: str) -> int:
    """Change a log's tables behind its back; how many rows the last statement changed. Sums are steps on PostgreSQL."""
    if not place.db:
        with closing(sqlite3.connect(place.data / LOG_FILE, isolation_level=None)) as file:
            return [file.execute(statement).rowcount for statement in statements][-1]
    connection = await asyncpg.connect(place.db)
    try:
        for statement in statements:
            done = await connection.execute(_over_steps(statement))
        return int(done.rpartition(" ")[2]) if done[-1].isdigit() else 0
    finally:
        await connection.close()


def _over_steps(statement: str) -> str:
    if "quire_total" not in statement:
        return statement
    over = statement.replace("quire_total", "quire_total_step")
    if over.startswith("INSERT"):
        return over.replace(")", ", 1)")
    return f"{over} CASCADE" if over.startswith("DROP") else over


class Editor(Protocol):
    """A copy of a log, to be changed behind its back."""

    place: Place

    async def value(self, sql: str) -> Any: ...

    async def change(self, sql: str, *parameters: Any) -> None:
        """One statement, with $1 for its parameter, committed."""


@asynccontextmanager
async def editing(place: Place, aside: Path) -> AsyncIterator[Editor]:
    """A copy of a log that nobody uses now: in a directory of its own, or in a database beside."""
    if place.db:
        async with _database_beside(place.db) as url:
            yield _Database(Place(aside, url))
        return
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with (
        closing(sqlite3.connect(place.data / LOG_FILE)) as source,
        closing(sqlite3.connect(aside / LOG_FILE)) as target,
    ):
        source.backup(target)
    yield _File(Place(aside))
    shutil.rmtree(aside)


class _File:
    def __init__(self, place: Place) -> None:
        self.place = place

    async def value(self, sql: str) -> Any:
        with closing(sqlite3.connect(self.place.data / LOG_FILE)) as file:
            found = file.execute(sql).fetchone()
            return found[0] if found is not None else None

    async def change(self, sql: str, *parameters: Any) -> None:
        with closing(sqlite3.connect(self.place.data / LOG_FILE)) as file, file:
            file.execute(sql.replace("$1", "?"), parameters)


class _Database:
    def __init__(self, place: Place) -> None:
        self.place = place

    async def value(self, sql: str) -> Any:
        async with _session(self.place.db) as session:
            return await session.fetchval(sql)

    async def change(self, sql: str, *parameters: Any) -> None:
        async with _session(self.place.db) as session:
            await session.execute(sql, *parameters)


@asynccontextmanager
async def _database_beside(url: str) -> AsyncIterator[str]:
    """A copy of the database that a URL names, which nobody uses now."""
    server, _, name = url.rpartition("/")
    async with _session(f"{server}/postgres") as session:
        await session.execute(f"DROP DATABASE IF EXISTS {name}_copy")
        await session.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
        yield f"{server}/{name}_copy"
        await session.execute(f"DROP DATABASE {name}_copy WITH (FORCE)")


@asynccontextmanager
async def _session(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
