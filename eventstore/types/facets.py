"""What a FHIR element says of its value besides its type, as a JSON Schema fragment."""

from __future__ import annotations

from typing import Any

from eventstore.types.bounds import bound
from eventstore.types.definition import Bound

BOUNDS = {"minValue": "minimum", "maxValue": "maximum"}
_MIN_LENGTH = "http://hl7.org/fhir/StructureDefinition/minLength"


def facets(element: dict[str, Any], type: str) -> tuple[dict[str, Any], tuple[Bound, ...], list[str]]:
    """Of an element of a type: a fragment of fixed, pattern, bounds and lengths; bounds that are not in it; and what of
    them is not checked.
    """
    schema: dict[str, Any] = {}
    bounds, unchecked = [], []
    for key, value in element.items():
        if key.startswith("fixed"):
            schema["const"] = value
        elif key.startswith("pattern"):
            schema |= pattern(value)
        elif (name := key[: len("minValue")]) in BOUNDS:
            if isinstance(value, int | float):
                schema[BOUNDS[name]] = value
                continue
            found = bound(value, _type_in(key, name), type, greatest=name == "maxValue")
            if isinstance(found, Bound):
                bounds.append(found)
            else:
                unchecked.append(f"{key}: {found}")
    if "maxLength" in element:
        schema["maxLength"] = element["maxLength"]
    for extension in element.get("extension", []):
        if extension.get("url") == _MIN_LENGTH and "valueInteger" in extension:
            schema["minLength"] = extension["valueInteger"]
    return schema, tuple(bounds), unchecked


def _type_in(key: str, name: str) -> str:
    """`dateTime` in `minValueDateTime`."""
    suffix = key.removeprefix(name)
    return suffix if suffix == "Quantity" else suffix[:1].lower() + suffix[1:]


def pattern(value: Any) -> dict[str, Any]:
    """What is the same as the value, as far as the value goes."""
    if isinstance(value, dict):
        return {"properties": {key: pattern(one) for key, one in value.items()}, "required": list(value)}
    if isinstance(value, list):
        return {"allOf": [{"contains": pattern(one)} for one in value]}
    return {"const": value}
