"""Deciding a batch while the log is held: what that takes is read until it is enough, and each transaction has its turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec

from eventstore.batch import Batch, Prepared, may_retire
from eventstore.claiming import known_of, learn, scan_page
from eventstore.claims import Known, Scan
from eventstore.command import Accepted, Command, Key
from eventstore.errors import QuireError, TooLarge
from eventstore.event import SALT_BYTES, Event, Position, Tip
from eventstore.log.base import EventLog, Snapshot, Span
from eventstore.projection import Change, Rows
from eventstore.referring import Referred, referred_by
from eventstore.types.registry import DEFINITION_TYPES, Registry

CATCH_UP_EVENTS = 1000
HERE_COMMANDS_MAX = 256
"""A batch of more is decided beside the event loop, which would stand still."""

P = ParamSpec("P")
T = TypeVar("T")

Project = Callable[[Sequence[Change]], Rows]
"""The inline projections, as one pure function."""

Answer = list[Accepted] | Exception
"""What became of a transaction: of each of its commands, or why it is refused."""


class Transaction(msgspec.Struct, frozen=True, eq=False):
    """What is accepted all or none; `prepared`, where it was decided before its turn, has the same commands."""

    commands: tuple[Command, ...]
    prepared: Prepared | None


class Decided(msgspec.Struct, frozen=True):
    """A batch, ready to be appended and answered."""

    answers: list[Answer]
    """One for each transaction, in order."""
    events: list[Event]
    rows: Rows
    """What is written with the events."""
    registry: Registry
    """As of the last event."""
    tip: Tip


class Decider:
    """Decides batches. It reads, and writes nothing: who calls it has taken the log, appends and answers."""

    def __init__(self, log: EventLog, project: Project, clock: Callable[[], str]) -> None:
        self._log = log
        self._project = project
        self._clock = clock

    async def decide(
        self,
        transactions: Sequence[Transaction],
        snapshot: Snapshot,
        registry: Registry,
        scans: Mapping[str, Scan],
    ) -> Decided:
        """Decide each against the log as it was taken, and those before it; `registry` may be behind the log.

        Raises Unscanned when a place becomes unique that `scans` do not cover, and TooLarge when the batch refers to
        more than is looked up for one.
        """
        tip, now = snapshot.tip.position, snapshot.at or self._clock()
        if snapshot.definition > registry.position:
            registry = await registry_at(self._log, registry, tip)
        commands = commands_of(transactions)
        known = await known_of(self._log, commands, registry, tip)
        known.scans, scanned = scans, await self._scanned(scans, tip)
        referred = await referred_by(self._log, commands)
        is_large = len(commands) > HERE_COMMANDS_MAX or any(one.prepared is not None for one in transactions)
        do = _beside if is_large else _here
        while True:
            batch = Batch(snapshot, registry, now, _salts(len(commands)), known, referred)
            answers = await do(_answers, batch, transactions)
            if not batch.lacks:
                break
            await self._learn(batch, known, referred)
        if batch.facts.is_limited and len(transactions) > 1:
            raise TooLarge(f"{referred.limit}, for the batch: each of its transactions is decided alone")
        rows = await do(self._project, batch.changes)
        rows.overlay(scanned)
        batch.claims.write(rows)
        return Decided(answers, batch.events, rows, batch.registry, batch.tip)

    async def _scanned(self, scans: Mapping[str, Scan], tip: Position) -> Rows:
        """Bring the scans to the tip; the rows of claims that the table may lack."""
        rows = Rows()
        for scan in scans.values():
            while scan.position < tip:
                await scan_page(self._log, scan, tip, rows)
        return rows

    async def _learn(self, batch: Batch, known: Known, referred: Referred) -> None:
        """Read what the batch asked for and did not know."""
        await learn(self._log, known, batch.claims.unknown, batch.claims.unknown_ids)
        await referred.learn(self._log, batch.facts.wanted)


def commands_of(transactions: Sequence[Transaction]) -> list[Command]:
    return [command for one in transactions for command in one.commands]


def keys_of(commands: Sequence[Command]) -> dict[Key, bool]:
    """The resources whose last events are needed, and whether with their bytes."""
    keys: dict[Key, bool] = {}
    for command in commands:
        key = command.key
        keys[key] = command.needs_body or keys.get(key, False)
    return keys


def counts_of(commands: Sequence[Command]) -> dict[str, int]:
    """Types that may be retired: count their resources, further than the batch can delete."""
    return {command.id: len(commands) + 1 for command in commands if may_retire(command)}


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


async def _here(work: Callable[P, T], *about: P.args, **more: P.kwargs) -> T:
    return work(*about, **more)


async def _beside(work: Callable[P, T], *about: P.args, **more: P.kwargs) -> T:
    """Beside the event loop."""
    return await asyncio.to_thread(work, *about, **more)


def _answers(batch: Batch, transactions: Sequence[Transaction]) -> list[Answer]:
    return [_answer(batch, one) for one in transactions]


def _answer(batch: Batch, transaction: Transaction) -> Answer:
    try:
        return batch.transact(transaction.commands, transaction.prepared)
    except QuireError as refusal:
        return refusal


def _salts(count: int) -> Callable[[], bytes]:
    """One for each event, drawn at once: to ask the system takes as long as to hash an event."""
    drawn = os.urandom(count * SALT_BYTES)
    return partial(next, (drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES)))
