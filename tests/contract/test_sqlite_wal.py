"""SQLite only: a foreign reader that pins the write-ahead log is told of, and writes wait for its end."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore.errors import Unavailable
from eventstore.event import Header, seal
from eventstore.log import sqlite as backend
from eventstore.log.sqlite import SQLiteLog
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
        tip = (await log.take({}, {})).tip
        position = tip.position + 1
        header = Header(
            position, "Thing", f"r{position}", "created", "t", position, 0, "PUT", f"Thing/r{position}"
        )
        await log.append([seal(header, b'{"x":"%s"}' % (b"y" * 4000), b"{}", b"s" * 16, tip.hash)], Rows())


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
