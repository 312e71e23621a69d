"""What verify and status find out, and how they print it: as text for people, as JSON for machines."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from eventstore.audit import FAULTS_LISTED_MAX, Fault, in_order, verify
from eventstore.event import Tip
from eventstore.log.base import KEPT_INLINE, EventLog, Span
from eventstore.log.lock import holder
from eventstore.log.opening import Place
from eventstore.log.sql import queries
from eventstore.server.exporting import Totals, totals
from projections.check import check

READY_SECONDS_MAX = 3.0
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


class Server(msgspec.Struct, frozen=True):
    """The process that writes to the directory."""

    pid: int
    url: str
    ready: bool
    problem: str
    """Why it is not ready."""


class Built(msgspec.Struct, frozen=True, rename="camel"):
    """A projection, and up to where its tables are."""

    name: str
    version: int
    position: int
    kept_inline: bool


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
    server: Server | None
    types: list[Totals]
    projections: list[Built]


async def status(log: EventLog, place: Place) -> Status:
    """Look at a log, and at the process that writes to it."""
    sql = _SQL[log.dialect]
    tip = await log.tip()
    schema, checkpoints, size = await log.rows(
        (sql["schema"], ()), (sql["checkpoints"], ()), (sql["size"], ())
    )
    return Status(
        directory=str(place) if place.db else str(place.data.absolute()),
        log=log.id,
        fhir_version=log.fhir_version,
        schema=schema[0][0],
        tip=str(tip),
        last_event=tip.at,
        file_bytes=size[0][0],
        wal_bytes=0 if place.db else _size(place.data / "log.db-wal"),
        server=None if place.db else await asyncio.to_thread(_server, place.data),
        types=await totals(log) if any(row[0] == "current" for row in checkpoints) else [],
        projections=[
            Built(name, version, position, kept_inline=position == KEPT_INLINE)
            for name, version, position in checkpoints
        ],
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _server(data: Path) -> Server | None:
    found = holder(data)
    if found is None:
        return None
    if not found.url:
        return Server(
            found.pid, "", ready=False, problem="it does not listen: an import, or a server that starts"
        )
    problem = _problem(found.url)
    return Server(found.pid, found.url, ready=not problem, problem=problem)


class _Readiness(msgspec.Struct):
    output: str = ""


def _problem(url: str) -> str:
    """Why the server at the URL is not ready; empty when it is."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=READY_SECONDS_MAX)
    try:
        connection.request("GET", "/ready")
        response = connection.getresponse()
        body = response.read()
        if response.status == 200:
            return ""
        return msgspec.json.decode(body, type=_Readiness).output or f"it answers {response.status}"
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        return f"it does not answer: {error or type(error).__name__}"
    finally:
        connection.close()


def status_text(found: Status) -> str:
    """As people read it."""
    lines = [
        f"directory    {found.directory}",
        f"log          {found.log}, FHIR {found.fhir_version}, schema {found.schema}",
        f"tip          {found.tip}",
        f"last event   {found.last_event or 'none yet'}",
        f"files        log {_bytes(found.file_bytes)}, write-ahead log {_bytes(found.wal_bytes)}",
        f"server       {_server_text(found.server)}",
    ]
    for one in found.projections:
        kept = "kept with every write" if one.kept_inline else f"built up to position {one.position:,}"
        lines.append(f"projection   {one.name}, version {one.version}, {kept}")
    width = max((len(one.type) for one in found.types), default=0)
    lines += [
        f"type         {one.type:<{width}}  {one.live:>12,} live  {one.events:>12,} events"
        for one in found.types
    ]
    return "\n".join(lines)


def _server_text(server: Server | None) -> str:
    if server is None:
        return "none runs"
    where = f"process {server.pid}{f' at {server.url}' if server.url else ''}"
    return f"{where}, {'ready' if server.ready else f'not ready: {server.problem}'}"


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:,.3g} TB"
