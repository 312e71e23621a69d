"""SQLite only: what other programs do to its file, and batches that are written beside the connection's thread."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eventstore.errors import Unavailable
from eventstore.event import Event, Header, Tip, seal
from eventstore.log import sqlite as backend
from eventstore.log.base import AppendFailed
from eventstore.log.sqlite import SQLiteLog
from eventstore.log.sqlite_connection import HERE_EVENTS_MAX
from eventstore.log.sqlite_tables import transaction
from eventstore.projection import Rows

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM quire_event").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def small_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "CHECKPOINT_AFTER_BYTES", 100_000)


async def append(log: SQLiteLog, count: int) -> None:
    for _ in range(count):
        await log.take()
        tip = (await log.look()).tip
        await log.append([_event(tip, tip.position + 1)], Rows())


def _event(tip: Tip, position: int) -> Event:
    header = Header(
        position, "Thing", f"r{position}", "created", "t", position, 0, "PUT", f"Thing/r{position}"
    )
    return seal(header, b'{"x":"%s"}' % (b"y" * 4000), b"{}", b"s" * 16, tip.hash)


@pytest.mark.usefixtures("small_checkpoints")
async def test_at_the_limit_writes_are_refused_with_the_reader_named_and_go_on_after_it(
    tmp_path: Path,
) -> None:
    log = await SQLiteLog.open(tmp_path, wal_bytes_max=500_000)
    await append(log, 5)
    command = [sys.executable, "-c", READER, str(tmp_path / "log.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        with pytest.raises(Unavailable, match=f"old snapshot.*{reader.pid}"):
            await append(log, 1000)
        assert str(reader.pid) in (await log.pressure()).problem
        with pytest.raises(Unavailable):
            await append(log, 1)
        reader.kill()
        reader.wait()
    await append(log, 3)
    assert (await log.pressure()).problem == ""
    await log.close()


@pytest.mark.usefixtures("small_checkpoints")
async def test_the_wal_stays_small_without_foreign_readers(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await append(log, 300)
    size = (tmp_path / "log.db-wal").stat().st_size
    await log.close()
    assert size < 1_000_000


async def test_a_log_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    await (await SQLiteLog.open(tmp_path)).close()
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unavailable, match="newer Quire"):
        await SQLiteLog.open(tmp_path)


async def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"not a database, but long enough to have a header" * 100)
    with pytest.raises(Unavailable, match="SQLite"):
        await SQLiteLog.open(tmp_path)


async def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    with pytest.raises(Unavailable, match="writes to"):
        await SQLiteLog.open(tmp_path)
    await log.close()


async def test_while_another_program_writes_the_loop_goes_on(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    await append(log, 1)
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    appending = asyncio.create_task(append(log, 1))
    for _ in range(100):
        await asyncio.to_thread(lambda: None)
    assert not appending.done()
    other.execute("ROLLBACK")
    await appending
    assert (await log.tip()).position == 2
    other.close()
    await log.close()


async def test_what_the_thread_was_left_with_is_done_before_the_next_batch(tmp_path: Path) -> None:
    """Who waited for a long change of projections is cancelled; its transaction is still open."""
    log = await SQLiteLog.open(tmp_path)
    entered, leave = threading.Event(), threading.Event()
    steps: list[str] = []

    def change(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            connection.execute("CREATE TABLE slow (x)")
            entered.set()
            leave.wait()
            connection.execute("INSERT INTO slow VALUES (1)")
        steps.append("changed")

    changing = asyncio.create_task(log._write().call(change))
    await asyncio.to_thread(entered.wait)
    changing.cancel()
    await asyncio.wait([changing])
    appending = asyncio.create_task(append(log, 1))
    appending.add_done_callback(lambda _: steps.append("appended"))
    for _ in range(100):
        await asyncio.to_thread(lambda: None)
    leave.set()
    await appending
    assert steps == ["changed", "appended"]
    assert await log.rows(("SELECT x FROM slow", ())) == [[(1,)]]
    await log.close()


@pytest.mark.parametrize("events", [1, HERE_EVENTS_MAX + 1])
async def test_a_batch_that_cannot_be_written_leaves_nothing_open(tmp_path: Path, events: int) -> None:
    """Small or large: on the event loop or on the thread."""
    log = await SQLiteLog.open(tmp_path)
    await log.take()
    tip = (await log.look()).tip
    twice = [_event(tip, 1)] * events + [_event(tip, 1)]
    with pytest.raises(AppendFailed):
        await log.append(twice, Rows())
    await append(log, 1)
    assert (await log.tip()).position == 1
    await log.close()
