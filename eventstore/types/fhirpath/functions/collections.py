"""Functions of collections: whether something is there, filters, parts, sets and what is inside."""

from __future__ import annotations

from typing import Any

from eventstore.errors import Invalid
from eventstore.types.fhirpath.comparison import key_of
from eventstore.types.fhirpath.functions.numbers import only_integer
from eventstore.types.fhirpath.model import children
from eventstore.types.fhirpath.scope import Items, Run, Scope, only, only_boolean
from eventstore.types.fhirpath.values import Item, Node, unwrapped


def empty(scope: Scope, items: Items) -> Items:
    return [not items]


def exists(scope: Scope, items: Items, criteria: Run | None = None) -> Items:
    return [bool(items if criteria is None else where(scope, items, criteria))]


def all_(scope: Scope, items: Items, criteria: Run) -> Items:
    return [all(only_boolean(found) is True for found in scope.each(items, criteria))]


def all_true(scope: Scope, items: Items) -> Items:
    return [all(_booleans(items))]


def any_true(scope: Scope, items: Items) -> Items:
    return [any(_booleans(items))]


def all_false(scope: Scope, items: Items) -> Items:
    return [not any(_booleans(items))]


def any_false(scope: Scope, items: Items) -> Items:
    return [not all(_booleans(items))]


def _booleans(items: Items) -> list[bool]:
    found = [unwrapped(item) for item in items]
    if not all(isinstance(value, bool) for value in found):
        raise Invalid("expected booleans")
    return found


def count(scope: Scope, items: Items) -> Items:
    return [len(items)]


def distinct(scope: Scope, items: Items) -> Items:
    found: dict[Any, Item] = {}
    for key, item in _keyed(scope, items):
        found.setdefault(key, item)
    return list(found.values())


def is_distinct(scope: Scope, items: Items) -> Items:
    return [len(_keys(scope, items)) == len(items)]


def subset_of(scope: Scope, items: Items, others: Items) -> Items:
    return [_keys(scope, items) <= _keys(scope, others)]


def superset_of(scope: Scope, items: Items, others: Items) -> Items:
    return [_keys(scope, items) >= _keys(scope, others)]


def _keyed(scope: Scope, items: Items) -> list[tuple[Any, Item]]:
    """With the key of each, which is the same for items that are equal."""
    scope.spend(len(items))
    scope.weigh(items)
    return [(key_of(item), item) for item in items]


def _keys(scope: Scope, items: Items) -> set[Any]:
    return {key for key, _ in _keyed(scope, items)}


def not_(scope: Scope, items: Items) -> Items:
    found = only_boolean(items)
    return [] if found is None else [not found]


# Filters


def where(scope: Scope, items: Items, criteria: Run) -> Items:
    results = scope.each(items, criteria)
    return [item for item, found in zip(items, results, strict=True) if only_boolean(found) is True]


def select(scope: Scope, items: Items, projection: Run) -> Items:
    selected: Items = []
    for found in scope.each(items, projection):
        scope.spend(len(found))
        selected += found
    return selected


def repeat(scope: Scope, items: Items, projection: Run) -> Items:
    found: dict[Any, Item] = {}
    waiting = items
    while waiting:
        new = dict(_keyed(scope, select(scope, waiting, projection)))
        waiting = [item for key, item in new.items() if key not in found]
        found |= new
    return list(found.values())


def repeat_all(scope: Scope, items: Items, projection: Run) -> Items:
    found: Items = []
    waiting = items
    while waiting:
        waiting = select(scope, waiting, projection)
        found += waiting
    return found


def aggregate(scope: Scope, items: Items, step: Run, start: Run | None = None) -> Items:
    before = scope.total
    scope.total = start(scope.this, scope) if start else []
    for index, item in enumerate(items):
        scope.total = scope.once(item, index, step)
        scope.spend(len(scope.total))
    found, scope.total = scope.total, before
    return found


def single(scope: Scope, items: Items) -> Items:
    only(items)
    return items


def first(scope: Scope, items: Items) -> Items:
    return items[:1]


def last(scope: Scope, items: Items) -> Items:
    return items[-1:]


def tail(scope: Scope, items: Items) -> Items:
    return items[1:]


def skip(scope: Scope, items: Items, number: Items) -> Items:
    return items[max(0, only_integer(number) or 0) :]


def take(scope: Scope, items: Items, number: Items) -> Items:
    return items[: max(0, only_integer(number) or 0)]


def intersect(scope: Scope, items: Items, others: Items) -> Items:
    wanted = _keys(scope, others)
    return [item for key, item in _keyed(scope, distinct(scope, items)) if key in wanted]


def exclude(scope: Scope, items: Items, others: Items) -> Items:
    unwanted = _keys(scope, others)
    return [item for key, item in _keyed(scope, items) if key not in unwanted]


def union(scope: Scope, items: Items, others: Items) -> Items:
    return distinct(scope, items + others)


def combine(scope: Scope, items: Items, others: Items) -> Items:
    scope.spend(len(items) + len(others))
    return items + others


def coalesce(scope: Scope, items: Items, *choices: Run) -> Items:
    return next((found for choice in choices if (found := choice(items, scope))), [])


def sort(scope: Scope, items: Items, key: Run | None = None) -> Items:
    scope.spend(len(items) * 20)
    keys = (
        [unwrapped(only(found)) for found in scope.each(items, key)] if key else list(map(unwrapped, items))
    )
    try:
        order = sorted((k is not None, k, i) for i, k in enumerate(keys))
    except TypeError:
        raise Invalid("sort() needs values that have an order") from None
    return [items[index] for _, _, index in order]


def children_(scope: Scope, items: Items) -> Items:
    scope.spend(len(items))
    return [child for node in items if isinstance(node, Node) for child in children(node, scope.types)]


def descendants(scope: Scope, items: Items) -> Items:
    found: Items = []
    waiting = items
    while waiting := children_(scope, waiting):
        found += waiting
    return found


def iif(scope: Scope, items: Items, condition: Run, then: Run, otherwise: Run | None = None) -> Items:
    before, scope.this = scope.this, items
    chosen = then if only_boolean(condition(items, scope)) is True else otherwise
    found = chosen(items, scope) if chosen else []
    scope.this = before
    return found


def trace(scope: Scope, items: Items, label: Items, projection: Run | None = None) -> Items:
    return items
