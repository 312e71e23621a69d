"""What is meant by a value of limited precision: its lowest and its highest."""

from __future__ import annotations

from calendar import monthrange
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import msgspec

from eventstore.types.fhirpath.moments import Moment
from eventstore.types.fhirpath.quantities import DECIMALS, Quantity
from eventstore.types.fhirpath.values import is_number

MAX_BOUNDARY_DIGITS = 28


_DATE_DIGITS = (4, 6, 8, 10, 12, 17)
_TIME_DIGITS = (2, 4, 9)
_DEFAULT_DIGITS = {"Date": 8, "DateTime": 17, "Time": 9}
_SECONDS_DIGITS = {"Date": {}, "DateTime": {14: 17}, "Time": {6: 9}}
"""To the second is to the millisecond: they are one precision."""
_WESTERNMOST, _EASTERNMOST = -12 * 60, 14 * 60


def boundary(value: Any, digits: int | None, *, high: bool) -> Any:
    """The lowest or highest value that is meant by one of limited precision; None where there is none.

    `digits` are those wanted: behind the point, or of the date and time.
    """
    if isinstance(value, Quantity):
        number = boundary(value.value, digits, high=high)
        return None if number is None else msgspec.structs.replace(value, value=number)
    if isinstance(value, Moment):
        return _moment_boundary(value, digits, high=high)
    return (
        _number_boundary(Decimal(value), 8 if digits is None else digits, high=high)
        if is_number(value)
        else None
    )


def _number_boundary(number: Decimal, digits: int, *, high: bool) -> Decimal | None:
    exponent = number.as_tuple().exponent
    if not 0 <= digits <= MAX_BOUNDARY_DIGITS or not isinstance(exponent, int):
        return None
    half = Decimal(5).scaleb(min(exponent, 0) - 1)
    edge = DECIMALS.add(number, half if high else -half)
    found = edge.quantize(Decimal(1).scaleb(-digits), ROUND_CEILING if high else ROUND_FLOOR, DECIMALS)
    return found if found.is_finite() else edge


def _moment_boundary(at: Moment, digits: int | None, *, high: bool) -> Moment | None:
    wanted = _DEFAULT_DIGITS[at.kind] if digits is None else digits
    steps = _TIME_DIGITS if at.kind == "Time" else _DATE_DIGITS[: 3 if at.kind == "Date" else 6]
    wanted = _SECONDS_DIGITS[at.kind].get(wanted, wanted)
    if wanted not in steps:
        return None
    count = steps.index(wanted) + 1
    parts = list(at.parts)
    for place in range(len(parts), count):
        parts.append(_edge(parts, place + (3 if at.kind == "Time" else 0), high=high))
    zone = at.zone
    if zone is None and at.kind == "DateTime" and count > 3:
        zone = _WESTERNMOST if high else _EASTERNMOST
    return Moment(at.kind, tuple(parts[:count]), zone if count > 3 else None)


def _edge(parts: list[int | Decimal], place: int, *, high: bool) -> int | Decimal:
    """The first or last month, day, hour, minute or second that may follow."""
    if not high:
        return Decimal("0.000") if place == 5 else int(place < 3)
    if place == 2:
        return monthrange(int(parts[0]), int(parts[1]))[1]
    return (0, 12, 31, 23, 59, Decimal("59.999"))[place]
