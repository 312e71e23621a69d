"""What the shell calls: reads by key, and writes checked as far as they can be before they queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from eventstore.batch import Prepared, admit, is_needed, normalised, served
from eventstore.command import Accepted, Command
from eventstore.decide import Previous
from eventstore.errors import Gone, Invalid, NotFound, NotYet, QuireError, Unavailable
from eventstore.event import Event, Position
from eventstore.feed import Cursor, Feed, InTheFuture
from eventstore.log.base import EventLog
from eventstore.stats import Stats
from eventstore.types.compiled import CompiledType
from eventstore.types.facts import Facts
from eventstore.types.registry import Registry
from eventstore.writer import Writer, behind

WAIT_SECONDS_MAX = 3.0


class Store:
    """One log, its writer, its types and its feed."""

    def __init__(self, log: EventLog, writer: Writer, feed: Feed) -> None:
        self.log = log
        self.feed = feed
        self._writer = writer

    @property
    def registry(self) -> Registry:
        return self._writer.registry

    @property
    def position(self) -> Position:
        """The tip, as far as this process knows."""
        return self._writer.tip.position

    @property
    def stats(self) -> Stats:
        """What the writer counts."""
        return self._writer.stats

    @property
    def trouble(self) -> str:
        """Why writes are held or failed lately; empty when they are neither."""
        return self._writer.held or self._writer.trouble.now()

    def hold(self, why: str) -> None:
        """Refuse every write for this reason, until told otherwise with an empty one."""
        self._writer.held = why

    async def kind(self, type: str) -> CompiledType:
        """The type of that name, after a look at the log when it is not known. Raises NotFound."""
        found = self.registry.served(type)
        if found is not None:
            return found
        await self.catch_up()
        return served(self.registry, type)

    async def catch_up(self) -> None:
        """Bring the types up to the log's end."""
        await self._writer.catch_up()

    async def submit(self, command: Command) -> Accepted:
        """Check the command against the types as they are now, then have it written.

        Raises every refusal there is; what was answered is on the disk.
        """
        if self.registry.served(command.type) is None:
            await self.catch_up()
        try:
            queued = self.queue(command)
        except Invalid:
            if not await self._moved():
                raise
            queued = self.queue(command)
        (accepted,) = await queued
        return accepted

    async def _moved(self) -> bool:
        """Whether types have changed in the log since this process looked."""
        before = self.registry.position
        await self.catch_up()
        return self.registry.position > before

    def queue(self, command: Command) -> asyncio.Future[list[Accepted]]:
        """As `submit`, for a type that is known: check now, answer when it is written."""
        return self._writer.submit(self._checked(command))

    def queue_each(self, commands: Sequence[Command]) -> list[asyncio.Future[list[Accepted]] | QuireError]:
        """As `queue`, each by itself; what refuses one now is in its place. Raises Throttled, Unavailable for all."""
        found = [self._checked_or_refused(command) for command in commands]
        good = iter(self._writer.submit_each([one for one in found if isinstance(one, Command)]))
        return [next(good) if isinstance(one, Command) else one for one in found]

    def _checked_or_refused(self, command: Command) -> Command | QuireError:
        try:
            return self._checked(command)
        except QuireError as error:
            return error

    def _checked(self, command: Command) -> Command:
        """With its document checked by the types as they are now, where it has one. Raises NotFound, Invalid."""
        registry = self.registry
        kind = served(registry, command.type)
        is_looked_at = command.document is not None and command.type not in registry.deactivated
        return checked(command, kind, registry) if is_looked_at else command

    async def follow(self, since: str) -> Cursor:
        """As `Feed.begin`. Raises Unavailable for a cursor in the future while the log is known to have lost its end."""
        known = self._writer.tip
        try:
            return await self.feed.begin(since)
        except InTheFuture as error:
            if why := self._writer.held or behind(error.tip, known):
                raise Unavailable(why) from error
            raise

    async def transact(self, prepared: Prepared) -> list[Accepted]:
        """Have a prepared transaction written, all of it or nothing. Raises Outdated when it must be prepared again."""
        return await self._writer.submit(*prepared.commands, prepared=prepared)

    async def read(self, type: str, id: str) -> Previous:
        """The current version of a resource. Raises NotFound, or Gone when it was deleted."""
        event = await self.log.last(type, id)
        if event is None:
            await self.kind(type)
            raise NotFound(f"{type}/{id} does not exist")
        if event.data is None:
            raise Gone(f"{type}/{id} was deleted at version {event.position}", event.position)
        return event

    async def version(self, type: str, id: str, position: Position) -> Event:
        """One version of a resource. Raises NotFound when that is not one of its versions, Gone for its delete."""
        event = await self.log.at(position)
        if event is None or (event.type, event.id) != (type, id):
            raise NotFound(f"{type}/{id} has no version {position}")
        if event.data is None:
            raise Gone(f"{type}/{id} was deleted at version {position}", position)
        return event

    async def arrived(self, position: Position) -> None:
        """Wait, however long, until the log is at a position."""
        await self._writer.reached(position)

    async def reached(self, position: Position) -> None:
        """Wait until the log is at a position. Raises NotYet after WAIT_SECONDS_MAX."""
        if self.position < position:
            await self.catch_up()
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await self._writer.reached(position)
        except TimeoutError:
            raise NotYet(f"the log is at {self.position}, not yet at {position}", self.position) from None


def checked(command: Command, kind: CompiledType, registry: Registry) -> Command:
    """The command with its document found valid; or without `body`, where only its turn can tell. Raises Invalid."""
    assert command.document is not None
    facts, refusal = Facts(), None
    given = normalised(kind, command.document) if command.short_references else command.document
    try:
        document, body, warnings = admit(registry, kind, given, command.id, False, facts)
    except Invalid as error:
        refusal = error
    if not facts.are_enough:
        return msgspec.structs.replace(command, document=given, refers=frozenset(facts.wanted))
    if refusal is not None:
        raise refusal
    # the tree takes ten times its bytes, and dozens of writes are under way
    kept = document if is_needed(kind) else None
    return msgspec.structs.replace(
        command, document=kept, body=body, checked=registry.position, warnings=tuple(warnings)
    )
