"""JSON Schema 2020-12: types as they are published, the engine that gives the verdict, and its findings in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from eventstore.errors import Issue, Path
from eventstore.types.datatypes import datatypes, meaning_of
from eventstore.types.definition import EXTENSION, Element, Library, TypeDefinition, choice_key
from eventstore.types.fragment import PATTERNS, merge, split

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NEVER_REFUSED = "^(_.*|fhir_.*)"
"""Keys that are let in everywhere."""

MAX_ISSUES = 200
"""Of one resource: whoever has more begins with these."""
MAX_LISTED_VALUES = 30
"""In one message: the rest of a long list is counted."""

Schema = dict[str, Any]


def publish(definition: TypeDefinition, library: Library) -> Schema:
    """The schema of a type. Raises Invalid when a fragment contradicts the rest of the definition."""
    if definition.kind == "primitive":
        return dict(definition.schema or {})
    schema = _object(definition.elements, definition.open, library, filled=definition.kind == "resource")
    if definition.schema:
        merge(schema, deepcopy(definition.schema))
    return schema


def _object(elements: tuple[Element, ...], is_open: bool, library: Library, filled: bool = False) -> Schema:
    properties = {e.name: _value(e, library) for e in elements if not e.extension_url}
    schema: Schema = {"type": "object"}
    if filled:
        schema["minProperties"] = 1
    schema |= {"patternProperties": {NEVER_REFUSED: {}}, "properties": properties}
    for key, remedy in _misplaced(elements):
        properties.setdefault(key, {"not": {"$comment": remedy}})
    if held := [element for element in elements if element.extension_url]:
        properties[EXTENSION]["items"]["allOf"] = [_extension_rule(element, library) for element in held]
    if required := [e.name for e in elements if e.required and not e.choice and not e.extension_url]:
        schema["required"] = required
    if not is_open:
        schema["additionalProperties"] = False
    return schema


def _misplaced(elements: tuple[Element, ...]) -> Iterator[tuple[str, str]]:
    """Keys that people use where another is right, and which."""
    for choice in dict.fromkeys(element.choice for element in elements if element.choice):
        yield choice, f"use {listed([e.name for e in elements if e.choice == choice], ' or ')}"
    for element in elements:
        if element.extension_url:
            key = choice_key("value", element.type)
            yield element.name, f"use {EXTENSION}: [{{url: {element.extension_url}, {key}: ...}}]"


def _value(element: Element, library: Library) -> Schema:
    fragment = deepcopy(element.schema or {})
    of_array, of_items = split(fragment) if element.collection else ({}, fragment)
    one = _single(element, library)
    merge(one, of_items)
    if not element.collection:
        return one
    if element.type and "type" in (library[element.type].schema or {}):
        _let_gaps_in(one)
    array: Schema = {"type": "array", "items": one}
    if element.required:
        array["minItems"] = 1
    merge(array, of_array)
    return array


def _single(element: Element, library: Library) -> Schema:
    if not element.type:
        return _object(element.children, element.open, library)
    used = library[element.type]
    schema: Schema = {"$ref": f"#/definitions/{used.name}"}
    if used.kind == "primitive":
        schema = dict(used.schema or {})
    if element.enum:
        schema["enum"] = list(element.enum)
    return schema


def _let_gaps_in(primitive: Schema) -> None:
    """An item of an array of primitives may be null: the place of an extension in the array's twin."""
    primitive["type"] = [primitive["type"], "null"]
    if "enum" in primitive:
        primitive["enum"] = [*primitive["enum"], None]


def _extension_rule(element: Element, library: Library) -> Schema:
    """An extension of this URL holds a value of the element's type."""
    key = choice_key("value", element.type)
    value = _value(msgspec.structs.replace(element, collection=False), library)
    url = {"properties": {"url": {"const": element.extension_url}}, "required": ["url"]}
    return {"if": url, "then": {"properties": {key: value}, "required": [key]}}


@cache
def published_datatypes(version: str) -> Mapping[str, Schema]:
    """The schemas of the built-in data types."""
    library = datatypes(version)
    return {name: publish(definition, library) for name, definition in library.items()}


def whole(schemas: Mapping[str, Schema], resources: Iterable[str]) -> Schema:
    """One document of all types, which tells by `resourceType` which of the resources an instance has to be."""
    names = list(resources)
    rules = [
        {"if": {"properties": {"resourceType": {"const": name}}}, "then": {"$ref": f"#/definitions/{name}"}}
        for name in names
    ]
    known = {"resourceType": {"type": "string", "enum": names}}
    head = {"$schema": DIALECT, "type": "object", "required": ["resourceType"], "properties": known}
    return {**head, "allOf": rules, "definitions": dict(schemas)}


def compiled(name: str, schemas: Mapping[str, Schema]) -> jsonschema_rs.Validator:
    """The engine for one type; `schemas` are those it reaches. Raises ValueError when it cannot be built."""
    root = {"$schema": DIALECT, "$ref": f"#/definitions/{name}", "definitions": dict(schemas)}
    return jsonschema_rs.Draft202012Validator(root, pattern_options=PATTERNS, validate_formats=True)


