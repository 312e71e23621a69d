"""Compares what reads answer from with the log: the log's indexes, the current versions and the totals.

Every statement is a short transaction, so it may run beside a server: each compares rows and log as they are in one
snapshot, and what is written meanwhile agrees with itself. `eventstore.audit` reads every row of the log; these
statements find each of its entries in each index, by the same seeks as readers do, and count the entries, so that
there are no others. `PRAGMA integrity_check` would do less: it knows no positions, and holds one snapshot to its
end. Its quick form comes last, for the bytes that hold pages together, and is given up when it takes too long.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.audit import Count, Faults, Progress, Report
from eventstore.claims import CLAIMS, TABLE
from eventstore.errors import Unavailable
from eventstore.event import Position
from eventstore.log.base import KEPT_INLINE, AppendFailed, EventLog
from eventstore.log.sql import queries
from projections.engine import BUILT_IN

RANGE_EVENTS = 5000
STRANGERS_LISTED_MAX = 20

_SQL = {dialect: queries("projections.sql", dialect) for dialect in ("sqlite", "postgres")}


class Checked(msgspec.Struct, frozen=True):
    """What `check` saw."""

    faults: Faults
    structure: bool
    """Whether there was time to look at how the file holds together."""


async def check(log: EventLog, report: Report, progress: Progress = lambda _done: None) -> Checked:
    """What is wrong up to the tip of the report, each with the position of the event that it concerns."""
    faults = Faults()
    await _compare(log, report, faults, progress)
    await _schema(log, faults)
    return Checked(faults, await _structure(log, faults))


async def _schema(log: EventLog, faults: Faults) -> None:
    """Tables, indexes and views are as this version makes them, and each projection is kept by the writes."""
    try:
        for fault in await log.schema_faults([TABLE, *(table for one in BUILT_IN for table in one.tables)]):
            faults.add(0, fault)
        (rows,) = await log.rows((_SQL[log.dialect]["checkpoints"], ()))
    except (Unavailable, AppendFailed) as error:
        faults.add(0, f"the schema cannot be read: {error}")
        return
    found = {_text(name): (version, position) for name, version, position in rows}
    found.pop(CLAIMS, None)
    for one in BUILT_IN:
        if found.pop(one.name, None) != (one.version, KEPT_INLINE):
            faults.add(
                0, f"quire_checkpoint does not say that {one.name} is complete; `quire serve` makes it anew"
            )
    for name in found:
        faults.add(0, f"quire_checkpoint has a row for {name}, which is no projection of this version")


async def _compare(log: EventLog, report: Report, faults: Faults, progress: Progress) -> None:
    try:
        if await log.checkpoint("current") != KEPT_INLINE:
            faults.add(
                0, "the projection current is not complete: start `quire serve` once, which completes it"
            )
            return
        await _ranges(log, report, faults, progress)
        await _counts(log, report, faults)
        await _totals(log, report, faults)
    except (Unavailable, AppendFailed) as error:
        faults.add(0, f"the indexes or the projection current cannot be read: {error}")


async def _ranges(log: EventLog, report: Report, faults: Faults, progress: Progress) -> None:
    """By position: each event is in both indexes, and each last event of a resource is what current says."""
    sql, after = _SQL[log.dialect], 0
    while after < report.tip.position:
        asked = (after, RANGE_EVENTS)
        ((until,),), rows = await log.rows((sql["check_until"], asked), (sql["check_range"], asked))
        for position, name, action, current, by_resource, by_type in rows:
            resource = _text(name)
            if not by_resource:
                faults.add(position, f"{resource} is not in the index quire_event_resource at this position")
            if not by_type:
                faults.add(position, f"{resource} is not in the index quire_event_type at this position")
            if by_resource and by_type:
                said = "has no row" if current is None else f"says {current}"
                faults.add(position, f"{resource} is {_text(action)} here, and quire_current {said}")
        after = until or report.tip.position
        progress(after)


async def _counts(log: EventLog, report: Report, faults: Faults) -> None:
    """What is in the indexes and in current and nowhere in the log."""
    sql, end = _SQL[log.dialect], report.tip.position
    ((by_resource, by_type, current, later, lives),) = (await log.rows((sql["check_counts"], (end,))))[0]
    events = report.events + later
    live = sum(count.live for count in report.types.values()) + lives
    for index, entries in (("quire_event_resource", by_resource), ("quire_event_type", by_type)):
        if entries != events and not report.faults.count:
            faults.add(
                0, f"the index {index} has {entries} entries for {events} events: rebuild it (REINDEX)"
            )
    if current != live:
        faults.add(0, f"quire_current has {current} rows, for {live} live resources")
        for position, name in (await log.rows((sql["check_strangers"], (STRANGERS_LISTED_MAX,))))[0]:
            faults.add(position, f"quire_current has {_text(name)} here, which the log has not")


async def _totals(log: EventLog, report: Report, faults: Faults) -> None:
    """The totals of each type. A wrong one is told at the type's last event, which wrote it last."""
    (rows,) = await log.rows((_SQL[log.dialect]["check_totals"], (report.tip.position,)))
    missing = dict(report.types)
    for type, live, events, later_live, later_events, last in rows:
        name = _text(type)
        count = missing.pop(name, Count())
        right = (count.live + later_live, count.events + later_events)
        if (live, events) != right:
            faults.add(
                last or 0,
                f"quire_total says {live} live resources and {events} events of {name}, "
                f"the log {right[0]} and {right[1]}",
            )
    for name in missing:
        faults.add(await _last(log, name), f"quire_total has no row for {name}")


async def _structure(log: EventLog, faults: Faults) -> bool:
    """How the file holds together. False when that takes longer than a read may."""
    try:
        (rows,) = await log.rows((_SQL[log.dialect]["check_structure"], ()))
    except (Unavailable, AppendFailed) as error:
        if "interrupted" in str(error):
            return False
        rows = [(str(error),)]
    for (said,) in rows:
        if said != "ok":
            faults.add(
                0, f"the file does not hold together, restore it from a copy: {' '.join(said.split())}"
            )
    return True


async def _last(log: EventLog, type: str) -> Position:
    ((row,),) = await log.rows((_SQL[log.dialect]["check_last"], (type,)))
    return int(row[0] or 0)


def _text(value: Any) -> str:
    """A key as text, whatever bytes it was made of."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
