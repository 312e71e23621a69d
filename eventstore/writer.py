"""The writer: requests join a batch, one batch at a time takes the log, and one commit answers them all."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence, Sized
from contextlib import suppress
from time import monotonic, perf_counter
from typing import ParamSpec, TypeVar

import msgspec

from eventstore.batch import Batch, Prepared, may_retire
from eventstore.claiming import complete, known_of, learn, scan_ahead, scan_page
from eventstore.claims import Scan, Unscanned
from eventstore.command import Accepted, Command, Key
from eventstore.errors import QuireError, Throttled, TooLarge, Unavailable
from eventstore.event import SALT_BYTES, Event, Position, Tip
from eventstore.log.base import AppendFailed, EventLog, Span
from eventstore.measure import EVENTS, SECONDS, Histogram
from eventstore.projection import Change, Rows
from eventstore.referring import referred_by
from eventstore.types.registry import DEFINITION_TYPES, Registry

BATCH_TRANSACTIONS_MAX = 256
BATCH_BYTES_MAX = 16 * 1024 * 1024
QUEUE_TRANSACTIONS_MAX = 8192
CATCH_UP_EVENTS = 1000
TROUBLE_SECONDS = 10.0
LOOK_SECONDS = 0.25
"""How often to look for what other processes appended to the log."""

_log = logging.getLogger("quire.writer")

P = ParamSpec("P")
T = TypeVar("T")

Project = Callable[[Sequence[Change]], Rows]
"""The inline projections, as one pure function."""


Committed = Callable[[Sequence[Event]], None]
"""Who is told of each batch's events, after its commit, in order."""


def _nobody(events: Sequence[Event]) -> None:
    return


async def registry_at(log: EventLog, registry: Registry, until: Position) -> Registry:
    """The registry with the definition events after it and up to a position that the log has reached, in order.

    Each type of them is read by itself: without the end, one that is appended between two reads would be missed.
    """
    for event in await _definitions(log, registry.position, until):
        value = msgspec.json.decode(event.data) if event.data is not None else None
        registry = registry.apply(event.position, event.type, event.id, value)
    return registry


async def _definitions(log: EventLog, after: Position, until: Position) -> list[Event]:
    found: list[Event] = []
    for type in DEFINITION_TYPES:
        at = after
        while events := await log.events(Span(at, until, type, limit=CATCH_UP_EVENTS)):
            found.extend(events)
            at = events[-1].position
    return sorted(found, key=lambda event: event.position)


class _Waiting(msgspec.Struct, frozen=True, eq=False):
    """One transaction in the queue, and who waits for it."""

    commands: tuple[Command, ...]
    done: asyncio.Future[list[Accepted]]
    prepared: Prepared | None = None

    def accept(self, accepted: list[Accepted]) -> None:
        if not self.done.done():
            self.done.set_result(accepted)

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Stats:
    """What the writer counts."""

    def __init__(self, queue: Sized) -> None:
        self.events = Histogram(*EVENTS)
        self.seconds = Histogram(*SECONDS)
        self.failed = 0
        self._queue = queue

    def queued(self) -> int:
        """Transactions that wait."""
        return len(self._queue)


class Trouble:
    """What last kept the storage from being written; told once when it begins and when it ends."""

    def __init__(self) -> None:
        self._why = ""
        self._since = 0.0

    def begins(self, why: str) -> None:
        if not self.now():
            _log.error("the storage cannot be written", extra={"why": why})
        self._why, self._since = why, monotonic()

    def ends(self) -> None:
        if self._why:
            _log.warning("the storage can be written again")
            self._why = ""

    def now(self) -> str:
        """Why writes fail; empty when they do not, or when none was tried for TROUBLE_SECONDS."""
        return self._why if monotonic() - self._since < TROUBLE_SECONDS else ""


