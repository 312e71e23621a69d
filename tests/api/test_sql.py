"""The $sql operation: what it cuts off, and what its processes outlive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest
from harness.client import Client
from harness.sql import NUMBERS, ask, fill

from eventstore.server.app import serving
from eventstore.server.settings import NatsSettings, Settings


@pytest.fixture
async def filled(client: Client) -> Client:
    await fill(client)
    return client


async def test_a_query_without_end_is_cut_off_and_others_go_on(filled: Client) -> None:
    started = time.monotonic()
    reply = await ask(
        filled, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )
    assert reply.status == 413
    assert "cut off after 5 seconds" in reply.messages[0]
    assert time.monotonic() - started < 10
    assert (await ask(filled, "SELECT count(*) AS n FROM usersetting")).json == [{"n": 1}]


async def test_a_value_too_long_is_refused(filled: Client, backend: str) -> None:
    sqlite = "SELECT replace(printf('%1000000d', 1), ' ', printf('%1000d', 1))"
    postgres = f"{NUMBERS} SELECT string_agg('{'x' * 10_000}', '') AS x FROM n"
    reply = await ask(filled, postgres if backend == "postgres" else sqlite)
    assert reply.status in (400, 413)


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
    endless = json.dumps(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )
    for _ in range(16):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await filled.post("/$sql", endless)
    started = time.monotonic()
    while (await ask(filled, "SELECT 1 AS n")).status != 200:
        assert time.monotonic() - started < 6
        await asyncio.sleep(0.1)
