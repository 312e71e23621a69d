"""Seeded load: clients that write in every way there is, break off, try again, read back, and note what they are told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from harness.record import Attempt, Listed, Record, Seen, Told, Write, known_statuses
from harness.tasks import ended
from harness.wire import Answer, Unanswered, Wire

OPEN_TYPES = ("Note", "Counter", "Doc", "Purse", "Transfer", "Metered")
LISTED = ("Counter", "Purse", "Doc", "Metered")
"""Types that stay small enough to be listed whole."""
PURSES, COUNTERS, RACERS = 6, 3, 8
AMOUNT = 100
MAXIMUM = 1000
ANSWER_SECONDS = 10.0
PAUSE_SECONDS = 0.02
"""Before a server that is away is asked again."""
METERED = "metered-n"
MOVE_CHANCE = 0.1
"""Of asking another node than the last time."""


class Shared:
    """What all clients know."""

    def __init__(self, record: Record) -> None:
        self.ports: list[int] = []
        """Of the nodes that run."""
        self.record = record
        self.operations = itertools.count(1)
        self.claims = itertools.count()
        self.stopping = asyncio.Event()
        self.up = asyncio.Event()
        self.answer_seconds = ANSWER_SECONDS
        self.cut_chance = 0.03
        self.pause_seconds = 0.0
        """Of each client, between two things that it does."""

    def came(self, port: int) -> None:
        """A node runs."""
        self.ports.append(port)
        self.up.set()

    def went(self, port: int) -> None:
        """A node runs no more."""
        if port in self.ports:
            self.ports.remove(port)
        if not self.ports:
            self.up.clear()


class Traffic:
    """So many clients, each with a generator of its own that is drawn from the seed."""

    def __init__(self, seed: int, record: Record, clients: int = 16) -> None:
        self.shared = Shared(record)
        self._seed = seed
        self._clients = [Client(self.shared, Random(f"{seed}/{n}"), n) for n in range(clients)]
        self._tasks: list[asyncio.Task[None]] = []

    async def define(self) -> None:
        """The types, and what has to be there."""
        first = Client(self.shared, Random(self._seed), -1)
        for type in OPEN_TYPES:
            entity = {"type": "resource", "isOpen": True}
            await first.write(Write("PUT", "Entity", type, entity, absent=True))
        attribute = {
            "resource": {"id": "Metered", "resourceType": "Entity"},
            "path": ["n"],
            "type": {"id": "integer", "resourceType": "Entity"},
            "schema": {"maximum": MAXIMUM},
        }
        await first.write(Write("PUT", "Attribute", METERED, attribute, absent=True))
        for n in range(PURSES):
            await first.write(Write("PUT", "Purse", f"p{n}", {"balance": AMOUNT}, absent=True))
        await first.write(Write("PUT", "Doc", "shared", {"rev": 0}, absent=True))
        await first.close()

    async def put(self, type: str, id: str, body: dict[str, Any]) -> None:
        """One resource more."""
        client = Client(self.shared, Random(self._seed), -3)
        await client.write(Write("PUT", type, id, body, absent=True))
        await client.close()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(client.run()) for client in self._clients]

    async def stop(self) -> None:
        """End after what is under way, retries included."""
        self.shared.stopping.set()
        await asyncio.gather(*self._tasks)
        self._tasks = []

    async def cancel(self) -> None:
        """End now."""
        await ended(*self._tasks)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def raise_failed(self) -> None:
        """Raises what ended a client, if anything did."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def look(self) -> None:
        """Read everything once more."""
        last = Client(self.shared, Random(self._seed), -2)
        for type in LISTED:
            await last.list(type)
        await last.close()


