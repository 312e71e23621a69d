"""Functions of numbers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from eventstore.errors import Invalid
from eventstore.types.fhirpath.quantities import DECIMALS, Quantity
from eventstore.types.fhirpath.scope import Function, Items, Scope, only
from eventstore.types.fhirpath.values import MAX_INTEGER, is_number, unwrapped


def of_number(function: Callable[..., Any]) -> Function:
    """A function of one number, and of numbers; nothing where one is missing or the result is none."""

    def of_items(scope: Scope, items: Items, *arguments: Items) -> Items:
        numbers = [unwrapped(only(given)) for given in (items, *arguments)]
        if any(number is None for number in numbers):
            return []
        if not all(map(is_number, numbers)):
            raise Invalid("expected a number")
        return finite(function(*map(Decimal, numbers)))

    return of_items


def finite(number: int | Decimal) -> Items:
    """The number, where there is one and it can be held."""
    if isinstance(number, Decimal):
        return [number] if number.is_finite() else []
    return [number] if -MAX_INTEGER <= number <= MAX_INTEGER else []


def whole(rounding: str) -> Function:
    return of_number(
        lambda number: (
            int(number.quantize(Decimal(1), rounding, DECIMALS))
            if abs(number) < MAX_INTEGER
            else Decimal("nan")
        )
    )


def abs_(scope: Scope, items: Items) -> Items:
    value = unwrapped(only(items))
    if isinstance(value, Quantity):
        return [msgspec.structs.replace(value, value=abs(value.value))]
    if value is None:
        return []
    if not is_number(value):
        raise Invalid("expected a number")
    return [abs(value)]


def power(base: Decimal, exponent: Decimal) -> Decimal | int:
    found = DECIMALS.power(base, exponent)
    both_whole = (
        base == base.to_integral_value() and exponent == exponent.to_integral_value() and exponent >= 0
    )
    return int(found) if both_whole and found.is_finite() and abs(found) < MAX_INTEGER else found


def round_(scope: Scope, items: Items, digits: Items | None = None) -> Items:
    places = 0 if digits is None else only_integer(digits) or 0
    if not 0 <= places <= DECIMALS.prec:
        raise Invalid("round() needs the number of digits behind the point")
    return of_number(lambda n: n.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, DECIMALS))(scope, items)


def only_integer(items: Items) -> int | None:
    value = unwrapped(only(items))
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Invalid("expected an integer")
    return value
