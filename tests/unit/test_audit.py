"""The audit: whatever is changed by hand, in any column, index or projection, is found at its position."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from eventstore.audit import Fault, in_order, next_size, read_tip, verify
from eventstore.body import read
from eventstore.command import Command, Method
from eventstore.epoch import begin_epoch
from eventstore.errors import Corrupt, Malformed, Unavailable
from eventstore.event import Header, Tip, seal
from eventstore.log.sqlite import SQLiteLog
from eventstore.server.opening import open_store
from eventstore.server.settings import Settings
from eventstore.server.times import now
from eventstore.store import Store
from projections.check import check
from projections.engine import inline_rows

CHANGED = 7
"""The event that most tests change: an update of Thing/r1 that is not its last."""
LAST = 16

_COLUMNS = 'position, type, id, action, at, "transaction", definition, method, header, data, context, salt, digest, hash'


async def submit(store: Store, method: Method, kind: str, name: str, /, **value: object) -> None:
    document = read(msgspec.json.encode(value)) if method != "DELETE" else None
    await store.submit(Command(method, kind, name, b'{"actor":"anna"}', document))


async def fill(directory: Path) -> None:
    """1 Entity, 2 Attribute, 3-5 r0-r2, 6-8 again, 9 Other, 10-12 r0-r2, 13 r0 deleted, 14 o1, 15 r0, 16 r2 deleted."""
    owner = {"resourceType": "Entity", "id": "Thing"}
    text = {"resourceType": "Entity", "id": "string"}
    async with open_store(Settings(data=directory)) as store:
        await submit(store, "POST", "Entity", "Thing", type="resource", isOpen=True)
        await submit(store, "POST", "Attribute", "Thing.name", path=["name"], type=text, resource=owner)
        for name in ("first", "second"):
            for n in range(3):
                await submit(store, "PUT", "Thing", f"r{n}", name=name)
        await submit(store, "POST", "Entity", "Other", type="resource", isOpen=True)
        for n in range(3):
            await submit(store, "PUT", "Thing", f"r{n}", name="third")
        await submit(store, "DELETE", "Thing", "r0")
        await submit(store, "POST", "Other", "o1", n=1)
        await submit(store, "PUT", "Thing", "r0", name="fourth")
        await submit(store, "DELETE", "Thing", "r2")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("audit") / "data"
    asyncio.run(fill(directory))
    return directory


@pytest.fixture
def directory(original: Path, tmp_path: Path) -> Path:
    """A log of its own for each test, to be damaged."""
    return shutil.copytree(original, tmp_path / "data")


def change(directory: Path, *statements: str) -> None:
    """By hand, with the sqlite3 shell's means."""
    connection = sqlite3.connect(directory / "log.db")
    for statement in statements:
        cursor = connection.execute(statement)
        assert cursor.rowcount != 0, f"nothing changed: {statement}"
    connection.commit()
    connection.close()


async def faults(directory: Path, against: Sequence[Tip] = ()) -> list[Fault]:
    """Everything that is found: in the log, then in what reads answer from."""
    log = await SQLiteLog.open(directory, write=False)
    try:
        report = await verify(log, against=against)
        rest = await check(log, report)
    finally:
        await log.close()
    return [*in_order(report.faults), *in_order(rest.faults)]


async def the_fault(directory: Path, against: Sequence[Tip] = ()) -> Fault:
    (fault,) = await faults(directory, against)
    return fault


async def test_finds_nothing_in_a_log_that_nobody_touched(directory: Path) -> None:
    log = await SQLiteLog.open(directory, write=False)
    done: list[int] = []
    report = await verify(log, against=[Tip(0, "", log.genesis), await log.tip()], progress=done.append)
    rest = await check(log, report, done.append)
    await log.close()
    assert (report.faults.listed, rest.faults.listed) == ([], [])
    assert (report.events, report.tip.position) == (LAST, LAST)
    assert {type: (count.events, count.live) for type, count in report.types.items()} == {
        "Entity": (2, 2), "Attribute": (1, 1), "Thing": (12, 2), "Other": (1, 1),
    }  # fmt: skip
    assert done == [LAST, LAST]


