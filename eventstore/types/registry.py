"""The registry: every type as the definitions up to a position make it, compiled to be published and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, Self

import jsonschema_rs
import msgspec

from eventstore.body import Document
from eventstore.errors import Conflict, Invalid, Issue, NotFound
from eventstore.types import builtin, fragment, plan
from eventstore.types.datatypes import FHIR_VERSIONS, datatypes, open_types
from eventstore.types.definition import Element, Kind, Library, TypeDefinition, every, made_of
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
from eventstore.types.jsonschema import (
    Found,
    Schema,
    arranged,
    compiled,
    findings,
    first_finding,
    listed,
    publish,
    published_datatypes,
    reached,
    whole,
)

MAX_ELEMENTS = 2_000
"""Of one type, as schemas: those in its fragments count, and a collection is two."""
MAX_EXPLAINED_VALUES = 5_000
"""Of one resource, each as often as schemas overlap: the engine takes 13 us an issue, and lists all or one."""
MAX_PATTERNS = 64
"""Of one type, in its fragments: each may take `fragment.MAX_PATTERN_BYTES` of memory."""
MAX_DEFINITION_BYTES = 256 * 1024
"""Of the published schema of one type."""

DEFINITION_TYPES = frozenset(builtin.DEFINITIONS)
"""The types whose events the registry is made of."""


class CompiledType:
    """One type at one position. Immutable; schema, engine and plan are made when they are first needed."""

    def __init__(self, definition: TypeDefinition, position: int, version: str, parts: Library) -> None:
        self.name = definition.name
        self.kind: Kind = definition.kind
        self.definition = definition
        self.position = position
        """Of the latest event that changed what it accepts; 0 for what is built in."""
        self.parts = parts
        """The defined types that it is made of."""
        self._version = version

    @cached_property
    def schema(self) -> Schema:
        """As it is published. Raises Invalid when a fragment contradicts the rest of the definition."""
        return publish(self.definition, self._library)

    @cached_property
    def _library(self) -> Library:
        known = builtin.library(self._version)
        return {**known, **self.parts} if self.parts else known

    @cached_property
    def _schemas(self) -> Mapping[str, Schema]:
        """What the engine needs: this type and those it reaches."""
        ready = published_datatypes(self._version)
        parts = made_of(self.definition, self._library.get).values()
        used = {
            part.name: ready.get(part.name) or publish(part, self._library)
            for part in parts
            if part.kind != "primitive"
        }
        return used | {self.name: self.schema}

    @cached_property
    def _engine(self) -> jsonschema_rs.Validator:
        return compiled(self.name, self._schemas)

    @cached_property
    def _plan(self) -> plan.Node:
        return plan.plan(self.definition, self._library, dict(plan.datatype_plans(self._version)))

    @cached_property
    def _overlap(self) -> int:
        """How many schemas may speak of one value."""
        definitions = (self.definition, *self.parts.values())
        fragments = [element.schema for one in definitions for element in every(one.elements)]
        return 1 + sum(map(fragment.overlap, [*fragments, *(one.schema for one in definitions)]))

    def prove(self) -> None:
        """Compile everything now. Raises Invalid when it is too much, or cannot be done."""
        self._check_budget()
        try:
            _ = self._engine, self._plan
        except ValueError as error:
            why = f"the type cannot be compiled: {str(error)[: fragment.MAX_QUOTED_CHARACTERS]}"
            raise Invalid(why, path=("schema",)) from None

    def _check_budget(self) -> None:
        schemas, patterns = fragment.count(self.schema)
        ours = {one["pattern"] for one in published_datatypes(self._version).values() if "pattern" in one}
        for what, much, most in (
            ("elements", schemas, MAX_ELEMENTS),
            ("patterns", len(patterns - ours), MAX_PATTERNS),
            ("bytes of schema", len(msgspec.json.encode(self.schema)), MAX_DEFINITION_BYTES),
        ):
            if much > most:
                raise Invalid(f"{self.name} would have {much} {what}, and may have {most}", code="too-long")

    def check(self, document: Document) -> list[Issue]:
        """Everything that is wrong with a resource; nothing when it is valid.

        Of a large one that its schema refuses, no more than the first finding of the schema.
        """
        issues = self._beyond_schema(document)
        if not issues and self._engine.is_valid(document.value):
            return issues
        return arranged(self._explain(document, issues), document.value)

    def _beyond_schema(self, document: Document) -> list[Issue]:
        issues: list[Issue] = []
        if isinstance(document.value, dict):
            plan.run(self._plan, document.value, (), issues)
        if document.wide_integers:
            issues.extend(plan.wide_integers(document, partial(reached, self._schemas, self.name)))
        if document.nulls:
            issues.extend(plan.nulls(document))
        return issues

    def _explain(self, document: Document, issues: list[Issue]) -> Iterator[Found]:
        """What the schema finds, and what is beyond it where the schema finds nothing; of a null its remedy."""
        is_small = document.data.count(b",") * self._overlap < MAX_EXPLAINED_VALUES
        find = findings if is_small else first_finding
        found = find(self._engine, document.value)
        nulls = set(document.nulls) & {issue.path for issue in issues}
        by_schema = [one for one in found if one.issue.path not in nulls]
        yield from by_schema
        taken = {one.issue.path for one in by_schema}
        yield from (Found(issue) for issue in issues if issue.path not in taken)

    def normalise(self, value: Any) -> bool:
        """Rewrite, in place, `{resourceType, id}` to `{reference}` wherever a Reference stands; whether any was."""
        return isinstance(value, dict) and plan.normalise(self._plan, value)


class Registry(msgspec.Struct, frozen=True):
    """All types as of a position. Immutable: `apply` returns the next one.

    For a new definition `apply` is followed by `prove`, which does the costly part of refusing it. Definitions
    that come from the log have been proven; to fold them, `apply` is enough, and gives the same on every node.
    """

    fhir_version: str
    types: dict[str, CompiledType]
    position: int = 0
    entities: dict[str, EntitySpec] = {}
    attributes: dict[str, dict[str, AttributeSpec]] = {}
    """By owner, then id. Those of an owner that is gone stay, and count again when it comes back."""
    owners: dict[str, str] = {}
    """Of Attributes, by id."""

    @classmethod
    def empty(cls, fhir_version: str) -> Self:
        """What there is before any definition. Raises Invalid for a FHIR version that is not supported."""
        if fhir_version not in FHIR_VERSIONS:
            raise Invalid(f"FHIR {fhir_version} is not supported: use one of {', '.join(FHIR_VERSIONS)}")
        return cls(
            fhir_version,
            {name: CompiledType(one, 0, fhir_version, {}) for name, one in builtin.DEFINITIONS.items()},
        )

    def served(self, name: str) -> CompiledType | None:
        """The resource type of that name, if there is one."""
        found = self.types.get(name)
        return found if found is not None and found.kind == "resource" else None

    def names(self) -> list[str]:
        """Of the resource types, sorted."""
        return sorted(name for name, type in self.types.items() if type.kind == "resource")

    def similar(self, name: str) -> str | None:
        """The resource type whose name differs only in case."""
        return next(
            (other for other in self.names() if other != name and other.lower() == name.lower()), None
        )

    def stops_serving(self, type: str, id: str, value: dict[str, Any] | None) -> str | None:
        """The resource type that this change of a definition would retire, if it would."""
        if type != "Entity" or id not in self.entities or self.served(id) is None:
            return None
        return id if value is None or value.get("type") != "resource" else None

    def builtin(self, name: str) -> dict[str, Any] | None:
        """A built-in type as a read-only Entity."""
        return builtin.resource(name, self.fhir_version)

    def schema_at(self, path: list[str]) -> Any:
        """A part of the one document of all types. Raises NotFound, naming what there is."""
        schemas = {
            **published_datatypes(self.fhir_version),
            **{name: one.schema for name, one in self.types.items()},
        }
        return _at(whole(schemas, self.names()), path)

    def apply(self, position: int, type: str, id: str, value: dict[str, Any] | None) -> Registry:
        """The registry after an event of a definition; `value` is None for a delete.

        Raises Invalid or Conflict when it cannot be, which events in the log never do.
        """
        if value is not None and (issues := self.types[type].check(Document(value, b""))):
            raise Invalid(issues)
        changed = self._with_entity if type == "Entity" else self._with_attribute
        names, registry = changed(id, value)
        return registry._rebuilt(position, names)

    def prove(self, type: str, id: str, value: dict[str, Any] | None) -> None:
        """Refuse a new definition, just applied, that is too much or cannot be compiled. Raises Invalid."""
        if value is None:
            return
        if type == "Entity":
            builtin.check_name(id, self.fhir_version, value)
        if "schema" in value:
            fragment.vet(value["schema"], ("schema",))
        if type == "Attribute":
            _check_enum(self.attributes[self.owners[id]][id].elements[0], self.fhir_version)
        self.types[id if type == "Entity" else self.owners[id]].prove()

    def kind_of(self, name: str) -> Kind | None:
        """Of the type of that name, if there is one."""
        found = datatypes(self.fhir_version).get(name) or self.entities.get(name)
        if found is None:
            return "resource" if self.is_target(name) else None
        return found.kind

    def why_unknown(self, name: str) -> str:
        """What to say where there is none."""
        if builtin.is_core_name(name, self.fhir_version):
            return "is a FHIR type that is not built in: define what you need of it"
        known = (*datatypes(self.fhir_version), *self.entities)
        similar = next((other for other in known if other.lower() == name.lower()), None)
        return f"is no type; there is {similar}" if similar else "is no type that is known here"

    def is_target(self, name: str) -> bool:
        """Whether a Reference may point to it."""
        return self.served(name) is not None or builtin.is_core_target(name, self.fhir_version)

    def is_in_extensions(self, name: str) -> bool:
        """Whether an Extension can hold a value of it."""
        return name in open_types(self.fhir_version) and name in datatypes(self.fhir_version)

    def _with_entity(self, name: str, value: dict[str, Any] | None) -> tuple[set[str], Registry]:
        entities = dict(self.entities)
        if value is None:
            entities.pop(name, None)
        else:
            self._check_case(name)
            entities[name] = read_entity(value)
        registry = msgspec.structs.replace(self, entities=entities)
        if self.kind_of(name) == "type" and registry.kind_of(name) != "type":
            registry._check_unused(name)
        if value is not None and name not in self.entities:
            registry._check_return(name)
        return {name}, registry

    def _check_case(self, name: str) -> None:
        for other in (*self.types, *datatypes(self.fhir_version)):
            if other != name and other.lower() == name.lower():
                why = f"{name} differs from {other} only in case: names are unique without it"
                raise Conflict(why, path=("id",), code="duplicate")

    def _check_unused(self, name: str) -> None:
        """Raise Conflict when an element has that type."""
        for owner in self.attributes.keys() & self.entities.keys():
            for spec in self.attributes[owner].values():
                if any(used == name for _, used in spec.used):
                    raise Conflict(f"Attribute {spec.id} of {owner} is of type {name}: change that first")

    def _check_return(self, name: str) -> None:
        """The Attributes of a type that comes back can still be."""
        issues = [
            msgspec.structs.replace(
                issue, message=f"Attribute {spec.id} counts again: {issue.message}", path=()
            )
            for spec in self.attributes.get(name, {}).values()
            for issue in link(spec, self)
        ]
        if issues:
            raise Invalid(issues)

    def _with_attribute(self, id: str, value: dict[str, Any] | None) -> tuple[set[str], Registry]:
        attributes, owners = dict(self.attributes), dict(self.owners)
        before = owners.pop(id, None)
        names = {before} if before is not None else set()
        if value is not None:
            spec = read_attribute(id, value)
            self._check_fit(spec)
            names.add(spec.owner)
            owners[id] = spec.owner
            attributes[spec.owner] = {**attributes.get(spec.owner, {}), id: spec}
        if before is not None and before != owners.get(id):
            attributes[before] = {other: spec for other, spec in attributes[before].items() if other != id}
        return names, msgspec.structs.replace(self, attributes=attributes, owners=owners)

    def _check_fit(self, spec: AttributeSpec) -> None:
        """Raise Invalid when the Attribute cannot be beside what there is."""
        if self.builtin(spec.owner) is not None:
            raise Invalid(f"{spec.owner} is built in and cannot be changed", path=("resource",))
        if spec.owner not in self.entities:
            raise Invalid(f"there is no Entity {spec.owner}", path=("resource",))
        others = (other for other in self.attributes.get(spec.owner, {}).values() if other.id != spec.id)
        clashes = [why for other in others if (why := clash(spec, other))]
        issues = [
            *link(spec, self),
            *aim(spec, self),
            *(Issue(why, ("path",), "duplicate") for why in clashes),
        ]
        if issues:
            raise Invalid(issues)

    def _rebuilt(self, position: int, names: set[str]) -> Registry:
        """With the types of those names made anew, and those that are made of them."""
        made = {
            name: assemble(name, self.entities[name], self.attributes.get(name, {}).values())
            for name in sorted(names & self.entities.keys())
        }
        changed = {name for name in names if not _same(self._definition(name), made.get(name))}
        types = {name: type for name, type in self.types.items() if name not in changed}
        made |= {name: type.definition for name, type in types.items() if type.parts.keys() & changed}

        def part(name: str) -> TypeDefinition | None:
            found = made.get(name) or self._definition(name)
            return found if found is not None and found.kind == "type" else None

        for name, definition in made.items():
            if name not in types or self.types[name].parts.keys() & changed:
                types[name] = CompiledType(definition, position, self.fhir_version, made_of(definition, part))
        return msgspec.structs.replace(self, types=types, position=position)

    def _definition(self, name: str) -> TypeDefinition | None:
        found = self.types.get(name)
        return found.definition if found is not None else None


def _same(one: TypeDefinition | None, other: TypeDefinition | None) -> bool:
    """Whether two definitions let in the same. (To Python `1 == True`, to JSON Schema not.)"""
    return one == other and msgspec.json.encode(one) == msgspec.json.encode(other)


def _check_enum(element: Element, version: str) -> None:
    """Raise Invalid for values that the element's own type refuses."""
    if not element.enum:
        return
    schema = datatypes(version)[element.type].schema or {}
    engine, check = compiled(element.type, {element.type: schema}), plan.CHECKS.get(element.type)
    issues = []
    for index, value in enumerate(element.enum):
        found = next(findings(engine, value), None)
        if why := found.issue.message if found is not None else check(value) if check is not None else "":
            issues.append(Issue(f"not a value of {element.type}: {why}", ("enum", index), "value"))
    if issues:
        raise Invalid(issues)


def _at(document: Schema, path: Iterable[str]) -> Any:
    node: Any = document
    for key in path:
        if not isinstance(node, dict):
            raise NotFound(f"there is no {key} here: there is nothing inside")
        if key not in node:
            raise NotFound(f"there is no {key} here: there are {listed(sorted(node))}")
        node = node[key]
    return node
