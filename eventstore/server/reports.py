"""What verify and status find out, and how they print it: as text for people, as JSON for machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from eventstore.audit import FAULTS_LISTED_MAX, Fault, in_order, verify
from eventstore.claims import CLAIMS
from eventstore.event import Tip
from eventstore.follower import lag
from eventstore.log.base import KEPT_INLINE, EventLog, Span
from eventstore.log.opening import Place
from eventstore.log.sql import queries
from eventstore.server.exporting import Totals, totals
from eventstore.server.nodes import Found, Published, Served, find
from eventstore.server.times import now
from projections.check import check
from projections.engine import FOLLOWER

PARKED_LISTED_MAX = 20
EVERYTHING = Span()

_SQL = {dialect: queries("projections.sql", dialect) for dialect in ("sqlite", "postgres")}


class Verified(msgspec.Struct, frozen=True, rename="camel"):
    """What `quire verify` found."""

    log: str
    tip: str
    events: int
    types: int
    resources: int
    seconds: float
    events_per_second: int
    against: list[str]
    structure_checked: bool
    """Not when that takes longer than a read may."""
    fault_count: int
    faults: list[Fault]
    """The first of them: in the log by position, then in what reads answer from."""


async def verified(log: EventLog, against: Sequence[Tip], progress: Callable[[int], None]) -> Verified:
    """Check the log, then what reads answer from; `progress` counts each event once for each."""
    started = time.perf_counter()
    report = await verify(log, against=against, progress=progress)
    rest = await check(log, report, lambda done: progress(report.tip.position + done))
    seconds = time.perf_counter() - started
    faults = [*in_order(report.faults), *in_order(rest.faults)]
    return Verified(
        log=log.id,
        tip=str(report.tip),
        events=report.events,
        types=len(report.types),
        resources=sum(count.live for count in report.types.values()),
        seconds=round(seconds, 3),
        events_per_second=round(report.events / seconds),
        against=[str(tip) for tip in against],
        structure_checked=rest.structure,
        fault_count=report.faults.count + rest.faults.count,
        faults=faults[:FAULTS_LISTED_MAX],
    )


def verified_text(found: Verified) -> str:
    """As people read it."""
    seen = f"{found.events:,} events of {found.types} types and {found.resources:,} live resources"
    lines = [
        f"{seen} checked in {found.seconds:.1f} s ({found.events_per_second:,} events/s):",
        "  positions, headers, columns, salts, digests, the chain, times, transactions, definitions, bodies,",
        "  actions, the log's indexes, the current version of each resource, the totals, "
        + (
            "the file's pages" if found.structure_checked else "not the file's pages (it would take too long)"
        ),
        *(f"  and against the saved tip {tip}" for tip in found.against),
        f"tip {found.tip}",
    ]
    if not found.fault_count:
        return "\n".join((*lines, "no faults"))
    shown = "" if found.fault_count == len(found.faults) else f", the first {len(found.faults)} of them"
    lines.append(f"{found.fault_count} fault{'s' if found.fault_count > 1 else ''}{shown}:")
    lines += [
        f"  {f'position {fault.position}' if fault.position else 'the log'}: {fault.what}"
        for fault in found.faults
    ]
    return "\n".join(lines)


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event that a projection went on without."""

    position: int
    resource: str
    error: str
    at: str


class Built(msgspec.Struct, frozen=True, rename="camel"):
    """A projection, and up to where its tables are."""

    name: str
    version: int
    position: int
    kept_inline: bool
    state: str = ""
    """Of an async one: as its node says, or stopped when none runs."""
    owner: str = ""
    """The node that follows for it."""
    lag_events: int = 0
    lag_seconds: float = 0.0
    halted_at: int | None = None
    reason: str = ""
    """Why it does not go on."""
    rebuilt_to: int | None = None
    """Up to where the tables are that are being built anew."""
    parked: int = 0
    parked_events: list[ParkedEvent] = []
    """The first of them."""


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """What `quire status` found."""

    directory: str
    log: str
    fhir_version: str
    schema: int
    tip: str
    last_event: str
    """Its time; empty when there is none."""
    file_bytes: int
    wal_bytes: int
    nodes: list[Served]
    """The processes that serve it."""
    publishers: list[Published]
    """Those to its stream; more than one when nodes have a broker each."""
    types: list[Totals]
    projections: list[Built]


