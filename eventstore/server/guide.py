"""The ImplementationGuide of a package: what is in it, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventstore.package import File


def guide(
    name: str, version: str, canonical: str, rationale: str, files: Iterable[File], fhir_version: str
) -> dict[str, Any]:
    """An ImplementationGuide that lists the files, sorted. `rationale` is why there are such types, as markdown."""
    words = "".join(part.capitalize() for part in name.replace("-", ".").split("."))
    listed = sorted(files, key=lambda file: (file.is_example, file.name))
    return {
        "resourceType": "ImplementationGuide",
        "id": name,
        "url": f"{canonical}/ImplementationGuide/{name}",
        "version": version,
        "name": words,
        "title": name,
        "status": "draft",
        "description": rationale,
        "packageId": name,
        "fhirVersion": [fhir_version],
        "definition": {"resource": [_resource(file, fhir_version) for file in listed]},
    }


def _resource(file: File, fhir_version: str) -> dict[str, Any]:
    is_example = "isExample" if fhir_version.startswith("5.") else "exampleBoolean"
    return {"reference": {"reference": file.name}, is_example: file.is_example}
