"""Copies of logs, on each backend as its users make them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

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
