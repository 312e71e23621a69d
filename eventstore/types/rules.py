"""Rules among the keys of an object, for the plan: choices, twins, what is required, what extensions hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eventstore.errors import Path
from eventstore.types.datatypes import RELATIVE_REFERENCE
from eventstore.types.definition import EXTENSION, Binding, Constraint, Element, choice_key
from eventstore.types.due import Constraints
from eventstore.types.scope import Asked, Coded, Extended, Rule, Ruled, Scope, Slot


def only_one(choice: str, options: list[str], *, strict: bool) -> tuple[Rule, frozenset[str]]:
    """At most one key of a choice, and the keys that it is about. `_x` stands for `x`, where rules are strict.

    For an object that has one of the keys; told for each that it has, and what is told twice counts once.
    """
    keys = {name: name for name in options}
    if strict:
        keys |= {f"_{name}": name for name in options}

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        if len(among := keys.keys() & value.keys()) == 1:
            return
        given = [key for key in value if key in among]
        first = keys[given[0]]
        for key in given[1:]:
            if keys[key] != first:
                scope.tell(f"{first} is there already: one {choice}[x] is allowed", (*path, key), "structure")

    return rule, frozenset(keys)


def one_needed(choice: str, options: list[str], keys: frozenset[str]) -> Rule:
    """One of the keys of a choice that is required."""

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        if keys.isdisjoint(value):
            scope.tell(f"is required: {' or '.join(options)}", (*path, choice), "required")

    return rule


def needed(names: tuple[str, ...]) -> Rule:
    """Primitives that are required: each is there, or its `_x`."""

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        for name in names:
            if name not in value and f"_{name}" not in value:
                scope.tell("is required", (*path, name), "required")

    return rule


def held_by_extension(element: Element) -> Rule:
    """How often an extension of the element's URL may be there, where its Reference may point, and where its codes are from."""
    url, key = element.extension_url, choice_key("value", element.type)
    points = points_to(element.refers) if element.refers else None
    bound = coded(element.binding) if element.binding is not None else None

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        held = value.get(EXTENSION)
        items = [(i, x) for i, x in enumerate(held) if _is_of(x, url)] if isinstance(held, list) else []
        if element.required and not items:
            scope.tell(f"is required: {{url: {url}, {key}: ...}}", (*path, EXTENSION), "required")
        if not element.collection:
            for index, _ in items[1:]:
                scope.tell(f"one extension of {url} is allowed", (*path, EXTENSION, index), "structure")
        for index, item in items:
            if points is not None and isinstance(target := item.get(key), dict):
                points(target, (*path, EXTENSION, index, key), scope)
            if bound is not None and key in item:
                bound(item[key], (*path, EXTENSION, index, key), scope)

    return rule


def _is_of(item: Any, url: str) -> bool:
    return isinstance(item, dict) and item.get("url") == url


_RELATIVE = re.compile(RELATIVE_REFERENCE)


def points_to(targets: tuple[str, ...]) -> Rule:
    """A relative reference, or one that has only a type, points to one of the target types."""

    def rule(value: Any, path: Path, scope: Scope) -> None:
        if type(value) is not dict:
            return
        key = "reference" if "reference" in value else "type"
        target = value.get(key)
        if not isinstance(target, str) or (name := target.partition("/")[0]) in targets:
            return
        is_other = key == "type" or _RELATIVE.fullmatch(target)
        if is_other and not any(scope.may_mean(one, name) for one in targets):
            scope.tell(f"expected a reference to {' or '.join(targets)}", (*path, key))

    return rule


def gaps(name: str) -> Rule:
    """An empty place in an array of primitives has an extension in the array's twin. For an array with such a place."""

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        twins = value.get(f"_{name}")
        for index, item in enumerate(value[name]):
            if item is None and _place(twins, index) is None:
                scope.tell(f"null, and no extension in _{name}: leave the item out", (*path, name, index))

    return rule


def _place(items: Any, index: int) -> Any:
    return items[index] if type(items) is list and index < len(items) else None


def twin(name: str) -> Rule:
    """What belongs to a primitive: of an array as long as the array; an id alone only beside a value."""
    key = f"_{name}"

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        twins, items = value[key], value.get(name)
        if type(twins) is not list:
            if items is None and _is_id(twins):
                scope.tell(_ONLY_AN_ID, (*path, key), "structure")
        elif type(items) is list and len(items) != len(twins):
            message = f"{len(twins)} items, where {name} has {len(items)}: write null for an empty place"
            scope.tell(message, (*path, key), "structure")
        else:
            for index, one in enumerate(twins):
                if _place(items, index) is None and (one is None or _is_id(one)):
                    what = f"null, and nothing in {name}: leave the item out" if one is None else _ONLY_AN_ID
                    scope.tell(what, (*path, key, index), "structure")

    return rule


_ONLY_AN_ID = "an id alone says nothing: leave it out"


def _is_id(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"id"}


def slot(type: str) -> Rule:
    """A whole resource stands here: it is checked as what it is."""

    def rule(value: Any, path: Path, scope: Scope) -> None:
        scope.waiting.append(Slot(value, path, type))

    return rule


def asks(profiles: tuple[str, ...]) -> Rule:
    """One of the profiles holds."""

    def rule(value: Any, path: Path, scope: Scope) -> None:
        scope.waiting.append(Asked(value, path, profiles))

    return rule


def coded(binding: Binding) -> Rule:
    """The code is from a value set."""

    def rule(value: Any, path: Path, scope: Scope) -> None:
        scope.waiting.append(Coded(value, path, binding))

    return rule


def ruled(constraints: tuple[Constraint, ...], name: str) -> Rule:
    """The constraints hold."""
    stated = Constraints(constraints, name)

    def rule(value: Any, path: Path, scope: Scope) -> None:
        if due := stated.due(value, scope.types.shapes):
            scope.waiting.append(Ruled(value, path, name, due))

    return rule


def extended(value: dict[str, Any], path: Path, scope: Scope) -> None:
    """An extension: its URL may have a definition. Where it has none, only one that modifies is to be looked at."""
    url = value.get("url")
    if type(url) is str:
        profile = scope.types.profile(url)
        if profile is not None or path[-2:-1] == _MODIFYING:
            scope.waiting.append(Extended(value, path, profile))


_MODIFYING = ("modifierExtension",)


def has(value: Mapping[str, Any], key: str) -> bool:
    """Whether there is a value or an extension of it."""
    return key in value or f"_{key}" in value
