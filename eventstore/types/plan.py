"""What JSON Schema cannot state, by path: checks that run only where that path occurs."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterator
from functools import cache
from string import ascii_letters, digits
from typing import Any

import msgspec

from eventstore.body import Document
from eventstore.errors import Issue, Path
from eventstore.types.datatypes import ID, RELATIVE_REFERENCE, datatypes, meaning_of
from eventstore.types.definition import EXTENSION, REFERENCE, Element, Library, TypeDefinition, choice_key

Check = Callable[[Any], str]
"""What is wrong with a value, or nothing. A value of the wrong JSON type is for the schema to find."""

Rule = Callable[[dict[str, Any], Path], Iterator[Issue]]
"""What is wrong among the keys of an object."""

MAX_INTEGER64 = 2**63 - 1
_FEWEST_DAYS = "28"


class Node(msgspec.Struct):
    """What to do with the keys of an object."""

    steps: dict[str, Step]
    rules: list[Rule]
    is_reference: bool = False


class Step(msgspec.Struct, frozen=True):
    """What to do with the value of a key, or with each of its items."""

    check: Check | None = None
    node: Node | None = None


def run(node: Node, value: dict[str, Any], path: Path, issues: list[Issue]) -> None:
    """Append what is wrong with the object."""
    for rule in node.rules:
        issues.extend(rule(value, path))
    steps = node.steps
    for key, item in value.items():
        step = steps.get(key)
        if step is None:
            continue
        if type(item) is list:
            for index, one in enumerate(item):
                _take(step, one, (*path, key, index), issues)
        else:
            _take(step, item, (*path, key), issues)


def _take(step: Step, item: Any, path: Path, issues: list[Issue]) -> None:
    if step.check is not None and (wrong := step.check(item)):
        issues.append(Issue(wrong, path, "value"))
    if step.node is not None and type(item) is dict:
        run(step.node, item, path, issues)


def plan(definition: TypeDefinition, library: Library, nodes: dict[str, Node]) -> Node:
    """The plan of a type. `nodes` are those of types seen before, and more are added to it."""
    if definition.name in nodes:
        return nodes[definition.name]
    node = nodes[definition.name] = Node({}, [], definition.name == REFERENCE)
    _fill(node, definition.elements, library, nodes)
    if definition.kind == "resource":
        node.steps["id"] = Step(_check_id)
    return node


@cache
def datatype_plans(version: str) -> dict[str, Node]:
    """The plans of the built-in data types."""
    nodes: dict[str, Node] = {}
    library = datatypes(version)
    for definition in library.values():
        if definition.kind == "type":
            plan(definition, library, nodes)
    return nodes


def _fill(node: Node, elements: tuple[Element, ...], library: Library, nodes: dict[str, Node]) -> None:
    for element in elements:
        if not element.extension_url:
            step = _step(element, library, nodes)
            if step.check is not None or step.node is not None:
                node.steps[element.name] = step
    for choice in dict.fromkeys(element.choice for element in elements if element.choice):
        node.rules.append(_only_one(choice, [element for element in elements if element.choice == choice]))
    node.rules.extend(_held_by_extension(element) for element in elements if element.extension_url)


def _step(element: Element, library: Library, nodes: dict[str, Node]) -> Step:
    if not element.type:
        node = Node({}, [])
        _fill(node, element.children, library, nodes)
        return Step(node=node if node.steps or node.rules else None)
    used = library[element.type]
    if used.kind == "primitive":
        return Step(CHECKS.get(used.name))
    node = plan(used, library, nodes)
    if element.refers:
        node = Node(node.steps, [*node.rules, _points_to(element.refers)], node.is_reference)
    return Step(node=node)


def _only_one(choice: str, options: list[Element]) -> Rule:
    """At most one key of a choice; one at least where it is required."""
    keys = frozenset(element.name for element in options)
    required = any(element.required for element in options)

    def rule(value: dict[str, Any], path: Path) -> Iterator[Issue]:
        given = [key for key in value if key in keys]
        for key in given[1:]:
            yield Issue(f"{given[0]} is there already: one {choice}[x] is allowed", (*path, key), "structure")
        if required and not given:
            yield Issue("is required: " + " or ".join(e.name for e in options), (*path, choice), "required")

    return rule


def _held_by_extension(element: Element) -> Rule:
    """How often an extension of the element's URL may be there, and where its Reference may point."""
    url, key = element.extension_url, choice_key("value", element.type)
    points_to = _points_to(element.refers) if element.refers else None

    def rule(value: dict[str, Any], path: Path) -> Iterator[Issue]:
        held = value.get(EXTENSION)
        items = [(i, x) for i, x in enumerate(held) if _is_of(x, url)] if isinstance(held, list) else []
        if element.required and not items:
            yield Issue(f"is required: {{url: {url}, {key}: ...}}", (*path, EXTENSION), "required")
        if not element.collection:
            for index, _ in items[1:]:
                yield Issue(f"one extension of {url} is allowed", (*path, EXTENSION, index), "structure")
        for index, item in items:
            if points_to is not None and isinstance(target := item.get(key), dict):
                yield from points_to(target, (*path, EXTENSION, index, key))

    return rule


