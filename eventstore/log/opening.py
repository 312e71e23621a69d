"""Opens the log where a data directory or a URL says it is. The one table of backends; each is imported when used."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventstore.errors import Unavailable
from eventstore.log.base import EventLog


class Place(msgspec.Struct, frozen=True):
    """Where a log is: a PostgreSQL database, or else SQLite in the data directory."""

    data: Path
    db: str = ""

    def __str__(self) -> str:
        if not self.db:
            return str(self.data)
        from eventstore.log.postgres_session import shown  # noqa: PLC0415 - adapters are imported when used

        return shown(self.db)


async def open_log(place: Place, *, fhir_version: str = "", write: bool = True) -> EventLog:
    """Open the log, making it when `write`. `fhir_version` is for a new one; else it must be empty or the same.

    Raises Unavailable when there is none or it cannot be had, Invalid for another FHIR version or a bad URL.
    """
    if not place.db:
        from eventstore.log.sqlite import SQLiteLog  # noqa: PLC0415

        return await SQLiteLog.open(place.data, fhir_version=fhir_version, write=write)
    try:
        from eventstore.log.postgres import PostgresLog  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable("--db needs asyncpg: pip install 'quire[postgres]'") from error
    return await PostgresLog.open(place.db, fhir_version=fhir_version, write=write)
