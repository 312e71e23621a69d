"""Projections built anew beside those that stand, and replayed against them, while writes go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness import checkers
from harness.colours import COLOUR, PAINTED, Colours
from harness.places import change
from harness.running import Running

from eventstore.body import read
from eventstore.claims import TABLE as CLAIM
from eventstore.command import Command
from eventstore.errors import Conflict, Unavailable
from eventstore.follower import Stuck
from eventstore.log.opening import Place, open_log
from eventstore.projection import beside
from projections import rebuild as rebuilding
from projections import replay as replaying
from projections.current import CURRENT, TOTAL, Current
from projections.engine import BUILT_IN
from projections.parked import listed
from projections.rebuild import rebuild
from projections.replay import Difference, replay
from projections.views import Views

PAINT = ("red", "blue", "green", None)
RARELY = 100


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks and pages for few events."""
    monkeypatch.setattr(rebuilding, "REBUILD_CHUNK_EVENTS", 60)
    monkeypatch.setattr(rebuilding, "SWITCH_EVENTS_MAX", 100)
    monkeypatch.setattr(replaying, "CHUNK_EVENTS", 11)
    monkeypatch.setattr(replaying, "PAGE_ROWS", 2)


async def kept(running: Running) -> None:
    """Nothing is left beside, and every projection is what the log makes of it."""
    assert await running.log.rows(
        ("SELECT name FROM quire_checkpoint WHERE name LIKE '%\\_\\_%' ESCAPE '\\'", ())
    ) == [[]]
    await running.settled()
    await checkers.replayable(running.log, await checkers.events_of(running.log), running.projections)


PACE_SECONDS = 0.2
"""Between two writes of a client: a load that a slow backend too can be rebuilt and compared beside."""


async def writing(running: Running, stop: asyncio.Event) -> int:
    """Several clients that write until told to stop."""

    async def client(number: int) -> int:
        for n in range(100_000):
            if stop.is_set():
                return n
            colour = "puce" if (n + number) % RARELY == 5 else PAINT[(n + number) % len(PAINT)]
            id = f"c{number}-{n % 5}"
            await (running.put(id, colour=colour) if colour else running.delete(id))
            await asyncio.sleep(PACE_SECONDS)
        return 0

    return sum(await asyncio.gather(*map(client, range(8))))


@pytest.mark.usefixtures("small_chunks")
async def test_every_projection_is_built_anew_while_writes_go_on(place: Place) -> None:
    async with Running(place, *BUILT_IN, Colours("park", wrong=("puce",))) as running:
        await running.fill(200)
        stop = asyncio.Event()
        clients = asyncio.create_task(writing(running, stop))
        for _ in range(3):
            for projection in running.projections:
                before = (await running.log.tip()).position
                seen: list[tuple[int, int]] = []
                built = await running.engine.rebuild(projection, lambda *where, seen=seen: seen.append(where))
                assert before <= built.position <= (await running.log.tip()).position
                assert seen == sorted(seen)
                assert seen[-1] == (built.position, built.position)
        assert (await replay(running.log, Current())).same
        stop.set()
        assert await clients > 0
        await kept(running)


async def test_parked_events_are_tried_by_a_rebuild(place: Place) -> None:
    colours = Colours("park", wrong=("puce",))
    async with Running(place, colours) as running:
        await running.define()
        at = await running.paint("puce", "red", "mauve", "puce")
        await running.settled()
        colours.wrong = ("mauve",)
        built = await running.engine.rebuild(colours)
        assert built.parked == 1
        assert [one.position for one in await listed(running.log, "colours")] == [at[2]]
        await running.paint("red")
        await kept(running)


@pytest.mark.parametrize("lifecycle", ["inline", "async"])
async def test_a_rebuild_that_fails_leaves_the_tables_as_they_were(place: Place, lifecycle: Any) -> None:
    colours = Colours(lifecycle=lifecycle)
    async with Running(place, Current(), colours) as running:
        await running.define()
        at = await running.paint("red", "blue", "puce", "red")
        await running.settled()
        wanted = await running.rows(PAINTED.name, COLOUR.name)
        colours.wrong = ("puce",)
        with pytest.raises(Stuck, match="puce is no colour") as stuck:
            await running.engine.rebuild(colours)
        assert stuck.value.position == at[2]
        assert await running.rows(PAINTED.name, COLOUR.name) == wanted
        await running.paint("blue")
        colours.wrong = ()
        await kept(running)


