"""FHIRSchema: what its elements say, profiles, what only it can say, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions
from harness.formats import schema

from eventstore.errors import Invalid
from eventstore.types.fhirschema import EXTENDED, MAX_ELEMENTS_READ, MAX_LEVELS

Wrong = dict[tuple[str | int, ...], str]


class Schemas(Definitions):
    """Definitions by FHIRSchema."""

    def type(self, name: str, elements: dict[str, Any], **fields: Any) -> None:
        self.put("FHIRSchema", name, schema(name, elements, **fields))

    def wrong(self, type: str, body: dict[str, Any]) -> Wrong:
        found = self.issues({"resourceType": type, "id": "x", **body})
        return {one.path: one.message for one in found if one.severity == "error"}


TEXT = {"type": "string", "scalar": True}


def test_without_a_base_nothing_is_inherited() -> None:
    types = Schemas()
    types.type("A", {"x": TEXT})
    assert types.wrong("A", {"x": "y", "meta": {"tag": [{"code": "c"}]}, "_x": {"id": "i"}}) == {}
    assert types.wrong("A", {"x": "y", "text": {}, "extension": []}) == {
        ("text",): "extra property",
        ("extension",): "extra property",
    }


@pytest.mark.parametrize("base", ["DomainResource", "http://hl7.org/fhir/StructureDefinition/DomainResource"])
def test_with_a_base(base: str) -> None:
    types = Schemas()
    types.type("A", {"x": TEXT}, base=base, kind="resource")
    text = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}
    assert types.wrong("A", {"x": "y", "text": text, "language": "en"}) == {}
    assert types.wrong("A", {"text": {"status": "made"}}) == {
        ("text", "status"): "expected one of generated, extensions, additional, empty",
        ("text", "div"): "is required",
    }


def test_shapes() -> None:
    types = Schemas()
    types.type(
        "A",
        {
            "one": TEXT,
            "many": {"type": "string", "array": True, "min": 2, "max": 3},
            "any": {"type": "string"},
        },
    )
    assert types.wrong("A", {"one": "x", "many": ["a", "b"], "any": "x"}) == {}
    assert types.wrong("A", {"any": ["x"]}) == {}
    assert types.wrong("A", {"one": ["x"], "many": "a", "any": []}) == {
        ("one",): "expected type of string",
        ("many",): "expected type of array",
        ("any",): "must have at least 1 items",
    }
    assert list(types.wrong("A", {"many": ["a"], "any": [1]})) == [("many",), ("any", 0)]


def test_required_and_excluded() -> None:
    types = Schemas()
    value = {"choices": ["valueString", "valueCode"]}
    options = {
        f"value{name}": {"type": name.lower(), "choiceOf": "value", "scalar": True}
        for name in ("String", "Code")
    }
    types.type(
        "A",
        {
            "part": {
                "elements": {"a": TEXT, "b": TEXT},
                "required": ["a"],
                "excluded": ["b"],
                "scalar": True,
            },
            "value": value,
            **options,
        },
        required=["value"],
    )
    assert types.wrong("A", {"part": {"a": "x"}, "valueCode": "y"}) == {}
    assert types.wrong("A", {"part": {"b": "x"}, "valueCode": "y", "valueString": "z"}) == {
        ("part", "b"): "not allowed here",
        ("part", "a"): "is required",
        ("valueString",): "valueCode is there already: one value[x] is allowed",
    }
    assert list(types.wrong("A", {"value": "x"})) == [("value",)]


def test_references_patterns_and_recursion() -> None:
    types = Schemas()
    types.type(
        "A",
        {
            "who": {"refers": ["Patient", "http://hl7.org/fhir/StructureDefinition/Group"], "scalar": True},
            "kind": {"type": "CodeableConcept", "scalar": True, "pattern": {"coding": [{"code": "x"}]}},
            "fixed": {"type": "code", "scalar": True, "fixed": "y"},
            "item": {"array": True, "elements": {"text": TEXT, "item": {"array": True, "elementReference": ["http://example.org/A", "elements", "item"]}}},
        },
    )  # fmt: skip
    nested = [{"text": "a", "item": [{"text": "b", "item": [{"text": "c"}]}]}]
    good = {
        "who": {"reference": "Group/1"},
        "kind": {"coding": [{"code": "x"}]},
        "fixed": "y",
        "item": nested,
    }
    assert types.wrong("A", good) == {}
    bad = {
        "who": {"reference": "Device/1"},
        "kind": {"text": "x"},
        "fixed": "z",
        "item": [{"item": [{"more": 1}]}],
    }
    assert list(types.wrong("A", bad)) == [
        ("who", "reference"), ("kind", "coding"), ("fixed",), ("item", 0, "item", 0, "more"),
    ]  # fmt: skip


def test_slices() -> None:
    types = Schemas()
    types.type("A", {"name": {"type": "HumanName", "array": True}})
    slices = {
        "old": {
            "match": {"type": "pattern", "value": {"use": "old"}},
            "min": 1,
            "max": 1,
            "schema": {"required": ["family"]},
        }
    }
    profile = {"name": {"slicing": {"rules": "closed", "slices": slices}}}
    types.put(
        "FHIRSchema",
        "p",
        {
            **schema("A", profile),
            "url": "http://p",
            "derivation": "constraint",
            "base": "http://example.org/A",
        },
    )
    asked = {"meta": {"profile": ["http://p"]}}
    assert types.wrong("A", {**asked, "name": [{"use": "old", "family": "x"}]}) == {}
    assert types.wrong("A", {**asked, "name": [{"use": "usual"}, {"use": "old"}]}) == {
        ("name", 0): "is of none of the slices old",
        ("name", 1, "family"): "is required",
    }


def test_a_slice_that_is_needed_needs_its_array() -> None:
    types = Schemas()
    slices = {"home": {"match": {"value": {"use": "home"}}, "min": 1}}
    types.type("A", {"name": {"array": True, "type": "HumanName", "slicing": {"slices": slices}}})
    assert types.wrong("A", {}) == {("name",): "is required"}
    assert types.wrong("A", {"name": [{"use": "old"}]}) == {("name",): "at least 1 of the slice home"}


@pytest.mark.parametrize(("severity", "is_error"), [("error", True), ("warning", False), ("eror", True)])
def test_a_constraint_refuses_unless_it_is_a_warning(severity: str, is_error: bool) -> None:
    types = Schemas()
    types.type("A", {"x": TEXT}, constraints={"a-1": {"expression": "x = 'y'", "severity": severity}})
    assert bool(types.wrong("A", {"x": "z"})) is is_error


class TestExtended:
    """`any` and `additionalProperties`, which no StructureDefinition can say."""

    def test_any(self) -> None:
        types = Schemas()
        types.type("A", {"free": {"any": True}}, **{EXTENDED: True})
        for value in ("x", [1, [2]], {"a": {"b": True}}):
            assert types.wrong("A", {"free": value}) == {}
        types.type("B", {"x": TEXT}, any=True, **{EXTENDED: True})
        assert types.wrong("B", {"x": "y", "more": 1}) == {}
        assert list(types.wrong("B", {"x": 1})) == [("x",)]

    def test_additional_properties(self) -> None:
        types = Schemas()
        types.type(
            "A",
            {"map": {"scalar": True, "additionalProperties": {"type": "integer", "scalar": True}}},
            **{EXTENDED: True},
        )
        assert types.wrong("A", {"map": {"a": 1, "b": 2}}) == {}
        assert types.wrong("A", {"map": {"a": "x"}}) == {("map", "a"): "expected type of integer"}

    def test_a_type_of_what_stands_at_other_keys(self) -> None:
        """It is a part of the type like any other: its changes count."""
        types = Schemas()
        types.type("Part", {"x": TEXT}, kind="complex-type")
        types.type("A", {}, additionalProperties={"type": "Part", "scalar": True}, **{EXTENDED: True})
        assert types.wrong("A", {"k": {"x": "y"}}) == {}
        types.type("Part", {"z": TEXT}, kind="complex-type")
        assert types.wrong("A", {"k": {"x": "y"}}) == {("k", "x"): "extra property"}

    @pytest.mark.parametrize("more", [{"any": True}, {"additionalProperties": {"type": "string"}}])
    def test_they_are_asked_for(self, more: dict[str, Any]) -> None:
        with pytest.raises(Invalid, match=f"is for definitions that say {EXTENDED}: true"):
            Schemas().type("A", {"x": more})


@pytest.mark.parametrize(
    ("elements", "path", "why"),
    [
        ({"x": {}}, ("elements", "x"), "needs a type, elements or any: true"),
        ({"x": 5}, ("elements", "x"), "expected type of object"),
        ({"x": {"type": 5}}, ("elements", "x", "type"), "expected type of string"),
        ({"": TEXT}, ("elements", ""), "the name of an element is letters, digits, - and _"),
        ({"_x": TEXT}, ("elements", "_x"), "the name of an element is letters, digits, - and _"),
        ({'x"; --': TEXT}, ("elements", 'x"; --'), "the name of an element is letters, digits, - and _"),
        ({"x" * 65: TEXT}, ("elements", "x" * 65), "the name of an element may have 64 characters"),
        ({"x": {"type": "string", "arry": True}}, ("elements", "x", "arry"), "extra property"),
        (
            {"x": {"type": "Coding", "array": True, "slicing": {"slics": {}}}},
            ("elements", "x", "slicing", "slics"),
            "extra property",
        ),
        (
            {"x": {"type": "Coding", "array": True, "slicing": {"slices": {"a": {"match": {"value": {}}, "mn": 1}}}}},
            ("elements", "x", "slicing", "slices", "a", "mn"),
            "extra property",
        ),
        ({"x": {"type": "Strin"}}, ("elements", "x", "type"), "Strin is no type"),
        ({"x": {"type": "string", "array": True, "scalar": True}}, ("elements", "x", "scalar"), "array and scalar exclude one another"),
        ({"x": {"type": "string", "min": 1}}, ("elements", "x", "min"), "min and max are for an array"),
        ({"x": {"type": "string", "array": True, "min": -1}}, ("elements", "x", "min"), "must be at least 0"),
        ({"x": {"type": "string", "scalar": True, "maxLength": -1}}, ("elements", "x", "maxLength"), "must be at least 0"),
        ({"x": {"type": "string", "array": True, "min": 2, "max": 1}}, ("elements", "x", "min"), "min is more than max"),
        ({"x": {"elements": {"y": {"refers": 5}}}}, ("elements", "x", "elements", "y", "refers"), "expected type of array"),
        ({"x": {"elementReference": ["A", "elements", "y"]}}, (), "there is no element A:y"),
        ({"x": {"type": "code", "binding": {"strength": "required"}}}, ("elements", "x", "binding"), "needs a valueSet"),
        ({"x": {"type": "code", "constraints": {"a-1": {}}}}, ("elements", "x", "constraints", "a-1"), "needs an expression"),
        ({"x": {"type": "string", "slicing": {"slices": {"s": {}}}}}, ("elements", "x", "slicing", "slices", "s"), "needs a match"),
    ],
)  # fmt: skip
def test_refused_with_a_reason(elements: dict[str, Any], path: tuple[Any, ...], why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        Schemas().type("A", elements)
    assert refused.value.issues[0].path == path


def test_definition_bombs() -> None:
    with pytest.raises(Invalid, match="a definition may have 3000 elements"):
        Schemas().type("A", {f"x{index}": TEXT for index in range(MAX_ELEMENTS_READ + 1)})
    deep: dict[str, Any] = TEXT
    for _ in range(MAX_LEVELS + 1):
        deep = {"elements": {"x": deep}}
    with pytest.raises(Invalid, match="elements may be 32 levels deep"):
        Schemas().type("A", {"x": deep})
    with pytest.raises(Invalid, match=r"A would have \d+ bytes of schema"):
        Schemas().type("A", {"x": {"type": "code", "scalar": True, "fixed": "x" * 300_000}})
