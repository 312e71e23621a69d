"""What the commands over projections do: through the server that runs on a data directory, or by themselves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import typer

from eventstore.errors import Invalid, NotFound, QuireError, Unavailable
from eventstore.log.opening import Place, open_log
from eventstore.membership import Membership
from eventstore.projection import Projection
from eventstore.server.commands import bar, reading, say
from eventstore.server.projecting import Told, rebuilding
from eventstore.server.transfer import told, url_of
from projections.engine import BUILT_IN, Engine, named
from projections.parked import Unparked
from projections.rebuild import Rebuilt
from projections.replay import Replayed
from projections.replay import replay as replay_one

CONNECT_SECONDS_MAX = 5.0

_line = msgspec.json.Decoder(Told).decode
_unparked = msgspec.json.Decoder(list[Unparked]).decode


async def rebuild(place: Place, names: Sequence[str]) -> bool:
    """Build projections anew; whether all were."""
    url = await url_of(place)
    fine = True
    with bar("events", None) as progress:
        async for line in _through(url, names) if url else _straight(place, names):
            progress(line.position, line.tip)
            if line.error:
                fine = False
                say(f"{line.projection} was not built anew, and is as it was: {line.error}")
            elif line.built is not None:
                typer.echo(rebuilt_text(line.built))
    return fine


def rebuilt_text(built: Rebuilt) -> str:
    """As people read it."""
    rate = f"{built.position / (built.seconds or 0.001):,.0f} events/s"
    parked = f", {built.parked:,} parked" if built.parked else ""
    return f"{built.projection}: built anew from {built.position:,} events in {built.seconds:.1f} s ({rate}){parked}"


async def unpark(place: Place, names: Sequence[str]) -> bool:
    """Hand parked events to their projections again; whether none is parked any more."""
    url = await url_of(place)
    if url:
        async with _asked(url, "$unpark", names) as response:
            outcomes = _unparked(await response.read())
    else:
        async with _writing(place) as engine:
            wanted = [one for one in _named(names) if names or one.lifecycle == "async"]
            outcomes = [await engine.unpark(one) for one in wanted]
    for one in outcomes:
        typer.echo(f"{one.projection}: {one.handled:,} handled, {one.parked:,} still parked")
    return not any(one.parked for one in outcomes)


async def replay(place: Place, names: Sequence[str], *, as_json: bool) -> bool:
    """Compare projections with the log; whether all are as it makes them."""
    found = []
    async with reading(place) as log:
        for projection in _named(names):
            started = time.perf_counter()
            with bar("events", (await log.tip()).position) as progress:
                found.append(await replay_one(log, projection, progress))
            if not as_json:
                typer.echo(replayed_text(found[-1], time.perf_counter() - started))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    return all(one.same for one in found)


def replayed_text(found: Replayed, seconds: float) -> str:
    """As people read it."""
    what = f"{found.projection}: "
    if found.stuck:
        return f"{what}it fails now {found.stuck}"
    if found.difference is not None:
        one = found.difference
        return (
            f"{what}{one.table} {_row(one.key)} is {_row(one.found)}, and should be {_row(one.expected)}, by the event "
            f"at position {one.position}"
        )
    rate = f"{found.events / seconds:,.0f} events/s"
    left_out = f", {found.left_out:,} parked events left out" if found.left_out else ""
    return (
        f"{what}{found.rows:,} rows are as {found.events:,} events make them, up to position {found.position:,}{left_out} "
        f"({seconds:.1f} s, {rate})"
    )


def _row(values: Sequence[object] | None) -> str:
    return "not there" if values is None else f"({', '.join(map(repr, values))})"


def _named(names: Sequence[str]) -> list[Projection]:
    try:
        return named(BUILT_IN, names)
    except NotFound as error:
        raise Invalid(str(error)) from None


async def _straight(place: Place, names: Sequence[str]) -> AsyncIterator[Told]:
    wanted = _named(names)
    async with _writing(place) as engine:
        async for line in rebuilding(engine, wanted, lambda: False):
            yield line


@asynccontextmanager
async def _writing(place: Place) -> AsyncIterator[Engine]:
    """An engine of a node that follows nothing: it only works on projections, for as long as this lasts."""
    async with reading(place):  # there must be one: a new log is not what is meant
        pass
    log = await open_log(place)
    members = Membership(log)
    try:
        await members.start()
        yield Engine(log, members)
    finally:
        await members.stop()
        await log.close()


async def _through(url: str, names: Sequence[str]) -> AsyncIterator[Told]:
    ended = False
    async with _asked(url, "$rebuild", names) as response:
        async for line in response.content:
            one = _line(line)
            ended = one.built is not None or bool(one.error)
            yield one
    if not ended:
        raise Unavailable(f"{url} ended in the middle; what stood stands, run it again")


@asynccontextmanager
async def _asked(url: str, operation: str, names: Sequence[str]) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer of the server that runs. Raises Invalid for a projection that it does not have."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
    query = f"?projection={','.join(names)}" if names else ""
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{url}/{operation}{query}") as response,
        ):
            if response.status != 200:
                said = told(await response.read())
                raise (Invalid if response.status == 404 else QuireError)(said)
            yield response
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"{url} does not answer: {error or type(error).__name__}") from error
