"""JSON Schema fragments in definitions: what is refused before an engine sees it, and what merging means."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions
from harness.soon import soon

from eventstore.errors import Invalid
from eventstore.types.compiled import MAX_DEFINITION_BYTES, MAX_ELEMENTS, MAX_PATTERNS
from eventstore.types.fragment import (
    MAX_FRAGMENT_DEPTH_LEVELS,
    MAX_PATTERN_CHARACTERS,
    merge,
    refusal_of_pattern,
)


def refusal(schema: Any) -> dict[tuple[str | int, ...], str]:
    definitions = Definitions()
    with pytest.raises(Invalid) as refused:
        definitions.entity("T", isOpen=True, schema=schema)
    assert definitions.registry.served("T") is None
    return {issue.path: issue.message for issue in refused.value.issues}


def nested(levels: int, innermost: Any) -> Any:
    for _ in range(levels):
        innermost = {"not": innermost}
    return innermost


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"$ref": "#/definitions/Meta"}, ("$ref",)),
        (
            {"properties": {"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}},
            ("properties", "a", "$ref"),
        ),
        ({"$dynamicRef": "#x"}, ("$dynamicRef",)),
        ({"$id": "http://x"}, ("$id",)),
        ({"$anchor": "x"}, ("$anchor",)),
        ({"$dynamicAnchor": "x"}, ("$dynamicAnchor",)),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, ("$schema",)),
        ({"$vocabulary": {}}, ("$vocabulary",)),
        ({"$defs": {"a": {}}}, ("$defs",)),
        ({"definitions": {"a": {}}}, ("definitions",)),
        ({"allOf": [{}, {"$ref": "#"}]}, ("allOf", 1, "$ref")),
        ({"dependentSchemas": {"a": {"$ref": "#"}}}, ("dependentSchemas", "a", "$ref")),
        ({"unevaluatedProperties": False}, ("unevaluatedProperties",)),
        ({"constant": 5}, ("constant",)),
        ({"requird": ["a"]}, ("requird",)),
        ({"type": "strin"}, ("type",)),
        ({"minLength": -1}, ("minLength",)),
        ({"required": "a"}, ("required",)),
        ({"properties": {"a": 5}}, ("properties", "a")),
        ({"properties": []}, ("properties",)),
        ({"allOf": {}}, ("allOf",)),
        ({"items": [{}]}, ("items",)),
        ({"format": "regex"}, ("format",)),
        ({"format": []}, ("format",)),
        ({"pattern": 5}, ("pattern",)),
        ({"pattern": "(?=a)"}, ("pattern",)),
        ({"patternProperties": {"(a)\\1": {}}}, ("patternProperties", "(a)\\1")),
        ({"type": "array"}, ("schema",)),
    ],
)
def test_refused_with_the_place(schema: Any, path: tuple[str | int, ...]) -> None:
    expected = path if path == ("schema",) else ("schema", *path)
    assert list(refusal(schema)) == [expected]


def test_refused_with_a_reason() -> None:
    assert refusal({"$ref": "#"}) == {
        (
            "schema",
            "$ref",
        ): "$ref is not allowed: a fragment cannot point elsewhere: use the type of an Attribute"
    }
    assert refusal({"minLength": -1}) == {
        ("schema", "minLength"): "not JSON Schema: -1 is less than the minimum of 0"
    }


def test_depth() -> None:
    Definitions().entity("T", schema=nested(MAX_FRAGMENT_DEPTH_LEVELS - 1, {}))
    assert list(refusal(nested(MAX_FRAGMENT_DEPTH_LEVELS, {}))) == [
        ("schema", *["not"] * MAX_FRAGMENT_DEPTH_LEVELS)
    ]


def test_elements_and_bytes_and_patterns_are_bounded() -> None:
    with soon(5):
        assert "elements" in refusal({"allOf": [{} for _ in range(MAX_ELEMENTS)]})[()]
        assert "bytes of schema" in refusal({"const": "x" * MAX_DEFINITION_BYTES})[()]
        patterns = [{"pattern": f"^{index}$"} for index in range(MAX_PATTERNS + 1)]
        assert "patterns" in refusal({"anyOf": patterns})[()]


@pytest.mark.parametrize(
    "pattern",
    ["^[a-z]+$", "\\p{L}+", "\\d{4}-\\d{2}", "^(?:a|b)?$", "(?<year>\\d+)", "[\\[\\]]", "[+*]", "\\u0041", "a{2,3}?", "^\\S*$", "x|", "\\x41\\.", "[a-z&]", "é+"],
)  # fmt: skip
def test_patterns_that_are_taken(pattern: str) -> None:
    assert refusal_of_pattern(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?=a)", "look-ahead"),
        ("(?!a)", "look-ahead"),
        ("(?<=a)b", "look-behind"),
        ("(?<!a)b", "look-behind"),
        ("(a)\\1", "back-references"),
        ("(?<n>a)\\k<n>", "back-references"),
        ("(?i)a", "not ECMA"),
        ("(?P<n>a)", "not ECMA"),
        ("(?>a)", "not ECMA"),
        ("a++", "not ECMA"),
        ("a{2}+", "not ECMA"),
        ("\\Aa\\z", "not ECMA"),
        ("\\Qa\\E", "not ECMA"),
        ("[[:alpha:]]", "different things"),
        ("[a&&b]", "different things"),
        ("[a--b]", "different things"),
        ("[]", "empty"),
        ("[^]", "empty"),
        ("[", "linear time"),
        ("(", "linear time"),
        ("*", "linear time"),
        ("\\", "linear time"),
        ("x{2,1}", "linear time"),
        ("(a{1000}){1000}", "linear time"),
        ("((\\p{L}{100}){100}){100}", "linear time"),
        ("a" * (MAX_PATTERN_CHARACTERS + 1), "characters"),
    ],
)
def test_patterns_that_are_refused(pattern: str, why: str) -> None:
    assert why in refusal_of_pattern(pattern)


def test_patterns_take_linear_time() -> None:
    definitions = Definitions()
    definitions.entity("T")
    definitions.attribute("T", "a", "string", schema={"pattern": "^(a+)+$"})
    with soon(1):
        assert definitions.wrong("T", {"a": "a" * 100_000 + "!"}) == {
            ("a",): "does not match the pattern ^(a+)+$"
        }


def test_patterns_are_ecma_with_ascii_classes() -> None:
    definitions = Definitions()
    definitions.entity("T")
    definitions.attribute("T", "a", "string", schema={"pattern": "^\\d+$"})
    definitions.attribute("T", "b", "string", schema={"pattern": "^[a-z]+$"})
    assert list(definitions.wrong("T", {"a": "\u0661", "b": "abc\n"})) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"not": {}}, [], [{}]),
        ({"const": 5}, [], [{}]),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}, {"a": 1, "b": 1}], [{}]),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}], [{}, {"a": 1, "b": 1}]),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, [{}, {"a": 1, "b": 1}], [{"a": 1}]),
        ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1, "b": 1}], [{"a": 1}]),
        ({"propertyNames": {"maxLength": 12}}, [{"a": 1}], [{"a" * 13: 1}]),
        ({"patternProperties": {"^x": {"type": "integer"}}}, [{"x": 1, "y": "z"}], [{"x": "1"}]),
        ({"additionalProperties": False}, [{"_a": 1}], [{"a": 1}]),
        ({"properties": {"a": {"format": "email"}}}, [{"a": "x@y.org"}], [{"a": "x"}]),
        ({"properties": {"a": {"prefixItems": [{"type": "string"}]}}}, [{"a": ["x", 1]}], [{"a": [1]}]),
        ({"properties": {"a": {"contains": {"const": 1}}}}, [{"a": [1, 2]}], [{"a": [2]}]),
        ({"properties": {"a": {"multipleOf": 0.01}}}, [{"a": 19.99}], [{"a": 19.995}]),
        ({"properties": {"a": False}}, [{}], [{"a": 1}]),
        ({"minProperties": 4}, [{"a": 1, "b": 2}], [{"a": 1}]),
        ({"allOf": [{"required": ["a"]}], "title": "t", "default": {}}, [{"a": 1}], [{}]),
    ],
)
def test_they_hold(schema: Any, good: list[Any], bad: list[Any]) -> None:
    definitions = Definitions()
    definitions.entity("T", isOpen=True, schema=schema)
    for body in good:
        assert definitions.wrong("T", body) == {}
    for body in bad:
        assert definitions.wrong("T", body) != {}


class TestMerge:
    def merged(self, schema: dict[str, Any], fragment: dict[str, Any]) -> dict[str, Any]:
        merge(schema, fragment)
        return schema

    def test_keywords_that_are_new_stand_beside(self) -> None:
        assert self.merged({"type": "string"}, {"pattern": "a"}) == {"type": "string", "pattern": "a"}

    def test_keywords_that_are_there_hold_too(self) -> None:
        both = self.merged({"pattern": "a"}, {"pattern": "b", "minLength": 1})
        assert both == {"pattern": "a", "allOf": [{"pattern": "b", "minLength": 1}]}

    def test_an_all_of_is_added_to(self) -> None:
        both = self.merged({"allOf": [{"minLength": 1}]}, {"allOf": [{"maxLength": 2}]})
        assert both == {"allOf": [{"minLength": 1}, {"allOf": [{"maxLength": 2}]}]}

    def test_the_same_type_said_twice_is_said_once(self) -> None:
        assert self.merged({"type": "object"}, {"type": "object"}) == {"type": "object"}

    def test_keys_become_known_and_their_schemas_are_merged(self) -> None:
        schema = {"properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
        assert self.merged(
            schema, {"properties": {"a": {"minLength": 1}, "b": True}, "required": ["b", "a"]}
        ) == {
            "properties": {"a": {"type": "string", "minLength": 1}, "b": True},
            "required": ["a", "b"],
            "additionalProperties": False,
        }

    def test_a_narrower_type_holds(self) -> None:
        assert self.merged({"type": "string"}, {"type": ["string", "null"]}) == {"type": "string"}
        assert self.merged({"type": "number"}, {"type": "integer"}) == {
            "type": "number",
            "allOf": [{"type": "integer"}],
        }

    def test_another_type_is_a_contradiction(self) -> None:
        with pytest.raises(
            Invalid, match="the schema says type integer or null where the definition says string"
        ):
            self.merged({"type": "string"}, {"type": ["integer", "null"]})

    def test_a_closed_object_is_not_opened(self) -> None:
        with pytest.raises(Invalid, match="additionalProperties"):
            self.merged({"additionalProperties": False}, {"additionalProperties": {}})

    def test_keywords_about_positions_are_kept_together(self) -> None:
        assert self.merged({"type": "array"}, {"prefixItems": [{}], "items": False}) == {
            "type": "array",
            "allOf": [{"prefixItems": [{}], "items": False}],
        }


def test_a_fragment_that_contradicts_an_attribute_is_refused_on_either_side() -> None:
    definitions = Definitions()
    definitions.entity("T")
    definitions.attribute("T", "a", "string")
    with pytest.raises(Invalid, match="the schema says type object where the definition says string"):
        definitions.entity("T", schema={"properties": {"a": {"type": "object"}}})
    definitions.entity("T", schema={"properties": {"b": {"type": "object"}}})
    with pytest.raises(Invalid, match="the schema says type object where the definition says string"):
        definitions.attribute("T", "b", "string")
    with pytest.raises(Invalid, match="the schema says type array where the definition says string"):
        definitions.attribute("T", "c", "string", isCollection=True, schema={"type": "array"})


def test_publishing_does_not_change_what_was_defined() -> None:
    definitions = Definitions()
    fragment = {"properties": {"x": {"allOf": [{"type": "string"}]}}}
    definitions.entity("T", isOpen=True, schema={"properties": {"a": {"properties": {"x": {"allOf": [{}]}}}}})
    definitions.attribute("T", "a", isOpen=True, schema=fragment)
    compiled = definitions.registry.served("T")
    assert compiled is not None
    assert compiled.schema["properties"]["a"]["properties"]["x"] == {
        "allOf": [{"type": "string"}, {"allOf": [{}]}]
    }
    assert fragment == {"properties": {"x": {"allOf": [{"type": "string"}]}}}
    assert compiled.definition.elements[-1].schema == fragment
