"""The JSON Schema fragments that a definition may carry: what is allowed in them, and how they are merged in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError

from eventstore.errors import Invalid, Issue, Path

MAX_PATTERN_CHARACTERS = 1_000
MAX_PATTERN_BYTES = 2 * 1024 * 1024
"""Of memory, for one compiled pattern: `^[a-z]{1,255}$` needs 64 KiB, `^.{1,1000}$` 1 MiB."""
MAX_QUOTED_CHARACTERS = 200
"""Of what an engine says about a schema."""
MAX_FRAGMENT_DEPTH_LEVELS = 32
"""Schemas inside one another: every engine that reads a schema recurses over it."""

PATTERNS = jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES)
"""The engine whose time grows with the text and not with the pattern; it has no look-around or back-references."""

FORMATS = frozenset({
    "date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid",
})  # fmt: skip

_NAMED = ("properties", "patternProperties", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = ("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else")
_OTHER = """
type enum const multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern
maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required dependentRequired format
title description default examples deprecated readOnly writeOnly $comment
"""
_KEYWORDS = frozenset((*_NAMED, *_LISTED, *_SINGLE, *_OTHER.split()))

_WHY_NOT = {
    "$ref": "a fragment cannot point elsewhere: use the type of an Attribute",
    "$dynamicRef": "a fragment cannot point elsewhere: use the type of an Attribute",
    "$defs": "a fragment cannot hold definitions: write the schema where it is used",
    "definitions": "a fragment cannot hold definitions: write the schema where it is used",
    "unevaluatedProperties": "say it with isOpen",
    "unevaluatedItems": "say it with items",
}

_TOGETHER = ("allOf", "anyOf", "oneOf", "patternProperties", "dependentSchemas")
"""Keywords with several schemas for one value."""

_OF_ARRAYS = frozenset({
    "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "items", "prefixItems",
})  # fmt: skip

_POSITIONAL = frozenset({"prefixItems", "if", "then", "else"})
"""Keywords that change what their neighbours mean: they are never mixed with others'."""


def vet(fragment: dict[str, Any], path: Path) -> None:
    """Raise Invalid with everything in the fragment that is not allowed."""
    if issues := list(_refusals(fragment, path, MAX_FRAGMENT_DEPTH_LEVELS)):
        raise Invalid(issues)
    try:
        Draft202012Validator.check_schema(fragment, format_checker=FormatChecker(()))
    except SchemaError as error:
        message = f"not JSON Schema: {error.message[:MAX_QUOTED_CHARACTERS]}"
        raise Invalid(message, path=(*path, *error.absolute_path)) from None


def _refusals(schema: Any, path: Path, levels: int) -> Iterator[Issue]:
    """What stands in the way of giving the schema to an engine at all."""
    if not isinstance(schema, dict):
        return
    if not levels:
        yield Issue(
            f"a schema may be {MAX_FRAGMENT_DEPTH_LEVELS} levels deep, and no deeper", path, "too-long"
        )
        return
    for keyword in schema.keys() - _KEYWORDS:
        why = _WHY_NOT.get(keyword, "it is not a keyword that is checked here")
        yield Issue(f"{keyword} is not allowed: {why}", (*path, keyword), "value")
    if isinstance(named := schema.get("format"), str) and named not in FORMATS:
        yield Issue(f"expected one of {', '.join(sorted(FORMATS))}", (*path, "format"), "value")
    for where, pattern in _patterns(schema):
        if why := refusal_of_pattern(pattern):
            yield Issue(why, (*path, *where), "value")
    for where, inner in subschemas(schema):
        yield from _refusals(inner, (*path, *where), levels - 1)


