"""The contract of the storage port, over every backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from eventstore.decide import Previous
from eventstore.errors import Invalid, Unavailable
from eventstore.event import Event, Header, Tip, seal
from eventstore.log.base import KEPT_INLINE, AppendFailed, EventLog, Span
from eventstore.log.opening import Place, open_log
from eventstore.projection import Change, Column, Parked, Rows, Table, beside
from projections.current import Current

COLOURS = Table(
    "quire_test_colour",
    (Column("name"),),
    (Column("red", "integer"), Column("note", required=False)),
    (("red",),),
)


@pytest.fixture
async def log(place: Place) -> AsyncIterator[EventLog]:
    opened = await open_log(place)
    yield opened
    await opened.close()


def event(tip: Tip, id: str = "a", action: str = "created", type: str = "Thing", at: str = "") -> Event:
    position = tip.position + 1
    time = at or f"2026-01-01T00:00:00.{position:03d}Z"
    header = Header(position, type, id, action, time, position, 0, "PUT", f"{type}/{id}")
    data = None if action == "deleted" else f'{{"id":"{id}","n":{position}}}'.encode()
    return seal(header, data, b"{}", b"s" * 16, tip.hash)


async def append(
    log: EventLog, *wanted: tuple[str, str], rows: Rows | None = None, type: str = "Thing"
) -> list[Event]:
    await log.take()
    snapshot = await log.look()
    tip, events = snapshot.tip, []
    for id, action in wanted:
        made = event(tip, id, action, type)
        tip = Tip(made.position, made.at, made.hash)
        events.append(made)
    await log.append(events, rows or Rows())
    return events


async def test_an_empty_log_has_tip_zero_and_its_genesis(log: EventLog) -> None:
    tip = await log.tip()
    assert (tip.position, tip.hash) == (0, log.genesis)
    assert await log.last("Thing", "a") is None
    assert await log.at(1) is None
    assert await log.events(Span()) == []


async def test_what_is_appended_is_read_back_to_the_byte(log: EventLog) -> None:
    events = await append(log, ("a", "created"), ("b", "created"), ("a", "deleted"))
    assert await log.events(Span()) == events
    assert await log.at(2) == events[1]
    assert await log.last("Thing", "a") == Previous(3, "deleted", events[2].at, None)
    assert await log.last("Thing", "b") == Previous(2, "created", events[1].at, events[1].data)
    assert await log.tip() == Tip(3, events[2].at, events[2].hash)


async def test_spans(log: EventLog) -> None:
    await append(log, ("a", "created"), ("b", "created"), ("a", "updated"))
    await append(log, ("a", "created"), type="Other")

    async def positions(**span: object) -> list[int]:
        return [one.position for one in await log.events(Span(**span))]  # type: ignore[arg-type]

    assert await positions(after=1, until=3) == [2, 3]
    assert await positions(type="Thing", id="a") == [1, 3]
    assert await positions(newest_first=True, limit=2) == [4, 3]
    assert await positions(type="Other") == [4]
    assert await log.count(Span(type="Thing", id="a")) == 2
    assert await log.count(Span(after=1, limit=1)) == 3


async def test_few_rows_and_many_are_the_same_rows(log: EventLog) -> None:
    events = await append(log, *(("a", "updated") for _ in range(1500)))
    assert await log.events(Span(limit=5)) == events[:5]
    assert await log.events(Span(type="Thing", id="a", newest_first=True, limit=100)) == events[:-101:-1]
    assert await log.events(Span(after=3, limit=2000)) == events[3:]
    assert await log.count(Span(type="Thing", id="a")) == 1500
    assert await log.count(Span(type="Thing", id="a", after=1490)) == 10


async def test_few_rows_may_be_large(log: EventLog) -> None:
    await log.take()
    snapshot = await log.look()
    tip, events = snapshot.tip, []
    for _ in range(3):
        header = Header(
            tip.position + 1, "Thing", "a", "updated", "2026-01-01T00:00:00.000Z", 1, 0, "PUT", "Thing/a"
        )
        made = seal(header, b"x" * 600_000, b"{}", b"s" * 16, tip.hash)
        tip = Tip(made.position, made.at, made.hash)
        events.append(made)
    await log.append(events, Rows())
    assert await log.events(Span(limit=10)) == events
    assert await log.events(Span(limit=1)) == events[:1]


async def test_a_snapshot_gives_the_last_event_of_each_key_and_bodies_where_asked(log: EventLog) -> None:
    events = await append(log, ("a", "created"), ("b", "created"), ("a", "updated"))
    await log.take()
    snapshot = await log.look({("Thing", "a"): True, ("Thing", "b"): False, ("Thing", "none"): True}, {})
    await log.release()
    assert snapshot.tip.position == 3
    assert snapshot.previous["Thing", "a"].position == 3
    assert snapshot.previous["Thing", "a"].data == events[2].data
    assert snapshot.previous["Thing", "b"].data is None
    assert ("Thing", "none") not in snapshot.previous


async def test_a_snapshot_counts_live_resources_up_to_the_limit(log: EventLog) -> None:
    await append(log, ("a", "created"), ("b", "created"), ("c", "created"), ("a", "deleted"))
    await log.take()
    snapshot = await log.look({}, {"Thing": 10, "None": 10})
    await log.release()
    assert dict(snapshot.live) == {"Thing": 2, "None": 0}
    await log.take()
    snapshot = await log.look({}, {"Thing": 1})
    await log.release()
    assert snapshot.live["Thing"] == 1


async def test_a_snapshot_knows_the_last_definition(log: EventLog) -> None:
    await append(log, ("Thing", "created"), type="Entity")
    await append(log, ("a", "created"))
    await log.take()
    snapshot = await log.look()
    await log.release()
    assert snapshot.definition == 1


async def test_only_one_holds_the_log(log: EventLog) -> None:
    await log.take()
    second = asyncio.create_task(log.take())
    await asyncio.sleep(0)
    assert not second.done()
    await log.release()
    await second
    await log.release()


async def test_readers_see_nothing_of_what_is_not_committed(log: EventLog) -> None:
    await log.take()
    assert await log.events(Span()) == []
    await log.release()


@pytest.mark.parametrize("count", [1, 300])
async def test_a_position_that_is_taken_is_refused_and_nothing_is_written(log: EventLog, count: int) -> None:
    (first,) = await append(log, ("a", "created"))
    await log.take()
    later, tip = [], Tip(1, first.at, first.hash)
    for number in range(count):
        later.append(event(tip, f"c{number}"))
        tip = Tip(later[-1].position, later[-1].at, later[-1].hash)
    with pytest.raises(AppendFailed):
        await log.append([*later, first], Rows())
    assert await log.events(Span()) == [first]
    await append(log, ("b", "created"))


async def test_a_large_batch_stands_as_it_was_appended(log: EventLog) -> None:
    """Every column of every event, deletes and their missing bodies too."""
    appended = await append(log, *((f"r{n}", "created" if n % 3 else "deleted") for n in range(300)))
    assert await log.events(Span()) == appended


async def test_rows_are_written_with_the_events_or_not_at_all(log: EventLog) -> None:
    assert await log.declare("test", 1, [COLOURS]) == 0
    rows = Rows()
    rows.upsert(COLOURS.name, ("wine",), (90, "deep"))
    rows.upsert(COLOURS.name, ("rose",), (200, None))
    await append(log, ("a", "created"), rows=rows)
    wrong = Rows()
    wrong.upsert(COLOURS.name, ("bad",), (None, "red is required"))
    with pytest.raises(AppendFailed):
        await append(log, ("b", "created"), rows=wrong)
    query = f"SELECT name, red, note FROM {COLOURS.name} ORDER BY name"
    assert await log.rows((query, ())) == [[("rose", 200, None), ("wine", 90, "deep")]]
    assert (await log.tip()).position == 1


async def test_upsert_delete_and_add(log: EventLog) -> None:
    await log.declare("test", 1, [COLOURS])
    rows = Rows()
    rows.upsert(COLOURS.name, ("wine",), (1, "old"))
    rows.upsert(COLOURS.name, ("rose",), (1, None))
    assert await log.advance("test", 0, 1, rows)
    rows = Rows()
    rows.upsert(COLOURS.name, ("rose",), (5, None))
    rows.delete(COLOURS.name, ("rose",))
    rows.upsert(COLOURS.name, ("wine",), (2, "new"))
    assert await log.advance("test", 1, 2, rows)
    query = f"SELECT name, red, note FROM {COLOURS.name}"
    assert await log.rows((query, ())) == [[("wine", 2, "new")]]


async def test_many_new_rows_are_written_among_others(log: EventLog) -> None:
    await log.declare("test", 1, [COLOURS])
    assert await log.advance("test", 0, 1, colour("old"))
    rows = Rows()
    for n in range(300):
        rows.upsert(COLOURS.name, (f"n{n:03d}",), (n, None), new=True)
    rows.upsert(COLOURS.name, ("old",), (7, None))
    rows.delete(COLOURS.name, ("n100",))
    rows.upsert(COLOURS.name, ("n200",), (-1, "again"))
    assert await log.advance("test", 1, 2, rows)
    wanted = {f"n{n:03d}": (n, None) for n in range(300) if n != 100} | {
        "n200": (-1, "again"),
        "old": (7, None),
    }
    ((*found,),) = await log.rows((f"SELECT name, red, note FROM {COLOURS.name}", ()))
    assert {name: (red, note) for name, red, note in found} == wanted


async def test_a_row_that_is_deleted_and_made_in_one_batch_is_not_new(log: EventLog) -> None:
    await log.declare("test", 1, [COLOURS])
    many = [f"n{n}" for n in range(300)]
    for at in range(2):
        rows = Rows()
        for name in many:
            rows.delete(COLOURS.name, (name,))
            rows.upsert(COLOURS.name, (name,), (at, None), new=True)
        assert await log.advance("test", at, at + 1, rows)
    assert await log.rows((f"SELECT DISTINCT red, count(*) FROM {COLOURS.name} GROUP BY red", ())) == [
        [(1, 300)]
    ]


async def test_a_checkpoint_moves_only_from_where_it_is(log: EventLog) -> None:
    await log.declare("test", 1, [COLOURS])
    rows = Rows()
    rows.upsert(COLOURS.name, ("wine",), (1, None))
    assert await log.advance("test", 0, 7, Rows())
    assert not await log.advance("test", 0, 9, rows)
    assert await log.checkpoint("test") == 7
    assert await log.rows((f"SELECT count(*) FROM {COLOURS.name}", ())) == [[(0,)]]


async def test_tables_of_another_version_are_left_as_they_are(log: EventLog) -> None:
    await log.declare("test", 1, [COLOURS])
    rows = Rows()
    rows.upsert(COLOURS.name, ("wine",), (1, None))
    await log.advance("test", 0, 7, rows)
    assert await log.declare("test", 1, [COLOURS]) == 7
    assert await log.declare("test", 2, [COLOURS]) is None
    assert await names(log) == ["wine"]


async def names(log: EventLog, table: str = COLOURS.name) -> list[str]:
    ((*found,),) = await log.rows((f"SELECT name FROM {table} ORDER BY name", ()))
    return [name for (name,) in found]


async def faults(log: EventLog, tables: list[Table]) -> list[str]:
    """What of the tables is not as it should be; views are another projection's."""
    return [one for one in await log.schema_faults(tables) if not one.startswith("the view ")]


