"""Bindings in the three formats: what is outside a value set, what is not known, and when that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness.definitions import Definitions, entity
from harness.formats import BINDING, MODES, element, schema, structure

from eventstore.errors import Invalid
from eventstore.types.proving import prove

URL = "http://example.org/ValueSet/colors"
SYSTEM = "http://example.org/colors"
TYPES = ("code", "Coding", "CodeableConcept", "Quantity", "string", "uri")


def colors(*codes: str, **fields: Any) -> dict[str, Any]:
    """The value set of all colors."""
    include = [{"system": SYSTEM, "concept": [{"code": code} for code in codes]}]
    return {"url": URL, "status": "active", "compose": {"include": include}, **fields}


def value(type: str, code: str) -> Any:
    """A value of a type, with that code."""
    coding = {"system": SYSTEM, "code": code}
    return {
        "Coding": coding,
        "Quantity": {**coding, "value": 1},
        "CodeableConcept": {"coding": [coding]},
    }.get(type, code)


PLACES: dict[str, tuple[Any, ...]] = {
    "Coding": ("code",),
    "Quantity": ("code",),
    "CodeableConcept": ("coding", 0, "code"),
}
"""Where the code of a value stands; of the others it is the value."""


def by_entity(definitions: Definitions, **binding: Any) -> None:
    definitions.entity("Car")
    for type in TYPES:
        definitions.attribute("Car", f"of{type}", type, isCollection=True, valueSet={"uri": URL})


def by_structure_definition(definitions: Definitions, **binding: Any) -> None:
    about = {"strength": "required", "valueSet": URL, **binding}
    elements = [element(f"Car.of{type}", 0, "*", type, binding=about) for type in TYPES]
    definitions.put("StructureDefinition", "Car", structure("Car", *elements))


def by_fhirschema(definitions: Definitions, **binding: Any) -> None:
    about = {"strength": "required", "valueSet": URL, **binding}
    elements = {f"of{type}": {"type": type, "array": True, "binding": about} for type in TYPES}
    definitions.put("FHIRSchema", "Car", schema("Car", elements))


Define = Callable[..., None]
FORMATS = [by_entity, by_structure_definition, by_fhirschema]
FHIR = FORMATS[1:]


def position(definitions: Definitions, name: str = "Car") -> int:
    found = definitions.registry.served(name)
    assert found is not None
    return found.position


@pytest.mark.parametrize("define", FORMATS)
@pytest.mark.parametrize("type", TYPES)
def test_a_code_outside_is_refused_at_its_place(define: Define, type: str) -> None:
    definitions = Definitions("5.0.0")
    define(definitions)
    definitions.put("ValueSet", "colors", colors("red", "green"))
    assert definitions.wrong("Car", {f"of{type}": [value(type, "red"), value(type, "green")]}) == {}
    (issue,) = definitions.issues(
        {"resourceType": "Car", "id": "x", f"of{type}": [value(type, "red"), value(type, "blue")]}
    )
    assert issue.path == (f"of{type}", 1, *PLACES.get(type, ()))
    assert (issue.code, issue.severity) == ("code-invalid", "error")
    assert issue.message == f"is not in the value set {URL}"


@pytest.mark.parametrize("define", FORMATS)
def test_one_that_is_not_known_is_a_warning(define: Define) -> None:
    definitions = Definitions("5.0.0")
    define(definitions)
    (issue,) = definitions.issues({"resourceType": "Car", "id": "x", "ofcode": ["blue", "pink"]})
    assert (issue.severity, issue.message) == (
        "warning",
        f"the value set {URL} is not known here: not checked",
    )


@pytest.mark.parametrize("define", FORMATS)
def test_it_counts_from_the_position_on_at_which_it_changes(define: Define) -> None:
    definitions = Definitions("5.0.0")
    define(definitions)
    definitions.entity("Other")
    blue = {"resourceType": "Car", "id": "x", "ofcode": ["blue"]}
    severities = []
    for resource, after in (
        (None, "warning"),
        (("ValueSet", "colors", colors("red")), "error"),
        (("ValueSet", "colors", colors("red", "blue")), ""),
        (("ValueSet", "colors", {**colors("red"), "compose": {"include": [{"system": SYSTEM}]}}), "warning"),
        (("CodeSystem", "s", {"url": SYSTEM, "status": "active", "content": "complete"}), "error"),
        (("CodeSystem", "s", None), "warning"),
        (("ValueSet", "colors", None), "warning"),
    ):
        if resource is not None:
            definitions.put(*resource)
            assert position(definitions) == len(definitions.events)
        severities.append("".join(issue.severity for issue in definitions.issues(blue)) == after)
    assert severities == [True] * 7
    assert position(definitions, "Other") < len(definitions.events) - 5


def test_what_changes_no_code_is_no_change_of_the_type() -> None:
    definitions = Definitions()
    by_entity(definitions)
    definitions.put("ValueSet", "colors", colors("red"))
    before = position(definitions)
    definitions.put("ValueSet", "colors", colors("red", title="All colors"))
    definitions.put("ValueSet", "sizes", {**colors("red"), "url": "http://example.org/sizes"})
    assert position(definitions) == before
    assert definitions.registry.position == before + 2


@pytest.mark.parametrize("define", FHIR)
@pytest.mark.parametrize(
    ("strength", "expected"), [("extensible", ["warning"]), ("preferred", []), ("example", [])]
)
def test_bindings_that_are_not_required(define: Define, strength: str, expected: list[str]) -> None:
    definitions = Definitions("5.0.0")
    define(definitions, strength=strength)
    blue = {"resourceType": "Car", "id": "x", "ofcode": ["blue"]}
    assert definitions.issues(blue) == []
    before = position(definitions)
    definitions.put("ValueSet", "colors", colors("red"))
    assert [issue.severity for issue in definitions.issues(blue)] == expected
    assert position(definitions) == before


@pytest.mark.parametrize("define", FHIR)
def test_a_binding_to_a_version(define: Define) -> None:
    definitions = Definitions("5.0.0")
    define(definitions, valueSet=f"{URL}|1")
    definitions.put("ValueSet", "new", colors("blue", version="2"))
    assert [
        issue.severity for issue in definitions.issues({"resourceType": "Car", "id": "x", "ofuri": ["blue"]})
    ] == ["warning"]
    definitions.put("ValueSet", "old", colors("red", version="1"))
    assert definitions.wrong("Car", {"ofuri": ["blue"]}) == {("ofuri", 0): f"is not in the value set {URL}|1"}


def test_one_of_the_codings_of_a_concept_is_enough() -> None:
    definitions = Definitions()
    by_entity(definitions)
    definitions.put("ValueSet", "colors", colors("red"))
    codings = [{"system": "http://other", "code": "red"}, {"system": SYSTEM, "code": "red"}]
    assert definitions.wrong("Car", {"ofCodeableConcept": [{"coding": codings}, {"text": "reddish"}]}) == {}
    assert definitions.wrong("Car", {"ofCodeableConcept": [{"coding": codings[:1]}]}) != {}


def test_what_is_no_code_is_for_the_schema() -> None:
    definitions = Definitions()
    by_entity(definitions)
    definitions.put("ValueSet", "colors", colors("red"))
    wrong = definitions.wrong("Car", {"ofCoding": [{"system": ["a"], "code": "red"}, {"code": {}}]})
    assert wrong.keys() == {("ofCoding", 0, "system"), ("ofCoding", 1, "code")}


def test_what_a_definition_cannot_have_checked_is_told_with_it() -> None:
    definitions = Definitions("5.0.0")
    by_structure_definition(definitions)
    _, type, id, value = definitions.events[-1]
    (issue,) = prove(definitions.registry, type, id, value)
    told = f"the value set {URL} is not known here: codes of {URL} are not checked"
    assert (issue.message, issue.severity) == (told, "warning")
    definitions.put("ValueSet", "colors", colors("red"))
    assert prove(definitions.registry, type, id, value) == []


@pytest.mark.parametrize("type", TYPES)
def test_a_value_set_that_the_definition_contains(type: str) -> None:
    definitions = Definitions("5.0.0")
    mode = element("Ward.mode", 0, "1", type, binding=BINDING)
    definitions.put("StructureDefinition", "Ward", structure("Ward", mode, contained=[MODES]))
    assert definitions.wrong("Ward", {"mode": value(type, "day")}) == {}
    assert definitions.wrong("Ward", {"mode": value(type, "noon")}).keys() == {
        ("mode", *PLACES.get(type, ()))
    }


@pytest.mark.parametrize("more", [{"exclude": [{"system": "s"}]}, {"include": [{"valueSet": ["v"]}]}])
def test_a_contained_value_set_that_does_more_than_list_is_not_known(more: dict[str, Any]) -> None:
    compose = dict(MODES["compose"])
    compose |= {key: [{**compose.get(key, [{}])[0], **one[0]}] for key, one in more.items()}
    definitions = Definitions("5.0.0")
    mode = element("Ward.mode", 0, "1", "code", binding=BINDING)
    definitions.put(
        "StructureDefinition", "Ward", structure("Ward", mode, contained=[{**MODES, "compose": compose}])
    )
    (issue,) = definitions.issues({"resourceType": "Ward", "id": "x", "mode": "day"})
    assert (issue.message, issue.severity) == (
        "the value set #modes is not known here: not checked",
        "warning",
    )


class TestAttribute:
    @pytest.mark.parametrize(
        "named",
        [{"id": "colors", "resourceType": "ValueSet"}, {"reference": "ValueSet/colors"}, {"uri": URL}],
    )
    def test_how_a_value_set_is_named(self, named: dict[str, Any]) -> None:
        definitions = Definitions()
        definitions.entity("Car")
        definitions.attribute("Car", "color", "code", valueSet=named)
        definitions.put("ValueSet", "colors", colors("red"))
        assert position(definitions) == 3
        assert ("color",) in definitions.wrong("Car", {"color": "blue"})
        assert definitions.wrong("Car", {"color": "red"}) == {}

    def test_of_a_choice_the_options_that_have_codes(self) -> None:
        definitions = Definitions()
        definitions.entity("Car")
        definitions.put("ValueSet", "colors", colors("red"))
        union = [entity("code"), entity("boolean")]
        definitions.attribute("Car", "color", union=union, valueSet={"id": "colors"})
        assert definitions.wrong("Car", {"colorBoolean": True}) == {}
        assert ("colorCode",) in definitions.wrong("Car", {"colorCode": "blue"})

    def test_in_an_extension(self) -> None:
        definitions = Definitions()
        definitions.entity("Car")
        definitions.put("ValueSet", "colors", colors("red"))
        definitions.attribute("Car", "color", "code", extensionUrl="http://x", valueSet={"id": "colors"})
        assert definitions.wrong("Car", {"extension": [{"url": "http://x", "valueCode": "red"}]}) == {}
        wrong = definitions.wrong("Car", {"extension": [{"url": "http://x", "valueCode": "blue"}]})
        assert wrong == {("extension", 0, "valueCode"): "is not in the value set ValueSet/colors"}

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"valueSet": {"id": "colors"}}, ("valueSet",)),
            ({"type": "code", "valueSet": {"resourceType": "ValueSet"}}, ("valueSet", "id")),
            ({"type": "boolean", "valueSet": {"id": "colors"}}, ("valueSet",)),
            ({"type": "code", "enum": ["a"], "valueSet": {"id": "colors"}}, ("enum",)),
            ({"type": "code", "valueSet": {"reference": "Entity/colors"}}, ("valueSet", "reference")),
            (
                {"type": "code", "valueSet": {"resourceType": "Entity", "id": "x"}},
                ("valueSet", "resourceType"),
            ),
            ({"type": "code", "valueSet": {"strength": "required"}}, ("valueSet", "strength")),
        ],
    )
    def test_what_makes_no_sense(self, fields: dict[str, Any], path: tuple[str, ...]) -> None:
        definitions = Definitions()
        definitions.entity("Car")
        with pytest.raises(Invalid) as refused:
            definitions.attribute("Car", "color", **fields)
        assert [issue.path for issue in refused.value.issues] == [path]

    def test_the_data_types_own_bindings_stay_unchecked_there(self) -> None:
        definitions = Definitions()
        definitions.entity("Car")
        definitions.attribute("Car", "price", "Money")
        assert definitions.issues({"resourceType": "Car", "id": "x", "price": {"currency": "Shells"}}) == []
