"""A log restored from an older copy: no position is used twice, and old cursors are told where histories part."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import checkers
from harness.places import Copy, change

from eventstore.audit import verify
from eventstore.body import read
from eventstore.command import Command
from eventstore.epoch import begin_epoch
from eventstore.errors import Diverged, Invalid, Malformed, Unavailable
from eventstore.event import Tip
from eventstore.feed import Cursor
from eventstore.log.base import Hole
from eventstore.server.opening import open_store
from eventstore.server.settings import Settings
from eventstore.store import Store
from projections.engine import inline_rows

OPEN = b'{"resourceType":"Entity","id":"Thing","type":"resource","isOpen":true}'


async def put(store: Store, *ids: str) -> None:
    for id in ids:
        await store.submit(Command("PUT", "Thing", id, b"{}", read(b'{"n":1}')))


async def cursor(store: Store) -> str:
    tip = await store.log.tip()
    return str(Cursor.of(tip.position, tip.hash))


async def test_a_restored_log_goes_on_beyond_what_was_seen(settings: Settings, tmp_path: Path) -> None:
    async with open_store(settings) as store:
        await store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))
        await put(store, "a", "b")
        shared = await cursor(store)
    copy = Copy(settings.place, tmp_path / "backup")
    async with open_store(settings) as store:
        await put(store, "c", "d", "e")
        lost = await cursor(store)
    copy.restore()

    async with open_store(settings) as store:
        with pytest.raises(Malformed, match="in the future"):
            await store.feed.begin(lost)
        with pytest.raises(Invalid, match="not beyond"):
            await begin_epoch(store.log, 3, inline_rows, "2026", b"s" * 16, "")
        begun = await begin_epoch(store.log, 6, inline_rows, "2026", b"s" * 16, "restored")
        assert begun.position == 7

    async with open_store(settings) as store:
        await put(store, "f")
        assert (await store.log.tip()).position == 8
        assert await store.log.holes() == [Hole(3, 6)]
        assert str(await store.feed.begin(shared)) == shared
        for gone in (lost, "5", "8.00000000"):
            with pytest.raises(Diverged, match="part after position 3"):
                await store.feed.begin(gone)
        with pytest.raises(Malformed, match="future"):
            await store.feed.begin("9")
        events = await checkers.events_of(store.log)
        assert [event.position for event in events] == [1, 2, 3, 7, 8]
        await checkers.replayable(store.log, events)
        report = await verify(store.log)
        assert report.faults.listed == []
        page = await store.feed.page(await store.feed.begin(shared))
        assert [event.position for event in page.events] == [7, 8]


async def test_a_log_that_went_back_under_a_running_server_takes_no_writes(settings: Settings) -> None:
    async with open_store(settings) as store:
        await store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))
        await put(store, "a", "b", "c")
        last = await cursor(store)
        await change(settings.place, "DELETE FROM quire_event WHERE position > 2")
        for _ in range(2):
            with pytest.raises(Unavailable, match="ends at 2, .* seen it at 4.*quire epoch"):
                await put(store, "d")
            with pytest.raises(Unavailable, match="ends at 2, .* seen it at 4.*quire epoch"):
                await store.follow(last)
        with pytest.raises(Malformed, match="no cursor"):
            await store.follow("x")
        store.hold("the stream is ahead")
        with pytest.raises(Unavailable, match="the stream is ahead"):
            await store.follow("5")
        assert (await store.log.tip()).position == 2


async def test_writes_while_a_cursor_is_looked_at_do_not_make_the_log_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(settings) as store:
        await store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))
        read_tip = store.log.tip

        async def read_late() -> Tip:
            tip = await read_tip()
            await put(store, "a")
            return tip

        monkeypatch.setattr(store.log, "tip", read_late)
        with pytest.raises(Malformed, match="in the future"):
            await store.follow("99")
