"""One run of the fault harness: nodes under load and under faults, and at its end every guarantee checked."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

from eventstore.log.base import EventLog, Span
from eventstore.log.opening import Place, open_log
from harness import checkers, verifiable
from harness.checkers import Violated
from harness.followers import FeedFollower, Poller, StreamFollower, delivered
from harness.model import History
from harness.process import Server, free_port
from harness.record import Followed, Record
from harness.stream import stored
from harness.tally import Tally
from harness.traffic import METERED, Traffic
from harness.wire import Unanswered, Wire
from projections.engine import BUILT_IN

TESTS = Path(__file__).parents[1]
WAIT_SECONDS_MAX = 60.0
STALL_SECONDS_MAX = 15.0
DEATH_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
LOOK_SECONDS = 0.01
LIMITS: Mapping[str, Any] = {
    "eventstore.log.sqlite.CHECKPOINT_AFTER_BYTES": 512 * 1024,
    "eventstore.follower.CHUNK_EVENTS": 100,
    "projections.rebuild.REBUILD_CHUNK_EVENTS": 100,
    "projections.rebuild.SWITCH_EVENTS_MAX": 100,
}
"""Smaller than in life, so that what happens seldom happens often."""


class Broken(AssertionError):
    """What a run found broken, all of it."""

    def __init__(self, violations: list[Violated]) -> None:
        super().__init__("\n".join(map(str, violations)))
        self.guarantees = {one.guarantee for one in violations}


class Row(NamedTuple):
    """A line of the table at the end."""

    scenario: str
    seed: int
    seconds: float
    events: int
    kills: int
    acknowledged: int
    refused: int
    unknown: int
    longest_pause_seconds: float
    note: str = ""


class Run:
    """A log, the nodes over it, their clients, and what they were told.

    The log is SQLite in the data directory, or in the database of `db`; `proxy` is the URL by which the nodes reach
    that one, when it is another. `broker` is `embedded`, or the URL of nats-servers of ours, and `stream_url` where
    consumers reach them. `disk` is where the data directory is to be, when that is not `directory`.

    `polled`: another client reads the feed page by page, as fast as it can. `server` is the node that the next thing is done to.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        directory: Path,
        *,
        db: str = "",
        proxy: str = "",
        nodes: int = 1,
        broker: str = "embedded",
        stream_url: str = "",
        bug: str = "",
        limits: Mapping[str, Any] | None = None,
        clients: int = 16,
        polled: bool = False,
        disk: Path | None = None,
    ) -> None:
        self.name, self.seed, self.kills, self.note = name, seed, 0, ""
        self.random = Random(f"{seed}/{name}")
        self.record = Record()
        self.violations: list[Violated] = []
        self.events = 0
        self.pauses_seconds: dict[str, float] = {}
        """The longest, by what was done."""
        self.kept = False
        """Whether the data directory is wanted after the run."""
        self._passed = False
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = (disk or directory) / "data"
        self.place = Place(self.data, db)
        self.nats_port = free_port()
        self._limits = {**LIMITS, **(limits or {})}
        self._environment = {
            "PYTHONPATH": str(TESTS), "QUIRE_BUG": bug, "QUIRE_DB": proxy or db,
            "QUIRE_NATS": broker, "QUIRE_STREAM_REPLICAS": str(1 + broker.count(",")),
        }  # fmt: skip
        self.nodes = [self._node(number) for number in range(nodes)]
        self.server = self.nodes[0]
        self.stream_url = stream_url or f"nats://127.0.0.1:{self.nats_port}"
        self.traffic = Traffic(seed, self.record, clients)
        self.record.followed += [
            Followed("all"), Followed("a type", "Counter"), Followed("a resource", "Doc", "shared"),
        ]  # fmt: skip
        urls = [node.url for node in self.nodes]
        self._feed = [FeedFollower(urls, Random(f"{seed}/{one.name}"), one) for one in self.record.followed]
        if polled:
            self.record.followed.append(Followed("page by page"))
            self._feed.append(Poller(urls, Random(seed), self.record.followed[-1]))
        self._stream = StreamFollower(self.stream_url, self.record)
        self._followers: list[FeedFollower | StreamFollower] = [*self._feed, self._stream]
        self._begun = time.monotonic()

    def _node(self, number: int) -> Server:
        node = Server(self.data.with_name(f"data{number or ''}"))
        node.program = (sys.executable, "-m", "harness.launcher", "serve")
        node.options = ("--nats-port", str(self.nats_port), "--log-format", "text")
        node.environment = dict(self._environment)
        return node

    # The nodes' life.

    async def __aenter__(self) -> Self:
        for node, log in zip(self.nodes, self._logs(), strict=True):
            node.told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return self

    def _logs(self) -> list[Path]:
        """What each node says."""
        return [self.directory / f"server{number or ''}.log" for number in range(len(self.nodes))]

    async def __aexit__(self, kind: object, error: BaseException | None, _: object) -> None:
        try:
            if error is None:
                await self._finish()
                self._passed = True
        except BaseException as found:
            found.add_note(self.last_words())
            raise
        finally:
            await self._end()
        if error is not None:
            error.add_note(self.last_words())

    def last_words(self) -> str:
        """What the nodes said last, and how to do this again."""
        said = [log.read_text("utf-8", "replace").splitlines()[-20:] for log in self._logs()]
        return "\n".join(
            (f"SEED={self.seed}, {self.name}; said last:", *("\n".join(lines) for lines in said))
        )

    async def start(self, failpoints: str = "") -> None:
        """Start every node that does not run with these failpoints, and let the load reach it."""
        await asyncio.gather(*(self._start(node, failpoints) for node in self.nodes if not node.running))

    async def _start(self, node: Server, failpoints: str) -> None:
        self._arm(node, failpoints, None)
        await node.start()
        self.traffic.shared.came(node.port)

    async def load(self) -> None:
        """Begin: types, clients, followers."""
        await self.traffic.define()
        for follower in self._followers:
            follower.start()
        self.traffic.start()

    def turn(self) -> Server:
        """Any node may be the next that something is done to."""
        self.server = self.random.choice(self.nodes)
        return self.server

    async def dies(
        self, failpoints: str, limits: Mapping[str, Any] | None = None, *, alone: bool = False
    ) -> None:
        """Start the node with a failpoint that kills it, while starting or under load, and wait for its end.

        `alone`: the others are killed first, so that it takes over what one node at a time does.
        """
        self._arm(self.server, failpoints, limits)
        await self.server.launch()
        if await self.server.ready():
            self.traffic.shared.came(self.server.port)
        for node in self.nodes if alone else ():
            if node is not self.server and node.process is not None and node.running:
                node.process.kill()
                await node.process.wait()
                self.traffic.shared.went(node.port)
                self.kills += 1
        await self.ended(failpoints)

    async def ended(self, why: str) -> None:
        """Wait until the node has died by SIGKILL."""
        assert self.server.process is not None
        try:
            async with asyncio.timeout(DEATH_SECONDS_MAX):
                code = await self.server.process.wait()
        except TimeoutError:
            raise AssertionError(f"{why} was not reached in {DEATH_SECONDS_MAX:g} seconds") from None
        self.traffic.shared.went(self.server.port)
        self.traffic.raise_failed()
        assert code == -signal.SIGKILL, f"the server ended with {code}, armed with {why!r}"
        self.kills += 1

    async def kill(self) -> None:
        """kill -9 of the node, from outside."""
        assert self.server.process is not None
        self.server.process.kill()
        await self.ended("kill -9")

    async def stop(self) -> None:
        """End all nodes as an operator does."""
        codes = await asyncio.gather(*(node.stop(STOP_SECONDS_MAX) for node in self.nodes if node.running))
        for node in self.nodes:
            self.traffic.shared.went(node.port)
        assert not any(codes), f"the nodes ended with {codes}"

    def signal(self, number: signal.Signals) -> None:
        assert self.server.process is not None
        self.server.process.send_signal(number)

    def _arm(self, node: Server, failpoints: str, limits: Mapping[str, Any] | None) -> None:
        node.environment["QUIRE_FAILPOINTS"] = failpoints
        node.environment["QUIRE_LIMITS"] = json.dumps({**self._limits, **(limits or {})})

    @property
    def broker_pid(self) -> int:
        """Of the embedded nats-server."""
        return int(json.loads((self.data / "nats" / "server.json").read_text())["pid"])

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS_MAX) -> None:
        """Wait for a condition, as long as no client fails."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self.traffic.raise_failed()
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not in {seconds:g} seconds: {what}") from None

    async def eventually(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """As `until`, for a condition that has to ask."""
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                while not await condition():
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not in {WAIT_SECONDS_MAX:g} seconds: {what}") from None

    async def acknowledge(self, count: int) -> None:
        """Wait until so many more writes were acknowledged."""
        wanted = self.acknowledged + count
        await self.until(lambda: self.acknowledged >= wanted, f"{count} writes acknowledged")

    async def delivered(self, count: int) -> None:
        """Wait until the consumer of the stream got so many more messages."""
        wanted = self._stream.position + count
        await self.until(lambda: self._stream.position >= wanted, f"{count} more messages on the stream")

    @property
    def published(self) -> int:
        """How far the consumer of the stream is."""
        return self._stream.position

    async def at_the_tip(self, seconds: float) -> None:
        """Wait until the consumer of the stream has everything that there is now. Raises TimeoutError."""
        async with self.reading() as log:
            tip = (await log.tip()).position
        await self.until(lambda: self.published >= tip, "the stream is at the tip", seconds)

    def is_stopped(self) -> bool:
        """Whether the node stands still by SIGSTOP."""
        assert self.server.process is not None
        state = Path(f"/proc/{self.server.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    async def ready_of(self, node: Server) -> Any:
        """What a node says of itself; None when it does not answer."""
        wire = Wire(node.port)
        try:
            return (await wire.ask("GET", "/ready", seconds=2)).json
        except Unanswered:
            return None
        finally:
            await wire.close()

    @property
    def acknowledged(self) -> int:
        return self.record.accepted_count

    def refused_lately(self, status: int) -> int:
        """How many of the last hundred attempts were refused so."""
        return sum(attempt.status == status for attempt in self.record.attempts[-100:])

    @asynccontextmanager
    async def pause(self, what: str) -> AsyncIterator[None]:
        """Note how long nothing was acknowledged within the block, at the longest, until something is again."""
        self.record.pause_seconds()
        yield
        await self.acknowledge(1)
        self.paused(what, self.record.pause_seconds())

    def paused(self, what: str, seconds: float) -> None:
        """Note a pause."""
        self.pauses_seconds[what] = max(self.pauses_seconds.get(what, 0.0), seconds)

    # What was restored.

    def expect_a_restore(self) -> None:
        """The log may be behind what clients were told."""
        for follower in self._feed:
            follower.restored = True

    def moved_to(self, db: str) -> None:
        """The log is in another database from now on; the nodes know both."""
        self.place = Place(self.data, db)

    async def command(self, *words: str) -> None:
        """A command of `quire` over the log and its stream."""
        await self.server.command(*words)

    # The end.

    async def _finish(self) -> None:
        """Let everything come to rest, stop the nodes, and check every guarantee."""
        await self.traffic.stop()
        await self.rest()
        await self.traffic.look()
        stream = [delivered(message) for message in await stored(self.stream_url)]
        for follower in self._followers:
            await follower.stop()
        await self.stop()
        await self._check(stream)
        if self.violations:
            self.note = f"broken: {', '.join(sorted({one.guarantee for one in self.violations}))}"
            raise Broken(self.violations)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[EventLog]:
        """The log, read beside the nodes."""
        log = await open_log(self.place, write=False)
        try:
            yield log
        finally:
            await log.close()

    async def rest(self) -> None:
        """Wait until whoever follows the log is at its end."""
        async with self.reading() as log:
            tip = (await log.tip()).position
            for follower in self._feed:
                one = follower.followed
                span = Span(type=one.type or None, id=one.id or None, newest_first=True, limit=1)
                last = [event.position for event in await log.events(span)] or [0]
                await self._reaches("Resumable", one.name, one.reached, last[0])
            await self._reaches("Fenced", "the stream's consumer", lambda: self._stream.position, tip)
            await self._reaches("Replayable", Tally.name, lambda: log.checkpoint(Tally.name), tip)

    async def _reaches(
        self, guarantee: str, who: str, position: Callable[[], int | Awaitable[int | None]], wanted: int
    ) -> None:
        """Wait until somebody is at a position; a violation when nothing moves for STALL_SECONDS_MAX."""
        reached, since = -1, time.monotonic()
        while (now := await _known(position())) < wanted:
            if now != reached:
                reached, since = now, time.monotonic()
            if time.monotonic() - since > STALL_SECONDS_MAX:
                self.violations.append(
                    Violated(guarantee, f"{who} stands at {now}, and has to come to {wanted}")
                )
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _check(self, stream: list[Any]) -> None:
        """Every guarantee, also when one of them is broken."""
        async with self.reading() as log:
            events, holes = await checkers.events_of(log), await log.holes()
            self.events = len(events)
            history, record = History(events), self.record.without(holes)
            checks: list[Callable[[], Any]] = [
                lambda: checkers.gapless(events, holes),
                lambda: checkers.ordered(events),
                lambda: checkers.durable(events, checkers.told(record)),
                lambda: checkers.once(history, record.attempts),
                lambda: checkers.atomic(history, record),
                lambda: checkers.isolated(history, record.attempts),
                lambda: checkers.bounded(history, "Metered", METERED, "n"),
                *(lambda one=one: checkers.resumable(history, one, holes) for one in record.followed),
                lambda: checkers.fenced(history, stream, record.delivered, holes),
                lambda: checkers.fresh(history, record),
                lambda: checkers.answered(record),
                lambda: checkers.replayable(log, events, (*BUILT_IN, Tally())),
            ]
            for check in checks:
                await self._hold(check)
        await self._hold(
            lambda: verifiable.verifiable(self.place, self.directory / "copy", Random(self.seed))
        )

    async def _hold(self, check: Callable[[], Any]) -> None:
        try:
            found = check()
            if found is not None:
                await found
        except Violated as violated:
            self.violations.append(violated)

    def row(self) -> Row:
        """What this run was."""
        count = self.record.outcomes
        pauses = [f"{what} {seconds:.1f} s" for what, seconds in self.pauses_seconds.items()]
        note = "; ".join(filter(None, (self.note, ", ".join(pauses))))
        return Row(
            self.name, self.seed, time.monotonic() - self._begun, self.events, self.kills,
            count("accepted"), count("refused"), count("unknown"), self.record.longest_pause_seconds, note,
        )  # fmt: skip

    async def _end(self) -> None:
        """Leave nothing running."""
        self.traffic.shared.stopping.set()
        self.traffic.shared.up.set()
        await self.traffic.cancel()
        for follower in self._followers:
            await follower.stop()
        for node in self.nodes:
            if node.process is not None and node.running:
                node.process.send_signal(signal.SIGCONT)
                await node.kill()
            os.close(node.told)
        shutil.rmtree(self.directory / "copy", ignore_errors=True)
        if self._passed and not self.kept:
            for node in self.nodes:
                shutil.rmtree(node.data, ignore_errors=True)


Begin = Callable[..., Run]
"""Makes a run: its name and its options."""


async def _known(position: int | Awaitable[int | None]) -> int:
    return position if isinstance(position, int) else await position or 0