def colour(name: str, red: int | None = 1, table: str = COLOURS.name) -> Rows:
    rows = Rows()
    rows.upsert(table, (name,), (red, None))
    return rows


async def standing(log: EventLog) -> None:
    """A projection at 3 whose table has one row."""
    await append(log, ("a", "created"), ("b", "created"), ("c", "created"))
    await log.declare("test", 1, [COLOURS])
    assert await log.advance("test", 0, 3, colour("old"))


async def test_tables_beside_take_the_place_of_those_that_stand(log: EventLog) -> None:
    await standing(log)
    await log.beside("test", 1, [COLOURS])
    assert await log.advance(beside("test"), 0, 2, colour("new").beside())
    assert await log.advance("test", 3, 4, colour("older"))
    assert (await names(log), await names(log, beside(COLOURS.name))) == (["old", "older"], ["new"])
    assert (await log.checkpoint("test"), await log.checkpoint(beside("test"))) == (4, 2)
    await log.take()
    assert await log.switch("test", 2, 3, colour("last").beside(), inline=False)
    assert (await names(log), await log.checkpoint("test")) == (["last", "new"], 3)
    assert await log.checkpoint(beside("test")) is None
    assert not await log.advance("test", 4, 5, colour("stray"))
    assert await log.advance("test", 3, 5, colour("next"))
    assert await names(log) == ["last", "new", "next"]
    await log.discard("test")
    assert await faults(log, [COLOURS]) == []


