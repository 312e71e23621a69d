"""An Entity dumped as FHIRSchema gives the same verdict; what that cannot say is refused, key by key."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions

from eventstore.errors import Invalid
from eventstore.types.dump import fhir_schema, structure_definition

URL = "http://example.org/FHIRSchema/Pump"


def dumped(definitions: Definitions) -> dict[str, Any]:
    return fhir_schema(definitions.registry.types["Pump"].definition, URL)


def again(definitions: Definitions, written: Any = fhir_schema) -> Definitions:
    """The same type by its dump."""
    value = written(definitions.registry.types["Pump"].definition, URL)
    found = Definitions()
    about = {key: one for key, one in value.items() if key not in ("resourceType", "id")}
    found.put(value["resourceType"], "Pump", about)
    return found


def pump(is_open: bool = True, **fields: Any) -> Definitions:
    definitions = Definitions()
    definitions.entity("Pump", **fields)
    definitions.attribute("Pump", "serial", "string", isRequired=True)
    definitions.attribute("Pump", "alarms", "code", isCollection=True, enum=["air", "it's"])
    definitions.attribute("Pump", "place.ward", "string", isRequired=True)
    definitions.attribute("Pump", "beds", isCollection=True, isOpen=is_open)
    definitions.attribute("Pump", "beds.n", "integer")
    definitions.attribute("Pump", "value", union=["Quantity", "string"])
    definitions.attribute("Pump", "patient", refers=["Patient"])
    return definitions


GOOD: dict[str, Any] = {
    "serial": "A-7", "alarms": ["air", "it's"], "place": {"ward": "ICU"}, "beds": [{"n": 1, "more": True}],
    "valueQuantity": {"value": 5}, "patient": {"reference": "Patient/p"},
}  # fmt: skip


CHANGES: list[dict[str, Any]] = [
        {}, {"serial": None}, {"alarms": ["fire"]}, {"alarms": "air"}, {"place": {}}, {"place": {"ward": "x", "y": 1}},
        {"beds": [{"n": "x"}]}, {"valueString": "too"}, {"patient": {"reference": "Device/d"}}, {"extra": 1},
        {"serial": ["A-7"]},
    ]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("fields", [{}, {"isOpen": True}])
def test_the_verdict_is_the_same(change: dict[str, Any], fields: dict[str, Any]) -> None:
    body = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    entity = pump(**fields)

    assert bool(places(entity, body)) == bool(places(again(entity), body))
    assert places(pump(), body) if change else not places(pump(), body)


def places(definitions: Definitions, body: dict[str, Any]) -> set[tuple[str | int, ...]]:
    """Where something is wrong with a pump."""
    issues = definitions.issues({"resourceType": "Pump", "id": "p", **body})
    return {issue.path for issue in issues if issue.severity != "warning"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_structure_definition_gives_it_too(change: dict[str, Any]) -> None:
    body = {key: value for key, value in {**GOOD, "beds": [{"n": 1}], **change}.items() if value is not None}
    entity = pump(is_open=False)
    assert (
        bool(places(entity, body)) == bool(places(again(entity, structure_definition), body)) == bool(change)
    )


def test_a_structure_definition_cannot_say_open() -> None:
    with pytest.raises(Invalid) as refused:
        again(pump(isOpen=True), structure_definition)
    assert [(issue.path, issue.message) for issue in refused.value.issues] == [
        (("isOpen",), "a StructureDefinition cannot say isOpen: dump it as a FHIRSchema"),
        (("beds",), "a StructureDefinition cannot say isOpen: dump it as a FHIRSchema"),
    ]


def test_what_it_looks_like() -> None:
    definitions = Definitions()
    definitions.entity("Pump")
    definitions.attribute("Pump", "serial", "string", isRequired=True)
    assert dumped(definitions) == {
        "resourceType": "FHIRSchema",
        "id": "Pump",
        "url": URL,
        "name": "Pump",
        "type": "Pump",
        "kind": "resource",
        "derivation": "specialization",
        "base": "DomainResource",
        "elements": {"serial": {"type": "string", "scalar": True}},
        "required": ["serial"],
    }


def test_every_key_that_cannot_be_said_is_listed() -> None:
    definitions = Definitions()
    definitions.entity("Pump", schema={"minProperties": 1}, idGeneration="sequence")
    definitions.attribute("Pump", "a.b", "string", schema={"maxLength": 3}, isUnique=True)
    definitions.attribute("Pump", "c", "code", extensionUrl="http://example.org/c")
    with pytest.raises(Invalid) as refused:
        dumped(definitions)
    assert [(issue.path, issue.message) for issue in refused.value.issues] == [
        (("schema",), "a FHIRSchema cannot say schema: write its rules as constraints"),
        (("idGeneration",), "a FHIRSchema cannot say idGeneration: ids of a sequence are for Entities"),
        (("a", "b"), "a FHIRSchema cannot say schema: write its rules as constraints"),
        (("a", "b"), "a FHIRSchema cannot say isUnique: it is for Attributes"),
        (("c",), "a FHIRSchema cannot say extensionUrl: define the extension by a profile of Extension"),
    ]