async def status(log: EventLog, place: Place) -> Status:
    """Look at a log, and at who serves it."""
    sql = _SQL[log.dialect]
    tip = await log.tip()
    schema, checkpoints, size = await log.rows(
        (sql["schema"], ()), (sql["checkpoints"], ()), (sql["size"], ())
    )
    found = await find(log, place)
    return Status(
        directory=str(place) if place.db else str(place.data.absolute()),
        log=log.id,
        fhir_version=log.fhir_version,
        schema=schema[0][0],
        tip=str(tip),
        last_event=tip.at,
        file_bytes=size[0][0],
        wal_bytes=0 if place.db else _size(place.data / "log.db-wal"),
        nodes=found.nodes,
        publishers=found.publishers(),
        types=await totals(log) if any(row[0] == "current" for row in checkpoints) else [],
        projections=[await _built(log, found, *row) for row in checkpoints if row[0] != CLAIMS],
    )


async def _built(log: EventLog, found: Found, name: str, version: int, position: int) -> Built:
    told, rebuilt_to = found.follower(name), found.rebuilt_to(name)
    owner = found.owners.get(f"{FOLLOWER}{name}")
    if position == KEPT_INLINE:
        return Built(name, version, position, kept_inline=True, rebuilt_to=rebuilt_to)
    sql = _SQL[log.dialect]
    behind = await lag(log, position, now())
    parked, counts = await log.rows(
        (sql["parked_resources"], (name, PARKED_LISTED_MAX)), (sql["parked_counts"], ())
    )
    return Built(
        name=name,
        version=version,
        position=position,
        kept_inline=False,
        state=told.state if told is not None else "stopped",
        lag_events=behind.events,
        lag_seconds=round(behind.seconds, 3),
        halted_at=told.halted_at if told is not None else None,
        reason=told.reason if told is not None else "",
        owner=owner.node if owner is not None else told.owner if told is not None else "",
        rebuilt_to=rebuilt_to,
        parked=dict(counts).get(name, 0),
        parked_events=[ParkedEvent(*row) for row in parked],
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def status_text(found: Status) -> str:
    """As people read it."""
    lines = [
        f"directory    {found.directory}",
        f"log          {found.log}, FHIR {found.fhir_version}, schema {found.schema}",
        f"tip          {found.tip}",
        f"last event   {found.last_event or 'none yet'}",
        f"files        log {_bytes(found.file_bytes)}, write-ahead log {_bytes(found.wal_bytes)}",
        *([_node_line(one) for one in found.nodes] or ["node         none runs"]),
    ]
    for publisher in found.publishers:
        lines += _publisher_lines(publisher)
    for one in found.projections:
        lines += _projection_lines(one)
    width = max((len(one.type) for one in found.types), default=0)
    lines += [
        f"type         {one.type:<{width}}  {one.live:>12,} live  {one.events:>12,} events"
        for one in found.types
    ]
    return "\n".join(lines)


def _publisher_lines(one: Published) -> list[str]:
    where = f"{one.state} at position {one.position:,}, {_behind(one)}{_by(one)}"
    lines = [f"stream       {one.stream}, generation {one.generation}, {where}"]
    return lines + [f"             {text}" for text in (one.output, one.remedy) if text]


def _behind(one: Built | Published) -> str:
    if not one.lag_events:
        return "at the tip"
    return f"{one.lag_events:,} events and {one.lag_seconds:,.0f} s behind"


def _projection_lines(one: Built) -> list[str]:
    kept = "kept with every write"
    if not one.kept_inline:
        kept = f"{one.state} at position {one.position:,}, {_behind(one)}{_by(one)}"
    lines = [f"projection   {one.name}, version {one.version}, {kept}"]
    if one.rebuilt_to is not None:
        lines.append(f"             is being built anew, and is at position {one.rebuilt_to:,}")
    if one.reason:
        where = f" at position {one.halted_at:,}" if one.halted_at is not None else ""
        lines.append(f"             {one.state}{where}: {one.reason}")
    if one.parked:
        lines.append(
            f"             {one.parked:,} events parked, `quire unpark {one.name}` tries them again:"
        )
    lines += [
        f"             position {event.position:,}, {event.resource}, {event.at}: {event.error}"
        for event in one.parked_events
    ]
    return lines


def _by(one: Built | Published) -> str:
    return f", by {one.owner}" if one.owner else ""


def _node_line(one: Served) -> str:
    where = f" at {one.url}" if one.url else ""
    return f"node         {one.id}{where}, {'ready' if one.ready else f'not ready: {one.problem}'}"


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:,.3g} TB"