BYTE = "CAST(x'01' || substr({0}, 2) AS BLOB)"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("data", "CAST(replace(CAST(data AS TEXT), 'second', 'sfcond') AS BLOB)", "one of these was changed"),
        ("data", "CAST(x'ff' || substr(data, 2) AS BLOB)", "the body is not a stored resource"),
        ("data", "NULL", "updated, and no body"),
        ("context", "CAST(replace(CAST(context AS TEXT), 'anna', 'bnna') AS BLOB)", "the digest is not that"),
        ("context", "NULL", "the column context holds nothing, not bytes"),
        ("salt", BYTE.format("salt"), "the digest is not that of salt, data and context"),
        ("salt", "substr(salt, 2)", "the salt has 15 bytes, not 16"),
        ("salt", "NULL", "the column salt holds nothing"),
        ("digest", BYTE.format("digest"), "the digest was changed"),
        ("hash", BYTE.format("hash"), "the hash does not follow"),
        ("header", "CAST(replace(CAST(header AS TEXT), 'PUT', 'POT') AS BLOB)", "the column method is 'PUT'"),
        ("header", "CAST(x'ff' || substr(header, 2) AS BLOB)", "the header is not one"),
        ("header", "CAST(replace(CAST(header AS TEXT), '/r1', '/r2') AS BLOB)", "the header's url is 'Thing/r2'"),
        ("type", "'Thinh'", "the column type is 'Thinh', the header says 'Thing'"),
        ("id", "'r9'", "the column id is 'r9', the header says 'r1'"),
        ("action", "'deleted'", "the column action is 'deleted', the header says 'updated'"),
        ("at", "replace(at, 'T', 'U')", "the column at is"),
        ('"transaction"', "6", "the column transaction is 6, the header says 7"),
        ("definition", "1", "the column definition is 1, the header says 2"),
        ("method", "'PUU'", "the column method is 'PUU', the header says 'PUT'"),
    ],
)  # fmt: skip
async def test_finds_a_changed_column(directory: Path, column: str, value: str, words: str) -> None:
    change(directory, f"UPDATE quire_event SET {column} = {value} WHERE position = {CHANGED}")
    fault = (await faults(directory))[0]
    assert fault.position == CHANGED
    assert words in fault.what


@pytest.mark.parametrize("column", ["type", "id", "action", "at", "method"])
async def test_finds_text_that_is_not_utf_8(directory: Path, column: str) -> None:
    change(directory, f"UPDATE quire_event SET {column} = CAST(x'ff41' AS TEXT) WHERE position = {CHANGED}")
    fault = (await faults(directory))[0]
    assert fault.position == CHANGED
    assert "the event at 7 is unreadable: SQLite: Could not decode to UTF-8" in fault.what


async def test_finds_it_in_the_last_event_too(directory: Path) -> None:
    change(directory, f"UPDATE quire_event SET at = CAST(x'ff41' AS TEXT) WHERE position = {LAST}")
    assert (await faults(directory))[0].position == LAST


@pytest.mark.parametrize("column", ["header", "data", "context", "salt", "digest", "hash"])
async def test_one_changed_byte_is_one_fault(directory: Path, column: str) -> None:
    """What follows from it is not told as well."""
    changed = f"CAST(substr({column}, 1, 9) || x'7a' || substr({column}, 11) AS BLOB)"
    change(directory, f"UPDATE quire_event SET {column} = {changed} WHERE position = {CHANGED}")
    assert [fault.position for fault in await faults(directory)] == [CHANGED]


async def test_finds_a_position_that_was_moved(directory: Path) -> None:
    change(directory, f"UPDATE quire_event SET position = {2**60} WHERE position = {LAST}")
    found = await faults(directory)
    assert (found[0].position, found[0].what) == (LAST, f"the events at {LAST} to {2**60 - 1} are missing")
    assert f"the column position is {2**60}, the header says {LAST}" in found[-1].what


async def test_finds_missing_events(directory: Path) -> None:
    change(directory, "DELETE FROM quire_event WHERE position IN (4, 5, 9)")
    found = await faults(directory)
    assert found[0] == Fault(4, "the events at 4 to 5 are missing")
    assert Fault(9, "the event at 9 is missing") in found


