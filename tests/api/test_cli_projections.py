"""`quire rebuild`, `replay`, `unpark`, and projections in `status`: real processes, with the server up and down."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.client import Client
from harness.process import PAINTING, QUIRE, Server


class Told:
    """How a command ended and what it printed."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.error = done.stderr.decode()


async def quire(*arguments: str | Path) -> Told:
    def run() -> Told:
        command = [*QUIRE, *map(str, arguments)]
        return Told(subprocess.run(command, capture_output=True, env={**os.environ}, timeout=60, check=False))

    told = await asyncio.to_thread(run)
    assert "Traceback" not in told.error
    return told


async def fill(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session, url)
        await client.define("Thing")
        for n in range(20):
            await client.put(f"/Thing/t{n % 7}", {"n": n, "colour": ("red", "blue", "puce")[n % 3]})


@pytest.fixture(params=["down", "up"])
async def data(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Path]:
    """A filled log, on which no server runs, or one does."""
    server = Server(tmp_path / "data")
    await server.start()
    await fill(server.url)
    if request.param == "down":
        await server.stop()
    yield server.data
    if request.param == "up":
        await server.stop()


def change(data: Path, statement: str) -> None:
    connection = sqlite3.connect(data / "log.db", timeout=10)
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()


async def test_replay_finds_what_was_changed_and_rebuild_mends_it(data: Path) -> None:
    at = ("--data", data)
    told = await quire("replay", *at)
    assert (told.code, told.error) == (0, "")
    assert told.out.startswith("current: 10 rows are as 21 events make them, up to position 21 (")
    change(data, "UPDATE quire_current SET position = 3 WHERE id = 't4'")
    told = await quire("replay", "current", *at)
    assert told.code == 1
    assert told.out == (
        "current: quire_current ('Thing', 't4') is (3), and should be (20), by the event at position 20\n"
    )
    found = json.loads((await quire("replay", *at, "--json")).out)
    assert [one["difference"] for one in found] == [
        {"table": "quire_current", "key": ["Thing", "t4"], "expected": [20], "found": [3], "position": 20},
        None,
    ]
    assert (await quire("verify", *at)).code == 1
    told = await quire("rebuild", *at)
    assert (told.code, told.error) == (0, "")
    assert [line.split(" in ")[0] for line in told.out.splitlines()] == [
        "current: built anew from 21 events",
        "views: built anew from 21 events",
    ]
    assert (await quire("replay", *at)).code == (await quire("verify", *at)).code == 0
    assert (await quire("unpark", *at)).code == 0


@pytest.mark.parametrize("command", ["rebuild", "replay", "unpark"])
async def test_a_projection_that_is_not_there_is_one_line_and_exit_2(data: Path, command: str) -> None:
    told = await quire(command, "nonsense", "--data", data)
    assert (told.code, told.out) == (2, "")
    assert told.error == "quire: there is no projection nonsense; there are current, views\n"


@pytest.mark.parametrize("command", ["rebuild", "replay", "unpark"])
async def test_no_log_is_one_line_and_exit_3(tmp_path: Path, command: str) -> None:
    told = await quire(command, "--data", tmp_path / "data")
    assert (told.code, told.out) == (3, "")
    assert told.error.startswith(f"quire: there is no log in {tmp_path}")
    assert not (tmp_path / "data").exists()


async def test_a_body_that_cannot_be_handled_leaves_what_stood(data: Path) -> None:
    """By hand, and only here: a definition that is no JSON any more stops the building of views."""
    change(data, "UPDATE quire_event SET data = x'7b' WHERE position = 1")
    told = await quire("rebuild", "views", "--data", data)
    assert told.code == 1
    assert told.error.startswith(
        "quire: views was not built anew, and is as it was: at position 1: DecodeError"
    )
    told = await quire("replay", "views", "--data", data)
    assert (told.code, told.out.split(": ")[:2]) == (1, ["views", "it fails now at position 1"])


@pytest.fixture
async def painting(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with an async projection that cannot handle every third event."""
    server = Server(tmp_path / "data")
    server.program, server.options = PAINTING, ("--wrong", "puce")
    await server.start()
    await fill(server.url)
    yield server
    if server.process is not None and server.process.returncode is None:
        await server.stop()


async def colours(server: Server) -> dict[str, Any]:
    told = await quire("status", "--data", server.data, "--json")
    return {one["name"]: one for one in json.loads(told.out)["projections"]}["colours"]


async def until(server: Server, **wanted: Any) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while not wanted.items() <= (found := await colours(server)).items():
            await asyncio.sleep(0.05)
    return found


async def test_parked_events_are_shown_and_tried_again(painting: Server) -> None:
    at = ("--data", painting.data)
    found = await until(painting, state="following", lagEvents=0)
    assert (found["parked"], found["parkedEvents"][0]["position"]) == (6, 4)
    assert found["parkedEvents"][0]["resource"] == "Thing/t2"
    text = (await quire("status", *at)).out
    assert "projection   colours, version 1, following at position 21, at the tip" in text
    assert "6 events parked, `quire unpark colours` tries them again:" in text
    assert "position 4, Thing/t2, 20" in text
    assert "ValueError: puce is no colour" in text
    told = await quire("unpark", "colours", *at)
    assert (told.code, told.out) == (1, "colours: 0 handled, 6 still parked\n")
    await painting.stop()
    assert (await colours(painting))["state"] == "stopped"
    painting.options = ()
    await painting.start()
    told = await quire("unpark", *at)
    assert (told.code, told.out) == (0, "colours: 6 handled, 0 still parked\n")
    assert (await colours(painting))["parked"] == 0
    told = await quire("rebuild", "colours", *at)
    assert (told.code, told.out.startswith("colours: built anew from 21 events")) == (0, True)


async def test_a_halted_projection_is_shown_with_its_event(painting: Server) -> None:
    await until(painting, state="following", lagEvents=0)
    await painting.stop()
    painting.options = ("--on-error", "halt", "--version", "2", "--wrong", "blue")
    await painting.start()
    found = await until(painting, state="halted")
    assert (found["position"], found["haltedAt"], found["version"]) == (21, 3, 1)
    text = (await quire("status", "--data", painting.data)).out
    assert "halted at position 3: version 2 cannot be built: ValueError: blue is no colour" in text
