"""Moments so much later or earlier."""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from eventstore.types.fhirpath.moments import Moment
from eventstore.types.fhirpath.quantities import Quantity, canonical

_MONTHS = {"year": 12, "a": 12, "month": 1, "mo": 1}
_FRACTIONS = frozenset(("second", "s", "millisecond", "ms"))
"""The units of which a part counts: above seconds the digits behind the point are left out (FHIRPath, 6.7)."""
_DAY_SECONDS = 86_400
_MOST = 10**15
"""Of any unit: there are no dates so far apart."""


def moved(at: Moment, by: Quantity, sign: int) -> Moment | None:
    """The moment so much later or earlier, as precisely as the moment is known; None where that cannot be said."""
    if abs(by.value) > _MOST:
        return None
    if by.unit not in _FRACTIONS:
        by = msgspec.structs.replace(by, value=Decimal(int(by.value)))
    if by.unit in _MONTHS:
        return None if at.kind == "Time" else _moved_months(at, sign * int(by.value) * _MONTHS[by.unit])
    dimension, seconds = canonical(by)
    if dimension != "s":
        return None
    if at.kind == "Time":
        return _moved_clock(at, sign * seconds)
    days = int(seconds / _DAY_SECONDS)
    if len(at.parts) == 1:
        return _moved_months(at, sign * (days // 365) * 12)
    if len(at.parts) == 2:
        return _moved_months(at, sign * (days // 30))
    return _moved_clock(at, sign * (days * _DAY_SECONDS if len(at.parts) == 3 else seconds))


def _moved_clock(at: Moment, seconds: Decimal | int) -> Moment | None:
    is_time = at.kind == "Time"
    parts = (2000, 1, 1, *at.parts) if is_time else at.parts
    year, month, day, hour, minute = (int(part) for part in (*parts, 0, 0)[:5])
    second = Decimal(parts[5]) if len(parts) > 5 else Decimal(0)
    try:
        step = timedelta(microseconds=int((second + seconds) * 1_000_000))
        end = datetime(year, month, day, hour, minute) + step  # noqa: DTZ001 - the zone stays beside it
    except (OverflowError, ValueError):
        return None
    last = Decimal(end.second) + Decimal(end.microsecond) / 1_000_000
    full = (end.year, end.month, end.day, end.hour, end.minute, last)[: len(parts)]
    return Moment(at.kind, full[3:] if is_time else full, at.zone)


def _moved_months(at: Moment, months: int) -> Moment | None:
    year, month, day = (int(part) for part in (*at.parts, 1, 1)[:3])
    total = year * 12 + month - 1 + months
    year, month = total // 12, total % 12 + 1
    if not 1 <= year <= 9999:
        return None
    day = min(day, monthrange(year, month)[1])
    return Moment(at.kind, (year, month, day, *at.parts[3:])[: len(at.parts)], at.zone)
