"""What `quire stream` does: reach the broker, compare or rebuild with progress, and print."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import nats.errors

from eventstore.delivery import stream
from eventstore.delivery.connection import Connection
from eventstore.delivery.jetstream import StreamSettings
from eventstore.errors import Invalid, Unavailable
from eventstore.log.lock import holder
from eventstore.log.opening import Place
from eventstore.server.commands import bar, reading, show
from eventstore.server.settings import NatsSettings
from eventstore.server.streaming import reaching, stream_settings


class Rebuilt(msgspec.Struct, frozen=True, rename="camel"):
    """What `quire stream rebuild` has done."""

    made: stream.Rebuilt
    removed: list[str]


async def check(place: Place, settings: NatsSettings, *, as_json: bool) -> stream.Report:
    """Compare all of the stream with the log."""
    wanted = _wanted(settings)
    async with reading(place) as log, _client(settings, place.data) as client:
        with bar("messages", (await log.tip()).position) as progress:
            report = await stream.check(client, log, wanted, progress)
    show(report, _report_text, as_json=as_json)
    return report


async def rebuild(
    place: Place, settings: NatsSettings, base_url: str, *, force: bool, remove_old: bool, as_json: bool
) -> None:
    """Make the next generation when there is a need."""
    wanted = _wanted(settings)
    server = holder(place.data)
    url = base_url or (server.url if server is not None else "")
    async with reading(place) as log, _client(settings, place.data) as client:
        with bar("events", (await log.tip()).position) as progress:
            made = await stream.rebuild(client, log, wanted, base_url=url, force=force, progress=progress)
        removed = await stream.remove_old(client, log, wanted) if remove_old else []
    show(Rebuilt(made, removed), _rebuilt_text, as_json=as_json)


async def seen(place: Place, settings: NatsSettings) -> int:
    """The highest position that the stream was ever given. Raises Unavailable when it cannot be asked."""
    async with reading(place) as log, _client(settings, place.data) as client:
        return await stream.seen(client, log)


def _wanted(settings: NatsSettings) -> StreamSettings:
    """Raises Invalid when there is no stream, or none can be made so."""
    settings.check()
    if settings.where == "off":
        raise Invalid("--nats off: there is no stream; give embedded or the URL of a NATS server")
    return stream_settings(settings)


@asynccontextmanager
async def _client(settings: NatsSettings, data: Path) -> AsyncIterator[Connection]:
    """A connection to the broker. Raises Unavailable when it cannot be had, or JetStream does not answer on it."""
    async with reaching(settings, data) as connect:
        client = await connect()
        try:
            yield client
        except (nats.errors.Error, TimeoutError) as error:
            raise Unavailable(
                "JetStream does not answer: it is off, or its servers choose a leader; try again"
            ) from error
        finally:
            await client.end()


def _report_text(report: stream.Report) -> str:
    lines = [
        f"stream {report.stream}, generation {report.generation}",
        f"{report.messages:,} messages at {report.first:,} to {report.last:,}",
        f"{report.deleted:,} erased, {report.placeholders:,} placeholders, {report.lag_events:,} events behind the log",
        *(f"changed: {change}" for change in report.changes),
        *(f"an earlier generation is still there: {name}" for name in report.old),
    ]
    if report.difference is not None:
        lines.append(f"differs at {report.difference.position}: {report.difference.what}")
    lines.append("whole" if report.whole else f"not whole: {report.remedy}")
    return "\n".join(lines)


def _rebuilt_text(done: Rebuilt) -> str:
    made = done.made
    lines = [f"stream {made.stream}, generation {made.generation}, holds the log up to {made.last:,}"]
    if made.old is None:
        lines.append("it was whole; nothing was made anew (--force does)")
    lines += [
        f"consumer {one.consumer} of {made.old}: make it anew on {made.stream} from {one.position}"
        for one in made.restarts
    ]
    lines += [f"removed {name}" for name in done.removed]
    return "\n".join(lines)
