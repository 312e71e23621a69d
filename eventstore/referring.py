"""Stored resources that constraints refer to, read from the log: before a batch is decided, and as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

import msgspec

from eventstore.command import Command, Key
from eventstore.event import Position
from eventstore.log.base import FEW_ROWS, EventLog, Query
from eventstore.log.sql import queries
from eventstore.types.facts import Facts

ROUNDS_MAX = 4
"""Of reading, for one batch, package or resource: the first reads what is referred to, each next what that refers to."""
REFERRED_BYTES_MAX = 16 * 1024 * 1024
"""Of all that is read for one batch, one package, or one resource that is decided alone; the last may reach beyond it."""

_SQL = {dialect: queries("eventstore.log.sql", dialect) for dialect in ("sqlite", "postgres")}

_ANY_POSITION = 2**63 - 1

Verdict = TypeVar("Verdict")


class Referred:
    """What was read; it grows until it is enough, or until a limit."""

    def __init__(self) -> None:
        self.bodies: dict[Key, bytes | None] = {}
        """None where there is no such resource."""
        self.limit = ""
        """Why no more is read."""
        self._rounds = 0
        self._bytes = 0

    async def learn(self, log: EventLog, keys: Collection[Key]) -> None:
        """Read the resources as they are now, or as the version that is named: one query for all, none for none."""
        if not keys:
            return
        left, few = REFERRED_BYTES_MAX - self._bytes, len(keys) <= FEW_ROWS
        (rows,) = await log.rows(_bodies(log.dialect, sorted(keys)), bytes_max=left, few=few)
        for type, name, data in rows:
            self.bodies[type, name] = data
            self._bytes += len(data or b"")
        self._rounds += 1
        if self._bytes >= REFERRED_BYTES_MAX:
            self.limit = f"more than {REFERRED_BYTES_MAX} bytes would have to be looked up"
        elif self._rounds == ROUNDS_MAX:
            self.limit = f"stored resources lead to others more than {ROUNDS_MAX} times"


def _bodies(dialect: str, keys: Sequence[Key]) -> Query:
    wanted = [(type, name, *_of(name)) for type, name in keys]
    if dialect == "sqlite":
        return _SQL[dialect]["bodies"], (msgspec.json.encode(wanted).decode(),)
    return _SQL[dialect]["bodies"], [*map(list, zip(*wanted, strict=True))]


def _of(name: str) -> tuple[str, Position, Position]:
    """The id in a key, and the first and last position at which its resource is looked at."""
    id, _, version = name.partition("/_history/")
    return (id, int(version), int(version)) if version else (id, 0, _ANY_POSITION)


async def referred_by(log: EventLog, commands: Iterable[Command]) -> Referred:
    """What the first look at the commands' documents has found to be needed. Reads nothing where that is nothing."""
    referred = Referred()
    await referred.learn(log, {key for command in commands for key in command.refers})
    return referred


async def informed(log: EventLog, at: str, judge: Callable[[Facts], Verdict]) -> Verdict:
    """What is judged at a time, outside of any write, once everything is known that it asks for."""
    referred = Referred()
    while True:
        facts = Facts(at, referred.bodies.__getitem__, referred.limit)
        verdict = judge(facts)
        if not facts.wanted:
            return verdict
        await referred.learn(log, facts.wanted)
