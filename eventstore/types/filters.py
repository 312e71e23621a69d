"""The filters of a ValueSet: of the codes of a CodeSystem, those that they let through."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from eventstore.types.fragment import refusal_of_pattern
from eventstore.types.jsonschema import compiled
from eventstore.types.terminology import CodeSystem, Concept, Filter

_CODE = ("code", "concept")
"""What filters call the code itself."""
_ABOVE = ("parent", "subsumedBy")
_BELOW = "child"

Hierarchy = dict[str, list[str]]


class NotKnown(Exception):
    """What a filter asks cannot be answered here; the message says why."""


def selected(system: CodeSystem, filter: Filter) -> frozenset[str]:
    """The codes that the filter lets through, of a system that is complete. Raises NotKnown."""
    if filter.op in _BY_HIERARCHY:
        if filter.value not in system.concepts:
            raise NotKnown(f"the code system {system.url} has no code {filter.value[:80]}")
        return frozenset(_BY_HIERARCHY[filter.op](filter.value, system))
    if filter.op not in _BY_VALUE:
        raise NotKnown(f"the filter {filter.op or 'without an op'} is not known here")
    if not _has_property(system, filter.property):
        raise NotKnown(f"the code system {system.url} has no property {filter.property[:80]}")
    fits, values = _BY_VALUE[filter.op](filter.value), _values(system, filter.property)
    return frozenset(code for code, one in system.concepts.items() if fits(values(one)))


def _has_property(system: CodeSystem, name: str) -> bool:
    known = (*_CODE, "display", *_ABOVE, _BELOW, "inactive", "status")
    return (
        name in known
        or any(one.code == name for one in system.properties)
        or any(one.values(name) for one in system.concepts.values())
    )


def _values(system: CodeSystem, name: str) -> Callable[[Concept], list[str]]:
    """What a concept has as a property."""
    if name in _CODE:
        return lambda one: [one.code]
    if name == "display":
        return lambda one: [one.display] if one.display else []
    if name in (*_ABOVE, _BELOW):
        near = children(system) if name == _BELOW else _turned(children(system))
        return lambda one: near.get(one.code, [])
    return lambda one: one.values(name)


def children(system: CodeSystem) -> Hierarchy:
    """The codes directly below each: by where they stand, and by the properties `parent`, `subsumedBy` and `child`."""
    found: dict[str, dict[str, None]] = {}
    for code, one in system.concepts.items():
        below = found.setdefault(code, {})
        below.update(dict.fromkeys(inner.code for inner in one.concept if inner.code))
        if not one.properties:
            continue
        below.update(dict.fromkeys(one.values(_BELOW)))
        for name in _ABOVE:
            for above in one.values(name):
                found.setdefault(above, {})[code] = None
    return {code: [one for one in below if one in system.concepts] for code, below in found.items()}


def _turned(hierarchy: Hierarchy) -> Hierarchy:
    above: Hierarchy = {}
    for code, below in hierarchy.items():
        for one in below:
            above.setdefault(one, []).append(code)
    return above


def _all_from(start: str, near: Hierarchy) -> set[str]:
    """What is reached from a code, without the code; circles end."""
    seen: set[str] = set()
    waiting = [*near.get(start, ())]
    while waiting:
        code = waiting.pop()
        if code not in seen:
            seen.add(code)
            waiting.extend(near.get(code, ()))
    return seen - {start}


def _below(code: str, system: CodeSystem) -> set[str]:
    return _all_from(code, children(system))


def _leaves(code: str, system: CodeSystem) -> set[str]:
    near = children(system)
    return {one for one in _all_from(code, near) if not near.get(one)}


_BY_HIERARCHY: dict[str, Callable[[str, CodeSystem], Iterable[str]]] = {
    "is-a": lambda code, system: {code} | _below(code, system),
    "descendent-of": _below,
    "is-not-a": lambda code, system: system.concepts.keys() - _below(code, system) - {code},
    "generalizes": lambda code, system: {code} | _all_from(code, _turned(children(system))),
    "child-of": lambda code, system: children(system).get(code, ()),
    "descendent-leaf": _leaves,
}

Fits = Callable[[list[str]], bool]
"""Whether what a concept has as a property is so."""


def _in(value: str) -> Fits:
    wanted = {one.strip() for one in value.split(",")}
    return lambda found: not wanted.isdisjoint(found)


def _not_in(value: str) -> Fits:
    is_in = _in(value)
    return lambda found: not is_in(found)


def _matches(value: str) -> Fits:
    pattern = f"^(?:{value})$"
    if why := refusal_of_pattern(value) or refusal_of_pattern(pattern):
        raise NotKnown(f"a filter by regex: {why}")
    engine = compiled({"pattern": pattern})
    return lambda found: any(engine.is_valid(one) for one in found)


def _exists(value: str) -> Fits:
    if value not in ("true", "false"):
        raise NotKnown("a filter by exists: its value is true or false")
    return lambda found: bool(found) == (value == "true")


_BY_VALUE: dict[str, Callable[[str], Fits]] = {
    "=": lambda value: lambda found: value in found,
    "in": _in,
    "not-in": _not_in,
    "regex": _matches,
    "exists": _exists,
}
