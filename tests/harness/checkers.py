"""The named guarantees: each one a checker over what clients were told, the log and the stream.

A checker raises `Violated` with the name of its guarantee. What they check against is `harness.record` (what clients
asked and were told) and `harness.model` (what the log must hold by rules of its own).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from eventstore.event import Event
from eventstore.log.base import EventLog, Hole, Span
from eventstore.log.sqlite import SQLiteLog
from eventstore.projection import Projection
from harness import model
from harness.model import History
from harness.record import Attempt, Delivered, Followed, Frame, Record, Seen, Told, Write
from harness.tally import TALLY, Tally
from projections.engine import BUILT_IN
from projections.replay import replay

Check = TypeVar("Check", bound=Callable[..., Any])


class Violated(AssertionError):
    """A guarantee does not hold."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee = guarantee


def guarantee(name: str) -> Callable[[Check], Check]:
    """What the checker finds is told as a violation of this guarantee."""

    def decorate(check: Check) -> Check:
        @wraps(check)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                found = check(*args, **kwargs)
            except AssertionError as error:
                raise Violated(name, str(error)) from error
            return _awaited(name, found) if iscoroutinefunction(check) else found

        checked.guarantee = name  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


async def _awaited(name: str, work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except AssertionError as error:
        raise Violated(name, str(error)) from error


class Acknowledged(NamedTuple):
    """A write that a client was told was accepted, or a version that it was shown."""

    type: str
    id: str
    position: int
    body: Mapping[str, Any] | None
    """As answered; None for a delete, or where the answer was not kept."""


async def events_of(log: EventLog) -> list[Event]:
    """Every event of the log, in order."""
    found: list[Event] = []
    while page := await log.events(Span(found[-1].position if found else 0, limit=1000)):
        found += page
    return found


async def read_log(directory: Path) -> list[Event]:
    """Every event of a data directory, read beside whatever process writes to it."""
    log = await SQLiteLog.open(directory, write=False)
    try:
        return await events_of(log)
    finally:
        await log.close()


@guarantee("Gapless")
def gapless(events: Sequence[Event], holes: Sequence[Hole] = ()) -> None:
    """Positions are 1 to n, but for the holes that epochs have recorded."""
    allowed = {hole.until + 1: hole.after + 1 for hole in holes}
    expected = 1
    for event in events:
        assert expected in (event.position, allowed.get(event.position)), (
            f"{expected} is missing, {event.position} comes next"
        )
        expected = event.position + 1


@guarantee("Ordered")
def ordered(events: Sequence[Event]) -> None:
    """Times never decrease along positions, and a transaction's events stand together."""
    for before, after in pairwise(events):
        assert before.at <= after.at, f"{after.position} is older than the one before it"
        assert after.transaction in (before.transaction, after.position), (
            f"{after.position} is of transaction {after.transaction}, the one before it of {before.transaction}"
        )


@guarantee("Durable")
def durable(events: Sequence[Event], acknowledged: Iterable[Acknowledged]) -> None:
    """What was acknowledged is in the log, at its position, as it was answered."""
    at = {event.position: event for event in events}
    for one in acknowledged:
        event = at.get(one.position)
        assert event is not None, f"{one.type}/{one.id} at {one.position} is lost"
        assert (event.type, event.id) == (one.type, one.id), (
            f"{one.position} is {event.type}/{event.id}, told was {one.type}/{one.id}"
        )
        if one.body is not None:
            assert event.data is not None, f"{one.position} is a delete, told was a body"
            assert json.loads(event.data) == one.body, (
                f"{one.type}/{one.id} at {one.position} is another body"
            )


def told(record: Record) -> Iterator[Acknowledged]:
    """Everything that any client was told is in the log: acknowledgements, reads, lists."""
    for write, one in record.acknowledged():
        if one.position is not None:
            yield Acknowledged(write.type, one.id, one.position, one.body)
    for seen in record.seen:
        if seen.version is not None:
            yield Acknowledged(seen.type, seen.id, seen.version, seen.body)
    for listed in record.listed:
        for id, version in listed.versions.items():
            yield Acknowledged(listed.type, id, version, listed.bodies[id])
    for attempt in record.attempts:
        if attempt.current is not None:
            yield Acknowledged(attempt.writes[0].type, attempt.writes[0].id, attempt.current, None)


@guarantee("Unique")
def unique(events: Sequence[Event], acknowledged: Sequence[Acknowledged]) -> None:
    """No position was given to two accepted requests."""
    positions = [one.position for one in acknowledged]
    assert len(positions) == len(set(positions)), "a position was told to two requests"


@guarantee("Unique")
def once(history: History, attempts: Sequence[Attempt]) -> None:
    """An accepted request is one event for each of its writes, a refused one none, a retried one once at most."""
    made: dict[str, str] = {}
    for attempt in attempts:
        events = history.of_request.get(attempt.request, [])
        if attempt.outcome == "accepted":
            _accepted(history, attempt, events)
        elif attempt.outcome == "unknown":
            assert len(events) <= len(attempt.writes), f"{attempt.request} is {len(events)} events"
        else:
            assert not events, (
                f"{attempt.request} was {attempt.outcome} ({attempt.status}) and is in the log at {events[0].position}"
            )
        if events:
            other = made.setdefault(attempt.operation, attempt.request)
            assert other == attempt.request, (
                f"{other} was retried as {attempt.request}, and both are in the log: {attempt.writes}"
            )
    known = {attempt.request for attempt in attempts}
    for request, events in history.of_request.items():
        assert request in known, f"{events[0].position} is of the request {request!r}, which nobody sent"


def _accepted(history: History, attempt: Attempt, events: Sequence[Event]) -> None:
    own = {event.position for event in events}
    answered = [one.position for one in attempt.told if one.position is not None]
    assert own <= set(answered), f"{attempt.request} is at {sorted(own)}, told was {answered}"
    for write, one in zip(attempt.writes, attempt.told, strict=True):
        if one.position not in own:
            assert _nothing_to_do(history, write, one), f"{attempt.request} was accepted as {one.position}"


def _nothing_to_do(history: History, write: Write, one: Told) -> bool:
    """Whether accepting the write needs no event: a delete of nothing, a patch that changes nothing."""
    if write.method == "DELETE":
        return one.position is None
    event = history.at.get(one.position or 0)
    if write.method != "PATCH" or event is None or event.data is None:
        return False
    return model.result(write, event) == model.body(event)


@guarantee("Atomic")
def atomic(history: History, record: Record) -> None:
    """A transaction is in the log as a whole or not at all, and no list shows a part of one."""
    for attempt in record.attempts:
        events = history.of_request.get(attempt.request, [])
        if len(attempt.writes) > 1 and events:
            positions = [event.position for event in events]
            first = positions[0]
            assert positions == list(range(first, first + len(attempt.writes))), (
                f"of {len(attempt.writes)} writes of {attempt.request} there are {positions}"
            )
            assert {event.transaction for event in events} == {first}, (
                f"{attempt.request} is not one transaction"
            )
    for event in history.events:
        assert model.request_of(event) == model.request_of(history.at[event.transaction]), (
            f"{event.position} is in the transaction of another request"
        )
    for listed in record.listed:
        after = history.at.get(listed.position + 1)
        assert after is None or after.transaction > listed.position, (
            f"a list of {listed.type} at {listed.position} shows a part of the transaction {after and after.transaction}"
        )


@guarantee("Isolated")
def isolated(history: History, attempts: Sequence[Attempt]) -> None:
    """Each event is what its request makes of the event before it of the same resource, preconditions and all."""
    for attempt in attempts:
        events = history.of_request.get(attempt.request, [])
        writes = attempt.writes if len(attempt.writes) > 1 else attempt.writes * len(events)
        for write, event in zip(writes, events, strict=False):
            before = history.before[event.position]
            where = f"{attempt.request} at {event.position} ({event.type}/{event.id})"
            assert (event.type, event.id) == (write.type, write.id or event.id), (
                f"{where} is another resource"
            )
            why = model.refusal(write, before)
            assert not why, f"{where} had to be refused: {why}"
            assert event.action == model.action(write, before), f"{where} is {event.action}"
            result = model.result(write, before)
            assert result == (None if event.data is None else model.body(event)), f"{where} has another body"


@guarantee("Isolated")
def bounded(history: History, type: str, definition: str, key: str) -> None:
    """Each resource of the type has at most the maximum that its Attribute said at that position."""
    maximum = None
    for event in history.events:
        if (event.type, event.id) == ("Attribute", definition):
            maximum = model.body(event)["schema"]["maximum"]
        elif event.type == type and event.data is not None:
            assert maximum is not None, f"{event.position} is older than its type"
            value = model.body(event)[key]
            assert value <= maximum, f"{event.position} has {value}, when the maximum was {maximum}"


@guarantee("Fresh")
def fresh(history: History, record: Record) -> None:
    """What anybody was told before a read or a list was begun, that read or list shows."""
    for seen in record.seen:
        _fresh(history, seen)
    wanted = sorted(record.listed, key=lambda one: one.position)
    states = model.states(history.events)
    position, state = next(states, (0, {}))
    for listed in wanted:
        while position < min(listed.position, history.tip):
            position, state = next(states)
        assert listed.known <= listed.position, (
            f"a list of {listed.type} at {listed.position} after {listed.known}"
        )
        assert listed.position <= history.tip, f"a list of {listed.type} at {listed.position}, beyond the log"
        current = state.get(listed.type, {})
        assert listed.total == len(current), (
            f"{listed.total} {listed.type} at {listed.position}: {len(current)}"
        )
        assert listed.versions == current, f"the list of {listed.type} at {listed.position} is not as the log"


def _fresh(history: History, seen: Seen) -> None:
    key = (seen.type, seen.id)
    name = f"{seen.type}/{seen.id}"
    if seen.version is not None:
        event = history.at.get(seen.version)
        assert event is not None, f"{name} was read at {seen.version}, which is not there"
        assert (event.data is None) == (seen.status == 410), (
            f"{name} at {seen.version} was answered {seen.status}"
        )
    later = history.after(key, seen.version or 0)
    assert later is None or later > seen.known, (
        f"{name} was read as {seen.version} ({seen.status}) after {seen.known} was told, and is at {later}"
    )


@guarantee("Resumable")
def resumable(history: History, followed: Followed, holes: Sequence[Hole] = ()) -> None:
    """From where it began a client got every event that it wanted, once, in order, however often it came back."""
    assert not followed.problems, f"{followed.name}: {followed.problems[:3]}"
    forks = {hole.after for hole in holes}
    assert forks.issuperset(followed.forks), f"{followed.name} was sent back to {followed.forks}, not {forks}"
    wanted = [
        event
        for event in history.events
        if event.position > followed.after
        and followed.type in ("", event.type)
        and followed.id in ("", event.id)
    ]
    got = [frame.position for frame in followed.frames]
    for position, event in zip(got, wanted, strict=False):
        assert position == event.position, f"{followed.name} got {position}, and {event.position} was next"
    assert len(got) == len(wanted), f"{followed.name} got {len(got)} events of {len(wanted)}"
    for frame, event in zip(followed.frames, wanted, strict=True):
        assert _same(frame, event), f"{followed.name} got another event at {frame.position}"


@guarantee("Resumable")
def unbroken(history: History, after: int | None, positions: Sequence[int], tags: Sequence[bytes]) -> None:
    """A client of everything got what comes after where it began, each once and in order, with the log's tags."""
    assert after is not None, "it was not told where it begins"
    expected = list(range(after + 1, after + 1 + len(positions)))
    assert list(positions) == expected, f"after {after} came {_first_difference(positions, expected)}"
    for position, tag in zip(positions, tags, strict=True):
        assert history.at[position].hash.hex()[:8] == tag.decode(), f"{position} came with the tag {tag!r}"


def _first_difference(got: Sequence[int], expected: Sequence[int]) -> str:
    return next(f"{one} for {other}" for one, other in zip(got, expected, strict=True) if one != other)


def _same(frame: Frame, event: Event) -> bool:
    return (
        frame.tag == event.hash.hex()[:8]
        and (frame.action, frame.subject) == (event.action, f"{event.type}/{event.id}")
        and frame.hash == event.hash.hex()
        and frame.data == (None if event.data is None else json.loads(event.data))
    )


@guarantee("Fenced")
def fenced(
    history: History,
    stream: Sequence[Delivered],
    delivered: Sequence[Delivered] = (),
    holes: Sequence[Hole] = (),
) -> None:
    """The stream is the log: its sequence is the position, its hashes are the log's; and so it was delivered.

    In a hole it has what it had before the restore, or placeholders.
    """
    sequences = [message.sequence for message in stream]
    assert sequences == list(range(1, history.tip + 1)), (
        f"the stream has {len(sequences)} messages up to {max(sequences, default=0)}, the log is at {history.tip}"
    )
    for message in (*stream, *delivered):
        if any(hole.after < message.sequence <= hole.until for hole in holes):
            continue
        event = history.at.get(message.sequence)
        assert event is not None, f"the message {message.sequence} is of no event"
        assert message.position == str(message.sequence), f"{message.position} stands at {message.sequence}"
        assert message.hash == event.hash.hex(), f"the message {message.sequence} has another hash"
        assert message.subject == model.subject(event), f"{message.sequence} is at {message.subject}"
        assert message.digest == "" or message.digest == model.digest(event), (
            f"the message {message.sequence} stands for another body"
        )
        assert message.data == (b"" if message.digest else event.data or b""), (
            f"the message {message.sequence} has another body"
        )
    for before, after in pairwise(delivered):
        assert after.sequence == before.sequence + 1, (
            f"{after.sequence} was delivered after {before.sequence}"
        )


@guarantee("Answered")
def answered(record: Record) -> None:
    """Nobody was answered 500, or what makes no sense for what was asked."""
    assert not record.faults, f"{len(record.faults)} answers that should not be: {record.faults[:3]}"


def fold(events: Sequence[Event]) -> dict[tuple[str, str], int]:
    """The current position of each live resource, by the log alone."""
    current: dict[tuple[str, str], int] = {}
    for event in events:
        if event.data is None:
            current.pop((event.type, event.id), None)
        else:
            current[event.type, event.id] = event.position
    return current


@guarantee("Replayable")
async def replayable(
    log: EventLog, events: Sequence[Event], projections: Sequence[Projection] = BUILT_IN
) -> None:
    """Every projection is what the log makes of it; and `current` what a fold makes that shares no code with it."""
    for projection in projections:
        found = await replay(log, projection)
        assert found.same, found
    if not any(one.name == "current" for one in projections):
        return
    rows, totals = await log.rows(
        ("SELECT type, id, position FROM quire_current", ()),
        ("SELECT type, live, events FROM quire_total", ()),
    )
    current = fold(events)
    assert {(type, id): position for type, id, position in rows} == current, "quire_current is not as the log"
    for type, live, count in totals:
        assert live == sum(key[0] == type for key in current), f"quire_total says {live} live {type}"
        assert count == sum(event.type == type for event in events), (
            f"quire_total says {count} events of {type}"
        )
    if await log.checkpoint(Tally.name) is not None:
        await _tallied(log, events)


async def _tallied(log: EventLog, events: Sequence[Event]) -> None:
    reached = await log.checkpoint(Tally.name)
    assert reached == (events[-1].position if events else 0), f"{Tally.name} is at {reached}, the log further"
    (rows,) = await log.rows((f"SELECT type, events, positions FROM {TALLY.name}", ()))
    sums: dict[str, list[int]] = {}
    for event in events:
        one = sums.setdefault(event.type, [0, 0])
        one[0] += 1
        one[1] += event.position
    assert {type: [count, positions] for type, count, positions in rows} == sums, (
        f"{TALLY.name} is not as the log"
    )