@pytest.mark.usefixtures("small_chunks")
async def test_a_rebuild_that_ends_in_the_middle_leaves_nothing_that_stays(place: Place) -> None:
    async with Running(place, *BUILT_IN, Colours()) as running:
        await running.fill(200)
        for projection in running.projections:
            half = asyncio.Event()
            task = asyncio.create_task(
                running.engine.rebuild(
                    projection, lambda position, _tip, half=half: position > 30 and half.set()
                )
            )
            await half.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await running.put("r1", colour="red")
        assert await running.log.checkpoint(beside("colours")) is not None
        await running.engine.rebuild(running.projections[0])
    async with Running(place, *BUILT_IN, Colours()) as running:
        await kept(running)


async def test_one_rebuild_of_a_projection_at_a_time(place: Place) -> None:
    async with Running(place, *BUILT_IN) as running:
        await running.fill(50)
        first = asyncio.create_task(running.engine.rebuild(running.projections[0]))
        await asyncio.sleep(0)
        with pytest.raises(Conflict, match="current is being built anew"):
            await running.engine.rebuild(running.projections[0])
        await running.engine.rebuild(running.projections[1])
        await first
        await kept(running)


async def test_two_that_build_the_same_tables_do_not_mix_them(place: Place) -> None:
    """Who begins last goes on; the other one finds that it was begun anew."""
    async with Running(place, *BUILT_IN) as running:
        await running.fill(200)
        both = [asyncio.create_task(rebuild(running.log, running.projections[0])) for _ in range(2)]
        done = await asyncio.gather(*both, return_exceptions=True)
        assert not [one for one in done if isinstance(one, Exception) and not isinstance(one, Conflict)]
        await running.log.discard()
        await kept(running)


async def test_views_are_made_anew_also_those_that_somebody_dropped(place: Place) -> None:
    async with Running(place, *BUILT_IN) as running:
        await running.define()
        for n in range(5):
            for id, type in (("Shift", "resource"), ("shift", "resource")):
                body = read(b'{"type":"%s","isOpen":true}' % type.encode())
                await running.store.submit(Command("PUT", "Entity", id, b"{}", body))
                if (id, n) != ("shift", 4):
                    await running.store.submit(Command("DELETE", "Entity", id, b"{}"))
    await change(place, "DROP VIEW shift", "DROP VIEW thing_history", "CREATE VIEW shift AS SELECT 1 AS id")
    async with Running(place, *BUILT_IN) as running:
        assert (await running.log.schema_faults([CLAIM, CURRENT, TOTAL])) != []
        await running.engine.rebuild(running.projections[1])
        assert (await running.log.schema_faults([CLAIM, CURRENT, TOTAL])) == []
        await kept(running)


async def test_a_lost_checkpoint_or_table_is_made_anew_at_the_start(place: Place) -> None:
    async with Running(place, *BUILT_IN) as running:
        await running.fill(20)
    await change(place, "DELETE FROM quire_checkpoint", "DROP TABLE quire_total")
    async with Running(place, *BUILT_IN) as running:
        await kept(running)


async def test_a_rebuild_needs_no_start_and_minds_no_lost_checkpoint(place: Place) -> None:
    async with Running(place, *BUILT_IN) as running:
        await running.fill(20)
    await change(place, "UPDATE quire_current SET position = 1", "DELETE FROM quire_checkpoint")
    log = await open_log(place)
    for projection in BUILT_IN:
        assert (await rebuild(log, projection)).position == 25
    await log.close()
    async with Running(place, *BUILT_IN) as running:
        await kept(running)


# Replay.