def subschemas(schema: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The schemas directly in a schema, and where."""
    for keyword in schema.keys() & set(_SINGLE):
        yield (keyword,), schema[keyword]
    for keyword in _LISTED:
        if isinstance(inner := schema.get(keyword), list):
            yield from (((keyword, index), one) for index, one in enumerate(inner))
    for keyword in _NAMED:
        if isinstance(inner := schema.get(keyword), dict):
            yield from (((keyword, name), one) for name, one in inner.items())


def _patterns(schema: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    if isinstance(pattern := schema.get("pattern"), str):
        yield ("pattern",), pattern
    if isinstance(named := schema.get("patternProperties"), dict):
        yield from ((("patternProperties", pattern), pattern) for pattern in named)


def count(schema: Any) -> tuple[int, set[str]]:
    """How many schemas are in a schema, itself one of them, and which patterns."""
    if not isinstance(schema, dict):
        return 1, set()
    schemas, patterns = 1, {pattern for _, pattern in _patterns(schema)}
    for _, inner in subschemas(schema):
        more, others = count(inner)
        schemas += more
        patterns |= others
    return schemas, patterns


def overlap(schema: Any) -> int:
    """How many of the schemas in a schema may speak of one value at once."""
    found = 0
    for where, inner in subschemas(schema) if isinstance(schema, dict) else ():
        found += count(inner)[0] if where[0] in _TOGETHER else overlap(inner)
    return found


_PART = re.compile(r"\\[pPu]\{[^}]*\}|\\.|\(\?<?.?|\[\^?\]?|[*+?}]\+|&&|--|~~|.", re.DOTALL)
_ESCAPES = frozenset("dDwWsSbBtnvfr0cxupP")


def refusal_of_pattern(pattern: str) -> str:
    """Why a pattern is not taken; nothing when it is. Taken is what ECMA and the linear engine read alike."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        return f"a pattern may have {MAX_PATTERN_CHARACTERS} characters, and no more"
    inside_class = False
    for part in _PART.findall(pattern):
        if why := _refusal_of_part(part, inside_class):
            return why
        if part[0] in "[]":
            inside_class = part[0] == "["
    try:
        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=PATTERNS)
    except ValueError:
        return "not a pattern that can be matched in linear time and bounded memory: check it, or make it smaller"
    return ""


def _refusal_of_part(part: str, inside_class: bool) -> str:
    if part[0] == "\\":
        return _refusal_of_escape(part[1:2])
    if inside_class:
        odd = part in ("&&", "--", "~~") or part[0] == "["
        return f"{part} means different things inside [...]: write a backslash before it" if odd else ""
    if part[0] == "[" and part[-1] == "]":
        return "an empty [] is not allowed"
    if part[:2] == "(?":
        return _refusal_of_group(part)
    if len(part) == 2 and part[1] == "+" and part[0] in "*+?}":
        return f"{part} is not ECMA: remove the last +"
    return ""


def _refusal_of_escape(character: str) -> str:
    if character and character in "123456789k":
        return "back-references are not allowed: patterns are matched in linear time"
    if character.isalpha() and character not in _ESCAPES:
        return f"\\{character} is not ECMA"
    return ""


def _refusal_of_group(part: str) -> str:
    if part in ("(?=", "(?!", "(?<=", "(?<!"):
        return "look-ahead and look-behind are not allowed: patterns are matched in linear time"
    if part == "(?:" or part.startswith("(?<"):
        return ""
    return f"{part} is not ECMA: a group is (...), (?:...) or (?<name>...)"


def split(fragment: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A fragment for a collection, parted: what is about the array, and what is about each item."""
    of_array = {keyword: value for keyword, value in fragment.items() if keyword in _OF_ARRAYS}
    return of_array, {keyword: value for keyword, value in fragment.items() if keyword not in _OF_ARRAYS}


def merge(schema: dict[str, Any], fragment: dict[str, Any]) -> None:
    """Make the schema ask for what the fragment asks too; keys that the fragment names become known.

    Takes parts of the fragment into the schema. Raises Invalid when nothing could satisfy both.
    """
    rest = dict(fragment)
    for keyword in ("properties", "patternProperties"):
        for key, inner in rest.pop(keyword, {}).items():
            _merge_key(schema.setdefault(keyword, {}), key, inner)
    if required := rest.pop("required", None):
        schema["required"] = list(dict.fromkeys([*schema.get("required", ()), *required]))
    _check_openness(schema, rest)
    _check_type(schema, rest)
    if rest.keys() & schema.keys() or rest.keys() & _POSITIONAL:
        schema["allOf"] = [*schema.get("allOf", ()), rest]
    else:
        schema.update(rest)


def _merge_key(known: dict[str, Any], key: str, inner: Any) -> None:
    if isinstance(known.get(key), dict) and isinstance(inner, dict):
        merge(known[key], inner)
    else:
        known[key] = inner


def _check_openness(schema: dict[str, Any], rest: dict[str, Any]) -> None:
    if "additionalProperties" in rest and schema.get("additionalProperties", True) is not True:
        why = "additionalProperties is said where the object is closed: say isOpen: true, or leave it out"
        raise Invalid(why, path=("schema",))


def _check_type(schema: dict[str, Any], rest: dict[str, Any]) -> None:
    """Drop a type that the schema has said more narrowly."""
    ours, theirs = schema.get("type"), rest.get("type", [])
    if not isinstance(ours, str) or not theirs:
        return
    allowed = [theirs] if isinstance(theirs, str) else theirs
    if ours in allowed:
        del rest["type"]
    elif ours != "number" or "integer" not in allowed:
        why = f"the schema says type {' or '.join(allowed)} where the definition says {ours}"
        raise Invalid(why, path=("schema",))