async def test_finds_two_events_that_changed_places(directory: Path) -> None:
    change(
        directory,
        *(
            f"UPDATE quire_event SET position = {b} WHERE position = {a}"
            for a, b in ((6, 99), (7, 6), (99, 7))
        ),
    )
    assert [fault.position for fault in await faults(directory)][:2] == [6, 7]


async def test_finds_events_before_the_first(directory: Path) -> None:
    change(
        directory,
        f"INSERT INTO quire_event ({_COLUMNS}) SELECT -3, {_COLUMNS[10:]} FROM quire_event WHERE position = 5",
    )
    assert Fault(0, "1 events have positions below 1, where a log begins") in await faults(directory)


@pytest.mark.parametrize(
    ("statement", "position", "words"),
    [
        ("UPDATE quire_current SET position = 7 WHERE id = 'r1'", 11, "Thing/r1 is updated here, and quire_current says 7"),
        ("DELETE FROM quire_current WHERE id = 'r1'", 11, "and quire_current has no row"),
        ("INSERT INTO quire_current VALUES ('Thing', 'r2', 12)", 16, "Thing/r2 is deleted here, and quire_current says 12"),
        ("INSERT INTO quire_current VALUES ('Thing', 'nobody', 12)", 12, "quire_current has Thing/nobody here"),
        ("UPDATE quire_current SET id = 'r8' WHERE id = 'r1'", 11, "and quire_current has no row"),
        ("UPDATE quire_current SET id = CAST(x'ff' AS TEXT) WHERE id = 'r1'", 11, "and quire_current has no row"),
        ("UPDATE quire_total SET live = 3 WHERE type = 'Thing'", 16, "quire_total says 3 live resources and 12 events of Thing"),
        ("UPDATE quire_total SET events = 0 WHERE type = 'Other'", 14, "quire_total says 1 live resources and 0 events of Other"),
        ("DELETE FROM quire_total WHERE type = 'Other'", 14, "quire_total has no row for Other"),
        ("UPDATE quire_total SET type = CAST(x'ff' AS TEXT) WHERE type = 'Other'", 14, "quire_total has no row for Other"),
        ("UPDATE quire_checkpoint SET position = 3 WHERE name = 'current'", 0, "the projection current is not complete"),
        ("UPDATE quire_log SET id = 'x'", 1, "the hash does not follow"),
        ("UPDATE quire_log SET fhir_version = '4.0.2'", 0, "FHIR 4.0.2 is not supported"),
    ],
)  # fmt: skip
async def test_finds_a_changed_row_of_the_read_side(
    directory: Path, statement: str, position: int, words: str
) -> None:
    change(directory, statement)
    assert any(fault.position == position and words in fault.what for fault in await faults(directory))


async def test_finds_every_place_where_a_byte_of_an_id_can_be_changed(tmp_path: Path) -> None:
    """Header, data, column, both of its index entries, current: wherever the file says it."""
    directory = tmp_path / "data"
    async with open_store(Settings(data=directory)) as store:
        await submit(store, "POST", "Entity", "Thing", type="resource", isOpen=True)
        await submit(store, "PUT", "Thing", "hay")
        await submit(store, "PUT", "Thing", "needle")
    file = directory / "log.db"
    data = file.read_bytes()
    places = [at for at in range(len(data)) if data.startswith(b"needle", at)]
    for place in places:
        file.write_bytes(data[:place] + b"b" + data[place + 1 :])
        found = await faults(directory)
        assert any(fault.position == 3 for fault in found), (place, found)
    assert len(places) >= 6


@pytest.mark.parametrize(
    ("entry", "changed", "index"),
    [
        (b"Thing\x0c\x0c", b"Thing\x0c\x0b", "quire_event_type"),
        (b"Thing\x0c\x0c", b"Thing\x0b\x0c", "quire_event_type"),
        (b"Thingr2\x0c\x0c", b"Thingr2\x0c\x0b", "quire_event_resource"),
        (b"Thingr2\x0c\x0c", b"Thingr2\x0b\x0c", "quire_event_resource"),
    ],
)
async def test_finds_a_position_that_only_an_index_has_wrong(
    directory: Path, entry: bytes, changed: bytes, index: str
) -> None:
    file = directory / "log.db"
    data = file.read_bytes()
    assert data.count(entry) == 1
    file.write_bytes(data.replace(entry, changed))
    assert Fault(12, f"Thing/r2 is not in the index {index} at this position") in await faults(directory)


