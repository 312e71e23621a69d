"""Packages for tests: packed by hand, so that what is wrong with them is as wrong as it should be."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

from harness.formats import element, structure

MANIFEST = {"name": "acme.wards", "version": "1.0.0", "fhirVersions": ["4.0.1"], "dependencies": {}}

WARD = {
    "resourceType": "StructureDefinition",
    "id": "acme-Ward",
    **structure(
        "acme-Ward", element("acme-Ward.mode", 1, "1", "code"), element("acme-Ward.head", 0, "1", "acme-Head")
    ),
}
HEAD = {
    "resourceType": "StructureDefinition",
    "id": "acme-Head",
    **structure(
        "acme-Head",
        element("acme-Head.name", 0, "1", "string"),
        element("acme-Head.ward", 0, "1", "acme-Seat"),
    ),
    "kind": "complex-type",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Element",
}
SEAT = {
    "resourceType": "StructureDefinition",
    "id": "acme-Seat",
    **structure("acme-Seat", element("acme-Seat.head", 0, "1", "acme-Head")),
    "kind": "complex-type",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Element",
}
"""HEAD and SEAT name one another."""
NIGHT = {
    "resourceType": "StructureDefinition",
    "id": "a-night",
    **structure("acme-Ward", element("acme-Ward.mode", 1, "1", fixedCode="night")),
    "url": "http://example.org/a-night",
    "derivation": "constraint",
    "baseDefinition": "http://example.org/acme-Ward",
}
EXAMPLE = {"resourceType": "acme-Ward", "id": "w1", "mode": "day"}
STRANGER = {"resourceType": "SearchParameter", "id": "by-mode", "url": "http://example.org/by-mode"}


def tgz(files: dict[str, Any], manifest: dict[str, Any] | None = MANIFEST) -> bytes:
    """A package of these files, by path below `package/`; what is no bytes is written as JSON."""
    whole = {"package.json": manifest, **files} if manifest is not None else files
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for path, value in whole.items():
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            info = tarfile.TarInfo(path if path.startswith(("/", "..")) else f"package/{path}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def wards(**more: Any) -> bytes:
    """Types that need one another, a profile that comes before its base, an example, and what no type is there for."""
    files = {
        "a-night.json": NIGHT,
        "ward.json": WARD,
        "seat.json": SEAT,
        "head.json": HEAD,
        "by-mode.json": STRANGER,
        "example/w1.json": EXAMPLE,
    }
    return tgz({**files, **more})


def with_member(info: tarfile.TarInfo) -> bytes:
    """A package with one more member, without content."""
    plain = io.BytesIO(gzip.decompress(tgz({})))
    with tarfile.open(fileobj=plain, mode="a") as archive:
        archive.addfile(info)
    return gzip.compress(plain.getvalue())
