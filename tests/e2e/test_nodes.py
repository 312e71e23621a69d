"""Several nodes over one log on PostgreSQL: real processes, killed, stopped and ended."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import checkers
from harness.client import Client
from harness.colours import Colours
from harness.command import quire
from harness.database import database
from harness.process import PAINTING, Server, free_port
from harness.sse import frames
from harness.stream import sequence, stored, until

from eventstore.log.opening import Place, open_log

NATS_SERVER = Path(sys.executable).parent / "nats-server"


@pytest.fixture
def backend() -> str:
    return "postgres"


class Node(Server):
    """A server over a log that others serve too."""

    def __init__(self, place: Place, name: str, *options: str, painting: bool = False) -> None:
        super().__init__(place.data / name)
        self.options = ("--db", place.db, *options)
        if painting:
            self.program = PAINTING
        self.client: Client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        await self.start()
        try:
            async with aiohttp.ClientSession() as session:
                self.client = Client(session, self.url)
                yield self
        finally:
            if self.process is not None and self.process.returncode is None:
                self.process.send_signal(signal.SIGCONT)
                assert await self.stop() == 0

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def state_of(self, what: str) -> Any:
        """What `/ready` says of the publisher, or of a projection."""
        ready = (await self.client.get("/ready")).json
        if what == "publisher":
            return ready[what]
        return next(one for one in ready["projections"] if one["name"] == what)

    async def has(self, what: str, position: int) -> bool:
        """Whether this node does it, and has done everything up to a position."""
        told = await self.state_of(what)
        return told["state"] in ("following", "publishing") and told["position"] >= position

    async def paint(self, first: int, count: int) -> int:
        """Write resources; the position of the last."""
        colours = ("red", "blue")
        for n in range(first, first + count):
            reply = await self.client.put(f"/Thing/t{n % 5}", {"colour": colours[n % 2], "n": n})
        return reply.version


@asynccontextmanager
async def nodes(place: Place, *options: str, painting: bool = False) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes, the first of which was there first."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(Node(place, "one", *options, painting=painting).running())
        two = await stack.enter_async_context(Node(place, "two", *options, painting=painting).running())
        yield one, two


async def test_a_type_is_known_to_the_next_request_on_every_node(place: Place) -> None:
    async with nodes(place) as (one, two):
        for n, (here, there) in enumerate([(one.client, two.client), (two.client, one.client)] * 5):
            await here.define(f"List{n}")
            assert (await there.get(f"/List{n}")).json["total"] == 0
            await here.define(f"Write{n}")
            assert (await there.put(f"/Write{n}/a", {"n": 1})).status == 201
            await here.define(f"Sql{n}")
            assert (await there.post("/$sql", json.dumps(f"SELECT id FROM sql{n}"))).json == []
            await here.define(f"Schema{n}")
            assert (await there.get(f"/$json-schema?path=definitions.Schema{n}")).status == 200
            await here.define(f"Root{n}")
            assert f"Root{n}" in (await there.get("/")).json["types"]


async def test_a_changed_definition_counts_for_the_next_request_on_every_node(place: Place) -> None:
    async with nodes(place) as (one, two):
        for here, there, name in [(one.client, two.client, "A"), (two.client, one.client, "B")] * 3:
            entity = {"id": f"Thing{name}", "type": "resource"}
            path = f"/Thing{name}/a"
            await here.put(f"/Entity/Thing{name}", {**entity, "isOpen": True})
            assert (await there.put(path, {"n": 1})).status in (200, 201)
            await here.put(f"/Entity/Thing{name}", entity)
            assert (await there.put(path, {"n": 2})).status == 422
            attribute = {"id": f"Thing{name}.n", "path": ["n"], "resource": _reference(name), "type": _type()}
            assert (await here.put(f"/Attribute/Thing{name}.n", attribute)).status in (200, 201)
            assert (await there.put(path, {"n": 3})).status == 200
            schema = (await there.get(f"/$json-schema?path=definitions.Thing{name}.properties")).json
            assert "n" in schema["schema"]
            assert (await here.delete(f"/Attribute/Thing{name}.n")).status == 204


def _reference(name: str) -> dict[str, str]:
    return {"resourceType": "Entity", "id": f"Thing{name}"}


def _type() -> dict[str, str]:
    return {"resourceType": "Entity", "id": "integer"}


async def test_feeds_and_waits_go_on_over_any_node(place: Place) -> None:
    async with nodes(place) as (one, two):
        await one.client.define("Thing")
        live = await two.client.session.get(
            f"{two.url}/_changes?since=0", headers={"Accept": "text/event-stream"}
        )
        following = frames(live)
        assert (await anext(following)).position == 1
        for n in range(20):
            written = (await one.client.put("/Thing/a", {"n": n})).version
            minimum = str(written)
            read = two.client.get("/Thing/a", X_Min_Position=minimum)
            assert (await read).json["n"] == n
            assert (await anext(following)).position == written
        live.close()
        page = (await one.client.get("/_changes?since=0&_count=7")).json
        for reader in (two, one):
            page = (await reader.client.get(f"/_changes?since={page['cursor']}&_count=7")).json
            assert page["events"]
        waiting = asyncio.create_task(one.client.get(f"/_changes?since={page['cursor']}&wait=20"))
        written = (await two.client.put("/Thing/b", {})).version
        assert [event["position"] for event in (await waiting).json["events"]] == [written]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])
async def test_another_node_follows_when_its_owner_is_gone(place: Place, how: signal.Signals) -> None:
    async with nodes(place, painting=True) as (one, two):
        await one.client.define("Thing")
        last = await one.paint(0, 20)
        await until(lambda: one.has("colours", last))
        told = await two.state_of("colours")
        assert told["state"] == "elsewhere"
        assert told["owner"] == (await one.state_of("colours"))["owner"]
        one.send(how)
        last = await two.paint(20, 20)
        await until(lambda: two.has("colours", last))
        if how == signal.SIGSTOP:
            one.send(signal.SIGCONT)
            last = await one.paint(40, 20)
            await until(lambda: two.has("colours", last))
            assert (await one.state_of("colours"))["state"] == "elsewhere"
        log = await open_log(place, write=False)
        await checkers.replayable(log, await checkers.events_of(log), [Colours()])
        await log.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The URL of a nats-server that is no node's own."""
    port = free_port()
    process = subprocess.Popen(
        [NATS_SERVER, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path / "stream")],
        stderr=subprocess.DEVNULL,
    )
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGSTOP])
async def test_another_node_publishes_when_its_owner_is_gone(
    place: Place, broker: str, how: signal.Signals
) -> None:
    async with nodes(place, "--nats", broker) as (one, two):
        await one.client.define("Thing")
        last = await one.paint(0, 20)
        await until(lambda: one.has("publisher", last))
        assert (await two.state_of("publisher"))["state"] == "elsewhere"
        status = await asyncio.to_thread(quire, "status", "--db", place.db, "--json")
        assert len(status.json["nodes"]) == 2
        (publisher,) = status.json["publishers"]
        assert (publisher["state"], publisher["position"]) == ("publishing", last)
        assert publisher["owner"] == (await one.state_of("publisher"))["owner"]
        refused = await asyncio.to_thread(quire, "epoch", "--db", place.db, "--nats", broker)
        assert refused.code == 3
        assert publisher["owner"] in refused.error
        one.send(how)
        last = await two.paint(20, 20)
        await until(lambda: two.has("publisher", last))
        if how == signal.SIGSTOP:
            one.send(signal.SIGCONT)
            last = await one.paint(40, 20)
            await until(lambda: two.has("publisher", last))

            async def stands_by() -> bool:
                told = await one.state_of("publisher")
                assert told["state"] != "halted", told
                return bool(told["state"] == "elsewhere" and told["position"] >= last)

            await until(stands_by)
        assert [sequence(message) for message in await stored(broker)] == list(range(1, last + 1))
        report = await asyncio.to_thread(
            quire, "stream", "check", "--json", "--db", place.db, "--nats", broker
        )
        assert (report.json["difference"], report.json["lagEvents"]) == (None, 0)


async def test_ready_says_that_the_database_is_away(tmp_path: Path) -> None:
    async with database() as postgres, Node(Place(tmp_path, postgres.url), "one").running() as one:
        await one.client.define("Thing")
        await postgres.kill()
        away = await one.client.get("/ready")
        assert (away.status, away.json["status"]) == (503, "fail")
        assert "PostgreSQL" in away.json["output"]
        assert away.json["node"]
        await postgres.start()

        async def is_back() -> bool:
            return (await one.client.get("/ready")).status == 200

        await until(is_back)
