"""What a FHIR element says of its value besides its type, as a JSON Schema fragment."""

from __future__ import annotations

from typing import Any

BOUNDS = {"minValue": "minimum", "maxValue": "maximum"}
_MIN_LENGTH = "http://hl7.org/fhir/StructureDefinition/minLength"


def facets(element: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A fragment of fixed, pattern, bounds and lengths; and what of them is not checked."""
    schema: dict[str, Any] = {}
    unchecked = []
    for key, value in element.items():
        if key.startswith("fixed"):
            schema["const"] = value
        elif key.startswith("pattern"):
            schema |= pattern(value)
        elif bound := BOUNDS.get(key[: len("minValue")]):
            if isinstance(value, int | float):
                schema[bound] = value
            else:
                unchecked.append(key)
    if "maxLength" in element:
        schema["maxLength"] = element["maxLength"]
    for extension in element.get("extension", []):
        if extension.get("url") == _MIN_LENGTH and "valueInteger" in extension:
            schema["minLength"] = extension["valueInteger"]
    return schema, unchecked


def pattern(value: Any) -> dict[str, Any]:
    """What is the same as the value, as far as the value goes."""
    if isinstance(value, dict):
        return {"properties": {key: pattern(one) for key, one in value.items()}, "required": list(value)}
    if isinstance(value, list):
        return {"allOf": [{"contains": pattern(one)} for one in value]}
    return {"const": value}
