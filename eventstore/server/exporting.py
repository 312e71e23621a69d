"""Export: the resources of a log as they were at one position, to a stream, a file or a folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, Protocol

import msgspec

from eventstore.audit import CHUNK_EVENTS_MIN, next_size
from eventstore.errors import Invalid
from eventstore.event import Position
from eventstore.log.base import EventLog
from eventstore.log.sql import queries
from eventstore.server.sources import DEFINITIONS
from eventstore.yaml import from_json

Format = Literal["ndjson", "json", "yaml"]
STDOUT = "-"
_ENDS: dict[str, Format] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}

_SQL = {dialect: queries("projections.sql", dialect) for dialect in ("sqlite", "postgres")}


class Out(Protocol):
    """Where resources go."""

    def write(self, type: str, ids: Sequence[str], resources: Sequence[bytes]) -> None:
        """Some resources of a type, after those written before."""
        ...

    def finish(self) -> None:
        """That was all."""
        ...


class Exported(msgspec.Struct, frozen=True):
    """How many resources there were, and at which position."""

    resources: int
    position: Position


class Totals(msgspec.Struct, frozen=True):
    """Of one type."""

    type: str
    live: int
    events: int


async def totals(log: EventLog) -> list[Totals]:
    """Of every type that had events."""
    (rows,) = await log.rows((_SQL[log.dialect]["types"], ()))
    return [Totals(*row) for row in rows]


async def export(
    log: EventLog,
    out: Out,
    *,
    types: Collection[str] = (),
    progress: Callable[[int], None] = lambda _done: None,
) -> Exported:
    """Write the resources of these types or of all, definitions first, then by type and id.

    All are of one position, whatever is written meanwhile. Raises Invalid for a type that was never defined.
    """
    position = (await log.tip()).position
    done = 0
    for type in await _types(log, types):
        after, size = "", CHUNK_EVENTS_MIN
        while rows := (await log.rows((_SQL[log.dialect]["export"], (type, after, position, size))))[0]:
            live = [row for row in rows if row[1] is not None]
            if live:
                out.write(type, [row[0] for row in live], [row[1] for row in live])
            done += len(live)
            progress(done)
            after, size = rows[-1][0], next_size(size, [row[1] for row in rows])
    out.finish()
    return Exported(done, position)


async def _types(log: EventLog, wanted: Collection[str]) -> list[str]:
    """In the order in which an import can take them."""
    there = {one.type for one in await totals(log)}
    for type in set(wanted) - there:
        if await log.last("Entity", type) is None:
            raise Invalid(f"there is no type {type}; there are {', '.join(sorted(there)) or 'none yet'}")
    first = [type for type in DEFINITIONS if type in there]
    return [type for type in (*first, *sorted(there - set(first))) if not wanted or type in wanted]


class _Stream:
    """All into one stream: a resource on each line, one JSON array, or YAML documents."""

    def __init__(self, file: IO[bytes], format: Format) -> None:
        self._file = file
        self._format = format
        self._empty = True

    def write(self, type: str, ids: Sequence[str], resources: Sequence[bytes]) -> None:
        if self._format == "ndjson":
            self._file.write(b"\n".join(resources) + b"\n")
        elif self._format == "json":
            self._file.write((b"[\n" if self._empty else b",\n") + b",\n".join(resources))
        else:
            self._file.writelines(b"---\n" + from_json(data) for data in resources)
        self._empty = False

    def finish(self) -> None:
        if self._format == "json":
            self._file.write(b"[]\n" if self._empty else b"\n]\n")
        self._file.flush()


class _Folder:
    """A file for each type (`T.ndjson`), or one for each resource (`T/id.json`, `T/id.yaml`)."""

    def __init__(self, path: Path, format: Format) -> None:
        self._path = path
        self._format = format

    def write(self, type: str, ids: Sequence[str], resources: Sequence[bytes]) -> None:
        if self._format == "ndjson":
            with open(self._path / f"{type}.ndjson", "ab") as file:
                file.write(b"\n".join(resources) + b"\n")
            return
        folder = self._path / type
        folder.mkdir(exist_ok=True)
        for id, data in zip(ids, resources, strict=True):
            text = from_json(data) if self._format == "yaml" else data + b"\n"
            (folder / f"{id}.{self._format}").write_bytes(text)

    def finish(self) -> None:
        return


def format_of(to: str) -> Format:
    """What is written to a destination for which nothing else was said."""
    return _ENDS.get(Path(to).suffix.lower(), "ndjson")


@contextmanager
def destination(to: str, format: Format) -> Iterator[Out]:
    """Standard output for `-`; a folder, new or empty, for what ends in `/` or is one; else a file.

    File and folder get their name when they are complete; after an error there is neither.
    """
    if to == STDOUT:
        yield _Stream(sys.stdout.buffer, format)
        return
    final = Path(to).resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    if to.endswith("/") or final.is_dir():
        with _folder(final, to) as folder:
            yield _Folder(folder, format)
    else:
        with whole_file(final) as file:
            yield _Stream(file, format)


@contextmanager
def _folder(final: Path, to: str) -> Iterator[Path]:
    if final.exists() and any(final.iterdir()):
        raise Invalid(f"{to} is not empty; name a folder that is new or empty")
    part = _part(final)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    with suppress(FileNotFoundError):
        final.rmdir()
    part.replace(final)


@contextmanager
def whole_file(final: Path) -> Iterator[IO[bytes]]:
    """A file that has its name when it is complete, and not before; a device or a pipe is written as it is."""
    if final.exists() and not final.is_file():
        with open(final, "wb") as file:
            yield file
        return
    part = _part(final)
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(final)


def _part(final: Path) -> Path:
    """What it is called until it is complete."""
    return final.with_name(f".{final.name}.part")
