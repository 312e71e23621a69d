"""What the commands do: they wire the parts, show progress, stop at a signal, and print."""

# ruff: noqa: PLC0415 - aiohttp and the server are imported by the commands that need them

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, TypeVar

import msgspec
import typer
import uvloop

from eventstore.errors import Invalid, Unavailable
from eventstore.event import SALT_BYTES, Tip
from eventstore.log.base import EventLog, Node
from eventstore.log.opening import Place, open_log
from eventstore.server import exporting, reports, types_report
from eventstore.server.settings import NatsSettings, Settings
from eventstore.server.sources import Skipped, items

if TYPE_CHECKING:
    from eventstore.server.transfer import Refusal, Tally

KILLED = 130
"""The exit code after a second signal."""
UNREAD = 3
"""The exit code when nobody reads what is written."""

T = TypeVar("T")


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end. SIGTERM ends one that does nothing about it as Ctrl-C does: tidily."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return uvloop.run(command)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush fails as well
        raise typer.Exit(UNREAD) from None


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    from eventstore.server.app import serve

    await serve(settings, _stop_on_signal())


async def tail(place: Place, url: str, since: str, *, as_json: bool) -> None:
    """Print what changes, until a signal."""
    from eventstore.log.lock import holder
    from eventstore.server.tail import tail

    server = holder(place.data) if not (url or place.db) else None
    where = url or (server.url if server is not None else "")
    if not where:
        raise Unavailable(
            f"no server is known that runs on {place}; start one with `quire serve`, or name it with --url"
        )
    await tail(where.rstrip("/"), since, as_json)


async def epoch(place: Place, seen: int, reason: str, nats: NatsSettings) -> None:
    """Begin a new epoch, and say where the log is now."""
    from eventstore.epoch import begin_epoch
    from eventstore.server.opening import open_store
    from eventstore.server.times import now
    from projections.engine import inline_rows

    if not 0 <= seen < 2**53:
        raise Invalid(f"--seen {seen} is no position")
    async with reading(place) as log:  # there must be one: a new log is not what is meant
        _alone((await log.nodes.roll()).nodes)
    seen = max(seen, await _seen_by_the_stream(place, nats))
    async with open_store(Settings(data=place.data, db=place.db)) as store:
        event = await begin_epoch(store.log, seen, inline_rows, now(), os.urandom(SALT_BYTES), reason)
    typer.echo(f"a new epoch begins at {event.position}; tip {Tip(event.position, event.at, event.hash)}")


def _alone(nodes: Sequence[Node]) -> None:
    """Raises Unavailable when nodes serve the log: they know its tip, and would go on from there."""
    if nodes:
        told = ", ".join(f"{node.id} at {node.url}" if node.url else node.id for node in nodes)
        raise Unavailable(f"the log is served by {told}; stop these first, all of them")


async def _seen_by_the_stream(place: Place, nats: NatsSettings) -> int:
    if nats.where == "off":
        return 0
    from eventstore.server.stream_commands import seen

    try:
        return await seen(place, nats)
    except (Unavailable, TimeoutError) as error:
        raise Unavailable(
            f"the stream cannot be asked which positions it has seen: {error}; start its broker, "
            "or give --nats off with --seen, the highest position that anyone has"
        ) from error


class ImportOptions(msgspec.Struct, frozen=True):
    """Where to, and what of it."""

    place: Place
    url: str
    fhir_version: str
    define_open: bool
    types: set[str]
    refused: Path | None
    """A file for what was refused."""


async def import_(sources: Sequence[str], options: ImportOptions) -> Tally:
    """Import until the end or a signal."""
    from eventstore.server import opening, transfer

    stop = _stop_on_signal()
    started = time.perf_counter()
    with bar("resources", None) as progress, _Told(options.refused, progress) as told:
        async with transfer.open_target(
            options.place,
            url=options.url,
            define_open=options.define_open,
            fhir_version=options.fhir_version,
        ) as target:
            opening.tune()
            tally = await transfer.import_(items(sources), target, told, stop, options.types)
    seconds = time.perf_counter() - started
    counts = ", ".join(f"{getattr(tally, name):,} {name}" for name in transfer.OUTCOMES)
    typer.echo(f"{counts} in {seconds:.1f} s ({tally.done / seconds:,.0f} resources/s)")
    if tally.stopped:
        say(f"stopped: {tally.stopped}; run the same command again to go on, what is there stays as it is")
    return tally