def reached(schemas: Mapping[str, Schema], name: str, path: Path) -> Schema:
    """The schema that stands at a path of a type; {} in its open parts."""
    schema = schemas[name]
    for step in path:
        schema = (
            schema.get("items", {}) if isinstance(step, int) else schema.get("properties", {}).get(step, {})
        )
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return schema


class Found(msgspec.Struct, frozen=True):
    """An issue, and its place among those of one path: type, enum, the rest."""

    issue: Issue
    rank: int = 2


def findings(validator: jsonschema_rs.Validator, value: Any) -> Iterator[Found]:
    """Everything that the engine finds wrong, in words."""
    for error in validator.iter_errors(value):
        yield from _in_words(error, ())


def first_finding(validator: jsonschema_rs.Validator, value: Any) -> Iterator[Found]:
    """What the engine finds first, in words: it stops there, however much there is to find."""
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        yield from _in_words(error, ())


def _in_words(error: jsonschema_rs.ValidationError, above: Path) -> Iterator[Found]:
    kind: Any = error.kind
    path = (*above, *error.instance_path)
    match kind.name:
        case "type":
            types = [type for type in kind.types if type != "null"]
            yield Found(Issue(f"expected type of {' or '.join(types)}", path, "value"), 0)
        case "enum":
            options = [option for option in kind.options if option is not None]
            yield Found(Issue(f"expected one of {listed(options)}", path, "value"), 1)
        case "additionalProperties":
            yield from (Found(Issue("extra property", (*path, key), "structure")) for key in kind.unexpected)
        case "required":
            yield Found(Issue("is required", (*path, kind.property), "required"))
        case "not":
            yield Found(Issue(_remedy(kind.schema), path, "structure"))
        case "propertyNames":
            yield Found(Issue(f"a key is not allowed here: {_message(kind.error)}", path, "structure"))
        case _:
            yield Found(Issue(_message(error), path, "value"))


def _remedy(refused: Any) -> str:
    return str(refused.get("$comment", "not allowed")) if isinstance(refused, dict) else "not allowed"


_MESSAGES: dict[str, Callable[[Any], str]] = {
    "const": lambda kind: f"expected {_shown(kind.expected_value)}",
    "pattern": lambda kind: meaning_of(kind.pattern) or f"does not match the pattern {kind.pattern}",
    "format": lambda kind: f"expected format of {kind.format}",
    "minimum": lambda kind: f"must be at least {kind.limit}",
    "maximum": lambda kind: f"must be at most {kind.limit}",
    "exclusiveMinimum": lambda kind: f"must be more than {kind.limit}",
    "exclusiveMaximum": lambda kind: f"must be less than {kind.limit}",
    "multipleOf": lambda kind: f"must be a multiple of {kind.multiple_of}",
    "minLength": lambda kind: f"must have at least {kind.limit} characters",
    "maxLength": lambda kind: f"must have at most {kind.limit} characters",
    "minItems": lambda kind: f"must have at least {kind.limit} items",
    "maxItems": lambda kind: f"must have at most {kind.limit} items",
    "minProperties": lambda kind: f"must have at least {kind.limit} keys",
    "maxProperties": lambda kind: f"must have at most {kind.limit} keys",
    "uniqueItems": lambda kind: "must not have an item twice",
    "contains": lambda kind: "does not contain what it has to, as often as it has to",
    "anyOf": lambda kind: "fits none of the alternatives",
    "oneOf": lambda kind: "does not fit exactly one of the alternatives",
    "falseSchema": lambda kind: "not allowed here",
}


def _message(error: jsonschema_rs.ValidationError) -> str:
    translated = _MESSAGES.get(error.kind.name)
    return translated(error.kind) if translated else "does not fit the schema"


def listed(values: list[Any], separator: str = ", ") -> str:
    """The values as people read them, a long list cut short."""
    shown = separator.join(_shown(value) for value in values[:MAX_LISTED_VALUES])
    return (
        shown
        if len(values) <= MAX_LISTED_VALUES
        else f"{shown}{separator}{len(values) - MAX_LISTED_VALUES} more"
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def arranged(found: Iterable[Found], value: Any) -> list[Issue]:
    """The issues by their place in the body; of one path type before enum before the rest."""
    places = _Places()
    some = list(islice(dict.fromkeys(found), MAX_ISSUES))
    return [one.issue for one in sorted(some, key=lambda one: (places.of(one.issue.path, value), one.rank))]


class _Places:
    """Paths as the positions of their keys in the body; a key that is not there comes after those that are."""

    def __init__(self) -> None:
        self._ranks: dict[int, dict[str, int]] = {}

    def of(self, path: Path, value: Any) -> tuple[int, ...]:
        place = []
        for step in path:
            if isinstance(value, dict):
                if id(value) not in self._ranks:
                    self._ranks[id(value)] = {key: rank for rank, key in enumerate(value)}
                place.append(self._ranks[id(value)].get(str(step), len(value)))
                value = value.get(step)
            else:
                place.append(step if isinstance(step, int) else 0)
                value = value[step] if isinstance(value, list) and isinstance(step, int) else None
        return tuple(place)
