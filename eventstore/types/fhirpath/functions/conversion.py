"""Functions from one kind of value to another, and whether that can be."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from eventstore.types.fhirpath.moments import Moment, moment
from eventstore.types.fhirpath.quantities import DECIMALS, Quantity, canonical
from eventstore.types.fhirpath.scope import Function, Items, Scope, only, only_text
from eventstore.types.fhirpath.values import text_of, unwrapped


def converted(convert: Callable[[Any], Any]) -> tuple[Function, Function]:
    """`toX` and `convertsToX`."""

    def to(scope: Scope, items: Items) -> Items:
        value = unwrapped(only(items))
        found = None if value is None else convert(value)
        return [] if found is None else [found]

    def converts(scope: Scope, items: Items) -> Items:
        return [bool(to(scope, items))] if items else []

    return to, converts


_TRUE = ("true", "t", "yes", "y", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "0", "0.0")


def boolean_of(value: Any) -> bool | None:
    text = value.lower() if isinstance(value, str) else text_of(value)
    return True if text in _TRUE else False if text in _FALSE else None


def integer_of(value: Any) -> int | None:
    if isinstance(value, int):
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,18}", value) else None


_DECIMAL = re.compile(r"[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?")


def decimal_of(value: Any) -> Decimal | None:
    if isinstance(value, int | Decimal):
        return Decimal(value)
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


_QUANTITY = re.compile(
    r"(?P<number>[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?)(?:\s*'(?P<unit>[^']+)'|\s+(?P<word>[a-z]+))?"
)
_CALENDAR = re.compile(r"(year|month|week|day|hour|minute|second|millisecond)s?")


def quantity_of(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    if isinstance(value, int | Decimal):
        return Quantity(Decimal(value))
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    if found["word"] is None:
        return Quantity(Decimal(found["number"]), found["unit"] or "1")
    word = _CALENDAR.fullmatch(found["word"])
    return Quantity(Decimal(found["number"]), word[1], calendar=True) if word else None


def moment_of(kind: str) -> Callable[[Any], Moment | None]:
    def convert(value: Any) -> Moment | None:
        at = moment(value, "time" if kind == "Time" else "dateTime") if isinstance(value, str) else value
        if not isinstance(at, Moment) or (at.kind == "Time") is not (kind == "Time"):
            return None
        if kind == "Date":
            return Moment("Date", at.parts[:3])
        return Moment("DateTime", at.parts, at.zone) if kind == "DateTime" else at

    return convert


def to_quantity(scope: Scope, items: Items, unit: Items | None = None) -> Items:
    value = unwrapped(only(items))
    found = None if value is None else quantity_of(value)
    wanted = None if unit is None else only_text(unit)
    if found is None or wanted is None:
        return [] if found is None else [found]
    target = Quantity(Decimal(1), wanted)
    (dimension, amount), (other, factor) = canonical(found), canonical(target)
    return [Quantity(DECIMALS.divide(amount, factor), wanted)] if dimension == other else []
