"""Findings in words: the message, the place, the code and the order of each issue; and the published document."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions, document, entity
from harness.soon import soon

from eventstore.errors import NotFound
from eventstore.types.jsonschema import MAX_ISSUES, MAX_LISTED_VALUES, listed
from eventstore.types.registry import DEFINITION_TYPES


def issue_of(schema: Any, value: Any) -> list[tuple[tuple[str | int, ...], str, str]]:
    """What is said of a value at the key `a`, which has that schema."""
    definitions = Definitions()
    definitions.entity("T", isOpen=True, schema={"properties": {"a": schema}})
    found = definitions.issues({"resourceType": "T", "id": "x", "a": value})
    return [(issue.path, issue.message, issue.code) for issue in found]


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "string"}, 1, "expected type of string"),
        ({"type": ["string", "array"]}, 1, "expected type of string or array"),
        ({"enum": ["a", 1, True]}, 2, "expected one of a, 1, true"),
        ({"const": {"b": 1}}, 2, 'expected {"b":1}'),
        ({"pattern": "^x"}, "y", "does not match the pattern ^x"),
        ({"format": "date"}, "y", "expected format of date"),
        ({"minimum": 2}, 1, "must be at least 2"),
        ({"maximum": 2.5}, 3, "must be at most 2.5"),
        ({"exclusiveMinimum": 2}, 2, "must be more than 2"),
        ({"exclusiveMaximum": 2}, 2, "must be less than 2"),
        ({"multipleOf": 2}, 3, "must be a multiple of 2"),
        ({"minLength": 2}, "x", "must have at least 2 characters"),
        ({"maxLength": 2}, "xxx", "must have at most 2 characters"),
        ({"minItems": 2}, [1], "must have at least 2 items"),
        ({"maxItems": 2}, [1, 2, 3], "must have at most 2 items"),
        ({"minProperties": 2}, {"a": 1}, "must have at least 2 keys"),
        ({"maxProperties": 0}, {"a": 1}, "must have at most 0 keys"),
        ({"uniqueItems": True}, [1, 1], "must not have an item twice"),
        ({"contains": {"const": 1}}, [2], "does not contain what it has to, as often as it has to"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "fits none of the alternatives"),
        (
            {"oneOf": [{"type": "string"}, {"type": "null"}]},
            1,
            "does not fit exactly one of the alternatives",
        ),
        ({"oneOf": [{}, {}]}, 1, "does not fit exactly one of the alternatives"),
        (False, 1, "not allowed here"),
    ],
)
def test_messages_about_values(schema: Any, value: Any, message: str) -> None:
    assert issue_of(schema, value) == [(("a",), message, "value")]


@pytest.mark.parametrize(
    ("schema", "value", "path", "message", "code"),
    [
        ({"required": ["b"]}, {}, ("a", "b"), "is required", "required"),
        ({"dependentRequired": {"c": ["b"]}}, {"c": 1}, ("a", "b"), "is required", "required"),
        (
            {"properties": {"c": {}}, "additionalProperties": False},
            {"b": 1},
            ("a", "b"),
            "extra property",
            "structure",
        ),
        ({"not": {"type": "string"}}, "x", ("a",), "not allowed", "structure"),
        ({"not": {"$comment": "use b"}}, "x", ("a",), "use b", "structure"),
        (
            {"propertyNames": {"maxLength": 1}},
            {"bb": 1},
            ("a",),
            "a key is not allowed here: must have at most 1 characters",
            "structure",
        ),
    ],
)
def test_messages_about_keys(schema: Any, value: Any, path: Any, message: str, code: str) -> None:
    assert issue_of(schema, value) == [(path, message, code)]


def test_a_long_list_is_cut() -> None:
    values = [str(index) for index in range(MAX_LISTED_VALUES + 2)]
    assert listed(values) == ", ".join(values[:MAX_LISTED_VALUES]) + ", 2 more"
    assert listed(values[:2]) == "0, 1"


def test_issues_stand_as_the_body_does() -> None:
    definitions = Definitions()
    definitions.entity("T")
    for path, type in (("a", "string"), ("b.c", "date"), ("b.d", "string"), ("e", "Coding")):
        definitions.attribute("T", path, type)
    definitions.attribute("T", "z", "string", isRequired=True)
    body = {
        "e": {"code": 1, "x": 1},
        "more": 1,
        "b": {"d": 1, "c": "2021-02-29"},
        "a": 1,
    }
    assert list(definitions.wrong("T", body)) == [
        ("e", "code"),
        ("e", "x"),
        ("more",),
        ("b", "d"),
        ("b", "c"),
        ("a",),
        ("z",),
    ]


def test_array_indices_are_integers_and_in_order() -> None:
    definitions = Definitions()
    definitions.entity("T")
    definitions.attribute("T", "a.b", "string", isCollection=True)
    body = {"a": {"b": ["x", *([1] * 12)]}}
    assert list(definitions.wrong("T", body)) == [("a", "b", index) for index in range(1, 13)]


def test_a_body_that_is_no_object() -> None:
    definitions = Definitions()
    definitions.entity("T", isOpen=True)
    compiled = definitions.registry.served("T")
    assert compiled is not None
    values: list[Any] = [[], "x", 5, True]
    for value in values:
        assert [issue.message for issue in definitions.registry.check(compiled, document(value))] == [
            "expected type of object"
        ]
    assert definitions.registry.check(compiled, document(None)) != []


def test_many_issues_are_cut() -> None:
    definitions = Definitions()
    definitions.entity("T")
    assert len(definitions.wrong("T", {f"k{index}": 1 for index in range(1_000)})) == MAX_ISSUES


def test_of_a_large_body_the_first_finding_is_soon_there() -> None:
    definitions = Definitions()
    definitions.entity("T")
    definitions.attribute("T", "many", "string", isCollection=True, enum=["x"])
    definitions.attribute("T", "days", "date", isCollection=True)
    body = document(
        {"resourceType": "T", "id": "1", "days": ["2021-02-29"] * 9, "many": ["x", None, *([1] * 200_000)]}
    )
    compiled = definitions.registry.served("T")
    assert compiled is not None
    with soon(2):
        issues = definitions.registry.check(compiled, body)
    assert [issue.path for issue in issues] == [*(("days", index) for index in range(9)), ("many", 2)]


def test_where_schemas_overlap_a_body_is_large_sooner() -> None:
    definitions = Definitions()
    many = [{"const": str(number)} for number in range(400)]
    definitions.entity("T", schema={"properties": {"a": {"items": {"anyOf": many}}}})
    with soon(1):
        assert len(definitions.wrong("T", {"a": ["x"] * 5})) == 5
        assert len(definitions.wrong("T", {"a": ["x"] * 2000})) == 1


class TestDocument:
    def test_it_has_all_types_and_data_types(self) -> None:
        definitions = Definitions("5.0.0")
        definitions.entity("acme.Device")
        definitions.put("Entity", "Part", {"type": "type"})
        definitions.put("Entity", "Root", {"type": "abstract"})
        there = definitions.registry.schema_at(["definitions"])
        assert {
            "acme.Device",
            "Part",
            "Root",
            "Entity",
            "Attribute",
            "string",
            "integer64",
            "Extension",
        } <= set(there)
        assert "*" not in there
        assert definitions.registry.schema_at(["definitions", "acme.Device", "type"]) == "object"

    def test_a_part_that_is_not_there(self) -> None:
        registry = Definitions().registry
        with pytest.raises(
            NotFound, match="there is no definition here: there are \\$schema, allOf, definitions"
        ):
            registry.schema_at(["definition"])
        with pytest.raises(NotFound, match="there is no Nope here: there are Address, Age, Annotation"):
            registry.schema_at(["definitions", "Nope"])
        with pytest.raises(NotFound, match="nothing inside"):
            registry.schema_at(["definitions", "string", "type", "x"])

    def test_complex_types_are_referred_to_and_primitives_stand_where_they_are_used(self) -> None:
        definitions = Definitions()
        definitions.entity("T")
        definitions.attribute("T", "a", "Coding", isCollection=True)
        definitions.attribute("T", "b", "positiveInt")
        definitions.attribute("T", "v", union=["Quantity", "string"])
        properties = definitions.registry.schema_at(["definitions", "T", "properties"])
        assert properties["a"] == {"type": "array", "items": {"$ref": "#/definitions/Coding"}}
        assert properties["b"] == {"type": "integer", "maximum": 2147483647, "minimum": 1}
        assert properties["vQuantity"] == {"$ref": "#/definitions/Quantity"}
        assert properties["vString"] == {"type": "string"}
        assert properties["v"] == {"not": {"$comment": "use vQuantity or vString"}}

    def test_definitions_are_described_too(self) -> None:
        definitions = Definitions()
        stock = definitions.registry.schema_at([])
        assert stock["properties"]["resourceType"]["enum"] == sorted({*DEFINITION_TYPES, "Basic"})
        attribute = {"resourceType": "Attribute", "resource": entity("T"), "path": ["a"]}
        assert definitions.issues(attribute) == []
