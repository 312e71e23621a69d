"""The $sql operation: what it answers and what it refuses, one statement after another on one server."""

from __future__ import annotations

import time

import pytest
import pytest_asyncio
from harness.client import Client
from harness.sql import ask, fill

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(shared_client: Client) -> Client:
    await fill(shared_client)
    return shared_client


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


async def test_a_statement_of_brackets_is_answered_at_once(filled: Client) -> None:
    started = time.monotonic()
    assert (await ask(filled, "[" * 90_000)).status == 400
    assert (await ask(filled, "[" * 1_000_000)).status == 413
    assert time.monotonic() - started < 3


async def test_explain_is_no_select_and_literals_are_no_names(filled: Client) -> None:
    assert (await ask(filled, "EXPLAIN SELECT 1")).status == 400
    assert (await ask(filled, "SELECT 'quire_event' AS a, 'quire_x' AS b FROM usersetting")).status == 200
    assert (await ask(filled, "SELECT count(*) FROM 'quire_event'")).status in (400, 422)
