"""The resources of a type, a page at a time: what is asked, the SQL, and the answer."""

from __future__ import annotations

import time

import msgspec

from eventstore.event import Position
from eventstore.log.base import FEW_ROWS, EventLog, Query
from eventstore.log.sql import queries

PAGE_DEFAULT = 100
PAGE_MAX = 1000
PAGE_BYTES_MAX = 16 * 1024 * 1024
"""A page ends early after so many bytes of bodies; the next begins where it ended."""

_SQL = {dialect: queries("projections.sql", dialect) for dialect in ("sqlite", "postgres")}


class PageQuery(msgspec.Struct, frozen=True):
    """The resources of a type with ids after `after`, in the order of their ids, `count` at most."""

    type: str
    after: str = ""
    count: int = PAGE_DEFAULT


class Page(msgspec.Struct, frozen=True):
    """Stored bytes, oldest id first; `next` is the id to go on after, None on the last page."""

    resources: list[bytes]
    ids: list[str]
    total: int
    position: Position
    """The tip of the snapshot that was read."""
    next: str | None
    sql: Query
    seconds: float


async def page(log: EventLog, query: PageQuery) -> Page:
    """Read one page, its total and the position it is of, from one snapshot."""
    sql = _SQL[log.dialect]
    asked: Query = (sql["page"], (query.type, query.after, query.count + 1))
    started = time.perf_counter()
    rows, totals, tip = await log.rows(
        asked, (sql["totals"], (query.type,)), (sql["tip"], ()),
        bytes_max=PAGE_BYTES_MAX, few=query.count < FEW_ROWS,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    more = len(rows) > query.count or sum(len(row[1]) for row in rows) >= PAGE_BYTES_MAX
    rows = rows[: query.count]
    return Page(
        resources=[row[1] for row in rows],
        ids=[row[0] for row in rows],
        total=totals[0][0] if totals else 0,
        position=tip[0][0] or 0,
        next=rows[-1][0] if more and rows else None,
        sql=asked,
        seconds=seconds,
    )


async def totals(log: EventLog, type: str | None) -> tuple[int, int]:
    """How many live resources of a type, or of all, there are, and how many events there were."""
    sql = _SQL[log.dialect]
    asked: Query = (sql["totals"], (type,)) if type is not None else (sql["totals_of_all"], ())
    (rows,) = await log.rows(asked, few=True)
    return (rows[0][0], rows[0][1]) if rows else (0, 0)
