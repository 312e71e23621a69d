"""One type in three formats: an enum, a collection, a nested object, a choice, a reference and a closed node."""

from __future__ import annotations

from typing import Any

from harness.definitions import Definitions, entity

URL = "http://example.org/Ward"


def by_entity() -> Definitions:
    definitions = Definitions("5.0.0")
    definitions.entity("Ward")
    definitions.attribute("Ward", "mode", "code", enum=["day", "night"], isRequired=True)
    definitions.attribute("Ward", "beds", "positiveInt", isCollection=True)
    definitions.attribute("Ward", "desk.phone", "string", isRequired=True)
    definitions.attribute("Ward", "desk.open", "date")
    definitions.put(
        "Attribute",
        "Ward.load",
        {"resource": entity("Ward"), "path": ["load"], "union": [entity("Quantity"), entity("string")]},
    )
    definitions.attribute("Ward", "head", refers=["Practitioner"])
    definitions.attribute("Ward", "rooms", isCollection=True)
    definitions.attribute("Ward", "rooms.name", "string")
    return definitions


MODES = {
    "resourceType": "ValueSet",
    "id": "modes",
    "status": "active",
    "compose": {
        "include": [{"system": "http://example.org/modes", "concept": [{"code": "day"}, {"code": "night"}]}]
    },
}
BINDING = {"strength": "required", "valueSet": "#modes"}


def element(path: str, min: int = 0, max: str = "1", *types: Any, **fields: Any) -> dict[str, Any]:
    """An ElementDefinition; a type is a code, or its fields."""
    kinds = [{"code": one} if isinstance(one, str) else one for one in types]
    value = {"id": path, "path": path, "min": min, "max": max, **fields}
    return {**value, "type": kinds} if kinds else value


def structure(type: str, *elements: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A StructureDefinition of a type."""
    return {
        "url": f"http://example.org/{type}",
        "name": type,
        "status": "active",
        "kind": "logical",
        "abstract": False,
        "type": type,
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Base",
        "derivation": "specialization",
        "differential": {"element": [element(type, 0, "*"), *elements]},
        **fields,
    }


def by_structure_definition() -> Definitions:
    definitions = Definitions("5.0.0")
    head = {"code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Practitioner"]}
    definitions.put(
        "StructureDefinition",
        "Ward",
        structure(
            "Ward",
            element("Ward.mode", 1, "1", "code", binding=BINDING),
            element("Ward.beds", 0, "*", "positiveInt"),
            element("Ward.desk", 0, "1", "Base"),
            element("Ward.desk.phone", 1, "1", "string"),
            element("Ward.desk.open", 0, "1", "date"),
            element("Ward.load[x]", 0, "1", "Quantity", "string"),
            element("Ward.head", 0, "1", head),
            element("Ward.rooms", 0, "*", "Base"),
            element("Ward.rooms.name", 0, "1", "string"),
            contained=[MODES],
        ),
    )
    return definitions


def schema(name: str, elements: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A FHIRSchema of a type."""
    return {
        "url": f"http://example.org/{name}",
        "name": name,
        "type": name,
        "kind": "logical",
        "derivation": "specialization",
        "elements": elements,
        **fields,
    }


def by_fhirschema() -> Definitions:
    definitions = Definitions("5.0.0")
    definitions.put(
        "FHIRSchema",
        "Ward",
        schema(
            "Ward",
            {
                "mode": {"type": "code", "scalar": True, "binding": BINDING},
                "beds": {"type": "positiveInt", "array": True},
                "desk": {
                    "scalar": True,
                    "required": ["phone"],
                    "elements": {
                        "phone": {"type": "string", "scalar": True},
                        "open": {"type": "date", "scalar": True},
                    },
                },
                "load": {"choices": ["loadQuantity", "loadString"]},
                "loadQuantity": {"type": "Quantity", "scalar": True, "choiceOf": "load"},
                "loadString": {"type": "string", "scalar": True, "choiceOf": "load"},
                "head": {"refers": ["Practitioner"], "scalar": True},
                "rooms": {"array": True, "elements": {"name": {"type": "string", "scalar": True}}},
            },
            required=["mode"],
            contained=[MODES],
        ),
    )
    return definitions
