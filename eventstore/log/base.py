"""The storage port: what every backend of the log does. One contract suite (`tests/contract`) runs over all.

How to add one: write one file beside this one with a class that satisfies `EventLog`, its SQL in `sql/`, name it
in `eventstore.log.opening`, give the read side its SQL, and add it to the tests' fixture `place`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import msgspec

from eventstore.command import Key
from eventstore.decide import Previous
from eventstore.event import Event, Position, Tip
from eventstore.projection import Parked, Rows, Table

FEW_ROWS = 128
KEPT_INLINE: Position = -1
"""The checkpoint of a projection whose tables the write transaction keeps: always at the tip."""


class AppendFailed(Exception):
    """The database refused a row of the batch; nothing of it was written."""


class Snapshot(msgspec.Struct, frozen=True):
    """What the log knows when it is taken, before the batch is decided."""

    tip: Tip
    definition: Position
    """Position of the last event of a definition type; 0 when there is none."""
    previous: Mapping[Key, Previous]
    """The last event of each key asked for, where there is one."""
    live: Mapping[str, int]
    """For each type asked for, how many live resources it has, counted up to the limit asked for."""
    at: str = ""
    """The time by the clock of the storage, where several machines write; empty: the writer's own clock counts."""


class Span(msgspec.Struct, frozen=True):
    """Which events: positions in (after, until], of one type or one resource or all, oldest or newest first."""

    after: Position = 0
    until: Position | None = None
    type: str | None = None
    id: str | None = None
    newest_first: bool = False
    limit: int = 1000
    bytes_max: int | None = None
    """Where to end by weight (`bytes_of`), the event that reaches it included and a few more; None: whatever they weigh."""


def bytes_of(events: Sequence[Event]) -> int:
    """What events weigh against `Span.bytes_max`: all their bytes."""
    return sum(
        len(part or b"")
        for event in events
        for part in (event.header, event.data, event.context, event.salt, event.digest, event.hash)
    )


def body_bytes_of(events: Sequence[Event]) -> int:
    """What the bodies of events weigh."""
    return sum([len(event.data) for event in events if event.data is not None])


class Identity(NamedTuple):
    """Which log it is: its genesis hash is made of these."""

    id: str
    fhir_version: str
    created: str