async def test_survives_pages_that_make_no_sense(directory: Path) -> None:
    """Whatever SQLite makes of it: a fault, or one plain error."""
    file = directory / "log.db"
    data = file.read_bytes()
    page = 4096
    for first in range(page, len(data), page):
        file.write_bytes(data[: first + 8] + b"\xff" * 64 + data[first + 72 :])
        try:
            found = await faults(directory)
        except (Unavailable, sqlite3.DatabaseError):
            continue
        assert found or not data[first + 8 : first + 72].strip(b"\0"), first


# Forged events: whoever writes them knows how to seal.


def forge(directory: Path, kind: str, name: str, action: str, body: object = None, **wrong: object) -> None:
    """Append an event that is sealed as it should be, and wrong in what it says."""
    connection = sqlite3.connect(directory / "log.db")
    position, at, before = connection.execute(
        "SELECT position, at, hash FROM quire_event ORDER BY 1 DESC"
    ).fetchone()
    right = Header(position + 1, kind, name, action, at, position + 1, 2, "PUT", f"{kind}/{name}")
    header = msgspec.structs.replace(right, **wrong)
    meta = {"versionId": str(header.position), "lastUpdated": header.at}
    value = {"resourceType": kind, "id": name, "meta": meta} if body is None else body
    data = msgspec.json.encode(value) if action != "deleted" else None
    event = seal(header, data if body != "" else None, b"{}", b"s" * 16, before)
    connection.execute(
        f"INSERT INTO quire_event VALUES ({', '.join('?' * 14)})", msgspec.structs.astuple(event)
    )
    connection.commit()
    connection.close()


META = {"versionId": "17", "lastUpdated": "1970-01-01T00:00:00.000Z"}


@pytest.mark.parametrize(
    ("name", "action", "wrong", "words"),
    [
        ("r1", "updated", {"at": "2001-01-01T00:00:00.000Z"}, "its time 2001-01-01T00:00:00.000Z is before"),
        ("r1", "updated", {"transaction": 15}, "its transaction is 15, neither its position 17 nor"),
        ("r1", "updated", {"transaction": 18}, "its transaction is 18"),
        ("r1", "updated", {"definition": 1}, "its definition is 1, and Thing was last defined at 2"),
        ("r1", "updated", {"definition": 17}, "its definition is 17"),
        ("r1", "updated", {"url": "Thing/r0"}, "the header's url is 'Thing/r0'"),
        ("r1", "created", {}, "created, and the resource was updated at 11"),
        ("r2", "updated", {}, "updated, and the resource was deleted at 16"),
        ("r7", "deleted", {}, "deleted, and the resource was never there"),
        ("r7", "erased", {}, "the action 'erased' is none of"),
        ("r1", "updated", {"body": ""}, "updated, and no body"),
        ("r1", "updated", {"body": []}, "the body is not a stored resource"),
        ("r1", "updated", {"body": {"resourceType": "Thing", "id": "r0", "meta": META}}, "the body says it is Thing/r0/17"),
    ],
)  # fmt: skip
async def test_finds_what_was_sealed_and_is_wrong(
    directory: Path, name: str, action: str, wrong: dict[str, object], words: str
) -> None:
    forge(directory, "Thing", name, action, **wrong)
    fault = (await faults(directory))[0]
    assert fault.position == LAST + 1
    assert words in fault.what


async def test_a_sealed_event_that_is_right_is_no_fault_of_the_log(directory: Path) -> None:
    forge(directory, "Thing", "r1", "updated")
    assert [fault.what for fault in await faults(directory)] == [
        "Thing/r1 is updated here, and quire_current says 11",
        "quire_total says 2 live resources and 12 events of Thing, the log 2 and 13",
    ]


async def test_finds_a_type_that_was_not_there(directory: Path) -> None:
    forge(directory, "Nothing", "n", "created", definition=0)
    assert "there was no type Nothing" in (await faults(directory))[0].what