TAMPERINGS: dict[str, tuple[str, Difference]] = {
    "changed": (
        "UPDATE quire_current SET position = 9 WHERE id = 'r3'",
        Difference(CURRENT.name, ("Thing", "r3"), (23,), (9,), 23),
    ),
    "missing": (
        "DELETE FROM quire_current WHERE id = 'r3'",
        Difference(CURRENT.name, ("Thing", "r3"), (23,), None, 23),
    ),
    "stray": (
        "INSERT INTO quire_current VALUES ('Thing', 'nobody', 4)",
        Difference(CURRENT.name, ("Thing", "nobody"), None, (4,), 0),
    ),
    "deleted": (
        "INSERT INTO quire_current VALUES ('Thing', 'r1', 23)",
        Difference(CURRENT.name, ("Thing", "r1"), None, (23,), 21),
    ),
    "the last": (
        "DELETE FROM quire_current WHERE id = 'r6'",
        Difference(CURRENT.name, ("Thing", "r6"), (18,), None, 18),
    ),
    "all": ("DELETE FROM quire_current", Difference(CURRENT.name, ("Entity", "Thing"), (1,), None, 1)),
    "total": (
        "UPDATE quire_total SET events = 1 WHERE type = 'Thing'",
        Difference(TOTAL.name, ("Thing",), (6, 24), (6, 1), 25),
    ),
    "total stray": (
        "INSERT INTO quire_total VALUES ('Nothing', 0, 0)",
        Difference(TOTAL.name, ("Nothing",), None, (0, 0), 0),
    ),
    "view": ("DROP VIEW thing_history", Difference("views", ("thing_history",), ("a view",), None, 1)),
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("what", TAMPERINGS)
async def test_the_first_difference_is_named_with_its_event(place: Place, what: str) -> None:
    async with Running(place, *BUILT_IN) as running:
        await running.fill(20)
    statement, wanted = TAMPERINGS[what]
    assert await change(place, statement) or what == "view"
    log = await open_log(place, write=False)
    current, views = await replay(log, Current()), await replay(log, Views())
    await log.close()
    found, other = (views, current) if what == "view" else (current, views)
    assert (found.difference, found.same, other.same) == (wanted, False, True)


@pytest.mark.usefixtures("small_chunks")
async def test_replays_beside_writes_and_rebuilds(place: Place) -> None:
    colours = Colours("park", wrong=("puce",))
    async with Running(place, *BUILT_IN, colours) as running:
        await running.fill(200)
        stop = asyncio.Event()
        clients = asyncio.create_task(writing(running, stop))
        beside = await open_log(place, write=False)
        for projection in (*running.projections, *running.projections):
            await running.engine.rebuild(projection)
            found = await replay(beside, projection)
            assert found.same, found
        await beside.close()
        stop.set()
        await clients


async def test_what_it_cannot_compare_it_says(place: Place) -> None:
    colours = Colours("park", wrong=("puce",))
    async with Running(place, colours) as running:
        await running.define()
        at = await running.paint("red", "puce", "blue")
        await running.settled()
        found = await replay(running.log, colours)
        assert (found.same, found.left_out, found.events, found.position) == (True, 1, 3, at[2])
        with pytest.raises(Conflict, match="not of version 2; `quire rebuild colours`"):
            await replay(running.log, Colours(version=2))
        colours.wrong = ("puce", "blue")
        found = await replay(running.log, colours)
        assert (found.same, found.stuck) == (False, f"at position {at[2]}: ValueError: blue is no colour")


async def test_parked_events_that_are_handled_meanwhile_end_the_comparison(place: Place) -> None:
    colours = Colours("park", wrong=("puce",))
    async with Running(place, colours) as running:
        await running.define()
        await running.paint("red", "puce", "blue")
        await running.settled()
        colours.wrong = ()

        async def meanwhile() -> None:
            await running.engine.unpark(colours)

        with pytest.raises(Conflict, match="unparked while it was compared"):
            await _interrupted(running, colours, meanwhile)
        assert (await replay(running.log, colours)).same


async def _interrupted(running: Running, colours: Colours, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Replay, and do something between two of its snapshots."""
    fold = replaying._Fold(running.log, colours, rebuilding.untold)
    query = ("SELECT 1", ())
    try:
        await fold.advance(await replaying._standing(running.log, colours, query))
        await meanwhile()
        await fold.advance(await replaying._standing(running.log, colours, query))
    finally:
        fold.close()


async def test_a_reader_cannot_rebuild(place: Place) -> None:
    async with Running(place, *BUILT_IN) as running:
        await running.fill(5)
    log = await open_log(place, write=False)
    with pytest.raises(Unavailable, match="reading only"):
        await rebuild(log, Current())
    await log.close()
