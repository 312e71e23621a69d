"""How items compare: equal, equivalent, and in which order."""

from __future__ import annotations

from decimal import MAX_PREC, Context, Decimal
from typing import Any

from eventstore.types.fhirpath.moments import Moment, compare_moments, in_utc, moment
from eventstore.types.fhirpath.quantities import DECIMALS, Quantity, canonical, may_be_equal
from eventstore.types.fhirpath.values import Item, Node, is_number, places_of, unwrapped


def key_of(item: Item) -> Any:
    """A value that is equal, and has the same hash, for items that are equal."""
    value = unwrapped(item)
    if isinstance(value, Moment):
        return (
            value.kind == "Time",
            in_utc(value) if value.zone is not None else value.parts,
            value.zone is None,
        )
    if isinstance(value, Quantity):
        return canonical(value)
    if value is None and type(item) is Node:
        return ("twin", _frozen(item.twin))
    return _frozen(value)


def _frozen(value: Any) -> Any:
    """JSON as what can be a key. Numbers are compared as they are written, `true` is not 1."""
    match value:
        case dict():
            return frozenset((key, _frozen(one)) for key, one in value.items())
        case list():
            return tuple(map(_frozen, value))
        case bool():
            return ("boolean", value)
        case float():
            return unwrapped(Node(value))
    return value


def equal(one: Item, other: Item) -> bool | None:
    """They are equal; None when that cannot be known."""
    a, b = unwrapped(one), unwrapped(other)
    if type(a) is str and type(b) is str:
        return a == b
    if isinstance(a, Moment) or isinstance(b, Moment):
        found = _compared_moments(a, b)
        return None if found is None else found == 0
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other_dimension, y) = canonical(a), canonical(b)
        if dimension == other_dimension:
            return x == y
        return None if may_be_equal(a, b) else False
    if isinstance(a, bool) is not isinstance(b, bool):
        return False
    if type(a) is dict and type(b) is dict:
        return bool(key_of(one) == key_of(other))
    return bool(a == b)


def _compared_moments(a: Any, b: Any) -> int | None:
    """-1, 0 or 1; 2 when one of them is no moment."""
    if isinstance(a, str):
        a = moment(a)
    if isinstance(b, str):
        b = moment(b)
    if not isinstance(a, Moment) or not isinstance(b, Moment) or (a.kind == "Time") is not (b.kind == "Time"):
        return 2
    return compare_moments(a, b)


def compare(one: Item, other: Item) -> int | None:
    """-1, 0 or 1; None when it cannot be known. Raises TypeError for what has no order."""
    a, b = unwrapped(one), unwrapped(other)
    if isinstance(a, Moment) or isinstance(b, Moment):
        found = _compared_moments(a, b)
        if found == 2:
            raise TypeError
        return found
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, a), (other_dimension, b) = canonical(a), canonical(b)
        if dimension != other_dimension:
            return None
    elif not (isinstance(a, str) and isinstance(b, str)):
        if not (is_number(a) and is_number(b)):
            raise TypeError
    elif _is_untyped(one) and _is_untyped(other):
        found = _compared_moments(a, b)
        if found != 2:
            return found
    return int(a > b) - int(a < b)


def _is_untyped(item: Item) -> bool:
    return type(item) is Node and not item.type


def equivalent(one: Item, other: Item) -> bool:
    """Alike: texts but for case and white space, decimals as far as both are given, objects in any order."""
    return _alike(unwrapped(one), unwrapped(other))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return " ".join(a.casefold().split()) == " ".join(b.casefold().split())
    if is_number(a) and is_number(b):
        places = min(places_of(one.normalize(DECIMALS)) for one in (Decimal(a), Decimal(b)))
        return _rounded(Decimal(a), places) == _rounded(Decimal(b), places)
    if isinstance(a, Moment) and isinstance(b, Moment):
        return compare_moments(a, b) == 0
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other_dimension, y) = canonical(a), canonical(b)
        return dimension.removeprefix("calendar ") == other_dimension.removeprefix("calendar ") and _alike(
            x, y
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() - {"id"} == b.keys() - {"id"} and all(
            _alike(a[key], b[key]) for key in a if key != "id"
        )
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return type(a) is type(b) and bool(a == b)


_EXACT = Context(prec=MAX_PREC)


def _rounded(number: Decimal, places: int) -> Decimal:
    is_longer = places_of(number) > places
    return number.quantize(Decimal(1).scaleb(-places), context=_EXACT) if is_longer else number
