"""The format of Entity and Attribute: a type is one Entity, and the Attributes that name it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from eventstore.errors import Invalid, Issue
from eventstore.types import builtin, checks, fragment, unique
from eventstore.types.datatypes import datatypes
from eventstore.types.definition import Element, Kind, TypeDefinition
from eventstore.types.entity import (
    AttributeSpec,
    EntitySpec,
    aim,
    assemble,
    clash,
    link,
    read_attribute,
    read_entity,
)
from eventstore.types.format import Names
from eventstore.types.jsonschema import compiled, findings


class Entities(msgspec.Struct, frozen=True):
    """All Entities and Attributes."""

    resource_types: ClassVar[tuple[str, ...]] = ("Entity", "Attribute")

    entities: dict[str, EntitySpec] = {}
    attributes: dict[str, dict[str, AttributeSpec]] = {}
    """By owner, then id. Those of an owner that is gone stay, and count again when it comes back."""
    owners: dict[str, str] = {}
    """Of Attributes, by id."""

    def names(self) -> Iterable[str]:
        return self.entities

    def kind_of(self, name: str) -> Kind | None:
        found = self.entities.get(name)
        return found.kind if found is not None else None

    def definition(self, name: str) -> TypeDefinition | None:
        if name not in self.entities:
            return None
        return assemble(name, self.entities[name], self.attributes.get(name, {}).values())

    def resources_of(self, name: str) -> list[tuple[str, str]]:
        if name not in self.entities:
            return []
        return [*(("Attribute", id) for id in sorted(self.attributes.get(name, ()))), ("Entity", name)]

    def changed(
        self, type: str, id: str, value: dict[str, Any] | None, names: Names
    ) -> tuple[Entities, set[str]]:
        return (
            self._with_entity(id, value, names)
            if type == "Entity"
            else self._with_attribute(id, value, names)
        )

    def prove(self, type: str, id: str, value: dict[str, Any], names: Names) -> str:
        if type == "Entity":
            builtin.check_name(id, names.fhir_version, value)
        if "schema" in value:
            fragment.vet(value["schema"], ("schema",))
        if type == "Attribute":
            _check_enum(self.attributes[self.owners[id]][id].elements[0], names.fhir_version)
        name = id if type == "Entity" else self.owners[id]
        made = self.definition(name)
        if made is not None and (issues := list(unique.refusals(made, names))):
            raise Invalid(issues)
        return name

    def _with_entity(
        self, name: str, value: dict[str, Any] | None, names: Names
    ) -> tuple[Entities, set[str]]:
        entities = dict(self.entities)
        if value is None:
            entities.pop(name, None)
        else:
            names.check_case(name)
            entities[name] = read_entity(value)
        return msgspec.structs.replace(self, entities=entities), {name}

    def user_of(self, name: str) -> str:
        for owner in self.attributes.keys() & self.entities.keys():
            for spec in self.attributes[owner].values():
                if any(used == name for _, used in spec.used):
                    return f"Attribute {spec.id} of {owner} is of type {name}"
        return ""

    def check_return(self, name: str, names: Names) -> None:
        """The Attributes of a type that comes back can still be."""
        issues = [
            msgspec.structs.replace(
                issue, message=f"Attribute {spec.id} counts again: {issue.message}", path=()
            )
            for spec in self.attributes.get(name, {}).values()
            for issue in link(spec, names)
        ]
        if issues and name in self.entities:
            raise Invalid(issues)

    def _with_attribute(
        self, id: str, value: dict[str, Any] | None, names: Names
    ) -> tuple[Entities, set[str]]:
        attributes, owners = dict(self.attributes), dict(self.owners)
        before = owners.pop(id, None)
        touched = {before} if before is not None else set()
        if value is not None:
            spec = read_attribute(id, value)
            self._check_fit(spec, names)
            touched.add(spec.owner)
            owners[id] = spec.owner
            attributes[spec.owner] = {**attributes.get(spec.owner, {}), id: spec}
        if before is not None and before != owners.get(id):
            attributes[before] = {other: spec for other, spec in attributes[before].items() if other != id}
        return msgspec.structs.replace(self, attributes=attributes, owners=owners), touched

    def _check_fit(self, spec: AttributeSpec, names: Names) -> None:
        """Raise Invalid when the Attribute cannot be beside what there is."""
        if builtin.resource(spec.owner, names.fhir_version) is not None:
            raise Invalid(f"{spec.owner} is built in and cannot be changed", path=("resource",))
        if spec.owner not in self.entities:
            raise Invalid(f"there is no Entity {spec.owner}", path=("resource",))
        others = (other for other in self.attributes.get(spec.owner, {}).values() if other.id != spec.id)
        clashes = [why for other in others if (why := clash(spec, other))]
        issues = [
            *link(spec, names),
            *aim(spec, names),
            *(Issue(why, ("path",), "duplicate") for why in clashes),
        ]
        if issues:
            raise Invalid(issues)


def _check_enum(element: Element, version: str) -> None:
    """Raise Invalid for values that the element's own type refuses."""
    if not element.enum:
        return
    engine, check = compiled(datatypes(version)[element.type].schema or {}), checks.CHECKS.get(element.type)
    issues = []
    for index, value in enumerate(element.enum):
        found = next(findings(engine, value), None)
        if why := found.issue.message if found is not None else check(value) if check is not None else "":
            issues.append(Issue(f"not a value of {element.type}: {why}", ("enum", index), "value"))
    if issues:
        raise Invalid(issues)