async def test_after_a_damaged_definition_what_depends_on_it_is_left_out(directory: Path) -> None:
    changed = "CAST(replace(CAST(data AS TEXT), 'name', 'nema') AS BLOB)"
    change(directory, f"UPDATE quire_event SET data = {changed} WHERE position = 2")
    fault = await the_fault(directory)
    assert fault.position == 2
    assert "what `definition` should be in later events is not checked" in fault.what


# Saved tips: what the log alone cannot know.


async def tip_of(directory: Path, position: int | None = None) -> Tip:
    log = await SQLiteLog.open(directory, write=False)
    event = await log.at(position or (await log.tip()).position)
    await log.close()
    assert event is not None
    return read_tip(str(Tip(event.position, event.at, event.hash)))


def cut(directory: Path, after: int) -> None:
    """Delete the last events, and make everything else as if they had never been."""
    change(directory, f"DELETE FROM quire_event WHERE position > {after}")
    connection = sqlite3.connect(directory / "log.db")
    connection.executescript(
        """
        DELETE FROM quire_current; DELETE FROM quire_total;
        INSERT INTO quire_current SELECT type, id, position FROM quire_event AS e WHERE action <> 'deleted'
            AND position = (SELECT max(position) FROM quire_event WHERE type = e.type AND id = e.id);
        INSERT INTO quire_total
            SELECT type, sum((action = 'created') - (action = 'deleted')), count(*) FROM quire_event GROUP BY type;
        """
    )
    connection.close()


async def test_finds_a_cut_tail_with_a_saved_tip(directory: Path) -> None:
    early, saved = await tip_of(directory, 5), await tip_of(directory)
    cut(directory, LAST - 3)
    assert await faults(directory) == []
    fault = await the_fault(directory, [saved, early])
    assert fault == Fault(
        14, f"the events at 14 to 16 are cut off: the log ends at 13, and once was at {saved}"
    )


async def test_finds_another_history_with_a_saved_tip(directory: Path) -> None:
    saved = await tip_of(directory)
    cut(directory, LAST - 1)
    async with open_store(Settings(data=directory)) as store:
        await submit(store, "PUT", "Thing", "r1", name="other")
        await submit(store, "PUT", "Thing", "r1", name="another")
    assert await faults(directory) == []
    fault = await the_fault(directory, [saved])
    assert fault.position == LAST
    assert f"another history: the hash was {saved.hash.hex()}" in fault.what


async def begin(directory: Path, seen: int) -> None:
    async with open_store(Settings(data=directory)) as store:
        await begin_epoch(store.log, seen, inline_rows, now(), b"s" * 16, "restored")


async def test_the_hole_before_an_epoch_is_no_fault(directory: Path) -> None:
    await begin(directory, LAST + 20)
    async with open_store(Settings(data=directory)) as store:
        await submit(store, "PUT", "Thing", "r1", name="after")
    assert await faults(directory) == []
    saved = Tip(LAST + 10, "", b"x" * 32)
    fault = await the_fault(directory, [saved])
    assert fault.position == LAST + 21
    assert "another history" in fault.what
    change(directory, f"DELETE FROM quire_event WHERE position = {LAST}")
    assert (await faults(directory))[0] == Fault(LAST, f"the event at {LAST} is missing")


async def test_a_tip_of_another_log_is_told(directory: Path) -> None:
    assert (await the_fault(directory, [Tip(0, "", b"x" * 32)])).position == 0


@pytest.mark.parametrize(
    "text", ["", "5", "5:", "5:abc", f"05:{'a' * 64}", f"-1:{'a' * 64}", f"5:{'A' * 64}"]
)
def test_refuses_what_is_no_tip(text: str) -> None:
    with pytest.raises(Malformed):
        read_tip(text)


# Beside a server.


async def test_events_that_arrive_meanwhile_are_no_faults(directory: Path) -> None:
    async with open_store(Settings(data=directory)) as store:
        ended = asyncio.Event()

        async def write() -> None:
            n = 0
            while not ended.is_set():
                n += 1
                await submit(store, "PUT", "Thing", f"r{n % 9}", name=f"name {n}")
                if n % 4 == 0:
                    await submit(store, "DELETE", "Thing", f"r{n % 9}")

        writer = asyncio.create_task(write())
        await store.reached(LAST + 20)
        for _ in range(20):
            assert await faults(directory) == []
        ended.set()
        await writer