class _Told:
    """Tells what was refused and skipped: on stderr, and what was refused in a file when that is wanted."""

    def __init__(self, path: Path | None, progress: Callable[[int], None]) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self.progress = progress

    def __enter__(self) -> Self:
        self._file = open(self._path, "wb") if self._path is not None else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def refused(self, refusal: Refusal) -> None:
        where = f"{refusal.source}: {refusal.resource}" if refusal.resource else refusal.source
        typer.echo(f"refused {where}: {refusal.reason}", err=True)
        if self._file is not None:
            self._file.write(msgspec.json.encode(refusal) + b"\n")

    def skipped(self, skipped: Skipped) -> None:
        typer.echo(f"skipped {skipped.name}: {skipped.reason}", err=True)


async def export(place: Place, to: str, format: exporting.Format, types: Collection[str]) -> None:
    """Write resources out."""
    started = time.perf_counter()
    async with reading(place) as log:
        total = sum(one.live for one in await exporting.totals(log) if not types or one.type in types)
        with bar("resources", total) as progress, exporting.destination(to, format) as out:
            done = await exporting.export(log, out, types=types, progress=progress)
    seconds = time.perf_counter() - started
    rate = f"{done.resources / seconds:,.0f} resources/s"
    say(f"{done.resources:,} resources as of position {done.position:,} in {seconds:.1f} s ({rate})")


async def copy(source: Place, to: Place, until: str) -> reports.Verified:
    """Copy what is not there yet, up to a position or a time, then check the copy against the source's chain."""
    from eventstore.log.base import Identity
    from eventstore.server.copying import copy, end_of_copy

    to.check()
    started = time.perf_counter()
    async with reading(source) as log:
        end = await end_of_copy(log, until, datetime.now(UTC))
        own = Identity(log.id, log.fhir_version, log.created)
        target = await open_log(to, fhir_version=log.fhir_version, copy_of=own)
        try:
            with bar("events", end.position) as progress:
                done = await copy(log, target, end, progress)
        finally:
            await target.close()
    seconds = time.perf_counter() - started
    say(f"{done:,} events copied in {seconds:.1f} s ({done / seconds:,.0f} events/s)")
    return await verify(to, [end], None, as_json=False)


async def verify(
    place: Place, against: Sequence[Tip], save_tip: Path | None, *, as_json: bool
) -> reports.Verified:
    """Check the log; save its tip when there is nothing wrong with it."""
    async with reading(place) as log:
        with bar("checks", 2 * (await log.count(reports.EVERYTHING))) as progress:
            found = await reports.verified(log, against, progress)
    show(found, reports.verified_text, as_json=as_json)
    if save_tip is not None and not found.fault_count:
        with exporting.whole_file(save_tip.resolve()) as file:
            file.write(f"{found.tip}\n".encode())
    return found


async def status(place: Place, *, as_json: bool) -> None:
    """Show what is there."""
    async with reading(place) as log:
        found = await reports.status(log, place)
    show(found, reports.status_text, as_json=as_json)


async def types_status(place: Place, *, as_json: bool) -> None:
    """Show the types that are defined."""
    async with reading(place) as log:
        found = await types_report.types_status(log)
    show(found, types_report.types_text, as_json=as_json)


@asynccontextmanager
async def reading(place: Place) -> AsyncIterator[EventLog]:
    """The log at a place, beside whoever writes to it."""
    log = await open_log(place, write=False)
    try:
        yield log
    finally:
        await log.close()


def show(found: T, as_text: Callable[[T], str], *, as_json: bool) -> None:
    typer.echo(msgspec.json.encode(found).decode() if as_json else as_text(found))


def say(text: str) -> None:
    typer.echo(f"quire: {text}", err=True)


class Advance(Protocol):
    """Takes how much is done, and of how much when that has changed."""

    def __call__(self, done: int, total: int | None = None, /) -> None: ...


def _nowhere(_done: int, _total: int | None = None, /) -> None:
    return


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on a terminal, and nothing elsewhere. Gives what to call with how much is done."""
    if not sys.stderr.isatty():
        yield _nowhere
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done, total=None: progress.update(task, completed=done, total=total)


def _stop_on_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def first() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, KILLED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return stop
