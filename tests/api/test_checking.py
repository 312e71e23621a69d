"""An import whose lines are checked by processes of their own ends as one that checks them itself, on both backends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from conftest import NewPlace

from eventstore.body import read
from eventstore.command import Command
from eventstore.errors import Invalid
from eventstore.log.base import Span
from eventstore.log.opening import Place
from eventstore.server import checkers as limits
from eventstore.server import checking
from eventstore.server.checkers import Checkers
from eventstore.server.importing import Imported, Importer
from eventstore.server.opening import open_store
from eventstore.server.settings import Settings
from eventstore.store import Store

DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"resourceType": "Entity", "id": "Pump", "type": "resource"},
    {"resourceType": "Attribute", "id": "Pump.n", "resource": {"id": "Pump"}, "path": ["n"], "type": {"id": "integer"}},
    {
        "resourceType": "Attribute", "id": "Pump.of", "resource": {"id": "Pump"}, "path": ["of"],
        "type": {"id": "Reference"}, "refers": ["Pump"],
    },
    {"resourceType": "Entity", "id": "Tag", "type": "resource"},
    {
        "resourceType": "Attribute", "id": "Tag.code", "resource": {"id": "Tag"}, "path": ["code"],
        "type": {"id": "string"}, "isUnique": True,
    },
)  # fmt: skip
SECONDS_MAX = 60


def line(**more: Any) -> bytes:
    return json.dumps({"resourceType": "Pump", **more}).encode()


ODD = (
    line(id="a", n=1),
    line(id="a", n=1),
    line(id="a", n=2),
    line(id="b", n="one"),
    line(id="b", m=1),
    line(id="c", of={"resourceType": "Pump", "id": "a"}),
    line(id="c", of={"resourceType": "Pump", "id": "a"}),
    line(id="d", of={"reference": "Patient/a"}),
    line(id="e", meta={"tag": [{"code": "x"}], "versionId": "7"}),
    line(id="f", n=10**30),
    line(id="g g"),
    b'{"resourceType":"Nothing","id":"a"}',
    b'{"resourceType":"Pump","n":1,"n":2}',
    b"not JSON",
    b"[]",
    b'{"resourceType":"Tag","id":"a","code":"one"}',
    b'{"resourceType":"Tag","id":"b","code":"one"}',
    b'{"resourceType":"Entity","id":"Late","type":"resource","isOpen":true}',
    b'{"resourceType":"Late","id":"a","any":"thing"}',
    b'{"id":"h",  "n": 1.0, "resourceType":"Pump"}',
)
MANY = tuple(line(id=f"n{n}", n=n) for n in range(limits.CHECKED_LINES_MIN))
LINES = (*ODD, *MANY)


async def _until(condition: Any) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.01)


def _pids() -> list[int]:
    """Of the processes that check."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", checking.__name__], check=True, capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


async def _filled(store: Store) -> None:
    for value in DEFINITIONS:
        data = msgspec.json.encode(value)
        await store.submit(Command("PUT", value["resourceType"], value["id"], b"{}", read(data)))


async def _imported(store: Store, checkers: Checkers) -> list[Imported]:
    return await Importer(store, checkers).store(LINES, define_open=False, context=b"{}")


async def _told(store: Store) -> list[tuple[Any, ...]]:
    """What the log holds, without its times."""
    events = await store.log.events(Span())
    values = [json.loads(event.data or b"null") for event in events]
    for value in values:
        value["meta"].pop("lastUpdated")
    return [
        (e.position, e.type, e.id, e.action, e.method, value) for e, value in zip(events, values, strict=True)
    ]


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with open_store(settings) as opened:
        await _filled(opened)
        yield opened


@pytest.fixture
async def checkers(store: Store, place: Place) -> AsyncIterator[Checkers]:
    """With one process that is ready."""
    async with Checkers(place, 1) as some:
        assert await some.check(MANY, store.registry, b"{}") == [None] * len(MANY), "it has only begun"
        await _until(lambda: some.ready)
        yield some


async def test_the_same_comes_of_it(store: Store, checkers: Checkers, new_place: NewPlace) -> None:
    found = await checkers.check(LINES, store.registry, b"{}")
    assert [bool(one) for one in found[: len(ODD)]].count(True) >= 6, "it takes what is valid off our hands"
    assert all(found[len(ODD) :])
    there = await new_place()
    async with open_store(Settings(data=there.data, db=there.db)) as other, Checkers(there, 0) as none:
        await _filled(other)
        told = await _imported(other, none)
        assert await _imported(store, checkers) == told
        assert await _told(store) == await _told(other)
    assert {"created", "updated", "unchanged", "refused"} == {one.status for one in told}


