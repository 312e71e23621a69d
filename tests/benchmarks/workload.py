"""What is stored and asked: bodies of about 600 bytes of a type with seven described elements, and the plans.

Beside it the Patient of R5 with all of its constraints, and HL7's own example of one, from the packages of HL7.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uuid_utils import uuid7

from benchmarks.load import FIRST_NUMBER

TYPE = "Bench"
THEMES = ("dark", "white")
NOTES = "a setting of some length, so that a body has about six hundred bytes as in the documented runs "
RESOURCES = 100_000
OLD = 100
"""Resources with VERSIONS versions each, for histories."""
VERSIONS = 21
PAGE = 20
PACKAGES = Path(".r5")
"""Where `make conformance` puts HL7's packages."""
FHIR_VERSION = "5.0.0"
CORE, EXAMPLES = f"hl7.fhir.r5.core-{FHIR_VERSION}", f"hl7.fhir.r5.examples-{FHIR_VERSION}"


def fields(number: object) -> dict[str, Any]:
    """The body without id and type; `number` may be a mark to be filled in later."""
    filters = [{"location": f"ward-{n}", "active": True, "rank": n} for n in range(3)]
    return {"theme": THEMES[0], "number": number, "filters": filters, "notes": NOTES * 4}


def template() -> str:
    """The body as the load client sends it, with `%d` where the number goes."""
    return json.dumps(fields("%d"), separators=(",", ":")).replace('"%d"', "%d")


def definitions() -> Iterator[dict[str, Any]]:
    """The type as Quire has it: closed, every element described."""
    entity = {"resourceType": "Entity", "id": TYPE}
    yield {**entity, "type": "resource"}
    for path, type, more in (
        ("theme", "string", {"enum": list(THEMES), "isRequired": True}),
        ("number", "integer", {}),
        ("filters", "", {"isCollection": True}),
        ("filters.location", "string", {"isRequired": True}),
        ("filters.active", "boolean", {}),
        ("filters.rank", "integer", {}),
        ("notes", "string", {}),
    ):
        typed = {"type": {"resourceType": "Entity", "id": type}} if type else {}
        about = {"resource": entity, "path": path.split(".")}
        yield {"resourceType": "Attribute", "id": f"{TYPE}.{path}", **about, **typed, **more}


def write_lines(file: Path, count: int) -> list[str]:
    """NDJSON to import: the type, and resources with ids in the order of time. Answers the ids."""
    body = json.dumps({"resourceType": TYPE, "id": "%s", **fields("%d")}, separators=(",", ":"))
    body = body.replace('"%d"', "%d")
    ids = [str(uuid7()) for _ in range(count)]
    with file.open("w") as lines:
        lines.writelines(json.dumps(one) + "\n" for one in definitions())
        lines.writelines(body % (id, FIRST_NUMBER + n) + "\n" for n, id in enumerate(ids))
    return ids


def write_ids(file: Path, ids: list[str]) -> str:
    """A file of ids, for the load client."""
    file.write_text("\n".join(ids))
    return str(file)


def published(package: str, name: str) -> bytes:
    """A file of a package. Raises RuntimeError when the packages were not fetched."""
    file = PACKAGES / package / "package" / f"{name}.json"
    if not file.exists():
        raise RuntimeError(f"{file} is not here: run `make conformance` first, which fetches it")
    return file.read_bytes()


def patient() -> str:
    """The body of HL7's example of a Patient, without its id."""
    body = json.loads(published(EXAMPLES, "Patient-example"))
    del body["id"]
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def write_types(file: Path) -> None:
    """NDJSON to import: the closed type, and the Patient of R5, whose data types are built in."""
    patient = json.loads(published(CORE, "StructureDefinition-Patient"))
    with file.open("w") as lines:
        lines.writelines(json.dumps(one) + "\n" for one in (*definitions(), patient))
