"""Opens the log where a data directory or a URL says it is. The one table of backends; each is imported when used."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from eventstore.errors import Invalid, Unavailable
from eventstore.log.base import EventLog, Identity

SCHEMES = ("postgresql", "postgres")


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
        if self.db and urlsplit(self.db).scheme not in SCHEMES:
            raise Invalid(f"--db {shown(self.db)!r}: a URL such as postgresql://user@host/database")


def shown(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    query = "&".join(one for one in parts.query.split("&") if not one.startswith("password="))
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query).geturl()


async def open_log(
    place: Place, *, fhir_version: str = "", write: bool = True, copy_of: Identity | None = None
) -> EventLog:
    """Open the log, making it when `write`. `fhir_version` is for a new one; else it must be empty or the same.

    A new log that is to be a copy of another has its identity. Raises Unavailable when there is none or it cannot be
    had, Invalid for another FHIR version or a bad URL.
    """
    place.check()
    if not place.db:
        from eventstore.log.sqlite import SQLiteLog  # noqa: PLC0415 - adapters are imported when used

        return await SQLiteLog.open(place.data, fhir_version=fhir_version, write=write, copy_of=copy_of)
    try:
        from eventstore.log.postgres import PostgresLog  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable("--db needs asyncpg: pip install 'quire[postgres]'") from error
    return await PostgresLog.open(place.db, fhir_version=fhir_version, write=write, copy_of=copy_of)