async def test_a_line_without_an_id_gets_one(store: Store, checkers: Checkers) -> None:
    lines = [line(n=n) for n in range(limits.CHECKED_LINES_MIN)]
    assert all(await checkers.check(lines, store.registry, b"{}"))
    told = await Importer(store, checkers).store(lines, define_open=False, context=b"{}")
    assert {one.status for one in told} == {"created"}
    assert len({one.resource for one in told}) == len(lines)


async def test_what_was_found_valid_by_an_older_definition_is_looked_at_again(
    store: Store, checkers: Checkers
) -> None:
    (command, *_) = await checkers.check(MANY, store.registry, b"{}")
    assert command is not None
    data = msgspec.json.encode({**DEFINITIONS[1], "type": {"id": "string"}})
    await store.submit(Command("PUT", "Attribute", "Pump.n", b"{}", read(data)))
    with pytest.raises(Invalid, match="expected type of string"):
        await store.queue(command)
    assert not any(await checkers.check(MANY, store.registry, b"{}")), "and it has learned of it"


async def test_a_place_that_becomes_a_reference_takes_the_short_form(
    store: Store, checkers: Checkers
) -> None:
    short = line(id="s", any={"resourceType": "Pump", "id": "a"})
    for value in ({**DEFINITIONS[0], "isOpen": True}, {**DEFINITIONS[2], "id": "Pump.any", "path": ["any"]}):
        (command, *_) = await checkers.check((short, *MANY), store.registry, b"{}")
        await store.submit(
            Command("PUT", value["resourceType"], value["id"], b"{}", read(msgspec.json.encode(value)))
        )
    assert command is not None
    (accepted,) = await store.queue(command)
    assert json.loads(accepted.data or b"")["any"] == {"reference": "Pump/a"}


async def test_a_process_that_is_killed_costs_nothing_and_another_begins(
    store: Store, checkers: Checkers, caplog: pytest.LogCaptureFixture
) -> None:
    for pid in _pids():
        os.kill(pid, signal.SIGKILL)
    told = await _imported(store, checkers)
    assert [one.status for one in told[len(ODD) :]] == ["created"] * len(MANY)
    assert "a process that checks ended" in caplog.text
    await _imported(store, checkers)
    await _until(lambda: checkers.ready)


async def test_who_goes_away_takes_nothing_from_the_others(
    store: Store, checkers: Checkers, caplog: pytest.LogCaptureFixture
) -> None:
    (pid,) = _pids()
    os.kill(pid, signal.SIGSTOP)
    gone, stays = (asyncio.create_task(_imported(store, checkers)) for _ in range(2))
    await _until(lambda: any(one.waiting == 2 for one in checkers.ready))
    gone.cancel()
    os.kill(pid, signal.SIGCONT)
    told = await stays
    assert [one.status for one in told[len(ODD) :]] == ["created"] * len(MANY)
    assert not caplog.text


async def test_it_ends_when_no_lines_come(
    store: Store, checkers: Checkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS_MAX", 0.5)
    assert all(await checkers.check(MANY, store.registry, b"{}"))
    await _until(lambda: not checkers.ready)
    assert not any(await checkers.check(MANY, store.registry, b"{}")), "a new one begins"
    await _until(lambda: checkers.ready)
    await _until(lambda: not checkers.ready)  # though none came once it was ready


async def test_where_none_can_begin_lines_are_checked_here(
    store: Store, place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS_MAX", 0.01)
    async with Checkers(
        Place(place.data / "nowhere", "postgresql://127.0.0.1:1/no" if place.db else ""), 1
    ) as none:
        assert (await _imported(store, none))[-1].status == "created"
        await _until(lambda: "all is checked in this one" in caplog.text)
        assert not any(await none.check(MANY, store.registry, b"{}"))
        await _again(none, store, caplog, 2)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        await _again(none, store, caplog, 3)
    assert "No such file" in caplog.text


async def _again(none: Checkers, store: Store, caplog: pytest.LogCaptureFixture, times: int) -> None:
    """It is tried again after a pause."""
    async with asyncio.timeout(SECONDS_MAX):
        while caplog.text.count("all is checked in this one") < times:
            assert not any(await none.check(MANY, store.registry, b"{}"))
            await asyncio.sleep(0.01)


async def test_ctrl_c_is_for_its_parent(checkers: Checkers) -> None:
    assert checkers.ready
    assert all(os.getsid(pid) == pid for pid in _pids()), "a terminal sends it to those of its own session"
