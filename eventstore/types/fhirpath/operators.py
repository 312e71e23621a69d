"""The operators of two collections that make another: arithmetic, texts joined, and what comes first."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from eventstore.errors import Invalid
from eventstore.types.fhirpath.comparison import compare
from eventstore.types.fhirpath.durations import moved
from eventstore.types.fhirpath.functions.numbers import finite
from eventstore.types.fhirpath.functions.texts import made
from eventstore.types.fhirpath.moments import Moment, moment
from eventstore.types.fhirpath.quantities import DECIMALS, Quantity, canonical
from eventstore.types.fhirpath.scope import Items, Scope, only, only_text
from eventstore.types.fhirpath.values import is_number, unwrapped


def add(scope: Scope, left: Items, right: Items, sign: int = 1) -> Items:
    """`+`, and `-` with a sign of -1."""
    a, b = unwrapped(only(left)), unwrapped(only(right))
    if a is None or b is None:
        return []
    if isinstance(a, str) and isinstance(b, str) and sign == 1:
        return made(scope, a + b)
    if isinstance(a, str) and isinstance(b, Quantity):
        a = moment(a) or a
    if isinstance(a, Moment) and isinstance(b, Quantity):
        found = moved(a, b, sign)
        return [] if found is None else [found]
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other, y) = canonical(a), canonical(b)
        unit = dimension if a.unit != b.unit else a.unit
        return _quantity(Quantity(DECIMALS.add(x, sign * y), unit)) if dimension == other else []
    _need_numbers(a, b)
    return finite(a + sign * b if isinstance(a, int) and isinstance(b, int) else DECIMALS.add(a, sign * b))


def _need_numbers(*values: Any) -> None:
    if not all(map(is_number, values)):
        raise Invalid("the operands do not go together")


def calculate(operator: str, left: Items, right: Items) -> Items:
    """`*`, `/`, `div` and `mod`."""
    a, b = unwrapped(only(left)), unwrapped(only(right))
    if a is None or b is None:
        return []
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        return _calculated_quantity(operator, a, b)
    _need_numbers(a, b)
    if operator == "*":
        return finite(a * b if isinstance(a, int) and isinstance(b, int) else DECIMALS.multiply(a, b))
    if b == 0:
        return []
    if operator == "/":
        return finite(DECIMALS.divide(a, b))
    if isinstance(a, int) and isinstance(b, int):
        return finite(
            abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            if operator == "div"
            else int(math.fmod(a, b))
        )
    return finite(DECIMALS.divide_int(a, b) if operator == "div" else DECIMALS.remainder(a, b))


def _calculated_quantity(operator: str, a: Any, b: Any) -> Items:
    if operator == "*" and isinstance(b, Quantity) and not isinstance(a, Quantity):
        a, b = b, a
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other, y) = canonical(a), canonical(b)
        is_ratio = operator == "/" and dimension == other and y
        return _quantity(Quantity(DECIMALS.divide(x, y))) if is_ratio else []
    if operator not in ("*", "/") or not isinstance(a, Quantity):
        raise Invalid("the operands do not go together")
    _need_numbers(b)
    if operator == "/" and b == 0:
        return []
    number = DECIMALS.multiply(a.value, b) if operator == "*" else DECIMALS.divide(a.value, b)
    return _quantity(msgspec.structs.replace(a, value=number))


def _quantity(found: Quantity) -> Items:
    """The quantity, where its value can be held."""
    return [found] if found.value.is_finite() else []


def concatenate(scope: Scope, left: Items, right: Items) -> Items:
    """`&`: what is missing is an empty text."""
    return made(scope, (only_text(left) or "") + (only_text(right) or ""))


def ordered(operator: str, left: Items, right: Items) -> bool | None:
    """`<`, `<=`, `>` and `>=`; None where it cannot be known."""
    a, b = only(left), only(right)
    if a is None or b is None or unwrapped(a) is None or unwrapped(b) is None:
        return None
    try:
        found = compare(a, b)
    except TypeError:
        raise Invalid(f"{operator} needs two values of one kind that has an order") from None
    if found is None:
        return None
    return {"<": found < 0, "<=": found <= 0, ">": found > 0, ">=": found >= 0}[operator]
