"""The format of StructureDefinition: `specialization` makes a type, `constraint` a profile."""

from __future__ import annotations

from typing import Any, ClassVar

from eventstore.errors import Invalid
from eventstore.types import differential
from eventstore.types.datatypes import fhir
from eventstore.types.definition import Kind, TypeDefinition
from eventstore.types.documents import (
    Spec,
    Specs,
    base_name,
    check_id,
    check_version,
    with_what_all_have,
)
from eventstore.types.format import Names
from eventstore.types.table import CANONICAL

_SERVED = ("resource", "logical")


class StructureDefinitions(Specs, frozen=True):
    """All StructureDefinitions."""

    resource_types: ClassVar[tuple[str, ...]] = ("StructureDefinition",)

    @classmethod
    def read(cls, id: str, value: dict[str, Any], names: Names) -> Spec:
        url, type = value["url"], value["type"]
        name = type.rpartition("/")[2]
        check_version(value, names.fhir_version)
        if value.get("derivation") == "constraint":
            return _profile(value, name, names)
        if url == CANONICAL + name and name in fhir(names.fhir_version):
            return Spec(None)
        if value["kind"] == "primitive-type":
            why = "primitive types cannot be defined: use an element of a built-in one with constraints"
            raise Invalid(why, path=("kind",), code="not-supported")
        if "derivation" not in value and not value["abstract"]:
            return Spec(None)
        check_id(id, name)
        return _type(value, name, names)


def _type(value: dict[str, Any], name: str, names: Names) -> Spec:
    found = differential.read(value, name)
    kind: Kind = "abstract" if value["abstract"] else "resource" if value["kind"] in _SERVED else "type"
    elements = found.elements
    if kind == "resource":
        elements = with_what_all_have(elements, name, value)
    definition = TypeDefinition(
        name,
        kind,
        elements,
        base=base_name(value.get("baseDefinition", ""), names.fhir_version),
        strict=True,
        constraints=found.constraints,
        url=value["url"],
        unchecked=tuple(found.unchecked),
    )
    return Spec(definition, tuple(found.types))


def _profile(value: dict[str, Any], name: str, names: Names) -> Spec:
    found = differential.read(value, name)
    definition = TypeDefinition(
        value["url"],
        "profile",
        found.elements,
        base=base_name(value.get("baseDefinition", ""), names.fhir_version) or name,
        strict=True,
        constraints=found.constraints,
        url=value["url"],
        contexts=tuple(one["expression"] for one in value.get("context", ()) if one["type"] == "element"),
        most=1 if found.root.get("max") == "1" else None,
        unchecked=tuple(found.unchecked),
    )
    return Spec(definition, tuple(found.types))
