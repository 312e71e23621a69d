"""PostgreSQL only: several processes, lost commits, lost connections, old snapshots, and roles."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from harness import checkers, postgres
from harness.client import Client
from harness.lossy import Lossy, lossy

from eventstore.body import read
from eventstore.command import Command
from eventstore.errors import Invalid, NotSupported, OutcomeUnknown, Unavailable
from eventstore.event import Event, Header, Tip, seal
from eventstore.feed import Cursor
from eventstore.log import postgres as backend_of_log
from eventstore.log import postgres_session as session
from eventstore.log.opening import Place, open_log, shown
from eventstore.log.postgres import PostgresLog
from eventstore.projection import Rows
from eventstore.server.app import serving
from eventstore.server.opening import open_store
from eventstore.server.outcomes import status
from eventstore.server.settings import NatsSettings, Settings
from eventstore.store import Store
from projections.current import TOTAL
from projections.query import totals

OPEN = b'{"resourceType":"Entity","id":"Thing","type":"resource","isOpen":true}'


@pytest.fixture
def backend() -> str:
    return "postgres"


@pytest.fixture
async def proxy(place: Place, tmp_path: Path) -> AsyncIterator[Lossy]:
    async with lossy(place.db, tmp_path) as found:
        yield found


def after(tip: Tip) -> Event:
    position = tip.position + 1
    header = Header(position, "Thing", "a", "created", "t", position, 0, "PUT", "Thing/a")
    return seal(header, b"{}", b"{}", os.urandom(16), tip.hash)


def put(id: str, n: int = 1) -> Command:
    return Command("PUT", "Thing", id, b"{}", read(f'{{"n":{n}}}'.encode()))


async def define(store: Store) -> None:
    await store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))


async def test_several_processes_append_to_one_log(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(settings)) for _ in range(4)]
        await define(stores[0])
        for store in stores:
            await store.kind("Thing")

        async def write(store: Store, number: int) -> None:
            for n in range(30):
                await store.submit(put(f"r{n % 5}", 100 * number + n))

        await asyncio.gather(*(write(store, number) for number, store in enumerate(stores)))
        events = await checkers.events_of(stores[0].log)
        assert len(events) == 121
        checkers.gapless(events)
        checkers.ordered(events)
        await checkers.replayable(stores[1].log, events)


async def test_what_others_write_arrives_in_feed_registry_and_followers(settings: Settings) -> None:
    async with open_store(settings) as here, open_store(settings) as there:
        await define(there)
        await there.submit(put("a"))
        async with asyncio.timeout(2):
            await here.arrived(2)
        assert here.registry.served("Thing") is not None
        page = await here.feed.page(Cursor(0))
        assert [event.position for event in page.events] == [1, 2]
        waiting = asyncio.create_task(here.feed.wait(page.cursor, 5))
        await there.submit(put("b"))
        assert await waiting
        await here.submit(put("c"))
        await here.arrived(4)
        page = await here.feed.page(page.cursor)
        assert [event.position for event in page.events] == [3, 4]


async def test_a_definition_of_another_process_counts_for_the_next_write(settings: Settings) -> None:
    async with open_store(settings) as here, open_store(settings) as there:
        await define(here)
        await there.kind("Thing")
        closed = OPEN.replace(b',"isOpen":true', b"")
        await here.submit(Command("PUT", "Entity", "Thing", b"{}", read(closed)))
        with pytest.raises(Invalid):
            await there.submit(put("a"))


@pytest.mark.parametrize("lost", ["answer", "late"])
async def test_a_commit_without_an_answer_that_landed_is_a_success(
    proxy: Lossy, place: Place, lost: str
) -> None:
    async with open_store(Settings(data=place.data, db=proxy.url)) as store:
        await define(store)
        proxy.lose = "answer" if lost == "answer" else "late"
        writing = asyncio.create_task(store.submit(put("a")))
        if lost == "late":
            await asyncio.wait([writing], timeout=0.5)
            assert not writing.done()
            proxy.late.set()
        assert (await writing).position == 2
        assert (await store.submit(put("b"))).position == 3
        checkers.gapless(await checkers.events_of(store.log))


async def test_a_commit_that_did_not_arrive_is_refused_and_never_lands(proxy: Lossy, place: Place) -> None:
    async with open_store(Settings(data=place.data, db=proxy.url)) as store:
        await define(store)
        proxy.lose = "commit"
        with pytest.raises(Unavailable):
            await store.submit(put("a"))
        accepted = await store.submit(put("b"))
        assert accepted.position == 2
        assert await store.log.last("Thing", "a") is None


async def test_an_outcome_that_cannot_be_found_out_is_told_in_time(
    proxy: Lossy, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_of_log, "OUTCOME_SECONDS_MAX", 0.5)
    async with open_store(Settings(data=place.data, db=proxy.url)) as store:
        await define(store)
        proxy.lose, proxy.refusing = "answer", True
        with pytest.raises(OutcomeUnknown) as refused:
            await store.submit(put("a"))
        assert status(refused.value) == 504
        proxy.refusing = False
        assert (await store.submit(put("b"))).position == 3


async def test_while_the_database_is_away_requests_get_503_and_then_go_on(proxy: Lossy, place: Place) -> None:
    settings = Settings(port=0, data=place.data, db=proxy.url, nats=NatsSettings("off"))
    async with serving(settings) as url, aiohttp.ClientSession() as session:
        client = Client(session, url)
        await client.define()
        proxy.refusing = True
        await end_sessions(place.db)
        for reply in (
            await client.put("/UserSetting/a", {"n": 1}),
            await client.get("/UserSetting/a"),
            await client.get("/UserSetting"),
            await client.get("/ready"),
        ):
            assert reply.status == 503, reply.data
        proxy.refusing = False
        assert (await client.put("/UserSetting/a", {"n": 1})).status == 201


async def test_sessions_that_are_ended_are_made_anew(settings: Settings) -> None:
    async with open_store(settings) as store:
        await define(store)
        await end_sessions(settings.db)
        assert (await store.submit(put("a"))).position == 2
        await end_sessions(settings.db)
        assert (await store.read("Thing", "a")).position == 2


async def test_who_goes_away_while_a_session_is_made_leaves_none(place: Place) -> None:
    """A connection that nobody closed is a warning when it is collected, and a warning is an error here."""
    for milliseconds in range(60):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000):
                connection = await session.connect_stranger(place.db)
            await connection.close()
    gc.collect()


async def end_sessions(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'quire'"
    )
    await connection.close()


async def test_who_stands_still_with_the_log_loses_it(place: Place) -> None:
    slow, quick = await PostgresLog.open(place.db), await PostgresLog.open(place.db)
    await slow.take()
    tip = (await slow.look()).tip
    mine, other = after(tip), after(tip)
    await quick.take()  # waits until the server ends the session of `slow`, which asks for nothing
    await quick.append([other], Rows())
    with pytest.raises(Unavailable):
        await slow.append([mine], Rows())
    assert not await slow.landed(mine)
    assert (await slow.tip()).hash == other.hash
    await slow.close()
    await quick.close()


async def test_totals_stay_exact_beside_an_old_snapshot(settings: Settings) -> None:
    async with open_store(settings) as store:
        await define(store)
        reader = await asyncpg.connect(settings.db)
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert await reader.fetchval(f"SELECT events FROM {TOTAL.name}") == 1
        for n in range(50):
            await store.submit(put(f"r{n % 5}", n))
        assert await totals(store.log, "Thing") == (5, 50)
        assert await totals(store.log, None) == (6, 51)
        assert await reader.fetchval(f"SELECT sum(events)::int FROM {TOTAL.name}") == 1
        await reader.close()


async def test_logs_made_at_the_same_time_are_one(place: Place) -> None:
    logs = await asyncio.gather(*(open_log(place) for _ in range(5)))
    assert len({log.id for log in logs}) == 1
    for log in logs:
        await log.close()


async def test_two_schemas_are_two_logs(place: Place, postgres_url: str) -> None:
    one, two = await PostgresLog.open(place.db), await PostgresLog.open(await postgres.schema(postgres_url))
    assert one.id != two.id
    await one.take()
    await two.take()
    await one.release()
    await two.release()
    await one.close()
    await two.close()


async def test_without_the_role_sql_is_refused_with_the_remedy(place: Place, postgres_url: str) -> None:
    connection = await asyncpg.connect(place.db)
    schema = await connection.fetchval("SELECT current_schema()")
    user = f"plain_{schema}"
    await connection.execute(f"CREATE ROLE {user} LOGIN; GRANT CREATE, USAGE ON SCHEMA {schema} TO {user}")
    log = await PostgresLog.open(place.db.replace("postgres:@", f"{user}:@"))
    with pytest.raises(NotSupported, match=f'CREATE ROLE "quire_sql_{schema}"'):
        await log.select("SELECT 1", [], [])
    await log.close()
    await connection.execute(f"CREATE ROLE quire_sql_{schema} NOLOGIN; GRANT quire_sql_{schema} TO {user}")
    log = await PostgresLog.open(place.db.replace("postgres:@", f"{user}:@"))
    assert await log.select("SELECT 1 AS n", [], []) == b'[{"n":1}]'
    await log.close()
    await connection.close()


async def test_a_schema_that_is_not_there_and_a_newer_one_are_refused(place: Place) -> None:
    with pytest.raises(Unavailable, match="search_path"):
        await PostgresLog.open(f"{place.db}_not")
    await (await PostgresLog.open(place.db)).close()
    connection = await asyncpg.connect(place.db)
    await connection.execute("UPDATE quire_schema SET version = 99")
    await connection.close()
    with pytest.raises(Unavailable, match="newer Quire"):
        await PostgresLog.open(place.db)


def test_urls() -> None:
    with pytest.raises(Invalid, match="postgresql://"):
        Place(Path(), "mysql://me:secret@host/x").check()
    assert shown("postgresql://me:secret@host/x") == "postgresql://me@host/x"
    assert shown("postgresql://host/x?password=secret&user=me") == "postgresql://host/x?user=me"
    Place(Path(), "postgresql://me:se%2Fcret@one:5432,[::1]:5433,three/x?target_session_attrs=any").check()
    with pytest.raises(Invalid, match="'host:http' is neither"):
        Place(Path(), "postgresql://me:secret@host:http/x").check()


@pytest.mark.parametrize("password", ["se/cret", "se?cret", "se#cret", "se[cret"])
def test_a_password_that_is_not_escaped_is_never_shown(password: str) -> None:
    place = Place(Path(), f"postgresql://me:{password}@host/x")
    with pytest.raises(Invalid, match="%2F") as refused:
        place.check()
    assert "cret" not in f"{refused.value} {place}"


async def test_schema_faults_are_found(settings: Settings) -> None:
    async with open_store(settings) as store:
        await define(store)
        connection = await asyncpg.connect(settings.db)
        await connection.execute("DROP INDEX quire_event_type; CREATE TABLE stranger (x int)")
        await connection.execute(
            'CREATE OR REPLACE VIEW "thing" AS SELECT id, position AS version, \'\' COLLATE "C" AS ts, NULL::json AS resource FROM quire_current'
        )
        await connection.close()
        from eventstore.claims import TABLE
        from projections.engine import BUILT_IN

        faults = await store.log.schema_faults([TABLE, *(table for one in BUILT_IN for table in one.tables)])
        assert faults == [
            "the index quire_event_type is missing",
            "there is a table stranger that this version does not make",
            "the view thing is not as this version makes it",
        ]
