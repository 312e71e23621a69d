"""`quire copy --until`: a log up to a position or a time, from each backend, beside the process that writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.command import Told, quire

from eventstore.body import read
from eventstore.command import Command
from eventstore.event import Event
from eventstore.log.base import EventLog, Identity, Span
from eventstore.log.opening import Place, open_log
from eventstore.server import copying
from eventstore.server.opening import open_store
from eventstore.server.settings import Settings
from eventstore.store import Store

OPEN = b'{"resourceType":"Entity","id":"Thing","type":"resource","isOpen":true}'


def thing(n: int) -> Command:
    return Command("PUT", "Thing", f"t{n}", b"{}", read(b'{"n":%d}' % n))


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A log of five events: a type, a thing, a transaction of two, and a thing."""
    async with open_store(settings) as store:
        await store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))
        await store.submit(thing(1))
        await store._writer.submit(thing(2), thing(3))
        await store.submit(thing(4))
        yield store


async def copy(place: Place, to: Path, *until: str) -> Told:
    source = place.db or place.data
    return await asyncio.to_thread(quire, "copy", "--from", source, "--to", to, *until)


async def events(log: EventLog) -> list[Event]:
    return await log.events(Span())


async def copied(to: Path) -> list[Event]:
    log = await open_log(Place(to), write=False)
    try:
        return await events(log)
    finally:
        await log.close()


async def test_a_copy_ends_where_it_is_told_and_goes_on(store: Store, place: Place, tmp_path: Path) -> None:
    to = tmp_path / "copy"
    for until, done, there in (("2", 2, 2), ("2", 0, 2), ("4", 2, 4), ("5", 1, 5)):
        told = await copy(place, to, "--until", until)
        assert told.code == 0, told.error
        assert f"{done} events copied" in told.error
        assert "no faults" in told.text
        assert await copied(to) == (await events(store.log))[:there]
    await store.submit(thing(5))
    assert (await copy(place, to)).code == 0
    assert await copied(to) == await events(store.log)


class Cut(Exception):
    """The copy ends here."""


@pytest.mark.parametrize(("chunk", "there"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 5)])
async def test_a_copy_that_is_cut_off_ends_between_two_transactions(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, there: int
) -> None:
    def progress(done: int) -> None:
        raise Cut

    monkeypatch.setattr(copying, "CHUNK_EVENTS", chunk)
    log = store.log
    target = await open_log(Place(tmp_path / "copy"), copy_of=Identity(log.id, log.fhir_version, log.created))
    try:
        with pytest.raises(Cut):
            await copying.copy(log, target, await log.tip(), progress)
        assert await events(target) == (await events(log))[:there]
    finally:
        await target.close()


async def test_a_time_is_the_end_of_what_was_written_before_it(
    store: Store, place: Place, tmp_path: Path
) -> None:
    last = (await events(store.log))[-1]
    to = tmp_path / "copy"
    while (await store.submit(thing(5))).at <= last.at:
        pass
    later = (await events(store.log))[-1]
    shifted = later.at.replace("Z", "+00:00")
    assert (await copy(place, to, "--until", shifted)).code == 0
    assert await copied(to) == [event for event in await events(store.log) if event.at < later.at]


@pytest.mark.parametrize(
    ("until", "why"),
    [
        ("6", "--until 6: the log ends at 5"),
        ("0", "--until 0: the log has no event up to there"),
        (
            "3",
            "--until 3 is inside the transaction that begins at 3; end before it, at 2, or after all of it",
        ),
        ("99999999999999999999", "neither a position nor a time"),
        ("-1", "neither a position nor a time"),
        ("٣", "neither a position nor a time"),
        ("yesterday", "neither a position nor a time"),
        ("2026-11-20T17:42:13", "a time needs its zone"),
        ("2001-01-01T00:00:00Z", "no event up to there"),
        ("0001-01-01T00:00:00+14:00", "neither a position nor a time"),
        ("2999-01-01T00:00:00Z", "that time has not come yet"),
    ],
)
async def test_an_end_that_cannot_be_leaves_no_copy(
    store: Store, place: Place, tmp_path: Path, until: str, why: str
) -> None:
    told = await copy(place, tmp_path / "copy", "--until", until)
    assert told.code == 2
    assert why in told.error
    assert not (tmp_path / "copy").exists()


async def test_a_copy_that_is_beyond_or_is_another_log_stays_as_it_is(
    store: Store, place: Place, tmp_path: Path
) -> None:
    to, other = tmp_path / "copy", tmp_path / "other"
    assert (await copy(place, to)).code == 0
    told = await copy(place, to, "--until", "2")
    assert told.code == 2
    assert "the target is at 5 already, beyond 2; copy to a place that has no log" in told.error
    async with open_store(Settings(data=other)) as own:
        await own.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))
    told = await copy(place, other, "--until", "2")
    assert told.code == 2
    assert "a log of its own" in told.error
    assert len(await copied(to)) == 5
    assert len(await copied(other)) == 1
