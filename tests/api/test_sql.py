"""The $sql operation: what it answers, and what it refuses or cuts off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.client import Client

from eventstore.server.app import serving
from eventstore.server.settings import NatsSettings, Settings


async def ask(client: Client, *statement: Any) -> Any:
    return await client.post("/$sql", list(statement) if len(statement) > 1 else _json(statement[0]))


def _json(text: str) -> str:
    import json

    return json.dumps(text)


@pytest.fixture
async def filled(client: Client) -> Client:
    await client.define()
    await client.put("/UserSetting/user-1", {"theme": "dark", "size": 3})
    await client.put("/UserSetting/user-2", {"theme": "white"})
    await client.delete("/UserSetting/user-2")
    return client


async def test_a_select_over_the_view(filled: Client) -> None:
    reply = await ask(filled, "SELECT id, resource->>'theme' as theme FROM \"usersetting\"")
    assert (reply.status, reply.json) == (200, [{"id": "user-1", "theme": "dark"}])


async def test_parameters(filled: Client) -> None:
    reply = await ask(filled, "SELECT id FROM usersetting WHERE resource->>'size' = ? AND ? IS NULL", 3, None)
    assert reply.json == [{"id": "user-1"}]


async def test_the_history_view_has_every_version(filled: Client) -> None:
    reply = await ask(
        filled,
        "SELECT id, action, version, resource IS NULL AS gone FROM usersetting_history ORDER BY version",
    )
    assert [(row["id"], row["action"], row["gone"]) for row in reply.json] == [
        ("user-1", "created", 0),
        ("user-2", "created", 0),
        ("user-2", "deleted", 1),
    ]


async def test_json_each_with_and_joins(filled: Client) -> None:
    reply = await ask(
        filled,
        "WITH pairs AS (SELECT u.id, e.key FROM usersetting u, json_each(u.resource) e) "
        "SELECT count(*) AS n FROM pairs p JOIN usersetting s ON s.id = p.id WHERE p.key = 'theme'",
    )
    assert reply.json == [{"n": 1}]


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA query_only=0",
        "PRAGMA table_info(quire_event)",
        "SELECT * FROM pragma_table_info('quire_event')",
        "ATTACH 'new.db' AS new",
        "VACUUM INTO '/tmp/quire-copy.db'",
        "VACUUM",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "INSERT INTO quire_event (position) VALUES (99)",
        "UPDATE quire_current SET position = 1",
        "DELETE FROM quire_event",
        "DROP VIEW usersetting",
        "BEGIN",
        "SAVEPOINT x",
        "SELECT * FROM quire_event",
        "SELECT count(*) FROM quire_event",
        "SELECT salt FROM quire_event",
        "SELECT * FROM quire_log",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM sqlite_schema",
        "SELECT load_extension('x')",
        "SELECT randomblob(1000000000)",
        "SELECT writefile('/tmp/x', 'y')",
        "WITH usersetting AS (SELECT data FROM quire_event) SELECT * FROM usersetting",
        'WITH "usersetting"(x) AS (SELECT data FROM quire_event) SELECT x FROM usersetting',
        "WITH a AS (SELECT 1), UserSetting AS MATERIALIZED (SELECT salt FROM quire_event) SELECT * FROM usersetting",
        "WITH /* x */ [usersetting] AS (SELECT context FROM quire_event) SELECT * FROM usersetting",
        "SELECT * FROM (SELECT context FROM quire_event) AS usersetting",
    ],
)
async def test_what_is_not_a_select_over_views_is_refused(filled: Client, statement: str) -> None:
    before = await filled.tip()
    reply = await ask(filled, statement)
    assert reply.status in (400, 422), (statement, reply.data)
    assert await filled.tip() == before
    assert (await ask(filled, "SELECT count(*) AS n FROM usersetting")).json == [{"n": 1}]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT set_config('role', 'postgres', true)",
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        "SELECT set_config('role', 'none', true), query_to_xml('SELECT * FROM quire_event', true, true, '')",
        "SELECT /* x */ pg_sleep (1)",
        'SELECT "pg_catalog"."pg_sleep"(1)',
        "SELECT lo_create(1)",
        "SELECT repeat('x', 1000000000)",
        "SELECT * FROM pg_roles",
        "SELECT * FROM information_schema.tables",
        "SELECT U&'\\0061'",
        "SELECT $x$ a $x$",
        "SELECT /* a /* b */ c */ 1",
        "SELECT 1) AS x, (SELECT 2",
        "SELECT 1; DROP TABLE quire_event",
        "SELECT * INTO other FROM usersetting",
        "WITH x AS (DELETE FROM usersetting RETURNING *) SELECT * FROM x",
        "SELECT * FROM usersetting FOR UPDATE",
        "SELECT E'\\' , set_config('role', 'none', true) --'",
        "COPY usersetting TO STDOUT",
        "SET ROLE postgres",
        "SHOW ALL",
        "LISTEN x",
        "DO 'BEGIN END'",
        "TABLE quire_event",
        "SELECT * FROM nowhere",
        "SELECT 1 / 0",
        "SELECT version()",
    ],
)
async def test_what_a_role_on_postgresql_could_do_is_refused(
    filled: Client, backend: str, statement: str
) -> None:
    """On SQLite all of it is nonsense, or reads nothing."""
    before = await filled.tip()
    reply = await ask(filled, statement)
    assert reply.status in (400, 413, 422) or backend == "sqlite", (statement, reply.data)
    assert await filled.tip() == before
    assert (await ask(filled, "SELECT count(*) AS n FROM usersetting")).json == [{"n": 1}]


@pytest.mark.parametrize(
    "body",
    ["", "{}", "17", "[]", "[1]", '["SELECT ?", {}]', '"SELECT 1; SELECT 2"', '"SELEC"', '""', '"SELECT ?"'],
)
async def test_what_is_no_statement_is_refused(filled: Client, body: str) -> None:
    assert (await filled.post("/$sql", body)).status == 400


async def test_a_query_without_end_is_cut_off_and_others_go_on(filled: Client) -> None:
    started = time.monotonic()
    reply = await ask(
        filled, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )
    assert reply.status == 413
    assert "cut off after 5 seconds" in reply.messages[0]
    assert time.monotonic() - started < 10
    assert (await ask(filled, "SELECT count(*) AS n FROM usersetting")).json == [{"n": 1}]


async def test_too_many_rows_are_refused_with_the_remedy(filled: Client) -> None:
    reply = await ask(
        filled,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n",
    )
    assert reply.status == 413
    assert "LIMIT" in reply.messages[0]


async def test_an_integer_of_more_than_64_bits_is_refused_or_text(filled: Client, backend: str) -> None:
    reply = await filled.post("/$sql", f'["SELECT ? AS n", {2**64}]')
    if backend == "postgres":
        assert reply.json == [{"n": str(2**64)}]
    else:
        assert reply.status == 400
        assert reply.messages == [
            "a parameter is an integer of more than 64 bits, which SQLite has not: send it as text"
        ]


async def test_a_value_too_long_is_refused(filled: Client, backend: str) -> None:
    sqlite = "SELECT replace(printf('%1000000d', 1), ' ', printf('%1000d', 1))"
    postgres = f"{NUMBERS} SELECT string_agg('{'x' * 10_000}', '') AS x FROM n"
    reply = await ask(filled, postgres if backend == "postgres" else sqlite)
    assert reply.status in (400, 413)


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
SLOW_STEP = "SELECT instr(replace(printf('%15000000s',''),' ','a'), replace(printf('%7000000s',''),' ','a')||'b') AS x FROM usersetting"


POSTGRES_SLOW_STEP = rf"SELECT regexp_count('{'a' * 2001}b', '^(a+)(a+)(a+)\1\2\3b$') AS x FROM usersetting"  # an odd number of a


async def test_one_step_that_does_not_end_is_ended(filled: Client, backend: str) -> None:
    started = time.monotonic()
    reply = await ask(filled, POSTGRES_SLOW_STEP if backend == "postgres" else SLOW_STEP)
    assert reply.status == 413
    assert time.monotonic() - started < 9
    assert (await ask(filled, "SELECT count(*) AS n FROM usersetting")).json == [{"n": 1}]


async def test_too_much_memory_ends_the_query_and_nothing_else(filled: Client, backend: str) -> None:
    sqlite = "SELECT count(*) AS n FROM (SELECT DISTINCT printf('%2000000d', i) AS x FROM n)"
    postgres = "SELECT string_agg(a.i || b.i || c.i || '', '') AS x FROM n a, n b, n c"
    reply = await ask(filled, f"{NUMBERS} {postgres if backend == 'postgres' else sqlite}")
    assert reply.status in (400, 413), reply.data
    assert (await ask(filled, "SELECT count(*) AS n FROM usersetting")).json == [{"n": 1}]


async def test_more_queries_than_can_wait_are_told_to_come_back(filled: Client) -> None:
    replies = await asyncio.gather(*(ask(filled, "SELECT count(*) AS n FROM usersetting") for _ in range(64)))
    assert {reply.status for reply in replies} <= {200, 429}
    assert [reply.headers["Retry-After"] for reply in replies if reply.status == 429]


async def test_a_statement_of_brackets_is_answered_at_once(filled: Client) -> None:
    started = time.monotonic()
    assert (await ask(filled, "[" * 90_000)).status == 400
    assert (await ask(filled, "[" * 1_000_000)).status == 413
    assert time.monotonic() - started < 3


async def test_the_data_directory_may_be_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what lies in the current directory is not imported by the process of $sql."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "struct.py").write_text("raise ImportError('not this one')")
    async with (
        serving(Settings(port=0, data=Path("data"), nats=NatsSettings("off"))) as url,
        aiohttp.ClientSession() as session,
    ):
        assert (await ask(Client(session, url), "SELECT 7 AS n")).json == [{"n": 7}]


async def test_a_worker_that_died_is_replaced(filled: Client) -> None:
    assert (await ask(filled, "SELECT 1 AS n")).status == 200
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "sqlworker"], check=False, capture_output=True, text=True
    )
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    replies = [await ask(filled, "SELECT 1 AS n") for _ in range(3)]
    assert replies[-1].json == [{"n": 1}]
    assert {reply.status for reply in replies} <= {200, 413, 503}


async def test_names_of_columns_count_for_the_limit_of_an_answer(filled: Client, backend: str) -> None:
    if backend == "postgres":  # cuts names at 63 bytes: it takes many columns to weigh as much
        columns = ", ".join(f'1 AS "{n:060}"' for n in range(400))
        reply = await ask(filled, f"{NUMBERS} SELECT {columns} FROM n")
        assert reply.status == 413
        return
    name = "n" * 30_000
    reply = await ask(
        filled,
        f'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 9000) SELECT 1 AS "{name}" FROM c',
    )
    assert reply.status == 413


async def test_a_client_that_goes_away_leaves_its_place(filled: Client) -> None:
    endless = _json("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    for _ in range(16):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await filled.post("/$sql", endless)
    started = time.monotonic()
    while (await ask(filled, "SELECT 1 AS n")).status != 200:
        assert time.monotonic() - started < 6
        await asyncio.sleep(0.1)


async def test_explain_is_no_select_and_literals_are_no_names(filled: Client) -> None:
    assert (await ask(filled, "EXPLAIN SELECT 1")).status == 400
    assert (await ask(filled, "SELECT 'quire_event' AS a, 'quire_x' AS b FROM usersetting")).status == 200
    assert (await ask(filled, "SELECT count(*) FROM 'quire_event'")).status in (400, 422)