class Writer:
    """The one that appends. `registry` and `tip` are as of the last commit it knows of."""

    def __init__(
        self,
        log: EventLog,
        project: Project,
        clock: Callable[[], str],
        committed: Committed = _nobody,
        base_url: str = "",
    ) -> None:
        """`base_url`: below which this process serves the log; empty where it does not."""
        self.registry = Registry.empty(log.fhir_version, base_url)
        self.tip = Tip(0, "", log.genesis)
        self.held = ""
        """Why nothing may be written, though the storage would take it; empty when it may."""
        self._log = log
        self._project = project
        self._clock = clock
        self._committed = committed
        self._queue: deque[_Waiting] = deque()
        self.stats = Stats(self._queue)
        self.trouble = Trouble()
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()
        self._news = asyncio.Event()
        self._closing = False
        self._scans: dict[str, Scan] = {}
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn the types and the tip from the log, begin to write, and look for what others write."""
        self._log.nodes.on_append(self._heard)
        await self.catch_up()
        await complete(self._log, self.registry)
        self._task = asyncio.create_task(self._run(), name="quire-writer")
        self._watch = asyncio.create_task(self._look(), name="quire-watch")

    async def stop(self) -> None:
        """Write what was accepted into the queue, then end."""
        self._closing = True
        self._arrived.set()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._task is not None:
            await self._task

    def submit(self, *commands: Command, prepared: Prepared | None = None) -> asyncio.Future[list[Accepted]]:
        """Queue the commands as one transaction, all or none; the future is done when it is on the disk.

        With `prepared` they are its own, and take effect as they were prepared.
        Raises Throttled when the queue is full and Unavailable when the server stops; the future raises what
        refused the transaction, or Unavailable when the log cannot be written.
        """
        if self._closing:
            raise Unavailable("the server is stopping; try again")
        if self.held:
            raise Unavailable(self.held)
        if len(self._queue) >= QUEUE_TRANSACTIONS_MAX:
            raise Throttled(f"{QUEUE_TRANSACTIONS_MAX} writes are waiting; try again")
        waiting = _Waiting(commands, asyncio.get_running_loop().create_future(), prepared)
        self._queue.append(waiting)
        self._arrived.set()
        return waiting.done

    async def reached(self, position: int) -> None:
        """Wait until the tip is at a position."""
        while self.tip.position < position:
            await self._moved.wait()

    async def catch_up(self) -> None:
        """Bring the registry and the tip up to the log's end, and hand on what others appended."""
        tip = await self._log.tip()
        if tip.position <= self.tip.position:
            return
        registry = await registry_at(self._log, self.registry, tip.position)
        span = Span(
            self.tip.position,
            tip.position,
            newest_first=True,
            limit=CATCH_UP_EVENTS,
            bytes_max=BATCH_BYTES_MAX,
        )
        if events := (await self._log.events(span))[::-1]:
            self._install(registry, tip, events)

    def _heard(self, position: Position) -> None:
        """Another process has appended up to a position."""
        if position > self.tip.position:
            self._news.set()

    async def _look(self) -> None:
        """The log may be written by other processes: they tell, and when that is missed it is found within LOOK_SECONDS."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                await self.catch_up()
            except (Unavailable, AppendFailed) as error:
                self.trouble.begins(str(error))
            except Exception:
                _log.exception("looking for new events failed")

    async def _run(self) -> None:
        while self._queue or not self._closing:
            await self._arrived.wait()
            if not self._closing:
                self._arrived.clear()
            while batch := self._take():
                await self._write(batch)

    def _take(self) -> list[_Waiting]:
        """The next batch, in the order of arrival; empty when nobody waits."""
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < BATCH_TRANSACTIONS_MAX and size < BATCH_BYTES_MAX:
            waiting = self._queue.popleft()
            if waiting.done.cancelled():
                continue
            batch.append(waiting)
            size += sum(len(command.document.data) for command in waiting.commands if command.document)
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        """Commit the batch; when it fails, one at a time, so that only the culprit does. All get an answer."""
        try:
            await self._scanned_and_committed(batch)
        except Exception as error:
            self.stats.failed += 1
            if isinstance(error, Unavailable):
                self.trouble.begins(str(error))
            if not isinstance(error, QuireError | AppendFailed):
                _log.exception("a batch failed")
            if len(batch) == 1 or isinstance(error, Unavailable):
                for waiting in batch:
                    waiting.refuse(error)
                return
            for waiting in batch:
                await self._write([waiting])

    async def _scanned_and_committed(self, batch: list[_Waiting]) -> None:
        """Commit; where a place becomes unique, read what there is while the log is free for others, and once more."""
        try:
            while True:
                try:
                    return await self._commit(batch)
                except Unscanned as needed:
                    self._scans[needed.kind.name] = scan = Scan(needed.kind)
                    await scan_ahead(self._log, scan)
        finally:
            self._scans.clear()

    async def _commit(self, waiting: Sequence[_Waiting]) -> None:
        started = perf_counter()
        commands = [command for one in waiting for command in one.commands]
        snapshot = await self._log.take(_keys(commands), _counts(commands))
        try:
            self._not_behind(snapshot.tip)
            registry = self.registry
            if snapshot.definition > registry.position:
                registry = await registry_at(self._log, registry, snapshot.tip.position)
            now, scanned = snapshot.at or self._clock(), Rows()
            known = await known_of(self._log, commands, registry, snapshot.tip.position)
            for scan in self._scans.values():
                while scan.position < snapshot.tip.position:
                    await scan_page(self._log, scan, snapshot.tip.position, scanned)
            known.scans = self._scans
            referred = await referred_by(self._log, commands)
            while True:
                batch = Batch(snapshot, registry, now, _salt, known, referred)
                answers = await _done(waiting, _transacted, batch, waiting)
                if not (batch.claims.unknown or batch.claims.unknown_ids or batch.facts.wanted):
                    break
                await learn(self._log, known, batch.claims.unknown, batch.claims.unknown_ids)
                await referred.learn(self._log, batch.facts.wanted)
            if batch.facts.is_limited and len(waiting) > 1:
                raise TooLarge(f"{referred.limit}, for the batch: each of its transactions is decided alone")
            rows = await _done(waiting, self._project, batch.changes)
            rows.overlay(scanned)
            batch.claims.write(rows)
        except BaseException:
            await self._log.release()
            raise
        if batch.changes:
            await self._append(batch, rows)
            self.trouble.ends()
            self.stats.events.observe(len(batch.changes))
            self.stats.seconds.observe(perf_counter() - started)
            self._install(batch.registry, batch.tip, batch.events)
        else:
            await self._log.release()
        for one, answer in zip(waiting, answers, strict=True):
            if isinstance(answer, list):
                one.accept(answer)
            else:
                one.refuse(answer)

    def _not_behind(self, tip: Tip) -> None:
        """Raises Unavailable when the log is not what it was: its positions would be given a second time."""
        known = self.tip
        if tip.position < known.position or (tip.position == known.position and tip.hash != known.hash):
            raise Unavailable(
                f"the log ends at {tip.position}, and this process has seen it at {known.position}: an older copy took "
                "its place; stop everything that serves it, run `quire epoch`, and start again"
            )

    async def _append(self, batch: Batch, rows: Rows) -> None:
        """Append; when the outcome is unknown, look whether our own last event stands in the log."""
        events = batch.events
        try:
            await self._log.append(events, rows)
        except AppendFailed:
            raise
        except Unavailable:
            if not await self._log.landed(events[-1]):
                raise

    def _install(self, registry: Registry, tip: Tip, events: Sequence[Event]) -> None:
        """Take over what is committed, as far as it is new, and wake whoever waits for it."""
        if registry.position > self.registry.position:
            self.registry = registry
        if tip.position <= self.tip.position:
            return
        if events[0].position <= self.tip.position:
            events = [event for event in events if event.position > self.tip.position]
        self.tip = tip
        self._moved.set()
        self._moved = asyncio.Event()
        self._committed(events)


async def _done(waiting: Sequence[_Waiting], work: Callable[P, T], *about: P.args, **more: P.kwargs) -> T:
    """Do it; beside the event loop when a prepared transaction, which may be large, is among those that wait."""
    if any(one.prepared is not None for one in waiting):
        return await asyncio.to_thread(work, *about, **more)
    return work(*about, **more)


def _transacted(batch: Batch, waiting: Sequence[_Waiting]) -> list[list[Accepted] | Exception]:
    return [_transact(batch, one) for one in waiting]


def _transact(batch: Batch, waiting: _Waiting) -> list[Accepted] | Exception:
    try:
        return batch.transact(waiting.commands, waiting.prepared)
    except QuireError as refusal:
        return refusal


def _keys(commands: Sequence[Command]) -> dict[Key, bool]:
    keys: dict[Key, bool] = {}
    for command in commands:
        keys[command.key] = command.needs_body or keys.get(command.key, False)
    return keys


def _counts(commands: Sequence[Command]) -> dict[str, int]:
    """Types that may be retired: count their resources, further than the batch can delete."""
    return {command.id: len(commands) + 1 for command in commands if may_retire(command)}


def _salt() -> bytes:
    return os.urandom(SALT_BYTES)
