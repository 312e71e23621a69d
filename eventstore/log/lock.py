"""The lock file of a data directory: one process writes, and the file says which and where it listens."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from eventstore.errors import Unavailable

LOCK_FILE = "quire.lock"
LOCK_SECONDS_MAX = 0.1


class Holder(msgspec.Struct, frozen=True):
    """The process that writes to a data directory. `url` is empty when it does not listen."""

    pid: int
    url: str = ""


class WriterLock:
    """The right to write to a data directory, held until `release` or the process's end."""

    def __init__(self, directory: Path) -> None:
        """Take it. Raises Unavailable, naming the holder, when another process has it."""
        self._path = directory / LOCK_FILE
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._locked():
            os.close(self._file)
            raise Unavailable(_taken(directory))
        self.announce("")

    def _locked(self) -> bool:
        """Try for LOCK_SECONDS_MAX: who only looks who the holder is, has it for a moment."""
        end = time.monotonic() + LOCK_SECONDS_MAX
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() > end:
                    return False
                time.sleep(LOCK_SECONDS_MAX / 20)

    def announce(self, url: str) -> None:
        """Write down who holds it, and the base URL under which it can be reached."""
        text = msgspec.json.encode(Holder(os.getpid(), url))
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)

    def release(self) -> None:
        """Give it back. The file stays: removing it would let two processes lock two files of one name."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1


def holder(directory: Path) -> Holder | None:
    """The live process that writes to the directory, or None."""
    try:
        file = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError:
        return _read(os.pread(file, 4096, 0))
    finally:
        os.close(file)


def others_with(path: Path) -> list[int]:
    """The other processes that have a file open, as far as this system tells (Linux: /proc)."""
    wanted = str(path.resolve())
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) == wanted:
                found.add(int(link.parts[2]))
    return sorted(found - {os.getpid()})


def _read(text: bytes) -> Holder:
    try:
        return msgspec.json.decode(text, type=Holder)
    except msgspec.DecodeError:
        return Holder(0)


def _taken(directory: Path) -> str:
    other = holder(directory)
    if other is None:
        return f"another process was just writing to {directory}; try again"
    where = f" and listens at {other.url}" if other.url else ""
    return f"process {other.pid} writes to {directory}{where}; one process at a time may"