def new_identity(fhir_version: str) -> Identity:
    """The identity of a log that is made now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Identity(str(uuid4()), fhir_version or "4.0.1", now)


class Hole(NamedTuple):
    """The positions in (after, until] were given by a history that this log does not have."""

    after: Position
    until: Position


class Node(msgspec.Struct, frozen=True):
    """A process that serves a log, as it says of itself."""

    id: str
    url: str
    """Where it can be asked; empty for a command."""
    position: Position
    """Up to where it knows the log."""


class Owned(NamedTuple):
    """Who does what one node at a time does, and up to where that is done."""

    node: str
    position: Position


class Roll(msgspec.Struct, frozen=True):
    """The nodes that live, by their ids, and what they own, by its name."""

    nodes: Sequence[Node] = ()
    owners: Mapping[str, Owned] = {}


class Nodes(Protocol):
    """Who serves a log, and who owns what one node at a time does. Part of the storage port.

    Ownership saves work that is done twice and in vain; it is not what keeps things right. Who was stopped may go on for a
    moment beside its successor, so whatever is owned is guarded by itself: by a checkpoint, by the stream's fence.
    Every method but the last two raises Unavailable when the storage cannot be reached.
    """

    async def beat(self, node: Node, wanted: Mapping[str, Position], lease_seconds: float) -> Roll:
        """Say that a node lives, and what it wants to own from now on, with how far that is done.

        What nobody living owns becomes its own, what it owns stays its own, what it does not name any more is free. All
        this for so many seconds by the storage's clock, unless it is said again or the node leaves. Answers what is so
        then; of two that want the same at once, one has it.
        """
        ...

    async def leave(self, node: str) -> None:
        """The node ends: what it owns is free at once, and other processes hear of it."""
        ...

    async def roll(self) -> Roll:
        """Who lives and owns what."""
        ...

    def on_append(self, heard: Callable[[Position], None]) -> None:
        """Call this when another process has appended up to a position. It may be missed: look now and then as well.

        Heard from the first `beat` on. Who has beaten tells others of its appends.
        """
        ...

    def on_leave(self, heard: Callable[[], None]) -> None:
        """Call this when a node of another process left. It may be missed."""
        ...


Query = tuple[str, Sequence[Any]]
"""An SQL statement of ours, and its parameters."""


class Pressure(msgspec.Struct, frozen=True):
    """How the storage stands. `problem` is empty when writes are accepted."""

    wal_bytes: int
    problem: str = ""


class EventLog(Protocol):
    """An append-only log of events with gapless positions, and the tables that projections keep beside it.

    One task at a time, of all processes that have the log open, may hold it: `take`, then `append` or `release`.
    Everything else may run meanwhile and sees only what was committed. Every method raises Unavailable when the storage
    cannot be reached or is full.
    """

    dialect: str
    """Name of the SQL dialect, for the read side's own SQL files."""
    id: str
    fhir_version: str
    created: str
    genesis: bytes
    """The hash before position 1."""

    @property
    def nodes(self) -> Nodes:
        """Who serves the log."""
        ...

    async def take(self) -> None:
        """Wait for the log, and take it for writing."""
        ...

    async def look(self, keys: Mapping[Key, bool] = {}, count: Mapping[str, int] = {}) -> Snapshot:
        """What the log knows, for who has taken it and gives it back if this fails.

        `keys` maps each key to whether its body is needed; `count` each type to a limit.
        """
        ...

    async def append(self, events: Sequence[Event], rows: Rows) -> None:
        """Write the events and the rows, commit, and give the log back.

        Raises AppendFailed when the database refuses a row: nothing was written and the log is given back.
        """
        ...

    async def release(self) -> None:
        """Give the log back; nothing was written."""
        ...

    async def landed(self, event: Event) -> bool:
        """Whether an event whose `append` raised Unavailable stands in the log after all.

        Called before anything else is taken: no append that was begun earlier can still write when it answers.
        Raises OutcomeUnknown when it cannot be found out in time.
        """
        ...

    async def tip(self) -> Tip:
        """The end of the log."""
        ...

    async def last(self, type: str, id: str) -> Previous | None:
        """The last event of a resource, as far as readers need it."""
        ...

    async def at(self, position: Position) -> Event | None:
        """The event at a position."""
        ...

    async def events(self, span: Span) -> list[Event]:
        """Events in order, `span.limit` at most."""
        ...

    async def count(self, span: Span) -> int:
        """How many events there are in the span, without its limit."""
        ...

    async def before(
        self, wanted: Iterable[tuple[str, str, Position]], bodies: bool
    ) -> dict[Position, Previous]:
        """For each (type, id, position) the resource's last event before that position, by that position."""
        ...

    async def since(self, at: str) -> Position:
        """The last position written before the time `at`; 0 when there is none."""
        ...

    async def holes(self) -> list[Hole]:
        """The positions that no event has, because an epoch was begun after them; oldest first."""
        ...

    async def rows(
        self, *queries: Query, bytes_max: int | None = None, few: bool = False
    ) -> list[list[tuple[Any, ...]]]:
        """Run the read side's queries on one snapshot, in a short transaction; the rows of each.

        With `bytes_max` the rows of a query end soon after their bytes values reach it. `few` says that there are at
        most FEW_ROWS, each found by a key: a backend may then answer them sooner.
        """
        ...

    async def select(self, sql: str, parameters: Sequence[Any], views: Iterable[str]) -> bytes:
        """Run a stranger's SELECT over the named views only; its rows as a JSON array of objects.

        Raises Invalid or Malformed with the reason, TooLarge for one that was cut off, Throttled.
        """
        ...

    async def schema_faults(self, tables: Sequence[Table]) -> list[str]:
        """What of the storage's own tables, indexes and views is not as this version makes them."""
        ...

    async def declare(self, name: str, version: int, tables: Sequence[Table]) -> Position | None:
        """Make a projection's tables known, and make them, empty, when it has none. Answers its checkpoint.

        None when those that stand are of another version. They are left as they are: `beside` and `switch` replace them.
        """
        ...

    async def checkpoint(self, name: str) -> Position | None:
        """Up to where a projection's tables are; KEPT_INLINE, or None when it was never declared."""
        ...

    async def advance(
        self,
        name: str,
        after: Position,
        until: Position,
        rows: Rows,
        *,
        parked: Sequence[Parked] = (),
        resolved: Sequence[Position] = (),
    ) -> bool:
        """In one transaction: the rows, the events newly parked, those parked no more, and the checkpoint to `until`.

        False, and nothing written, when the checkpoint is not at `after` or one of `resolved` is not parked: somebody
        else was there. Raises AppendFailed when the database refuses a row.
        """
        ...

    async def beside(self, name: str, version: int, tables: Sequence[Table]) -> None:
        """Begin to build a projection anew, whatever was begun before: empty tables beside those that stand.

        They are called `beside(table)`, and `advance` fills them under the name `beside(name)`, from 0. Nobody else
        sees them, and until `switch` those that stand are kept and read as before.
        """
        ...

    async def switch(self, name: str, after: Position, until: Position, rows: Rows, *, inline: bool) -> bool:
        """In one transaction: the last rows into the tables beside, and these in the place of those that stand.

        For who holds the log by `take`, instead of `append`; the log is given back. The checkpoint is then `until`, or
        KEPT_INLINE, and what is parked is what was parked beside. SQL views over the tables go on to work. False, and
        nothing written, when the checkpoint beside is not at `after`. Raises AppendFailed like `append`.
        """
        ...

    async def discard(self, name: str = "", *, but: Collection[str] = ()) -> None:
        """Drop what was built beside and what a switch replaced, of one projection or of all but some.

        In short transactions.
        """
        ...

    async def pressure(self) -> Pressure:
        """How the storage stands."""
        ...

    async def interrupt(self) -> None:
        """End the queries of strangers: the server stops."""
        ...

    async def close(self) -> None:
        """Give everything back. Safe to call twice."""
        ...