async def test_tables_of_an_inline_projection_are_kept_by_appends_after_the_switch(log: EventLog) -> None:
    await standing(log)
    await log.beside("test", 2, [COLOURS])
    await log.take()
    assert await log.switch("test", 0, 3, colour("new").beside(), inline=True)
    assert await log.declare("test", 2, [COLOURS]) == KEPT_INLINE
    await append(log, ("d", "created"), rows=colour("next"))
    assert await names(log) == ["new", "next"]


async def test_a_switch_that_fails_writes_nothing_and_gives_the_log_back(log: EventLog) -> None:
    await standing(log)
    await log.beside("test", 1, [COLOURS])
    await log.take()
    assert not await log.switch("test", 1, 3, colour("new").beside(), inline=False)
    await log.take()
    with pytest.raises(AppendFailed):
        await log.switch("test", 0, 3, colour("bad", None).beside(), inline=False)
    assert (await names(log), await log.checkpoint("test")) == (["old"], 3)
    await log.take()
    assert await log.switch("test", 0, 3, colour("new").beside(), inline=False)
    assert await names(log) == ["new"]


async def test_a_new_build_begins_again_and_what_is_beside_can_be_dropped(log: EventLog) -> None:
    await standing(log)
    for _ in range(2):
        await log.beside("test", 1, [COLOURS])
        assert await log.checkpoint(beside("test")) == 0
        assert await names(log, beside(COLOURS.name)) == []
        failed = [Parked(1, "no")]
        assert await log.advance(beside("test"), 0, 2, colour("new").beside(), parked=failed)
        assert await faults(log, [COLOURS]) == []
    await log.discard("other")
    assert await log.checkpoint(beside("test")) == 2
    await log.discard()
    assert await log.checkpoint(beside("test")) is None
    assert (await names(log), await log.checkpoint("test")) == (["old"], 3)
    assert await parked(log) == []


