"""Truths: what is true, false or not known, made of others and of what is found."""

from __future__ import annotations

from collections.abc import Callable

from eventstore.types.fhirpath.comparison import equal, equivalent
from eventstore.types.fhirpath.operators import ordered
from eventstore.types.fhirpath.paths import is_of
from eventstore.types.fhirpath.scope import Items, Run, Scope, only

Truth = Callable[[Items, Scope], bool | None]
"""A part of an expression that is true, false, or not known."""


def negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def type_test(run: Run, type: str) -> Truth:
    is_it = is_of(type)

    def test(items: Items, scope: Scope) -> bool | None:
        item = only(run(items, scope))
        return None if item is None else is_it(item, scope.types)

    return test


def _and(left: Truth, right: Truth) -> Truth:
    def both(items: Items, scope: Scope) -> bool | None:
        a = left(items, scope)
        if a is False:
            return False
        b = right(items, scope)
        return b if a else (False if b is False else None)

    return both


def _or(left: Truth, right: Truth) -> Truth:
    def either(items: Items, scope: Scope) -> bool | None:
        a = left(items, scope)
        if a:
            return True
        b = right(items, scope)
        return b if a is False else (True if b else None)

    return either


def _xor(left: Truth, right: Truth) -> Truth:
    def one(items: Items, scope: Scope) -> bool | None:
        a, b = left(items, scope), right(items, scope)
        return None if a is None or b is None else a is not b

    return one


def _implies(left: Truth, right: Truth) -> Truth:
    def implied(items: Items, scope: Scope) -> bool | None:
        a = left(items, scope)
        if a is False:
            return True
        b = right(items, scope)
        return b if a else (True if b else None)

    return implied


LOGIC: dict[str, Callable[[Truth, Truth], Truth]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
}


def equality(left: Run, right: Run, *, negated: bool) -> Truth:
    def test(items: Items, scope: Scope) -> bool | None:
        found = _equal(left(items, scope), right(items, scope), scope)
        return found if found is None else found is not negated

    return test


def _equal(left: Items, right: Items, scope: Scope) -> bool | None:
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    scope.weigh(left)
    scope.weigh(right)
    found: bool | None = True
    for a, b in zip(left, right, strict=True):
        same = equal(a, b)
        if same is False:
            return False
        found = found and same
    return found


def equivalence(left: Run, right: Run, *, negated: bool) -> Truth:
    def test(items: Items, scope: Scope) -> bool:
        a, b = left(items, scope), list(right(items, scope))
        scope.spend(len(a) * len(b))
        scope.weigh(a, len(b))
        return _equivalent(a, b) is not negated

    return test


def _equivalent(left: Items, right: Items) -> bool:
    """In any order."""
    if len(left) != len(right):
        return False
    for item in left:
        place = next((index for index, other in enumerate(right) if equivalent(item, other)), None)
        if place is None:
            return False
        del right[place]
    return True


def order(operator: str, left: Run, right: Run) -> Truth:
    return lambda items, scope: ordered(operator, left(items, scope), right(items, scope))
