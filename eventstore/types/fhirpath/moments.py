"""Dates, times of day, and both: as precisely as they are known, and how they compare."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import msgspec


class Moment(msgspec.Struct, frozen=True):
    """A date, a date and time, or a time of day, as precisely as it is known."""

    kind: Literal["Date", "DateTime", "Time"]
    parts: tuple[int | Decimal, ...]
    """Year, month, day, hour, minute, second with its fraction; of a time from the hour on."""
    zone: int | None = None
    """Minutes east of UTC."""

    def __str__(self) -> str:
        parts = self.parts
        days = "-".join(f"{part:0{width}d}" for part, width in zip(parts, (4, 2, 2), strict=False))
        clock = parts if self.kind == "Time" else parts[3:]
        times = ":".join(_two_digits(part) for part in clock)
        if self.kind == "Time":
            return times
        return f"{days}T{times}{_zone_text(self.zone)}" if clock else days


_MOMENT = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?)?"
    r"(?:(?P<t>T)(?P<clock>[0-9:.]*)(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_CLOCK = re.compile(r"(?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}(?:\.[0-9]+)?))?)?")


def moment(text: str, type: str = "") -> Moment | None:
    """The date or time that a text says; of the FHIR type, where there is one. None when it says none."""
    if text[:1] == "T" or type == "time":
        clock = _clock(text.removeprefix("T"))
        return Moment("Time", clock) if clock else None
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    days = tuple(int(found[name]) for name in ("year", "month", "day") if found[name])
    clock = _clock(found["clock"]) if found["clock"] else ()
    if not _is_day(days) or clock is None or (clock and len(days) < 3):
        return None
    kind: Literal["Date", "DateTime"] = (
        "DateTime" if found["t"] or type in ("dateTime", "instant") else "Date"
    )
    return Moment(kind, (*days, *clock), _zone(found["zone"]))


def _clock(text: str) -> tuple[int | Decimal, ...] | None:
    found = _CLOCK.fullmatch(text)
    if found is None or int(found["hour"]) > 23 or int(found["minute"] or 0) > 59:
        return None
    second = Decimal(found["second"] or 0)
    if second >= 61:
        return None
    return tuple(
        [int(found[name]) for name in ("hour", "minute") if found[name]] + [second] * bool(found["second"])
    )


def _is_day(days: tuple[int, ...]) -> bool:
    if len(days) < 2:
        return days[0] > 0
    if not (days[0] and 1 <= days[1] <= 12):
        return False
    return len(days) < 3 or 1 <= days[2] <= monthrange(days[0], days[1])[1]


def _zone(text: str | None) -> int | None:
    if not text:
        return None
    minutes = 0 if text == "Z" else int(text[1:3]) * 60 + int(text[4:6])
    return -minutes if text[0] == "-" else minutes


def _zone_text(zone: int | None) -> str:
    if zone is None:
        return ""
    return "Z" if zone == 0 else f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}:{abs(zone) % 60:02}"


def _two_digits(part: int | Decimal) -> str:
    text = str(part)
    return text.zfill(2 + len(text) - len(text.partition(".")[0]))


def compare_moments(one: Moment, other: Moment) -> int | None:
    """-1, 0 or 1; None when it cannot be known: they are equal as far as both are known, and one is known further."""
    a, b = one.parts, other.parts
    if one.zone is not None and other.zone is not None:
        a, b = in_utc(one), in_utc(other)
    elif one.kind != "Time" and min(len(a), len(b)) > 3 and (one.zone is None) is not (other.zone is None):
        return None
    for x, y in zip(a, b, strict=False):
        if x != y:
            return -1 if x < y else 1
    return 0 if len(a) == len(b) else None


def in_utc(at: Moment) -> tuple[int | Decimal, ...]:
    parts = at.parts
    if not at.zone or len(parts) < 4:
        return parts
    year, month, day, hour, *rest = parts
    minute, *second = rest or (0,)
    try:
        moved = datetime(int(year), int(month), int(day), int(hour), int(minute)) - timedelta(minutes=at.zone)  # noqa: DTZ001 - it is in UTC by the subtraction
    except OverflowError:
        return parts
    return (moved.year, moved.month, moved.day, moved.hour, moved.minute, *second)[: max(len(parts), 5)]
