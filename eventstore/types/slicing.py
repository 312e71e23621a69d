"""Slices: which of the items of a collection each is about, how many there may be, and what holds for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jsonschema_rs
import msgspec

from eventstore.errors import Path
from eventstore.types.definition import Discriminator, Element, Site, Slice, Slicing, choice_key
from eventstore.types.fragment import split
from eventstore.types.jsonschema import Schema, compiled
from eventstore.types.scope import Rule, Scope

Test = Callable[[Any, Scope], bool]
"""Whether an item is of a slice."""


class Part(msgspec.Struct, frozen=True):
    """What is stated of one item."""

    engine: jsonschema_rs.Validator | None
    look: Rule

    def check(self, value: Any, path: Path, scope: Scope) -> None:
        if self.engine is not None:
            scope.run(self.engine, value, path)
        self.look(value, path, scope)


class _Slice(msgspec.Struct, frozen=True):
    """A slice as it is run."""

    name: str
    tests: tuple[Test, ...]
    part: Part
    fewest: int
    most: int | None

    def has(self, item: Any, scope: Scope) -> bool:
        return all(test(item, scope) for test in self.tests)


def sliced(site: Site, slicing: Slicing, part: Callable[[Site], Part]) -> Rule:
    """The rule of a sliced collection, for the object that has it. `part` compiles what is stated at a site."""
    shape = tuple((element, False) for element, _ in site.said)
    slices = []
    for one in slicing.slices:
        if tests := tests_of(one, slicing.discriminators):
            inner = Site(site.name, ((one.element, True), *shape))
            slices.append(_Slice(one.element.name, tests, part(inner), one.fewest, one.most))
    is_whole = len(slices) == len(slicing.slices)
    return _rule(site.name, slices, closed=slicing.closed and is_whole)


def _rule(name: str, slices: list[_Slice], *, closed: bool) -> Rule:
    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        found = value[name]
        items = found if type(found) is list else [found]
        counts = dict.fromkeys((one.name for one in slices), 0)
        for index, item in enumerate(items):
            at = (*path, name, index) if items is found else (*path, name)
            own = next((one for one in slices if one.has(item, scope)), None)
            if own is None:
                if closed:
                    scope.tell(f"is of none of the slices {', '.join(counts)}", at, "structure")
                continue
            counts[own.name] += 1
            if own.most is not None and counts[own.name] > own.most:
                scope.tell(f"at most {own.most} of the slice {own.name}", at, "structure")
            own.part.check(item, at, scope)
        for one in slices:
            if counts[one.name] < one.fewest:
                scope.tell(f"at least {one.fewest} of the slice {one.name}", (*path, name), "required")

    return rule


def tests_of(one: Slice, discriminators: Iterable[Discriminator]) -> tuple[Test, ...]:
    """What tells that an item is of the slice; nothing where what the slice says cannot tell."""
    return tuple(test for by in discriminators for test in _tests(by, one))


def _tests(by: Discriminator, one: Slice) -> Iterator[Test]:
    """What tells it by one discriminator."""
    steps = [] if by.path == "$this" else by.path.split(".")
    match by.kind:
        case "value" | "pattern" if (schema := _says(_below(one.element, steps))) is not None:
            engine = compiled(schema)
            yield lambda item, scope: any(engine.is_valid(value) for value in _values(item, steps))
        case "exists" if (there := _exists(one.element, steps)) is not None:
            yield lambda item, scope: (next(_values(item, steps), None) is not None) is there
        case "type":
            yield from _of_type(one.element, steps)
        case "profile" if (found := _below(one.element, steps)) is not None and found.profiles:
            urls = found.profiles
            yield lambda item, scope: any(
                scope.conforms(value, url) for value in _values(item, steps) for url in urls
            )


def _below(element: Element, steps: list[str]) -> Element | None:
    found: Element | None = element
    for step in steps:
        children = found.children if found is not None else ()
        found = next((child for child in children if child.name == step), None)
    return found


def _says(element: Element | None) -> Schema | None:
    """What the element says of a value; None when it says nothing that could tell slices apart."""
    if element is None:
        return None
    _, schema = split(element.schema or {})
    if element.enum:
        schema["enum"] = list(element.enum)
    inner = {child.name: said for child in element.children if (said := _says(child)) is not None}
    if inner:
        held = {
            key: {"if": {"type": "array"}, "then": {"contains": one}, "else": one}
            for key, one in inner.items()
        }
        schema["allOf"] = [*schema.get("allOf", ()), {"properties": held, "required": list(held)}]
    return schema or None


def _values(item: Any, steps: list[str]) -> Iterator[Any]:
    """What stands at a path of an item, arrays gone through."""
    if isinstance(item, list):
        for one in item:
            yield from _values(one, steps)
    elif not steps:
        yield item
    elif isinstance(item, dict) and steps[0] in item:
        yield from _values(item[steps[0]], steps[1:])


def _exists(element: Element, steps: list[str]) -> bool | None:
    found = _below(element, steps)
    if found is None:
        return None
    return False if found.excluded else True if found.required else None


def _of_type(element: Element, steps: list[str]) -> Iterator[Test]:
    """By the key of a choice, or by the type of a resource that stands there."""
    if not steps:
        if element.type:
            yield lambda item, scope: isinstance(item, dict) and item.get("resourceType") == element.type
        return
    *above, last = steps
    parent = _below(element, above)
    children = parent.children if parent is not None else ()
    options = [child for child in children if last in (child.choice, child.name)]
    keys = {child.name for child in options if child.choice} | {
        choice_key(last, child.type) for child in options if child.type and not child.choice
    }
    types = {child.type for child in options if child.type and not child.choice}
    if keys:
        yield lambda item, scope: any(
            isinstance(one, dict)
            and (any(key in one for key in keys) or _resource_type(one.get(last)) in types)
            for one in _values(item, above)
        )


def _resource_type(value: Any) -> Any:
    return value.get("resourceType") if isinstance(value, dict) else None
