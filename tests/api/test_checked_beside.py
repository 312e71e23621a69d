"""Large bodies that come together are checked by another process: what comes of them is the same, on both backends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
from harness.client import Client, Reply, talking

from eventstore.server import checkers as limits
from eventstore.server import checking, connection
from eventstore.server.checkers import Checkers
from eventstore.server.checking import Valid
from eventstore.server.settings import Settings

SECONDS_MAX = 60
TOGETHER = 16
"""Requests under way at once: more than LOT_MIN even where a few come a little later."""
ROOM = "x" * limits.CHECKED_BYTES_MIN

Write = tuple[str, str, Any]


def body(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Pump", "note": ROOM, **more}


ODD: tuple[Write, ...] = (
    ("POST", "/Pump", body(n=1)),
    ("POST", "/Pump", body(id="given", n=1)),
    ("POST", "/Pump", body(id="g g")),
    ("POST", "/Pump", {"note": ROOM, "n": 1}),
    ("POST", "/Pump", body(n="one")),
    ("POST", "/Pump", {**body(), "resourceType": "Other"}),
    ("POST", "/Pump", b"not JSON " + ROOM.encode()),
    ("POST", "/Pump", b"[]" + b" " * limits.CHECKED_BYTES_MIN),
    ("PUT", "/Pump/put", body(id="put", n=2)),
    ("PUT", "/Pump/put2", body(id="other")),
    ("PUT", "/Pump/put3", body()),
    ("PUT", "/Pump/put4", body(id=None)),
    ("PUT", "/Pump/put5", body(id="put5", of={"resourceType": "Pump", "id": "a"})),
    ("PUT", "/Pump/put6", body(id="put6", of={"reference": "Patient/a"})),
    ("PUT", "/fhir/Pump/put7", body(id="put7", of={"resourceType": "Pump", "id": "a"})),
    ("PUT", "/fhir/Pump/put8", body(id="put8", of={"reference": "Pump/a"})),
    ("PUT", "/fhir/Pump/put9", {"id": "put9", "note": ROOM}),
    ("PUT", "/Pump/put10", body(id="put10", meta={"tag": [{"code": "x"}], "versionId": "7"})),
    ("PUT", "/Pump/put11", body(id="put11", unknown=1)),
    ("PUT", "/Nothing/a", {"resourceType": "Nothing", "id": "a", "note": ROOM}),
    ("POST", "/Tag", {"resourceType": "Tag", "code": ROOM}),
    (
        "PUT",
        "/Entity/Late",
        {"resourceType": "Entity", "id": "Late", "type": "resource", "description": ROOM},
    ),
)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Valid | None]:
    """What was found of each body that was sent to another process, or left because none had the time."""
    told: list[Valid | None] = []
    check_body = Checkers.check_body

    async def noted(self: Checkers, *about: Any, **more: Any) -> Valid | None:
        valid = await check_body(self, *about, **more)
        told.append(valid)
        return valid

    monkeypatch.setattr(Checkers, "check_body", noted)
    monkeypatch.setattr(limits, "_cores", lambda: 2)
    monkeypatch.setattr(limits, "CHECKED_LINES_MIN", TOGETHER)
    return told


@pytest.fixture
async def pumps(client: Client, found: list[Valid | None]) -> Client:
    """A server that has a process that checks, and has checked with it."""
    await client.define("Pump", isOpen=False)
    for path, type in (("n", "integer"), ("note", "string"), ("of", "Reference")):
        more = {"refers": ["Pump"]} if type == "Reference" else {}
        about = {"path": [path], "type": {"id": type}, "resource": {"id": "Pump"}}
        assert (await client.post("/Attribute", {"id": f"Pump.{path}", **about, **more})).status == 201
    await client.define("Tag")
    unique = {"path": ["code"], "type": {"id": "string"}, "resource": {"id": "Tag"}, "isUnique": True}
    assert (await client.post("/Attribute", {"id": "Tag.code", **unique})).status == 201
    await until_checked_beside(client, found)
    return client


async def until_checked_beside(client: Client, found: list[Valid | None]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not any(found):
            await together(client, [("POST", "/Pump", body())] * TOGETHER)


async def together(client: Client, writes: Sequence[Write]) -> list[Reply]:
    return await asyncio.gather(*(client.request(*write) for write in writes))


def processes() -> list[int]:
    """Those that check for this one."""
    mine = ["pgrep", "-P", str(os.getpid()), "-f", checking.__name__]
    return list(map(int, subprocess.run(mine, check=False, capture_output=True, text=True).stdout.split()))


def told(reply: Reply) -> tuple[Any, ...]:
    """An answer without what differs each time: positions, times, the ids that the server gives."""
    value = reply.json
    if isinstance(value, dict):
        value.pop("meta", None)
        value = {key: len(one) if key == "id" else one for key, one in value.items()}
    return reply.status, reply.headers["Content-Type"], "ETag" in reply.headers, value


async def test_the_same_comes_of_it(pumps: Client, found: list[Valid | None]) -> None:
    alone = [await pumps.request(*write) for write in ODD]
    taken = [write for write, reply in zip(ODD, alone, strict=True) if reply.status < 300]
    for method, path, _ in taken:
        if method == "PUT":
            assert (await pumps.delete(path)).status == 204
    await pumps.delete("/Pump/given")
    for reply in alone:
        if reply.status == 201 and reply.json["resourceType"] == "Tag":
            assert (await pumps.delete(f"/Tag/{reply.json['id']}")).status == 204
    del found[:]
    crowd = await together(pumps, [*ODD, *[("POST", "/Pump", body())] * TOGETHER])
    assert list(map(told, crowd[: len(ODD)])) == list(map(told, alone))
    assert {reply.status for reply in alone} >= {201, 400, 404, 422}
    assert [one is not None for one in found].count(True) > TOGETHER, "most was checked elsewhere"


async def test_a_new_definition_counts_at_once(pumps: Client, found: list[Valid | None]) -> None:
    changed = {"path": ["n"], "type": {"id": "string"}, "resource": {"id": "Pump"}}
    writes = [("POST", "/Pump", body(n=1))] * TOGETHER
    before, attribute, after = await asyncio.gather(
        together(pumps, writes),
        pumps.put("/Attribute/Pump.n", {"id": "Pump.n", **changed}),
        together(pumps, writes),
    )
    assert attribute.status == 200
    for reply in (*before, *after):
        assert reply.status == (201 if reply.status == 201 and reply.version < attribute.version else 422)
    del found[:]
    assert {reply.status for reply in await together(pumps, writes)} == {422}
    assert {r.status for r in await together(pumps, [("POST", "/Pump", body(n="1"))] * TOGETHER)} == {201}
    assert any(found), "and the process has learned of it"


async def test_warnings_are_told(pumps: Client, found: list[Valid | None]) -> None:
    """Of a process that checks as of this one."""
    outcome = {"Prefer": "return=OperationOutcome"}
    coding = {
        "path": ["kind"],
        "type": {"id": "code"},
        "resource": {"id": "Pump"},
        "valueSet": {"uri": "urn:nowhere"},
    }
    assert (await pumps.post("/Attribute", {"id": "Pump.kind", **coding})).status == 201
    del found[:]
    alone = await pumps.request("POST", "/Pump", body(kind="a"), **outcome)
    crowd = await asyncio.gather(
        *(pumps.request("POST", "/Pump", body(kind="a"), **outcome) for _ in range(TOGETHER))
    )
    assert {len(reply.json["issue"]) for reply in (alone, *crowd)} == {len(alone.json["issue"])}
    assert {reply.headers.get("X-Quire-Warnings") for reply in crowd} == {
        alone.headers.get("X-Quire-Warnings")
    }


async def test_preconditions_hold(pumps: Client) -> None:
    writes = [("PUT", "/Pump/one", body(id="one", n=n)) for n in range(TOGETHER)]
    replies = await asyncio.gather(*(pumps.request(*write, If_None_Match="*") for write in writes))
    assert sorted(reply.status for reply in replies) == [201] + [412] * (TOGETHER - 1)


async def test_when_the_process_is_killed_all_are_answered(
    pumps: Client, found: list[Valid | None], caplog: pytest.LogCaptureFixture
) -> None:
    writes = [("POST", "/Pump", body())] * 4 * TOGETHER
    running = asyncio.gather(*(together(pumps, writes) for _ in range(4)))
    await asyncio.sleep(0)
    for pid in processes():
        os.kill(pid, signal.SIGKILL)
    assert {reply.status for replies in await running for reply in replies} == {201}
    del found[:]
    async with asyncio.timeout(SECONDS_MAX):
        while not any(found):
            await together(pumps, writes)
    assert "a process that checks ended" in caplog.text


async def test_at_the_end_no_process_is_left(settings: Settings, found: list[Valid | None]) -> None:
    """Also of those that have only begun."""
    async with talking(settings) as client:
        await client.define("Pump")
        async with asyncio.timeout(SECONDS_MAX):
            while not processes():
                await together(client, [("POST", "/Pump", body())] * TOGETHER)
    assert processes() == []
    assert not any(found), "it had only begun"


async def test_what_is_cut_off_at_the_end_is_not_stored(
    settings: Settings, found: list[Valid | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor looked at here, as long as that may take."""
    monkeypatch.setattr(connection, "STOP_SECONDS_MAX", 0.1)
    async with talking(settings) as client:
        await client.define("Pump")
        await until_checked_beside(client, found)
        monkeypatch.setattr(limits, "LOT_MIN", 1)
        for pid in processes():
            os.kill(pid, signal.SIGSTOP)
        bodies = [
            asyncio.create_task(client.post("/Pump", body(n=n))) for n in range(limits.LOT_MAX + TOGETHER)
        ]
        answered, cut_off = await asyncio.wait(bodies, return_when=asyncio.FIRST_COMPLETED)
        assert {one.result().status for one in answered} == {201}, "those were checked here"
        tip = max([one.result().version for one in answered] + [await client.tip()])
    assert len(cut_off) >= limits.LOT_MAX
    async with talking(settings) as client:
        assert await client.tip() < tip + TOGETHER
    await asyncio.gather(*cut_off, return_exceptions=True)


async def test_few_or_small_bodies_are_checked_here(pumps: Client, found: list[Valid | None]) -> None:
    del found[:]
    await together(pumps, [("POST", "/Pump", {"n": n}) for n in range(TOGETHER)])
    await pumps.post("/Pump", body())
    assert found == []


async def test_nobody_is_added_to_those_who_wait_for_long(
    pumps: Client, found: list[Valid | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SLOW_SECONDS", 0.1)
    writes = [("POST", "/Pump", body())] * TOGETHER
    (pid,) = processes()
    os.kill(pid, signal.SIGSTOP)
    try:
        first = asyncio.create_task(together(pumps, writes))
        await asyncio.wait([first], timeout=0.5)
        del found[:]
        assert {reply.status for reply in await together(pumps, writes)} == {201}
        assert not any(found)
        assert not first.done()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {reply.status for reply in await first} == {201}