async def test_tables_and_indexes_may_be_built_anew_again_and_again(log: EventLog) -> None:
    await standing(log)
    for n in range(4):
        await log.beside("test", n, [COLOURS])
        await log.take()
        assert await log.switch("test", 0, 3, colour(f"new{n}").beside(), inline=False)
        assert await names(log) == [f"new{n}"]
        assert await faults(log, [COLOURS]) == []
    await log.discard()
    assert await faults(log, [COLOURS]) == []


async def test_tables_that_a_new_version_does_not_have_are_gone(log: EventLog) -> None:
    other = Table("quire_test_other", (Column("name"),), (Column("n", "integer"),))
    await append(log, ("a", "created"))
    await log.declare("test", 1, [COLOURS, other])
    await log.beside("test", 2, [other])
    await log.take()
    assert await log.switch("test", 0, 1, Rows(), inline=False)
    await log.discard("test")
    assert await faults(log, [other]) == []


async def test_many_rows_are_dropped_in_short_steps(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    await standing(log)
    await log.beside("test", 1, [COLOURS])
    rows = Rows()
    for n in range(12_000):
        rows.upsert(COLOURS.name, (f"n{n}",), (n, None))
    assert await log.advance(beside("test"), 0, 3, rows.beside())
    waiting = asyncio.create_task(log.discard("test"))
    await asyncio.sleep(0)
    while not waiting.done():
        await append(log, ("d", "created"))
    await waiting
    assert await log.checkpoint(beside("test")) is None


async def test_views_go_on_to_work_after_a_switch(log: EventLog) -> None:
    views = Rows()
    views.view("Thing", exists=True)
    await log.declare("current", 1, Current.tables)
    changes = [Change(one, None) for one in await append(log, ("a", "created"), ("b", "created"))]
    for n in range(3):
        await log.beside("current", n, Current.tables)
        rows = Rows()
        Current().project(changes, rows)
        await log.take()
        rows = rows.beside()
        if not n:
            rows.view("Thing", exists=True)
        assert await log.switch("current", 0, 2, rows, inline=True)
        assert await log.rows(('SELECT id FROM "thing" ORDER BY id', ())) == [[("a",), ("b",)]]
        assert json.loads(await log.select("SELECT count(*) AS n FROM thing", [], ["thing"])) == [{"n": 2}]
        await log.discard("current")


async def parked(log: EventLog, name: str = "test") -> list[tuple[int, str]]:
    query = f"SELECT position, error FROM quire_parked WHERE projection = '{name}' ORDER BY position"
    return (await log.rows((query, ())))[0]


async def test_events_are_parked_and_resolved_with_the_checkpoint_or_not_at_all(log: EventLog) -> None:
    await standing(log)
    assert await log.advance("test", 3, 5, Rows(), parked=[Parked(4, "no"), Parked(5, "never")])
    assert not await log.advance("test", 3, 6, Rows(), parked=[Parked(6, "no")])
    assert await parked(log) == [(4, "no"), (5, "never")]
    with pytest.raises(AppendFailed):
        await log.advance("test", 5, 5, colour("bad", None), resolved=[4])
    assert not await log.advance("test", 5, 5, colour("stray"), resolved=[4, 6])
    assert not await log.advance("test", 4, 5, colour("stray"), resolved=[4])
    assert await parked(log) == [(4, "no"), (5, "never")]
    assert await log.advance("test", 5, 5, colour("mended"), resolved=[4])
    assert await log.advance("test", 5, 5, Rows(), parked=[Parked(5, "still not")])
    assert (await names(log), await parked(log)) == (["mended", "old"], [(5, "still not")])


async def test_what_is_parked_goes_with_its_tables(log: EventLog) -> None:
    await standing(log)
    await log.advance("test", 3, 4, Rows(), parked=[Parked(1, "by the old"), Parked(2, "by the old")])
    await log.beside("test", 1, [COLOURS])
    await log.advance(beside("test"), 0, 2, Rows(), parked=[Parked(2, "by the new")])
    await log.take()
    assert await log.switch("test", 2, 3, Rows(), inline=False)
    assert (await parked(log), await parked(log, beside("test"))) == ([(2, "by the new")], [])
    await log.discard()
    assert await parked(log) == [(2, "by the new")]


async def test_who_was_cancelled_while_taking_the_log_holds_up_nobody(log: EventLog) -> None:
    await standing(log)
    for _ in range(20):
        task = asyncio.create_task(log.take())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
            await log.release()
        position = await log.checkpoint("test")
        assert position is not None
        assert await log.advance("test", position, position + 1, Rows())


async def test_the_event_before(log: EventLog) -> None:
    events = await append(log, ("a", "created"), ("a", "updated"), ("a", "deleted"))
    found = await log.before([("Thing", "a", 3), ("Thing", "a", 2), ("Thing", "a", 1)], bodies=True)
    assert {position: previous.position for position, previous in found.items()} == {3: 2, 2: 1}
    assert found[3].data == events[1].data


async def test_since_finds_the_last_position_before_a_time(log: EventLog) -> None:
    await append(log, *[(f"r{n}", "created") for n in range(20)])
    assert await log.since("2026-01-01T00:00:00.000Z") == 0
    assert await log.since("2026-01-01T00:00:00.007Z") == 6
    assert await log.since("2027-01-01T00:00:00.000Z") == 20


async def test_a_log_keeps_its_identity_and_its_fhir_version(place: Place) -> None:
    first = await open_log(place, fhir_version="5.0.0")
    id = first.id
    await first.close()
    again = await open_log(place)
    assert (again.id, again.fhir_version) == (id, "5.0.0")
    await again.close()
    with pytest.raises(Invalid, match=r"5\.0\.0.*not 4\.0\.1"):
        await open_log(place, fhir_version="4.0.1")


async def test_a_log_that_is_not_there_is_not_made_by_who_only_reads(place: Place) -> None:
    with pytest.raises(Unavailable, match="no log in"):
        await open_log(place, write=False)


async def test_who_only_reads_sees_what_is_written_and_writes_nothing(place: Place, log: EventLog) -> None:
    reader = await open_log(place, write=False)
    (first,) = await append(log, ("a", "created"))
    assert (reader.id, await reader.at(1)) == (log.id, first)
    with pytest.raises(Unavailable, match="reading only"):
        await reader.take()
    await reader.close()
    await reader.close()


async def test_an_event_that_landed_is_found(log: EventLog) -> None:
    (first,) = await append(log, ("a", "created"))
    assert await log.landed(first)
    assert not await log.landed(event(await log.tip(), "b"))
    assert not await log.landed(event(Tip(0, "", b""), "b"))
    await append(log, ("b", "created"))


async def test_sums_are_added_up_in_every_batch(log: EventLog) -> None:
    counts = Table(
        "quire_test_count", (Column("name"),), (Column("n", "integer"), Column("m", "integer")), summed=True
    )
    await log.declare("test", 1, [counts])
    for amount in (1, 2, 3):
        rows = Rows()
        rows.add(counts.name, ("red",), (amount, -amount))
        rows.add(counts.name, (f"only {amount}",), (1, 0))
        rows.add(counts.name, ("red",), (1, 0))
        await append(log, (f"r{amount}", "created"), rows=rows)
    query = f"SELECT * FROM {counts.name} ORDER BY 1"
    assert await log.rows((query, ())) == [
        [("only 1", 1, 0), ("only 2", 1, 0), ("only 3", 1, 0), ("red", 9, -6)]
    ]
