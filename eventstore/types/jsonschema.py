"""The engine that gives the verdict by JSON Schema 2020-12, and its findings in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from eventstore.errors import Issue, NotFound, Path
from eventstore.types.datatypes import meaning_of
from eventstore.types.fragment import PATTERNS

DIALECT = "https://json-schema.org/draft/2020-12/schema"

MAX_ISSUES = 200
"""Of one resource: whoever has more begins with these."""
MAX_LISTED_VALUES = 30
"""In one message: the rest of a long list is counted."""

Schema = dict[str, Any]


def compiled(schema: Schema, schemas: Mapping[str, Schema] | None = None) -> jsonschema_rs.Validator:
    """The engine for a schema; `schemas` are those it points at. Raises ValueError when it cannot be built."""
    root = {"$schema": DIALECT, **schema, "definitions": dict(schemas or {})}
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


def part(document: Schema, path: Iterable[str]) -> Any:
    """What stands in a document at a path. Raises NotFound, naming what there is."""
    node: Any = document
    for key in path:
        if not isinstance(node, dict):
            raise NotFound(f"there is no {key} here: there is nothing inside")
        if key not in node:
            raise NotFound(f"there is no {key} here: there are {listed(sorted(node))}")
        node = node[key]
    return node


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
                    self._ranks[id(value)] = dict(zip(value, range(len(value)), strict=True))
                place.append(self._ranks[id(value)].get(str(step), len(value)))
                value = value.get(step)
            else:
                place.append(step if isinstance(step, int) else 0)
                value = value[step] if isinstance(value, list) and isinstance(step, int) else None
        return tuple(place)
