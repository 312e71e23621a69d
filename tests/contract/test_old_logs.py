"""Logs that earlier versions wrote open, are brought up to date and verify; one of a later version is refused.

`logs/` holds them as text: a type and its attribute, changes, deletes, a resource come back to life, and where the
version had it an epoch. `sqlite-*` are of schema 1, the later one with the feed; `postgres-first` is the first there was.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from harness import checkers, postgres
from harness.command import quire

from eventstore.audit import verify
from eventstore.body import read
from eventstore.command import Accepted, Command
from eventstore.errors import Invalid, Unavailable
from eventstore.log.base import Hole
from eventstore.log.opening import Place, open_log
from eventstore.log.sql import migrations
from eventstore.server.opening import open_store
from eventstore.server.settings import Settings
from eventstore.store import Store

LOGS = Path(__file__).with_name("logs")
TIPS = {
    "sqlite-rest": "9:211d4faf0af358835ffd5d7842e99f75c1218a9edfdc7d8e379752107189f225",
    "sqlite-feed": "13:4498eb75d61a8a230ebef612255b69da89d52e9923e7e27a0c067030c19a406a",
    "postgres-first": "13:c1c2a8479087e377c19043cc15ec88e0d36580d13186e9f528ac7b55461f9c6c",
}
EPOCH = [Hole(9, 12)]


@pytest.fixture
def backend(name: str) -> str:
    return name.partition("-")[0]


@pytest.fixture
async def old(name: str, place: Place) -> Place:
    """The place, with the log of that name in it."""
    text = (LOGS / f"{name}.sql").read_text("utf-8")
    if place.db:
        postgres.load(place.db, text)
        return place
    place.data.mkdir()
    with closing(sqlite3.connect(place.data / "log.db")) as file:
        file.executescript(text)
    return place


@pytest.mark.parametrize("name", TIPS)
async def test_a_log_of_an_earlier_version_opens_and_goes_on(old: Place, name: str) -> None:
    async with open_store(Settings(data=old.data, db=old.db)) as store:
        tip = await store.log.tip()
        assert str(tip) == TIPS[name]
        assert await store.log.holes() == (EPOCH if tip.position == 13 else [])
        ward = await store.read("Ward", "icu")
        assert b'"beds":13.0' in (ward.data or b"")
        with pytest.raises(Invalid, match="at most 99"):
            await put(store, b'{"beds":100}')
        assert (await put(store, b'{"beds":14}')).position == tip.position + 1
        rows = await store.log.select("SELECT id FROM ward ORDER BY id", [], ["ward"])
        assert rows == b'[{"id":"er"},{"id":"icu"}]'
        report = await verify(store.log)
        assert report.faults.listed == []
        await checkers.replayable(store.log, await checkers.events_of(store.log))
    told = quire("verify", "--against", str(tip), *(("--db", old.db) if old.db else ("--data", old.data)))
    assert told.code == 0, told.text
    assert "no faults" in told.text


async def put(store: Store, body: bytes) -> Accepted:
    return await store.submit(Command("PUT", "Ward", "icu", b"{}", read(body)))


@pytest.mark.parametrize("name", ["sqlite-feed", "postgres-first"])
async def test_a_log_of_a_later_version_is_refused(old: Place) -> None:
    later = len(migrations("postgres" if old.db else "sqlite")) + 1
    if old.db:
        connection = await asyncpg.connect(old.db)
        await connection.execute(f"UPDATE quire_schema SET version = {later}")
        await connection.close()
    else:
        with closing(sqlite3.connect(old.data / "log.db")) as file:
            file.execute(f"PRAGMA user_version = {later}")
    for write in (True, False):
        with pytest.raises(Unavailable, match=f"a newer Quire wrote this log .schema {later}.*update Quire"):
            await open_log(old, write=write)