async def test_an_empty_log_is_in_order(tmp_path: Path) -> None:
    async with open_store(Settings(data=tmp_path / "data")):
        pass
    assert await faults(tmp_path / "data") == []


async def test_lists_the_first_faults_and_counts_all(directory: Path) -> None:
    async with open_store(Settings(data=directory)) as store:
        for n in range(30):
            await submit(store, "PUT", "Thing", f"n{n}")
    change(directory, "UPDATE quire_event SET salt = x'00' WHERE position > 16")
    log = await SQLiteLog.open(directory, write=False)
    report = await verify(log)
    await log.close()
    assert report.faults.count == 30
    assert [fault.position for fault in report.faults.listed] == list(range(17, 37))


@pytest.mark.parametrize(
    ("size", "bodies", "next"),
    [(64, [b"x" * 100] * 64, 128), (1000, [b"x"] * 1000, 1000), (1000, [b"x" * 2**20] * 10, 15), (4, [], 8), (9, [b"x" * 2**25], 1)],
)  # fmt: skip
def test_reads_fewer_events_at_once_when_they_are_big(size: int, bodies: list[bytes], next: int) -> None:
    assert next_size(size, bodies) == next


SCHEMA_TAMPERINGS = {
    "view usersetting is missing": 'DROP VIEW "usersetting"',
    "view usersetting is not as": """DROP VIEW "usersetting"; CREATE VIEW "usersetting" AS SELECT 'fake' AS id""",
    "view usersetting_history is missing": 'DROP VIEW "usersetting_history"',
    "trigger sneak": "CREATE TRIGGER sneak AFTER INSERT ON quire_event BEGIN DELETE FROM quire_current; END",
    "table quire_extra": "CREATE TABLE quire_extra (x)",
    "index quire_event_type is missing": "DROP INDEX quire_event_type",
    "schema is 0": "PRAGMA user_version = 0",
    "views is complete": "UPDATE quire_checkpoint SET version = 9 WHERE name = 'views'",
    "current is complete": "DELETE FROM quire_checkpoint WHERE name = 'current'",
    "row for stranger": "INSERT INTO quire_checkpoint VALUES ('stranger', 1, -1, '[]')",
}


@pytest.mark.parametrize("words", SCHEMA_TAMPERINGS)
async def test_what_is_not_as_this_version_makes_it_is_found(tmp_path: Path, words: str) -> None:
    entity = b'{"resourceType":"Entity","id":"UserSetting","type":"resource","isOpen":true}'
    async with open_store(Settings(data=tmp_path)) as store:
        await store.submit(Command("PUT", "Entity", "UserSetting", b"{}", read(entity)))
    async with opened(tmp_path) as log:
        assert (await check(log, await verify(log))).faults.listed == []
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.executescript(SCHEMA_TAMPERINGS[words])
    connection.close()
    async with opened(tmp_path) as log:
        found = (await check(log, await verify(log))).faults.listed
    assert any(words in fault.what for fault in found), found


async def test_a_log_that_lost_its_identity_is_refused(tmp_path: Path) -> None:
    entity = b'{"resourceType":"Entity","id":"UserSetting","type":"resource"}'
    async with open_store(Settings(data=tmp_path)) as store:
        await store.submit(Command("PUT", "Entity", "UserSetting", b"{}", read(entity)))
    for tampering in (
        "DELETE FROM quire_log",
        "INSERT INTO quire_log VALUES ('x', '4.0.1', 'y'), ('z', '4.0.1', 'y')",
    ):
        with sqlite3.connect(tmp_path / "log.db") as connection:
            connection.executescript(tampering)
        connection.close()
        with pytest.raises(Corrupt, match="which log it is"):
            async with open_store(Settings(data=tmp_path)):
                pass


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[SQLiteLog]:
    log = await SQLiteLog.open(directory, write=False)
    try:
        yield log
    finally:
        await log.close()
