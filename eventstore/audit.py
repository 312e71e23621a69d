"""Verifies the log: each event against its own bytes, its neighbours and the types of its time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from eventstore.audit_event import SHAPES, acted, bodied, differences, hole_after, misshapen, of_columns
from eventstore.command import Key
from eventstore.decide import Previous
from eventstore.errors import Invalid, Malformed, Unavailable
from eventstore.event import EPOCH_TYPE, SALT_BYTES, Event, Header, Position, Tip, chain, digest_of, header_of
from eventstore.log.base import AppendFailed, EventLog, Span
from eventstore.types.registry import DEFINITION_TYPES, Registry

CHUNK_EVENTS_MIN = 64
CHUNK_EVENTS_MAX = 1000
CHUNK_BYTES = 16 * 1024 * 1024
"""About what a chunk should hold; the next one has fewer events when this one was bigger."""
FAULTS_LISTED_MAX = 20

Progress = Callable[[int], None]
"""Told, now and then, how many events are done."""

_TIP = re.compile(r"(0|[1-9][0-9]{0,17}):([0-9a-f]{64})")


def read_tip(text: str) -> Tip:
    """A tip as it was saved once, `position:hash`. Raises Malformed."""
    match = _TIP.fullmatch(text.strip())
    if match is None:
        raise Malformed(f"{text.strip()[:80]!r} is no tip: position:hash is wanted, as verify prints it")
    return Tip(int(match[1]), "", bytes.fromhex(match[2]))


class Fault(msgspec.Struct, frozen=True):
    """Something that is not as it was written. Position 0 is the log as a whole."""

    position: Position
    what: str


class Faults:
    """What was found: all are counted, the first few kept."""

    def __init__(self) -> None:
        self.count = 0
        self.listed: list[Fault] = []

    def add(self, position: Position, what: str) -> None:
        self.count += 1
        if not self.full:
            self.listed.append(Fault(position, what))

    @property
    def full(self) -> bool:
        return len(self.listed) >= FAULTS_LISTED_MAX


def in_order(faults: Faults) -> list[Fault]:
    """Those that are listed, by position; what concerns the log as a whole comes last."""
    return sorted(faults.listed, key=lambda fault: (fault.position == 0, fault.position))


class Count(msgspec.Struct):
    """Of one type, at the end of the log."""

    events: int = 0
    live: int = 0


class Report(msgspec.Struct, frozen=True):
    """What `verify` saw."""

    tip: Tip
    """The last event that was read."""
    events: int
    types: dict[str, Count]
    faults: Faults


async def verify(
    log: EventLog, *, against: Sequence[Tip] = (), progress: Progress = lambda _done: None
) -> Report:
    """Read the log from its beginning to where it ends now, oldest first, beside whoever writes.

    `against` are tips that were saved where who changes the log does not reach.
    Raises Unavailable when the log cannot be read at all; whatever else is wrong is a fault.
    """
    end = await _end(log)
    walk = _Walk(log, against)
    after, size = 0, CHUNK_EVENTS_MIN
    while after < end:
        until = min(after + size, end)
        found = await _read(log, after, until, walk.faults)
        await walk.take(found)
        size = next_size(size, [one.data for one in found if isinstance(one, Event)])
        after = until if found else await _skip(log, until, end)
        progress(min(after, end))
    walk.finish(end)
    await _look_below(log, walk.faults)
    return Report(walk.tip, walk.events, walk.types, walk.faults)


class _Unreadable(msgspec.Struct, frozen=True):
    """Events of which nothing can be said: positions in (after, until]."""

    after: Position
    until: Position
    why: str


_Found = Event | _Unreadable


async def _end(log: EventLog) -> Position:
    """Where the log ends; when its last event is unreadable, as many as there are events."""
    try:
        return (await log.tip()).position
    except (Unavailable, AppendFailed):
        return await log.count(Span())


async def _look_below(log: EventLog, faults: Faults) -> None:
    try:
        below = await log.count(Span(after=-(2**63), until=0))
    except (Unavailable, AppendFailed) as error:
        faults.add(0, f"the events cannot be counted: {error}")
    else:
        if below:
            faults.add(0, f"{below} events have positions below 1, where a log begins")


async def _read(log: EventLog, after: Position, until: Position, faults: Faults) -> list[_Found]:
    """The events in (after, until]. Where they cannot be read, halve until it is clear which one is to blame."""
    try:
        return list(await log.events(Span(after, until, limit=until - after)))
    except (Unavailable, AppendFailed) as error:
        await log.rows()  # raises when the storage as a whole is away
        if until - after == 1 or faults.full:
            return [_Unreadable(after, until, str(error))]
    middle = (after + until) // 2
    return [*await _read(log, after, middle, faults), *await _read(log, middle, until, faults)]


def next_size(size: int, bodies: Sequence[bytes | None]) -> int:
    """How many events to read after `size` of them had these bodies, so that memory stays bounded."""
    mean = sum(len(body) for body in bodies if isinstance(body, bytes)) // max(1, len(bodies))
    return max(1, min(size * 2, CHUNK_EVENTS_MAX, CHUNK_BYTES // (mean + 1)))


async def _skip(log: EventLog, until: Position, end: Position) -> Position:
    """After a chunk of nothing: just before the next event there is, or the end."""
    try:
        following = await log.events(Span(until, end, limit=1))
    except (Unavailable, AppendFailed):
        return until
    return following[0].position - 1 if following else end


class _Walk:
    """Goes along the log with what the next event must follow from."""

    def __init__(self, log: EventLog, against: Sequence[Tip]) -> None:
        self.faults = Faults()
        self.events = 0
        self.tip = Tip(0, "", log.genesis)
        self.types: dict[str, Count] = {}
        self._log = log
        self._next: Position = 1
        self._hashes: tuple[bytes, ...] = (log.genesis,)
        """What may be the hash before the next event: one; more when it is unclear; none when it is unknown."""
        self._at = ""
        self._transaction: Position | None = 0
        self._registry: Registry | None = None
        try:
            self._registry = Registry.empty(log.fhir_version)
        except Invalid as error:
            self.faults.add(0, f"the log's own row: {error}")
        self._against = sorted(against, key=lambda saved: saved.position)
        while self._against and self._against[0].position == 0:
            if self._against.pop(0).hash != log.genesis:
                self.faults.add(0, "another log: a tip saved when it was empty has another beginning")

    async def take(self, found: Sequence[_Found]) -> None:
        """Check what comes next."""
        last = await self._last_before([one for one in found if isinstance(one, Event)])
        for one in found:
            if isinstance(one, _Unreadable):
                self._arrive(one.after + 1)
                self._lose(one.until, f"unreadable: {one.why}")
                continue
            if one.type == EPOCH_TYPE:
                self._arrive(min(hole_after(one), one.position - 1) + 1)
                self._next = one.position
            self._arrive(one.position)
            self._take(one, last)

    def finish(self, end: Position) -> None:
        """The log ends here."""
        self._arrive(end + 1)
        for saved in self._against:
            lost = _events(end + 1, saved.position)
            self.faults.add(end + 1, f"{lost} cut off: the log ends at {end}, and once was at {saved}")

    def _arrive(self, position: Position) -> None:
        """Whatever is before this position and was not seen, is not there."""
        if position > self._next:
            self._lose(position - 1, "missing")

    def _lose(self, until: Position, what: str) -> None:
        """From the next position to `until` there is nothing: what follows must stand for itself."""
        self.faults.add(self._next, f"{_events(self._next, until)} {what}")
        self._next, self._hashes, self._transaction, self._registry = until + 1, (), None, None
        while self._against and self._against[0].position <= until:
            self._against.pop(0)

    def _take(self, event: Event, last: dict[Key, Previous | None] | None) -> None:
        self._next = event.position + 1
        self.events += 1
        problems = list(self._compare(event))
        facts = self._examine(event, problems)
        if facts is not None:
            problems.extend(self._follow(event, facts, last))
            problems.extend(self._define(event, facts, sound=not problems))
            self.tip = Tip(event.position, facts.at, event.hash)
        if problems:
            self.faults.add(event.position, "; ".join(problems))

    def _examine(self, event: Event, problems: list[str]) -> Header | None:
        """Check the event's own bytes; what it says of itself, from the side that the chain vouches for."""
        columns = msgspec.structs.astuple(event)
        if tuple(map(type, columns)) not in SHAPES:
            problems.extend(misshapen(columns))
            self._hashes = (event.hash,) if type(event.hash) is bytes else ()
            self._transaction = self._registry = None
            return None
        problems.extend(self._unsealed(event))
        try:
            header = header_of(event)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            problems.append(f"the header is not one: {error}")
            return of_columns(columns)
        if msgspec.structs.astuple(header)[:-1] == columns[:8]:
            return header
        problems.extend(differences(header, columns))
        return header if len(self._hashes) == 1 else of_columns(columns)

    def _unsealed(self, event: Event) -> Iterator[str]:
        """What is wrong with salt, digest and hash."""
        if len(event.salt) != SALT_BYTES:
            yield f"the salt has {len(event.salt)} bytes, not {SALT_BYTES}"
        digest = digest_of(event.salt, event.data, event.context)
        befores, self._hashes = self._hashes, (event.hash,)
        if not befores or any(chain(before, event.header, event.digest) == event.hash for before in befores):
            if digest != event.digest:
                yield "the digest is not that of salt, data and context: one of these was changed"
            return
        computed = [chain(before, event.header, digest) for before in befores]
        if event.hash in computed:
            yield "the digest was changed: salt, data and context fit the hash"
            return
        self._hashes = (event.hash, *computed)
        if digest != event.digest:
            yield "the digest is not that of salt, data and context"
        yield "the hash does not follow from the hash before, the header and the digest: one of these was changed"

    def _follow(self, event: Event, facts: Header, last: dict[Key, Previous | None] | None) -> Iterator[str]:
        """What does not follow from the events before."""
        if facts.at < self._at:
            yield f"its time {facts.at:.40} is before {self._at}, the time of an event before it"
        self._at = max(facts.at, self._at)
        yield from self._transacted(facts)
        yield from self._typed(facts)
        yield from bodied(event, facts)
        if last is not None:
            yield from acted(facts, last.get((event.type, event.id)))
            last[event.type, event.id] = Previous(event.position, facts.action, facts.at, None)
        count = self.types.setdefault(facts.type, Count())
        count.events += 1
        count.live += (facts.action == "created") - (facts.action == "deleted")

    def _transacted(self, facts: Header) -> Iterator[str]:
        """A transaction is its first event's position, in each of its events, and these stand together."""
        before, self._transaction = self._transaction, facts.transaction
        known = before is not None or not 0 < facts.transaction < facts.position
        if known and facts.transaction not in (facts.position, before):
            yield (
                f"its transaction is {facts.transaction}, neither its position {facts.position} "
                f"nor the transaction of the event before, {before}"
            )

    def _typed(self, facts: Header) -> Iterator[str]:
        """`definition` is the position from which the type is as it was at the event's."""
        if self._registry is None:
            if not 0 <= facts.definition <= facts.position:
                yield f"its definition {facts.definition} is no position up to its own"
            return
        kind = self._registry.served(facts.type)
        if facts.type == EPOCH_TYPE:
            return
        if kind is None:
            yield f"there was no type {facts.type[:80]}"
        elif kind.position != facts.definition:
            yield f"its definition is {facts.definition}, and {facts.type} was last defined at {kind.position}"

    def _define(self, event: Event, facts: Header, *, sound: bool) -> Iterator[str]:
        """Let a definition take effect. From a damaged one on, nobody can say what the types were."""
        if facts.type not in DEFINITION_TYPES or self._registry is None:
            return
        try:
            value = msgspec.json.decode(event.data) if event.data is not None else None
            self._registry = self._registry.apply(event.position, facts.type, facts.id, value)
        except Exception as error:
            yield f"the definition does not take effect: {error}"
            sound = False
        if not sound:
            yield "what `definition` should be in later events is not checked"
            self._registry = None

    def _compare(self, event: Event) -> Iterator[str]:
        """With the tips that were saved when this was the last event."""
        while self._against and self._against[0].position <= event.position:
            saved = self._against.pop(0)
            if saved.hash != event.hash:
                yield f"another history: the hash was {saved.hash.hex()} when the tip was saved"

    async def _last_before(self, events: Sequence[Event]) -> dict[Key, Previous | None] | None:
        """The last event before these of each resource in them; None when that cannot be looked up."""
        if not events:
            return {}
        first = {
            (one.type, one.id): one.position
            for one in reversed(events)
            if type(one.type) is str and type(one.id) is str
        }
        wanted = [(*key, position) for key, position in first.items()]
        try:
            before = await self._log.before(wanted, bodies=False)
        except (Unavailable, AppendFailed) as error:
            self.faults.add(events[0].position, f"the events before it cannot be looked up: {error}")
            return None
        return {key: before.get(position) for key, position in first.items()}


def _events(first: Position, until: Position) -> str:
    return f"the event at {first} is" if first == until else f"the events at {first} to {until} are"
