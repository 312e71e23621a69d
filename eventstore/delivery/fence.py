"""The fence: what must hold of a stream before anything is sent to it, and where it parts from the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eventstore.delivery import subject
from eventstore.delivery.jetstream import (
    LIMITS,
    LOG,
    NAME_IN_USE,
    SUBJECTS_OVERLAP,
    WINDOW_MESSAGES_MAX,
    Ahead,
    Halted,
    Info,
    JetStream,
    Refused,
    StreamSettings,
    config_faults,
    limits_of,
)
from eventstore.delivery.message import difference, headers, is_erased
from eventstore.event import Position
from eventstore.log.base import EventLog, Hole, Span

REBUILD = "`quire stream rebuild` publishes the log again as the stream's next generation"
EPOCH = "the log was restored from an older copy: stop the server, begin a new epoch with `quire epoch`, start it again"
OWN_BROKER = "give this log a broker or an account of its own, or remove the stream if its log is no more"


class Opened(NamedTuple):
    """A stream that may be published to, after `last`."""

    name: str
    generation: int
    last: Position


def hole_at(holes: Sequence[Hole], position: Position) -> Hole | None:
    """The hole that a position lies in."""
    return next((hole for hole in holes if hole.after < position <= hole.until), None)


class Fence:
    """Compares a broker's stream with a log. Raises Halted where they are not of one history."""

    def __init__(self, js: JetStream, log: EventLog, settings: StreamSettings) -> None:
        self._js = js
        self._log = log
        self._settings = settings
        self._before: dict[Hole, str] = {}

    async def open(self, erased: set[Position]) -> Opened:
        """The stream to publish to, made when there is none. `erased` is kept: deletions that were already looked at."""
        info = await self.find() or await self.create()
        info = await self._configured(info)
        await self._complete(info, erased)
        await self._of_one_history(info)
        return Opened(info.name, info.generation, info.state.last_seq)

    async def find(self) -> Info | None:
        """The stream that takes in our subjects; None when nobody does. Raises Halted when it is not this log's."""
        names = await self._js.names(subject.EVERYTHING)
        if len(names) > 1:
            raise Halted(
                f"the streams {', '.join(names)} share the subjects {subject.EVERYTHING}", OWN_BROKER
            )
        if not names:
            return None
        info = await self._js.info(names[0])
        self._ours(info)
        return info

    def _ours(self, info: Info) -> None:
        owner = info.metadata.get(LOG)
        if owner is None:
            raise Halted(
                f"the stream {info.name} has no {LOG} in its metadata: Quire did not make it", OWN_BROKER
            )
        if owner != self._log.id:
            raise Halted(
                f"the stream {info.name} holds the log {owner}, and this is {self._log.id}", OWN_BROKER
            )
        wanted = self._settings.name_of(info.generation)
        if info.generation < 1 or info.name != wanted:
            raise Halted(
                f"the stream {info.name} says it is generation {info.generation}, which would be named {wanted}",
                "name the stream in the settings as it is, or set its metadata back",
            )

    async def old(self) -> list[Info]:
        """The earlier generations of this log's stream, oldest first."""
        found = [info for info in await self._js.streams() if self._is_old(info)]
        return sorted(found, key=lambda info: info.generation)

    def _is_old(self, info: Info) -> bool:
        return (
            info.metadata.get(LOG) == self._log.id
            and info.name == self._settings.name_of(info.generation)
            and info.config.get("subjects") == [subject.old(info.generation)]
        )

    async def create(self) -> Info:
        """Make the stream, as the generation after the last there was. Safe to repeat."""
        old, tip = await self.old(), await self._log.tip()
        for info in old:
            _not_ahead(info, tip.position, tip.position + 1)
        first = await self._log.events(Span(limit=1))
        generation = old[-1].generation + 1 if old else 1
        config = self._settings.config(self._log.id, generation, first[0].position if first else 1)
        try:
            return await self._js.create(config)
        except Refused as refusal:
            if refusal.number not in (NAME_IN_USE, SUBJECTS_OVERLAP):
                raise
            raise Halted(
                f"the stream {config['name']} cannot be made ({refusal})",
                "another stream has its name or subjects: remove that one, or name ours differently",
            ) from None

    def changes(self, info: Info) -> list[str]:
        """What of the stream's configuration somebody else has changed."""
        wanted = self._settings.config(self._log.id, info.generation, 1)
        faults = config_faults(info.config, wanted)
        if info.config.get("subjects") != wanted["subjects"]:
            faults.append(f"its subjects are {', '.join(info.config.get('subjects') or ())}")
        has, set_by_us = limits_of(info.config), info.metadata.get(LIMITS)
        if has not in (set_by_us, self._settings.limits):
            faults.append(f"its limits are {has} and were {set_by_us}")
        return faults

    async def _configured(self, info: Info) -> Info:
        """Check that nobody changed the stream; bring its limits to the settings when only these have changed."""
        if faults := self.changes(info):
            raise Halted(
                f"the stream {info.name} was changed: {'; '.join(faults)}", f"change it back, or {REBUILD}"
            )
        if limits_of(info.config) == info.metadata.get(LIMITS) == self._settings.limits:
            return info
        metadata = {**info.metadata, LIMITS: self._settings.limits}
        return await self._js.update(info, metadata=metadata, **self._settings.limits_config())

    async def _complete(self, info: Info, erased: set[Position]) -> None:
        """What was deleted from the stream's middle must be what was erased in the log."""
        if info.state.num_deleted == 0:
            return
        deleted = (await self._js.info(info.name, deleted=True)).state.deleted or []
        for position in deleted:
            if position not in erased and not await self.may_be_gone(position):
                raise Halted(
                    f"the stream {info.name} has lost its message at {position}, which the log has",
                    REBUILD,
                    position,
                )
            erased.add(position)

    async def may_be_gone(self, position: Position) -> bool:
        """Whether a message may be missing: its event was erased, or there never was one."""
        event = await self._log.at(position)
        if event is not None:
            return is_erased(event)
        return hole_at(await self._log.holes(), position) is not None

    async def _of_one_history(self, info: Info) -> None:
        """The last messages must be the log's events at their positions, and nothing may be behind the log's tip.

        The last one alone would not do. A stray message takes the number of the first in flight, which is refused;
        those behind it then find the number that they expect, and are taken (measured, 2.15.1). So everything is
        looked at that could have been in flight together.
        """
        tip = await self._log.tip()
        if info.state.last_seq > tip.position:
            _not_ahead(info, tip.position, await self._fork(info, tip.position))
        first, agreed = max(1, info.state.last_seq - WINDOW_MESSAGES_MAX + 1), False
        async for message in self._js.messages(info, first, headers_only=True):
            sequence = message.metadata.sequence.stream
            if what := await self._differs(info, sequence, message.subject, message.headers or {}):
                fork = sequence if agreed else await self._fork(info, sequence)
                raise Halted(
                    f"the stream {info.name} and the log part at position {fork}: of the message at {sequence}, {what}",
                    REBUILD,
                    fork,
                )
            agreed = True

    async def _fork(self, info: Info, until: Position) -> Position:
        """The first position at which stream and log differ, by halving; `until` + 1 when they agree up to there.

        An event's hash covers all events before it, so where one message differs all after it do.
        """
        low, high = info.state.first_seq, until + 1
        while low < high:
            middle = (low + high) // 2
            if await self._differs_at(info, middle):
                high = middle
            else:
                low = middle + 1
        return low

    async def _differs_at(self, info: Info, position: Position) -> str:
        """How the first message at a position or after it differs from the log's event."""
        stored = await self._js.at_or_after(info.name, position)
        if stored is None:
            return ""
        return await self._differs(info, stored.seq, stored.subject, headers(stored.hdrs))

    async def _differs(self, info: Info, sequence: Position, where: str, fields: Mapping[str, str]) -> str:
        """How a message differs from the log's event. One in a hole stands for the last before the hole."""
        hole = hole_at(await self._log.holes(), sequence)
        if hole is not None:
            return await self._differs_before(info, hole)
        event = await self._log.at(sequence)
        if event is None:
            return "the log has no event there"
        return difference(event, where, fields, None)

    async def _differs_before(self, info: Info, hole: Hole) -> str:
        if hole not in self._before:
            stored = await self._js.at_or_after(info.name, hole.after) if hole.after > 0 else None
            gone = stored is None or stored.seq > hole.after
            self._before[hole] = "" if gone else await self._differs_at(info, hole.after)
        return self._before[hole]


def _not_ahead(info: Info, tip: Position, fork: Position) -> None:
    """Raises Ahead when a stream has positions that the log has not given yet."""
    if info.state.last_seq > tip:
        raise Ahead(
            f"the stream {info.name} is ahead of the log: it ends at {info.state.last_seq}, the log at {tip}",
            EPOCH,
            fork,
        )
