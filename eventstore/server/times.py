"""Times as the shell writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache


def now() -> str:
    """The time now, as events have it: UTC with milliseconds."""
    return written(datetime.now(UTC))


def written(time: datetime) -> str:
    """A time in UTC, as events have it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def http_date(at: str) -> str:
    """An event's time as HTTP writes it: `Fri, 20 Nov 2026 17:42:13 GMT`."""
    return _http_date(at[:19])


@lru_cache(maxsize=1024)
def _http_date(second: str) -> str:
    return format_datetime(datetime.fromisoformat(second + "+00:00"), usegmt=True)
