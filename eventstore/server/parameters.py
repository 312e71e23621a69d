"""What operations are given in a body: FHIR's Parameters, by name."""

from __future__ import annotations

from typing import Any


def given(value: Any) -> list[tuple[str, Any]] | None:
    """Each parameter's name, and its value or resource; None for what is no Parameters. What has no name is left out."""
    if not isinstance(value, dict) or value.get("resourceType") != "Parameters":
        return None
    held = value.get("parameter")
    return [
        (
            one["name"],
            next((item for key, item in one.items() if key == "resource" or key.startswith("value")), None),
        )
        for one in (held if isinstance(held, list) else ())
        if isinstance(one, dict) and isinstance(one.get("name"), str)
    ]
