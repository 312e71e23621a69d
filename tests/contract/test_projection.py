"""The contract of projections: built late, behind or inline, in whatever cuts, the rows are the same."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from harness import checkers
from harness.colours import COLOUR, PAINTED, Colours
from harness.running import Running

from eventstore import follower, projection
from eventstore.body import read
from eventstore.command import Command
from eventstore.errors import Unavailable
from eventstore.follower import Checkpoint, Follower, Handle, lag
from eventstore.log.base import KEPT_INLINE, AppendFailed, EventLog
from eventstore.log.opening import Place
from eventstore.membership import ended
from eventstore.projection import Change, Projection, Rows
from projections import keeper
from projections import rebuild as rebuilding
from projections.current import CURRENT, TOTAL, Current
from projections.keeper import Keeper
from projections.parked import Unparked, listed
from projections.views import Views

NewPlace = Callable[[], Awaitable[Place]]


def _example() -> Projection:
    """The projection that `docs/projections.md` shows."""
    page = Path(__file__).parents[2] / "docs" / "projections.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    words = {**vars(projection), "msgspec": msgspec}
    exec(code, words)
    made: Projection = words["Wards"]()
    return made


async def test_the_example_of_the_documents(place: Place) -> None:
    example = _example()
    async with Running(place, Current(), example) as running:
        entity = b'{"type":"resource","isOpen":true}'
        await running.store.submit(Command("PUT", "Entity", "Shift", b"{}", read(entity)))
        for id, ward in (("a", "ICU"), ("b", "ICU"), ("a", "ER"), ("c", "ER"), ("c", "")):
            document = read(json.dumps({"ward": ward} if ward else {}).encode())
            await running.store.submit(Command("PUT", "Shift", id, b"{}", document))
        await running.store.submit(Command("DELETE", "Shift", "b", b"{}"))
        await running.until(lambda one: one.lag_events == 0, "wards")
        assert await running.rows("quire_ward", "quire_ward_total") == [
            [("a", "ER"), ("c", "ER")],
            [("ER", 1), ("ICU", 2)],
        ]
        (parked,) = await listed(running.log, "wards")
        assert (parked.position, parked.error) == (6, "KeyError: 'ward'")
        await running.engine.rebuild(example)
        await checkers.replayable(running.log, [], [example])


@pytest.mark.parametrize("one", [Current(), Views(), Colours()])
def test_a_projection_is_pure_and_may_be_cut_anywhere(one: Projection) -> None:
    from eventstore.decide import Previous
    from eventstore.event import Header, seal

    changes, last = [], None
    for position, action in enumerate(["created", "updated", "deleted", "created"], 1):
        data = None if action == "deleted" else b'{"type":"resource","colour":"red"}'
        header = Header(position, "Entity", "Thing", action, "t", position, 0, "PUT", "Entity/Thing")
        event = seal(header, data, b"{}", b"s" * 16, b"")
        changes.append(Change(event, last))
        last = Previous(position, action, "t", data)
    whole, again = Rows(), Rows()
    one.project(changes, whole)
    for change in changes:
        one.project([change], again)
    for name in ("upserts", "deletes", "sums", "views"):
        assert getattr(whole, name) == getattr(again, name)


async def test_inline_async_and_rebuilt_are_the_same(place: Place, new_place: NewPlace) -> None:
    async with Running(place, Current(), Views()) as inline:
        await inline.fill(40)
        wanted = await inline.rows(CURRENT.name, TOTAL.name)
        events = await checkers.events_of(inline.log)
        await checkers.replayable(inline.log, events)
        assert await inline.log.checkpoint("current") == KEPT_INLINE

    async with Running(await new_place(), Current("async")) as behind:
        await behind.fill(40)
        await behind.settled()
        assert await behind.rows(CURRENT.name, TOTAL.name) == wanted

    class Newer(Current):
        version = 2

    async with Running(place, Newer(), Views()) as rebuilt:
        assert await rebuilt.rows(CURRENT.name, TOTAL.name) == wanted
        await rebuilt.fill(3)
        await checkers.replayable(rebuilt.log, await checkers.events_of(rebuilt.log), rebuilt.projections)


async def test_an_async_projection_goes_on_from_its_checkpoint(place: Place) -> None:
    async with Running(place, Current("async")) as first:
        await first.fill(10)
        await first.settled()
    async with Running(place, Current("async")) as second:
        await second.fill(10)
        await second.settled()
        await checkers.replayable(second.log, await checkers.events_of(second.log), second.projections)


async def test_a_second_owner_of_a_projection_is_harmless(place: Place) -> None:
    """The checkpoint is guarded: who finds it moved writes nothing, and goes on from where it is."""
    async with Running(place, Colours()) as running:
        await running.define()
        second = Follower(running.log, "second", *_keeper(running.log, Colours()), running.writer.reached)
        following = asyncio.create_task(second.run())
        await running.paint(*["red", "blue", None] * 30)
        await running.settled()
        await ended(following)
        await checkers.replayable(running.log, [], [Colours()])


def _keeper(log: EventLog, projection: Projection) -> tuple[Checkpoint, Handle]:
    keeper = Keeper(log, projection)
    return keeper.checkpoint, keeper.handle


async def test_a_follower_halts_at_an_event_that_its_projection_cannot_handle(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with Running(place, Current(), Colours("halt", wrong=("puce",))) as running:
        await running.define()
        *_, before, wrong, _ = await running.paint("red", "blue", "red", "puce", "blue")
        halted = await running.until(lambda one: one.state == "halted")
        assert (halted.position, halted.halted_at) == (before, wrong)
        assert halted.reason == "ValueError: puce is no colour"
        assert [one.halted_at for one in caplog.records if "halted" in one.message] == [wrong]  # type: ignore[attr-defined]
        later = await running.paint("red")
        assert later[0] == (await running.log.tip()).position
        assert (await running.standing()).position == before
        assert await running.rows(COLOUR.name) == [[("blue", 1, 1), ("red", 2, 2)]]
        await checkers.replayable(running.log, await checkers.events_of(running.log), [Current()])
    async with Running(place, Current(), Colours("halt")) as mended:
        await mended.settled()
        assert await mended.rows(COLOUR.name) == [[("blue", 2, 2), ("puce", 1, 1), ("red", 3, 3)]]


async def test_a_halted_follower_tries_again_and_says_so_once(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BACK_OFF_SECONDS_MAX", 0.01)
    monkeypatch.setattr(follower, "BACK_OFF_SECONDS_MIN", 0.001)
    colours = Colours("halt", wrong=("puce",))
    async with Running(place, colours) as running:
        await running.define()
        await running.paint("red", "puce")
        await running.until(lambda one: one.state == "halted")
        await asyncio.sleep(0.1)
        assert [one.message for one in caplog.records].count(
            "a follower halted at an event, and tries it again"
        ) == 1
        colours.wrong = ()
        await running.settled()
        assert (await running.standing()).halted_at is None


@pytest.mark.parametrize("wrong", ["puce", "null"])
async def test_only_the_culprit_of_a_chunk_is_parked(place: Place, wrong: str) -> None:
    """One that `project` raises at, or whose row the database refuses."""
    told = {"puce": "ValueError: puce is no colour", "null": "AppendFailed: "}
    async with Running(place) as filling:
        await filling.define()
        await filling.paint(*["red", "blue", "green"] * 30)
        first = await filling.put("first", colour=wrong)
        await filling.paint(*["red", None] * 20)
        second = await filling.put("second", colour=wrong)
        await filling.paint("red")
    colours = Colours("park", wrong=("puce",))
    async with Running(place, colours) as running:
        await running.settled()
        parked = await listed(running.log, "colours")
        assert [one.position for one in parked] == [first.position, second.position]
        assert all(one.error.startswith(told[wrong]) and one.at for one in parked)
        assert (await running.standing()).parked == 2
        await checkers.replayable(running.log, [], [colours])
        ((*rows,),) = await running.rows(COLOUR.name)
        assert rows == [("blue", 30, 30), ("green", 30, 30), ("red", 51, 51)]


async def test_after_too_many_parked_events_it_halts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PARKED_EVENTS_MAX", 3)
    async with Running(place, Colours("park", wrong=("puce",))) as running:
        await running.define()
        at = await running.paint(*["puce"] * 5)
        halted = await running.until(lambda one: one.state == "halted")
        assert (halted.halted_at, halted.parked) == (at[3], 3)
        assert halted.reason == "ValueError: puce is no colour; 3 events are parked already"


async def test_parked_events_are_tried_again_when_later_ones_were_handled(place: Place) -> None:
    async with Running(place, Colours("park", wrong=("puce", "mauve"))) as running:
        await running.define()
        await running.paint("puce", "puce", "mauve", "red", None, "blue", "puce", "puce", "mauve")
        await running.settled()
        assert (await running.standing()).parked == 6
    mended = Colours("park", wrong=("mauve",))
    async with Running(place, mended) as running:
        await running.settled()
        assert await running.engine.unpark(mended) == Unparked("colours", 4, 2)
        assert (await running.standing()).parked == 2
        await checkers.replayable(running.log, [], [mended])
        assert await running.rows(PAINTED.name) == [
            [("Thing", "t0", "puce", 8), ("Thing", "t1", "puce", 9), ("Thing", "t2", "blue", 7)]
        ]
        assert await running.rows(COLOUR.name) == [[("blue", 1, 1), ("puce", 4, 4), ("red", 1, 1)]]
        mended.wrong = ()
        assert await running.engine.unpark(mended) == Unparked("colours", 2, 0)
        await checkers.replayable(running.log, [], [mended])


async def test_what_the_database_refuses_again_stays_parked(place: Place) -> None:
    colours = Colours("park")
    async with Running(place, colours) as running:
        await running.define()
        await running.paint("red", "null", "blue")
        await running.settled()
        assert await running.engine.unpark(colours) == Unparked("colours", 0, 1)
        (parked,) = await listed(running.log, "colours")
        assert "null" in parked.error.lower()


async def test_parked_events_are_tried_again_while_writes_go_on(place: Place) -> None:
    colours = Colours("park", wrong=("puce",))
    async with Running(place, colours) as running:
        await running.define()
        await running.paint(*["puce", "red"] * 30)
        await running.settled()
        colours.wrong = ()
        writing = asyncio.create_task(running.paint(*["red", "blue", None] * 60))
        assert await running.engine.unpark(colours) == Unparked("colours", 30, 0)
        await writing
        await running.settled()
        await checkers.replayable(running.log, [], [colours])


async def test_an_inline_projection_that_fails_fails_the_write_and_no_other(place: Place) -> None:
    colours = Colours(wrong=("puce",), lifecycle="inline")
    async with Running(place, Current(), colours) as running:
        await running.define()
        wanted = ["red", "puce", "blue", "null", "red"]
        commands = [
            Command("PUT", "Thing", f"t{n}", b"{}", read(b'{"colour":"%s"}' % colour.encode()))
            for n, colour in enumerate(wanted)
        ]
        done = await asyncio.gather(*map(running.store.submit, commands), return_exceptions=True)
        refused = [type(one) for one in done if isinstance(one, Exception)]
        assert (refused, isinstance(done[1], ValueError)) == ([ValueError, AppendFailed], True)
        assert (await running.log.tip()).position == 4
        await checkers.replayable(running.log, [], [colours])


async def test_a_row_too_many_keeps_nothing_from_being_written(place: Place) -> None:
    """Somebody has put a row into the table that no event tells of."""
    async with Running(place, Current()) as running:
        await running.define()
        rows = Rows()
        rows.upsert(CURRENT.name, ("Thing", "r7"), (99,))
        await running.log.declare("other", 1, [])
        assert await running.log.advance("other", 0, 1, rows)
        things = [Command("PUT", "Thing", f"r{n}", b"{}", read(b"{}")) for n in range(300)]
        queued = running.store.queue_each(things)
        written = [(await one)[0] for one in queued if isinstance(one, asyncio.Future)]
        found = {id: at for type, id, at in (await running.rows(CURRENT.name))[0] if type == "Thing"}
        assert found == {command.id: one.position for command, one in zip(things, written, strict=True)}


async def test_the_lag_in_events_and_in_seconds(place: Place) -> None:
    async with Running(place, Colours("halt", wrong=("puce",))) as running:
        await running.define()
        at = await running.paint("red", "puce", "red")
        await running.until(lambda one: one.state == "halted")
        event = await running.log.at(at[1])
        assert event is not None
        later = (datetime.fromisoformat(event.at) + timedelta(seconds=90)).isoformat()
        halted = await running.standing(at=later)
        assert (halted.lag_events, halted.lag_seconds) == (2, 90)
        assert await lag(running.log, at[2], later) == (0, 0.0)
        assert await lag(running.log, 0, "2000-01-01T00:00:00.000Z") == (4, 0.0)


async def test_another_version_is_built_while_the_tables_before_are_served(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "REBUILD_CHUNK_EVENTS", 10)  # it takes longer than to look at it
    monkeypatch.setattr(rebuilding, "SWITCH_EVENTS_MAX", 20)
    async with Running(place, Colours("park", wrong=("puce",))) as running:
        await running.define()
        await running.paint(*["red", "blue", "puce"] * 100)
        await running.settled()
    newer = Colours("park", version=2)
    async with Running(place, newer) as running:
        assert (await running.standing()).state == "building"
        assert await running.rows(COLOUR.name) == [[("blue", 100, 100), ("red", 100, 100)]]
        await running.paint("green")
        await running.settled()
        assert (await running.standing()).parked == 0
        ((*rows,),) = await running.rows(COLOUR.name)
        assert rows == [("blue", 100, 100), ("green", 1, 1), ("puce", 100, 100), ("red", 100, 100)]
        await checkers.replayable(running.log, [], [newer])


async def test_another_version_that_fails_leaves_the_tables_before(place: Place) -> None:
    async with Running(place, Colours()) as running:
        await running.define()
        at = await running.paint("red", "blue", "puce")
        await running.settled()
    wrong = Colours("halt", wrong=("puce",), version=2)
    async with Running(place, wrong) as running:
        halted = await running.until(lambda one: one.state == "halted")
        assert (halted.position, halted.halted_at) == (at[2], at[2])
        assert halted.reason == "version 2 cannot be built: ValueError: puce is no colour"
        assert await running.rows(COLOUR.name) == [[("blue", 1, 1), ("puce", 1, 1), ("red", 1, 1)]]
        wrong.wrong = ()
        await running.engine.rebuild(wrong)
        await running.paint("green")
        await running.settled()
        await checkers.replayable(running.log, [], [wrong])


async def test_an_inline_version_that_fails_does_not_start_and_the_one_before_does(place: Place) -> None:
    async with Running(place, Colours(lifecycle="inline")) as running:
        await running.define()
        await running.paint("red", "puce")
    with pytest.raises(Unavailable, match=r"colours, version 2, .* at position 3: ValueError: puce"):
        async with Running(place, Colours(wrong=("puce",), lifecycle="inline", version=2)):
            pass
    before = Colours(lifecycle="inline")
    async with Running(place, before) as running:
        await running.paint("red")
        await checkers.replayable(running.log, [], [before])


async def test_a_projection_may_become_async_and_inline_again(place: Place) -> None:
    for lifecycle in ("inline", "async", "inline"):
        colours = Colours(lifecycle=lifecycle)  # type: ignore[arg-type]
        async with Running(place, colours) as running:
            await running.define()
            await running.paint("red", "blue", None, "red")
            await running.settled()
            await checkers.replayable(running.log, [], [colours])
