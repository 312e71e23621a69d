"""Claims read from the log: who has a value, and what all resources of a type have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventstore.claims import CLAIMS, TABLE, Claim, Known, Scan, add_rows, claims_of
from eventstore.command import Command, Key
from eventstore.errors import Conflict
from eventstore.event import Position
from eventstore.log.base import KEPT_INLINE, EventLog, Query, Span
from eventstore.log.sql import queries
from eventstore.projection import Rows
from eventstore.types.registry import Registry

SCAN_EVENTS = 1000
"""How many are read at once."""
SCAN_BYTES = 16 * 1024 * 1024
SCANNED_RESOURCES_MAX = 1_000_000
"""Of a type that has a place that becomes unique: what they have there is kept in memory until it is compared."""

_SQL = {dialect: queries("eventstore.log.sql", dialect) for dialect in ("sqlite", "postgres")}
_decode = msgspec.json.Decoder().decode


async def known_of(log: EventLog, commands: Sequence[Command], registry: Registry, tip: Position) -> Known:
    """What can be foreseen: who has what the documents claim, and which ids of sequences are free.

    One query for each of the two; none when no type has a unique place or a sequence.
    """
    known = Known()
    wanted, ids = set(), {}
    for position, command in enumerate(commands, tip + 1):
        kind = registry.types.get(command.type) if command.document is not None else None
        if kind is None or command.document is None:
            continue
        id, sequence = command.id, kind.definition.sequence
        if command.given and sequence is not None:
            id = f"{sequence}{position}"
            ids[position] = (kind.name, id)
        if kind.unique:
            claims = claims_of(kind.name, kind.unique, command.document.value)
            wanted |= {(claim, id) for claim in claims}
    await learn(log, known, wanted, ids)
    return known


async def learn(
    log: EventLog, known: Known, wanted: set[tuple[Claim, str]], ids: Mapping[Position, Key]
) -> None:
    """Look up who has what is wanted, and which ids are taken: one query for each, however much it is."""
    if ids:
        asked = [(*key, position) for position, key in ids.items()]
        taken = await log.before(asked, bodies=False)
        known.ids |= {key: position in taken for position, key in ids.items()}
    if not wanted:
        return
    (rows,) = await log.rows(_claimants(log.dialect, sorted(wanted)), few=True)
    known.asked |= wanted
    for type, place, value, id, data in rows:
        claim = Claim(type, place, value)
        if claim in claims_of(type, (tuple(place.split(".")),), _decode(data)):
            known.claimants.setdefault(claim, set()).add(id)


def _claimants(dialect: str, wanted: Sequence[tuple[Claim, str]]) -> Query:
    rows = [(*claim, id) for claim, id in wanted]
    if dialect == "sqlite":
        return _SQL[dialect]["claimants"], (msgspec.json.encode(rows).decode(),)
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    return _SQL[dialect]["claimants"], columns


async def scan_page(log: EventLog, scan: Scan, until: Position, rows: Rows) -> None:
    """Bring a scan one page on, or to a position that the log has reached; adds the rows that the table may lack.

    Raises Conflict when there are too many resources.
    """
    span = Span(scan.position, until, scan.kind.name, limit=SCAN_EVENTS, bytes_max=SCAN_BYTES)
    events = await log.events(span)
    for event in events:
        scan.see(event.id, _decode(event.data) if event.data is not None else None)
        add_rows(rows, event.id, scan.held.get(event.id, ()))
    if len(scan.held) > SCANNED_RESOURCES_MAX:
        raise Conflict(
            f"{scan.kind.name} has more than {SCANNED_RESOURCES_MAX} resources: a place of it cannot become unique"
        )
    scan.position = events[-1].position if events else until


async def scan_ahead(log: EventLog, scan: Scan, checkpoint: Position = KEPT_INLINE) -> None:
    """Bring a scan to the tip while the log is free, and its rows into the table, a page at a time."""
    tip = (await log.tip()).position
    while scan.position < tip:
        rows = Rows()
        await scan_page(log, scan, tip, rows)
        if rows.count():
            await log.advance(CLAIMS, checkpoint, checkpoint, rows)


async def complete(log: EventLog, registry: Registry) -> None:
    """Make the table where there is none, with what the log's resources claim: of a log that was copied."""
    if await log.declare(CLAIMS, 1, (TABLE,)) == KEPT_INLINE:
        return
    for kind in (one for one in registry.types.values() if one.kind == "resource" and one.unique):
        await scan_ahead(log, Scan(kind), 0)
    await log.advance(CLAIMS, 0, KEPT_INLINE, Rows())


async def forget(log: EventLog) -> None:
    """Events are appended past the writer: `complete` is to look at all of them when it is called next."""
    await log.declare(CLAIMS, 1, (TABLE,))
    await log.advance(CLAIMS, KEPT_INLINE, 0, Rows())
