"""Recomputes a projection from the log and compares it with the tables that stand; beside a server, in bounded memory.

What the log makes is kept in a temporary file. The tables that stand are read a page at a time, each page in a short
snapshot that also says at which position it is; the temporary tables are brought to just that position before the two
are compared. So nothing is held up, and what is written meanwhile is compared too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from eventstore.errors import Conflict
from eventstore.event import Position
from eventstore.follower import CHUNK_BYTES, CHUNK_EVENTS, Stuck
from eventstore.log.base import KEPT_INLINE, EventLog, Query, Span
from eventstore.log.sql import queries
from eventstore.log.sqlite_rows import RowWriter, make_anew
from eventstore.projection import Change, Projection, RowKey, Rows, Table, Value
from projections.changes import changes, project, reason, sift
from projections.parked import PARKED_EVENTS_MAX
from projections.rebuild import Progress, untold
from projections.views import view_name

PAGE_ROWS = 1000
CACHE_KIB = 64 * 1024

_SQL = {dialect: queries("projections.sql", dialect) for dialect in ("sqlite", "postgres")}
_PARAMETER = {"sqlite": "?{}", "postgres": "${}"}

Row = tuple[Value, ...]


class Difference(msgspec.Struct, frozen=True, rename="camel"):
    """A row that is not as the log makes it. What is None is not there."""

    table: str
    key: RowKey
    expected: Row | None
    found: Row | None
    position: Position
    """Of the last event that made or deleted the row; 0 when none did."""


class Replayed(msgspec.Struct, frozen=True, rename="camel"):
    """What `replay` saw."""

    projection: str
    position: Position
    """Up to where rows and log were compared."""
    events: int
    rows: int
    left_out: int
    """Parked events: the tables are compared with what the others make."""
    difference: Difference | None
    """The first one."""
    stuck: str
    """Where the projection itself fails now, and why; empty when it does not."""

    @property
    def same(self) -> bool:
        return self.difference is None and not self.stuck


class _Standing(NamedTuple):
    """The tables that stand, in one snapshot: where they are, what they go without, and the rows that were asked for."""

    position: Position
    parked: frozenset[Position]
    rows: list[Row]


async def replay(log: EventLog, projection: Projection, progress: Progress = untold) -> Replayed:
    """Compare every row. Ends at the first table with a difference.

    Raises Conflict when the tables are of another version, or were built anew or unparked meanwhile.
    """
    fold = _Fold(log, projection, progress)
    difference, stuck = None, ""
    try:
        difference = await _tables(log, projection, fold) or await _views(log, projection, fold)
        if difference is not None:
            where = await _last(log, projection, difference, fold)
            difference = msgspec.structs.replace(difference, position=where)
    except Stuck as error:
        stuck = str(error)
    finally:
        fold.close()
    return Replayed(
        projection.name, fold.position, fold.events, fold.rows_compared, len(fold.parked), difference, stuck
    )


async def _tables(log: EventLog, projection: Projection, fold: _Fold) -> Difference | None:
    for table in projection.tables:
        after: RowKey | None = None
        while True:
            standing = await _standing(log, projection, _page(log, table, after))
            await fold.advance(standing)
            found = standing.rows
            last = found[-1][: len(table.key)] if len(found) == PAGE_ROWS else None
            expected = fold.page(table, after, len(found) + 1)
            difference = _first(table, expected, found, last)
            if difference is not None:
                return difference
            fold.rows_compared += len(found)
            if last is None:
                break
            after = last
    return None


async def _views(log: EventLog, projection: Projection, fold: _Fold) -> Difference | None:
    """Each view that the projection makes is there, and none that it takes away. `verify` compares how they are made."""
    standing = await _standing(log, projection, (_SQL[log.dialect]["views"], ()))
    await fold.advance(standing)
    there = {str(name) for (name,) in standing.rows}
    expected = {name: exists for type, exists in fold.views.views.items() for name in _view_names(type)}
    for name, exists in sorted(expected.items()):
        if exists != (name in there):
            view: Row = ("a view",)
            return Difference("views", (name,), view if exists else None, None if exists else view, 0)
    return None


def _view_names(type: str) -> tuple[str, str]:
    return view_name(type), f"{view_name(type)}_history"


async def _standing(log: EventLog, projection: Projection, query: Query) -> _Standing:
    sql = _SQL[log.dialect]
    name = projection.name
    asked = [(sql["parked"], (name, PARKED_EVENTS_MAX))] if projection.lifecycle == "async" else []
    found, rows, *parked = await log.rows((sql["standing"], (name,)), query, *asked)
    if not found or found[0][0] != projection.version:
        raise Conflict(
            f"the tables of {name} are not of version {projection.version}; `quire rebuild {name}` makes them"
        )
    _, position, tip = found[0]
    at = tip if position == KEPT_INLINE else position
    return _Standing(at, frozenset(one[0] for one in chain(*parked)), rows)


def _page(log: EventLog, table: Table, after: RowKey | None) -> Query:
    key = ", ".join(column.name for column in table.key)
    names = ", ".join(column.name for column in (*table.key, *table.columns))
    parameters = ", ".join(_PARAMETER[log.dialect].format(n) for n in range(1, len(table.key) + 1))
    where = "" if after is None else f"WHERE ({key}) > ({parameters})"
    sql = _SQL[log.dialect]["replay_page"]
    return (
        sql.format(columns=names, table=table.name, after=where, key=key, limit=PAGE_ROWS),
        after or (),
    )


def _first(
    table: Table, expected: Sequence[Row], found: Sequence[Row], last: RowKey | None
) -> Difference | None:
    """The first difference between two pages in the order of the key; `last` is where the page found ends."""
    keys = len(table.key)
    for wanted, row in zip(expected, found, strict=False):
        if wanted == row:
            continue
        key = min(wanted[:keys], row[:keys])  # of one table, so of the same types
        return _difference(table, key, wanted, row)
    if len(found) > len(expected):
        return _difference(table, found[len(expected)][:keys], None, found[len(expected)])
    rest = expected[len(found) :]
    if rest and (last is None or rest[0][:keys] <= last):
        return _difference(table, rest[0][:keys], rest[0], None)
    return None


def _difference(table: Table, key: RowKey, wanted: Row | None, row: Row | None) -> Difference:
    keys = len(key)
    return Difference(
        table.name,
        key,
        wanted[keys:] if wanted is not None and wanted[:keys] == key else None,
        row[keys:] if row is not None and row[:keys] == key else None,
        0,
    )


class _Fold:
    """The tables as the log makes them, in a temporary file, up to a position."""

    def __init__(self, log: EventLog, projection: Projection, progress: Progress) -> None:
        self.position: Position = 0
        self.parked: frozenset[Position] = frozenset()
        self.events = 0
        self.rows_compared = 0
        self.views = Rows()
        self._log = log
        self._projection = projection
        self._progress = progress
        self._file = sqlite3.connect(
            "", isolation_level=None
        )  # no name: a file that goes with the connection
        self._file.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        make_anew(self._file, projection.tables)
        self._writer = RowWriter()
        self._writer.learn(projection.tables)

    def close(self) -> None:
        self._file.close()

    async def advance(self, standing: _Standing) -> None:
        """Bring it to where the tables stand, less what these go without. Raises Stuck where the projection fails."""
        before = frozenset(one for one in standing.parked if one <= self.position)
        if standing.position < self.position or before != self.parked:
            name = self._projection.name
            raise Conflict(f"{name} was built anew or unparked while it was compared; run it again")
        self.parked = standing.parked
        while self.position < standing.position:
            await self._take(standing)
            self._progress(self.position, standing.position)

    async def _take(self, standing: _Standing) -> None:
        span = Span(self.position, standing.position, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES)
        events = await self._log.events(span)
        taken = [one for one in await changes(self._log, events) if one.event.position not in standing.parked]
        rows = _projected(self._projection, taken)
        for type, exists in rows.views.items():
            self.views.view(type, exists)
        rows.views = {}
        self._file.execute("BEGIN")
        try:
            self._writer.write(self._file, rows)
        except Exception as error:
            raise Stuck(reason(error), taken[0].event.position, self.position) from error
        self._file.execute("COMMIT")
        self.events += len(taken)
        self.position = events[-1].position if events else standing.position

    def page(self, table: Table, after: RowKey | None, limit: int) -> list[Row]:
        key = ", ".join(column.name for column in table.key)
        names = ", ".join(column.name for column in (*table.key, *table.columns))
        where = "" if after is None else f"WHERE ({key}) > ({', '.join('?' * len(table.key))})"
        sql = f"SELECT {names} FROM {table.name} {where} ORDER BY {key} LIMIT {limit}"
        return self._file.execute(sql, after or ()).fetchall()


def _projected(projection: Projection, taken: Sequence[Change]) -> Rows:
    """Raises Stuck at the first event that the projection cannot handle."""
    _, wrong = sift(projection, taken)
    if wrong:
        raise Stuck(wrong[0].error, wrong[0].position, wrong[0].position - 1)
    return project(projection, taken)


async def _last(log: EventLog, projection: Projection, difference: Difference, fold: _Fold) -> Position:
    """The last event that the row is of: looked for once more through the log, in the chunks that touch it."""
    found, after = 0, 0
    while events := await log.events(Span(after, fold.position, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES)):
        taken = [one for one in await changes(log, events) if one.event.position not in fold.parked]
        if _touches(_projected(projection, taken), difference):
            for change in taken:
                if _touches(_projected(projection, [change]), difference):
                    found = change.event.position
        after = events[-1].position
    return found


def _touches(rows: Rows, difference: Difference) -> bool:
    if difference.table == "views":
        return any(difference.key[0] in _view_names(type) for type in rows.views)
    places: tuple[dict[str, Any], ...] = (rows.upserts, rows.deletes, rows.sums)
    return any(difference.key in place.get(difference.table, ()) for place in places)