class Client:
    """One connection, one thing at a time; now and then at another node."""

    def __init__(self, shared: Shared, random: Random, number: int) -> None:
        self._shared = shared
        self._record = shared.record
        self._random = random
        self._number = number
        self._wire = Wire(0)
        self._notes: dict[str, int] = {}
        """Those of its own that are there, with their versions."""
        self._late: set[str] = set()
        """Written more than once for want of an answer: the first may still come, and is never to find them deleted."""
        self._does: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (20, self._increment), (12, self._create), (6, self._post), (10, self._claim), (10, self._transfer),
            (8, self._merge), (6, self._replace), (8, self._delete), (6, self._meter), (2, self._bound),
            (1, self._new_type), (3, self._list_one), (2, self._revive),
        ]  # fmt: skip

    async def run(self) -> None:
        weights = [weight for weight, _ in self._does]
        while not self._shared.stopping.is_set():
            await self._shared.up.wait()
            ((_, do),) = self._random.choices(self._does, weights)
            await do()
            await asyncio.sleep(self._shared.pause_seconds)
        await self.close()

    async def close(self) -> None:
        await self._wire.close()

    async def _at_a_node(self, *, another: bool = False) -> None:
        """Be connected to a node that runs, as far as is known."""
        await self._shared.up.wait()
        ports = self._shared.ports
        if ports and (another or self._wire.port not in ports or self._random.random() < MOVE_CHANCE):
            self._wire.move(self._random.choice(ports))

    # Writing, with retries.

    async def write(self, *writes: Write, again: bool = True) -> Attempt:
        """Send until an answer comes, when sending it again does no harm; the last attempt."""
        operation = f"{self._number}.{next(self._shared.operations)}"
        for number in itertools.count(1):
            attempt = Attempt(operation, f"{operation}.{number}", writes)
            self._record.attempts.append(attempt)
            await self._at_a_node(another=number > 1)
            await self._attempt(attempt)
            if attempt.outcome != "unsent" and (attempt.outcome != "unknown" or not again):
                return attempt
            self._late.update(write.id for write in writes)
            await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError

    async def _attempt(self, attempt: Attempt) -> None:
        seconds = self._shared.answer_seconds
        if self._random.random() < self._shared.cut_chance:
            seconds = self._random.random() * 0.02
        method, path, body, headers = _request(attempt.writes)
        try:
            answer = await self._wire.ask(
                method, path, body, {"X-Request-Id": attempt.request, **headers}, seconds
            )
        except Unanswered as error:
            attempt.outcome = "unknown" if error.sent else "unsent"
            return
        attempt.status = answer.status
        if answer.status not in known_statuses(attempt.writes):
            self._record.faults.append(
                f"{attempt.request} {method} {path}: {answer.status} {answer.data[:300]!r}"
            )
        if answer.status < 300:
            attempt.told = _told(attempt.writes, answer)
            attempt.outcome = "accepted"
            self._record.accepted(attempt.told)
        elif answer.status == 504:
            attempt.outcome = "unknown"
        else:
            attempt.outcome = "refused"
            attempt.current = answer.version if len(attempt.writes) == 1 else None
        if answer.status in (429, 503, 504):
            await asyncio.sleep(PAUSE_SECONDS)

    # Reading.

    async def read(self, type: str, id: str, *, wait: bool = False) -> Seen | None:
        known = self._record.known
        headers = {"X-Min-Position": str(known)} if wait else {}
        answer = await self._ask(f"/{type}/{id}", headers)
        if answer is None or answer.status == 503:
            return None
        if answer.status not in (200, 404, 410):
            self._record.faults.append(f"GET {type}/{id}: {answer.status} {answer.data[:300]!r}")
            return None
        body = answer.json if answer.status == 200 else None
        seen = Seen(known, type, id, answer.status, answer.version, body)
        self._record.seen.append(seen)
        return seen

    async def list(self, type: str) -> None:
        """A whole type, which must have less than a page."""
        known = self._record.known
        answer = await self._ask(f"/{type}?_count=1000", {})
        if answer is None or answer.status == 503:
            return
        if answer.status != 200:
            self._record.faults.append(f"GET {type}: {answer.status} {answer.data[:300]!r}")
            return
        found = [entry["resource"] for entry in answer.json["entry"]]
        versions = {one["id"]: int(one["meta"]["versionId"]) for one in found}
        bodies = {one["id"]: one for one in found}
        position = int(answer.headers["x-log-position"])
        self._record.listed.append(Listed(known, type, position, answer.json["total"], versions, bodies))

    async def _ask(self, path: str, headers: dict[str, str]) -> Answer | None:
        await self._at_a_node()
        try:
            return await self._wire.ask("GET", path, None, headers, self._shared.answer_seconds)
        except Unanswered:
            await asyncio.sleep(PAUSE_SECONDS)
            return None

    # What it does.

    async def _increment(self) -> None:
        """A hot counter, read and written back if nobody was faster."""
        id = f"c{self._random.randrange(COUNTERS)}"
        seen = await self.read("Counter", id)
        if seen is None:
            return
        if seen.body is None:
            await self.write(Write("PUT", "Counter", id, {"n": 0}, absent=True), again=False)
            return
        await self.write(Write("PUT", "Counter", id, {"n": seen.body["n"] + 1}, match=seen.version))

    async def _create(self) -> None:
        id = f"n{self._number}-{next(self._shared.operations)}"
        attempt = await self.write(Write("PUT", "Note", id, self._note(), absent=True))
        if attempt.outcome == "accepted" and id not in self._late:
            self._notes[id] = attempt.told[0].position or 0
            await self.read("Note", id, wait=self._random.random() < 0.3)

    async def _post(self) -> None:
        await self.write(Write("POST", "Note", "", self._note()), again=False)

    def _note(self) -> dict[str, Any]:
        return {"by": self._number, "text": "x" * self._random.choice((10, 100, 100, 1000, 5000))}

    async def _claim(self) -> None:
        """RACERS clients and more want the same id at about the same time."""
        id = f"claim-{next(self._shared.claims) // RACERS}"
        if self._random.random() < 0.5:
            await self.write(Write("PUT", "Note", id, {"by": self._number}, absent=True))
        else:
            await self.write(Write("POST", "Note", id, {"id": id, "by": self._number}))

    async def _transfer(self) -> None:
        """From one purse to another, with a record of it: three resources, all or none."""
        one, other = self._random.sample(range(PURSES), 2)
        giver, taker = await self.read("Purse", f"p{one}"), await self.read("Purse", f"p{other}")
        if giver is None or taker is None or giver.body is None or taker.body is None:
            return
        amount = self._random.randrange(1, 10)
        await self.write(
            Write("PUT", "Purse", giver.id, {"balance": giver.body["balance"] - amount}, match=giver.version),
            Write("PUT", "Purse", taker.id, {"balance": taker.body["balance"] + amount}, match=taker.version),
            Write("PUT", "Transfer", f"t{next(self._shared.operations)}", {"amount": amount}, absent=True),
        )

    async def _merge(self) -> None:
        """A merge patch of a key of its own, without a precondition: nobody's update may be lost."""
        change = {f"k{self._number}": next(self._shared.operations)}
        await self.write(Write("PATCH", "Doc", "shared", change), again=False)

    async def _replace(self) -> None:
        """A JSON Patch that tests before it replaces."""
        seen = await self.read("Doc", "shared")
        if seen is not None and seen.body is not None:
            rev = seen.body["rev"]
            patch = [
                {"op": "test", "path": "/rev", "value": rev},
                {"op": "replace", "path": "/rev", "value": rev + 1},
            ]
            await self.write(Write("PATCH", "Doc", "shared", patch, match=seen.version))

    async def _delete(self) -> None:
        """One of its own notes, or a counter."""
        if self._notes and self._random.random() < 0.9:
            id, version = self._notes.popitem()
            await self.write(Write("DELETE", "Note", id, match=version))
            await self.read("Note", id)
        else:
            await self.write(Write("DELETE", "Counter", f"c{self._random.randrange(COUNTERS)}"), again=False)

    async def _revive(self) -> None:
        """What was deleted comes back; what was claimed may not be claimed again."""
        id = f"n{self._number}-again{len(self._late)}"
        await self.write(Write("PUT", "Note", id, self._note(), absent=True))
        seen = await self.read("Note", id)
        if seen is not None and seen.version is not None and id not in self._late:
            await self.write(Write("DELETE", "Note", seen.id, match=seen.version))

    async def _meter(self) -> None:
        id, n = f"m{self._random.randrange(20)}", self._random.randrange(MAXIMUM)
        await self.write(Write("PUT", "Metered", id, {"n": n}), again=False)

    async def _bound(self) -> None:
        """A definition changes: from its position on, others are refused."""
        change = {"schema": {"maximum": self._random.randrange(MAXIMUM // 2, MAXIMUM)}}
        await self.write(Write("PATCH", "Attribute", METERED, change), again=False)

    async def _new_type(self) -> None:
        """A type, and at once a resource of it."""
        name = f"Type{next(self._shared.operations)}"
        entity = {"type": "resource", "isOpen": True}
        if (await self.write(Write("PUT", "Entity", name, entity, absent=True))).status in (201, 412):
            await self.write(Write("PUT", name, "first", {"n": 1}, absent=True))

    async def _list_one(self) -> None:
        await self.list(self._random.choice(LISTED))


def _request(writes: tuple[Write, ...]) -> tuple[str, str, Any, dict[str, str]]:
    """Method, path, body and headers of one write or of a transaction."""
    if len(writes) > 1:
        return (
            "POST",
            "/",
            {"resourceType": "Bundle", "type": "transaction", "entry": [*map(_entry, writes)]},
            {},
        )
    (write,) = writes
    path = f"/{write.type}" if write.method == "POST" else f"/{write.type}/{write.id}"
    headers = dict(write.headers)
    if write.method == "PATCH":
        kind = "json-patch+json" if isinstance(write.body, list) else "merge-patch+json"
        headers["Content-Type"] = f"application/{kind}"
    return write.method, path, write.body, headers


def _entry(write: Write) -> dict[str, Any]:
    request: dict[str, Any] = {"method": write.method, "url": f"{write.type}/{write.id}"}
    if write.match is not None:
        request["ifMatch"] = f'W/"{write.match}"'
    if write.absent:
        request["ifNoneMatch"] = "*"
    return {"resource": {"resourceType": write.type, "id": write.id, **write.body}, "request": request}


def _told(writes: tuple[Write, ...], answer: Answer) -> tuple[Told, ...]:
    if len(writes) > 1:
        versions = [int(entry["response"]["etag"][3:-1]) for entry in answer.json["entry"]]
        return tuple(Told(version, write.id) for write, version in zip(writes, versions, strict=True))
    body = answer.json if answer.data else None
    return (Told(answer.version, body["id"] if body else writes[0].id, body),)