def _is_of(item: Any, url: str) -> bool:
    return isinstance(item, dict) and item.get("url") == url


_RELATIVE = re.compile(RELATIVE_REFERENCE)


def _points_to(targets: tuple[str, ...]) -> Rule:
    """A relative reference, or one that has only a type, points to one of the target types."""

    def rule(value: dict[str, Any], path: Path) -> Iterator[Issue]:
        key = "reference" if "reference" in value else "type"
        target = value.get(key)
        if not isinstance(target, str) or (key == "reference" and not _RELATIVE.fullmatch(target)):
            return
        if target.partition("/")[0] not in targets:
            yield Issue(f"expected a reference to {' or '.join(targets)}", (*path, key), "value")

    return rule


def _check_id(value: Any) -> str:
    return meaning_of(ID) if isinstance(value, str) and not _ID.match(value) else ""


_ID = re.compile(ID.replace("$", r"\Z"))


def _check_day(value: Any) -> str:
    """The pattern lets in 31 days a month."""
    if not isinstance(value, str) or not _FEWEST_DAYS < value[8:10] <= "31":
        return ""
    try:
        days = monthrange(int(value[:4]), int(value[5:7]))[1]
    except ValueError:
        return ""
    return f"{value[:7]} has {days} days" if int(value[8:10]) > days else ""


_BASE64 = (ascii_letters + digits + "+/").encode()
_WHITE_SPACE = b" \t\r\n"


def _check_base64(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    text = value.encode().translate(None, _WHITE_SPACE)
    rest = text.translate(None, _BASE64)
    is_whole = len(text) % 4 == 0 and rest in (b"", b"=", b"==") and text.endswith(rest)
    return "" if is_whole else "expected base64"


def _check_integer(value: Any) -> str:
    return "expected an integer without a decimal point or an exponent" if isinstance(value, float) else ""


def _check_integer64(value: Any) -> str:
    if not isinstance(value, str) or not _INTEGER64.fullmatch(value):
        return ""
    return "" if -MAX_INTEGER64 - 1 <= int(value) <= MAX_INTEGER64 else "must be from -2^63 to 2^63-1"


_INTEGER64 = re.compile(r"[-+]?[0-9]{1,19}")


CHECKS: dict[str, Check] = {
    "base64Binary": _check_base64,
    "date": _check_day,
    "dateTime": _check_day,
    "instant": _check_day,
    "integer": _check_integer,
    "integer64": _check_integer64,
    "positiveInt": _check_integer,
    "unsignedInt": _check_integer,
}
"""What there is to check in a primitive that its schema has let in."""


def nulls(document: Document) -> Iterator[Issue]:
    """The nulls that are not the empty places in an array of primitives, or of their twins."""
    has_places: dict[Path, bool] = {}
    for path in document.nulls:
        if not path or isinstance(path[-1], str):
            yield Issue("null is not a value: leave the key out", path, "value")
            continue
        array = path[:-1]
        if array not in has_places:
            has_places[array] = _has_places(document.value, array)
        if not has_places[array]:
            yield Issue("null is not a value: leave the item out", path, "value")


def _has_places(value: Any, array: Path) -> bool:
    """Whether an array may have empty places."""
    if array and isinstance(array[-1], str) and array[-1].startswith("_"):
        return True
    for step in array:
        value = value[step]
    return not any(isinstance(item, dict | list) for item in value)


def wide_integers(document: Document, standing: Callable[[Path], dict[str, Any]]) -> Iterator[Issue]:
    """The integers that readers would change, where no decimal stands by the schema there."""
    for path in document.wide_integers:
        if "number" not in standing(path).get("type", ()):
            yield Issue("an integer beyond 2^53 is changed by many readers: send a string", path, "value")


def normalise(node: Node, value: dict[str, Any]) -> bool:
    """Rewrite, in place, `{resourceType, id}` to `{reference}` wherever there is a Reference; whether any was."""
    changed = False
    steps = node.steps
    for key, item in value.items():
        step = steps.get(key)
        if step is None or step.node is None:
            continue
        for one in item if type(item) is list else (item,):
            if type(one) is dict:
                changed |= step.node.is_reference and _shorten(one)
                changed |= normalise(step.node, one)
    return changed


def _shorten(reference: dict[str, Any]) -> bool:
    type, id = reference.get("resourceType"), reference.get("id")
    if "reference" in reference or not isinstance(type, str) or not isinstance(id, str):
        return False
    others = {key: value for key, value in reference.items() if key not in ("resourceType", "id")}
    reference.clear()
    reference["reference"] = f"{type}/{id}"
    reference.update(others)
    return True
