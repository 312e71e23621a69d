"""Opens the log where a data directory or a URL says it is. The one table of backends; each is imported when used."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from eventstore.errors import Invalid, Unavailable
from eventstore.log.base import EventLog, Identity
from eventstore.types.datatypes import check_fhir_version

SCHEMES = ("postgresql", "postgres")
_HOST = re.compile(r"(\[[^]]*\]|[^]:[]*)(:[0-9]+)?")


class Place(msgspec.Struct, frozen=True):
    """Where a log is: a PostgreSQL database, or else SQLite in the data directory."""

    data: Path
    db: str = ""

    def __str__(self) -> str:
        return shown(self.db) if self.db else str(self.data)

    @classmethod
    def of(cls, text: str) -> Place:
        """A URL, or a data directory."""
        return cls(Path(), text) if "://" in text else cls(Path(text))

    def check(self) -> None:
        """Raises Invalid for what is no URL of a PostgreSQL database."""
        if not self.db:
            return
        parts = _parts(self.db)
        if parts is None:
            raise Invalid(
                "the URL of the database: write @ : / ? # [ ] in its user and password as %40 %3A %2F %3F %23 %5B %5D"
            )
        if parts.scheme not in SCHEMES:
            raise Invalid(f"{shown(self.db)!r}: a URL such as postgresql://user@host/database is wanted")
        for host in parts.netloc.rpartition("@")[2].split(","):
            if not _HOST.fullmatch(host):
                raise Invalid(f"{shown(self.db)!r}: {host!r} is neither a host nor host:port")


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL; None where a character that should be escaped has moved a password into another part."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return None if "@" in f"{parts.path}{parts.query}{parts.fragment}" else parts


def shown(url: str) -> str:
    """The URL without its password; nothing of one in which it cannot be told where that is."""
    parts = _parts(url)
    if parts is None:
        return "a URL that cannot be read"
    query = "&".join(one for one in parts.query.split("&") if not one.startswith("password="))
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query).geturl()


async def open_log(
    place: Place, *, fhir_version: str = "", write: bool = True, copy_of: Identity | None = None
) -> EventLog:
    """Open the log, making it when `write`. `fhir_version` is for a new one; else it must be empty or the same.

    A new log that is to be a copy of another has its identity. Raises Unavailable when there is none or it cannot be
    had, Invalid for another FHIR version, one that is not supported, or a bad URL.
    """
    place.check()
    if fhir_version:
        check_fhir_version(fhir_version)  # before there is a log: it would keep the version for ever
    if not place.db:
        from eventstore.log.sqlite import SQLiteLog  # noqa: PLC0415 - adapters are imported when used

        return await SQLiteLog.open(place.data, fhir_version=fhir_version, write=write, copy_of=copy_of)
    try:
        from eventstore.log.postgres import PostgresLog  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable("--db needs asyncpg: pip install 'quire[postgres]'") from error
    return await PostgresLog.open(place.db, fhir_version=fhir_version, write=write, copy_of=copy_of)
