"""The writer: requests join a batch, one batch at a time takes the log, and one commit answers them all."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter

from eventstore.batch import Prepared
from eventstore.claiming import complete, scan_ahead
from eventstore.claims import Scan, Unscanned
from eventstore.command import Accepted, Command
from eventstore.deciding import (
    CATCH_UP_EVENTS,
    Decided,
    Decider,
    Project,
    Transaction,
    commands_of,
    counts_of,
    keys_of,
    registry_at,
)
from eventstore.errors import QuireError, Throttled, Unavailable
from eventstore.event import Event, Position, Tip
from eventstore.log.base import AppendFailed, EventLog, Span
from eventstore.stats import Stats, Trouble
from eventstore.types.registry import DEFINITION_TYPES, Registry

BATCH_TRANSACTIONS_MAX = 1024
BATCH_UNCHECKED_MAX = 256
"""Commands of a batch that are still to be checked, as after a definition: the log is held while they are."""
BATCH_BYTES_MAX = 16 * 1024 * 1024
QUEUE_TRANSACTIONS_MAX = 8192
LOOK_SECONDS = 0.25
"""How often to look for what other processes appended to the log."""

_log = logging.getLogger("quire.writer")

Committed = Callable[[Sequence[Event]], None]
"""Who is told of each batch's events, after its commit, in order."""


def _nobody(events: Sequence[Event]) -> None:
    return


class _Waiting(Transaction, frozen=True, eq=False):
    """One transaction in the queue, and who waits for it."""

    done: asyncio.Future[list[Accepted]]

    def accept(self, accepted: list[Accepted]) -> None:
        if not self.done.done():
            self.done.set_result(accepted)

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


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
        self._decider = Decider(log, project, clock)
        self._committed = committed
        self._queue: deque[_Waiting] = deque()
        self.stats = Stats(self._queue)
        self.trouble = Trouble()
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()
        self._news = asyncio.Event()
        self._closing = False
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
        self._check_room(1)
        waiting = _Waiting(commands, prepared, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        return waiting.done

    def submit_each(self, commands: Sequence[Command]) -> list[asyncio.Future[list[Accepted]]]:
        """Queue the commands, each as a transaction of its own. Raises as `submit` does, and then queues none."""
        self._check_room(len(commands))
        future = asyncio.get_running_loop().create_future
        waiting = [_Waiting((command,), None, future()) for command in commands]
        self._queue.extend(waiting)
        self._arrived.set()
        return [one.done for one in waiting]

    def _check_room(self, count: int) -> None:
        """Raise Throttled or Unavailable when so many more cannot be queued."""
        if self._closing:
            raise Unavailable("the server is stopping; try again")
        if self.held:
            raise Unavailable(self.held)
        if len(self._queue) + count > QUEUE_TRANSACTIONS_MAX:
            raise Throttled(f"{len(self._queue)} writes are waiting; try again")

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
            while self._queue:
                await self._write([])

    def _take(self) -> list[_Waiting]:
        """The next batch, in the order of arrival; empty when nobody waits."""
        batch: list[_Waiting] = []
        size = unchecked = 0
        defines, position = False, self.registry.position
        while (
            self._queue
            and len(batch) < BATCH_TRANSACTIONS_MAX
            and unchecked < BATCH_UNCHECKED_MAX
            and size < BATCH_BYTES_MAX
        ):
            waiting = self._queue.popleft()
            if waiting.done.cancelled():
                continue
            batch.append(waiting)
            for command in waiting.commands:
                size += command.size
                defines = defines or command.type in DEFINITION_TYPES
                unchecked += defines or command.checked != position
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        """Commit the batch, or whoever waits when the log is had; when that fails, one at a time, so that only the
        culprit does. All get an answer.
        """
        try:
            await self._scanned_and_committed(batch)
        except Exception as error:
            batch = batch or self._take()
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
        scans: dict[str, Scan] = {}
        while True:
            try:
                return await self._commit(batch, scans)
            except Unscanned as needed:
                scans[needed.kind.name] = scan = Scan(needed.kind)
                await scan_ahead(self._log, scan)

    async def _commit(self, waiting: list[_Waiting], scans: Mapping[str, Scan]) -> None:
        started = perf_counter()
        await self._log.take()
        try:
            if not waiting:
                waiting.extend(self._take())  # only now: who came while others had the log joins
            commands = commands_of(waiting)
            snapshot = await self._log.look(keys_of(commands), counts_of(commands))
            if why := behind(snapshot.tip, self.tip):
                raise Unavailable(why)
            decided = await self._decider.decide(waiting, snapshot, self.registry, scans)
        except BaseException:
            await self._log.release()
            raise
        if decided.events:
            await self._append(decided)
            self.trouble.ends()
            self.stats.events.observe(len(decided.events))
            self.stats.seconds.observe(perf_counter() - started)
            self._install(decided.registry, decided.tip, decided.events)
        else:
            await self._log.release()
        for one, answer in zip(waiting, decided.answers, strict=True):
            if isinstance(answer, list):
                one.accept(answer)
            else:
                one.refuse(answer)

    async def _append(self, decided: Decided) -> None:
        """Append; when the outcome is unknown, look whether our own last event stands in the log."""
        try:
            await self._log.append(decided.events, decided.rows)
        except AppendFailed:
            raise
        except Unavailable:
            if not await self._log.landed(decided.events[-1]):
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


def behind(tip: Tip, known: Tip) -> str:
    """Why a log at that tip is not the one that was known before it was read: its positions would be given a second time.

    Empty when it is the same.
    """
    if tip.position < known.position or (tip.position == known.position and tip.hash != known.hash):
        return (
            f"the log ends at {tip.position}, and this process has seen it at {known.position}: an older copy took "
            "its place; stop everything that serves it, run `quire epoch`, and start again"
        )
    return ""
