"""The registry: every type as the definitions up to a position make it, compiled to be published and checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property, lru_cache, partial
from typing import Any, Self

import msgspec

from eventstore.body import Document
from eventstore.errors import Conflict, Issue
from eventstore.event import Position
from eventstore.types import builtin
from eventstore.types.compiled import CompiledType
from eventstore.types.datatypes import check_fhir_version, datatypes, fhir, open_types
from eventstore.types.definition import Kind, TypeDefinition
from eventstore.types.documents import Specs
from eventstore.types.entities import Entities
from eventstore.types.expansion import Expander, Expansion
from eventstore.types.expressions import environment, seen
from eventstore.types.facts import Facts, Informed
from eventstore.types.fhirpath.model import Types as Shapes
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirschema import FHIRSchemas
from eventstore.types.format import Format
from eventstore.types.jsonschema import part
from eventstore.types.prefixes import Prefixes
from eventstore.types.publish import published_datatypes, whole
from eventstore.types.rebuilding import called, rebuilt
from eventstore.types.scope import Checked
from eventstore.types.structuredefinition import StructureDefinitions
from eventstore.types.table import CANONICAL
from eventstore.types.terminology import TERMS, Terminology
from eventstore.types.valuesets import expansion, test_of

FORMATS: tuple[Format, ...] = (Entities(), StructureDefinitions(), FHIRSchemas(), Prefixes())
"""Each without a definition."""

DEFINITION_TYPES = frozenset((*TERMS, *(type for format in FORMATS for type in format.resource_types)))
"""The types whose events the registry is made of."""


class Registry(msgspec.Struct, frozen=True, eq=False, dict=True):
    """All types as of a position. Immutable: `apply` returns the next one.

    For a new definition `apply` is followed by `proving.prove`, which does the costly part of refusing it. Definitions
    that come from the log have been proven; to fold them, `apply` is enough, and gives the same on every node.
    """

    fhir_version: str
    types: dict[str, CompiledType]
    position: int = 0
    formats: tuple[Format, ...] = FORMATS
    deactivated: frozenset[str] = frozenset()
    """Types whose definition is tagged so: they are read and not written."""
    terminology: Terminology = Terminology()
    base_url: str = ""
    """Below which this process serves resources, without a slash at its end; empty where it serves none."""

    @classmethod
    def empty(cls, fhir_version: str, base_url: str = "") -> Self:
        """What there is before any definition. Raises Invalid for a FHIR version that is not supported."""
        check_fhir_version(fhir_version)
        return cls(fhir_version, dict(_built_in(fhir_version)), base_url=base_url.rstrip("/"))

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
        if type in TERMS:
            return None
        format, found = self.format_of(type), self.served(id)
        if found is None or type != format.resource_types[0] or format.kind_of(id) is None:
            return None
        if value is None:
            return id
        return id if format.changed(type, id, value, self)[0].kind_of(id) != "resource" else None

    def resources_of(self, name: str) -> list[tuple[str, str]]:
        """The definitions that make a type or profile, by type and id; what they need comes later. Empty when built in."""
        return [key for one in self.formats for key in one.resources_of(name)]

    def open_entity(self, name: str) -> list[tuple[str, str]]:
        """The Entity that makes an open type of that name, after its Attributes; empty without one."""
        keys = self.resources_of(name)
        return keys if ("Entity", name) in keys and self.types[name].definition.open else []

    def definition_in(self, type: str, id: str) -> TypeDefinition | None:
        """What a StructureDefinition or FHIRSchema makes, if it makes something."""
        specs = next(
            (one.specs for one in self.formats if isinstance(one, Specs) and type in one.resource_types), {}
        )
        return specs[id].definition if id in specs else None

    def defined_by(self, name: str) -> str:
        """The definition of a type or profile, as `Entity/Pump`; empty for one that is built in."""
        return next((_last(one, name) for one in self.formats if one.kind_of(name) is not None), "")

    def builtin(self, name: str) -> dict[str, Any] | None:
        """A built-in type as a read-only Entity."""
        return builtin.resource(name, self.fhir_version)

    def schema_at(self, path: list[str]) -> Any:
        """A part of the one document of all types. Raises NotFound, naming what there is."""
        strict = any(one.definition.strict for one in self.types.values())
        schemas = {
            **(published_datatypes(self.fhir_version, strict=True) if strict else {}),
            **published_datatypes(self.fhir_version),
            **{name: one.schema for name, one in self.types.items() if one.kind != "profile"},
            **{name: schema for one in self.types.values() for name, schema in one.shared.items()},
        }
        return part(whole(schemas, self.names()), path)

    def apply(self, position: int, type: str, id: str, value: dict[str, Any] | None) -> Registry:
        """The registry after an event of a definition; `value` is None for a delete.

        Raises Invalid or Conflict when it cannot be, which events in the log never do.
        """
        if value is not None:
            self.types[type].check_shape(value)
        if type in TERMS:
            return self._with_term(position, type, id, value)
        format, touched = self.format_of(type).changed(type, id, value, self)
        formats = tuple(format if type in one.resource_types else one for one in self.formats)
        deactivated = self.deactivated
        if id in touched and type in (one.resource_types[0] for one in self.formats):
            is_off = value is not None and builtin.is_tagged(value, builtin.DEACTIVATED)
            deactivated = deactivated | {id} if is_off else deactivated - {id}
        registry = msgspec.structs.replace(self, formats=formats, deactivated=deactivated)
        for name in sorted(touched, key=lambda one: ("/" in one, one)):
            registry._check_alone(name, format)
            if self.kind_of(name) == "type" != registry.kind_of(name):
                registry._check_unused(name)
            if self._defined(name) is None:
                format.check_return(name, registry)
        return registry._rebuilt(position, touched)

    def _with_term(self, position: int, type: str, id: str, value: dict[str, Any] | None) -> Registry:
        """After a ValueSet or CodeSystem changes: so do the types whose required bindings it has a part in."""
        terminology, names = self.terminology.changed(type, id, value)
        affected = terminology.affected(names)
        types = {
            name: one if one.bound.isdisjoint(affected) else one.at(position)
            for name, one in self.types.items()
        }
        return msgspec.structs.replace(self, terminology=terminology, types=types, position=position)

    @property
    def prefixes(self) -> Prefixes:
        """What names of new types begin with."""
        return next(one for one in self.formats if isinstance(one, Prefixes))

    def format_of(self, type: str) -> Format:
        """The format whose definitions are resources of that type."""
        return next(one for one in self.formats if type in one.resource_types)

    def _defined(self, name: str) -> Kind | None:
        """What the formats say that a type is."""
        return next((kind for one in self.formats if (kind := one.kind_of(name)) is not None), None)

    def _check_alone(self, name: str, format: Format) -> None:
        """Raise Conflict when another format defines that type too."""
        if format.kind_of(name) is None:
            return
        for other in self.formats:
            if other is not format and other.kind_of(name) is not None:
                why = f"{name} is defined by {_last(other, name)}: delete that first, or change it"
                raise Conflict(why, path=("id",), code="duplicate")

    def _check_unused(self, name: str) -> None:
        """Raise Conflict when an element has that type."""
        if user := next((user for one in self.formats if (user := one.user_of(name))), ""):
            raise Conflict(f"{user}: change that first")

    def check(self, kind: CompiledType, document: Document, facts: Facts | None = None) -> list[Issue]:
        """Everything that is wrong with a resource of the type, and warnings.

        Where its constraints ask for the time or for what is stored, `facts` have to be enough for that; without any,
        these constraints are not checked.
        """
        return kind.check(document, Informed(self, facts))

    def findings_of(self, profile: Checked, value: Any, container: dict[str, Any]) -> list[Issue]:
        """What a profile finds in a value that is in the container; warnings too."""
        return profile.check(Document(value, b""), self, container)

    def is_a(self, name: str, base: str) -> bool:
        """Whether the type or profile is, or is based on, the other, which is called by name or URL."""
        found, short = self.types.get(name), base.removeprefix(CANONICAL)
        return found is not None and any(one.name == short or one.url == base for one in found.bases)

    def definition_of(self, name: str) -> TypeDefinition | None:
        """The type or profile that is called so, by name or URL."""
        found = called(self.types, name) or called(self.types, CANONICAL + name)
        return found or fhir(self.fhir_version).get(name.removeprefix(CANONICAL))

    @property
    def shapes(self) -> Shapes:
        """The types as FHIRPath knows them."""
        return self.environment.types

    @property
    def environment(self) -> Environment:
        """What expressions may ask of the types."""
        return _environment(self)

    def has_code(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a code is in a value set; None where that is not known."""
        return self._test_of(value_set)(system, code)

    @cached_property
    def _test_of(self) -> Callable[[str], Callable[[str | None, str], bool | None]]:
        """By the name of a value set, whether a code is in it: made once for each that is asked for."""

        def make(value_set: str) -> Callable[[str | None, str], bool | None]:
            url = value_set.partition("|")[0]
            test = test_of(url, self.fhir_version, lambda name: self.served(name) is not None)
            return self.expand(value_set).has if test is None else lambda system, code: test(code)

        return lru_cache(maxsize=4_096)(make)

    def expand(self, value_set: str) -> Expansion:
        """The codes of the value set of a URL (`url|version` of that version) or of `ValueSet/id`."""
        return self.expander.expand(value_set)

    def is_value_set(self, value_set: str) -> bool:
        """Whether it is known here, whatever it holds."""
        builtin = expansion(value_set.partition("|")[0], self.fhir_version, ())
        return builtin is not None or self.terminology.value_sets.find(value_set) is not None

    @cached_property
    def expander(self) -> Expander:
        """The value sets as of this position."""
        return Expander(self.terminology, lambda url: expansion(url, self.fhir_version, self.names()))

    def profile(self, url: str) -> CompiledType | None:
        """The profile of that URL, if there is one."""
        found = self.types.get(url.partition("|")[0])
        return found if found is not None and found.kind == "profile" else None

    def kind_of(self, name: str) -> Kind | None:
        """Of the type of that name, if there is one."""
        found = fhir(self.fhir_version).get(name)
        kind = found.kind if found is not None else self._defined(name)
        return kind or ("resource" if self.is_target(name) else None)

    def why_unknown(self, name: str) -> str:
        """What to say where there is none."""
        if builtin.is_core_name(name, self.fhir_version):
            return "is a FHIR type that is not built in: define what you need of it"
        known = (*datatypes(self.fhir_version), *(name for one in self.formats for name in one.names()))
        similar = next((other for other in known if other.lower() == name.lower()), None)
        return f"is no type; there is {similar}" if similar else "is no type that is known here"

    def is_target(self, name: str) -> bool:
        """Whether a Reference may point to it."""
        return self.served(name) is not None or builtin.is_core_target(name, self.fhir_version)

    def is_in_extensions(self, name: str) -> bool:
        """Whether an Extension can hold a value of it."""
        return name in open_types(self.fhir_version) and name in datatypes(self.fhir_version)

    def check_case(self, name: str) -> None:
        for other in (*self.types, *datatypes(self.fhir_version)):
            if other != name and other.lower() == name.lower():
                why = f"{name} differs from {other} only in case: names are unique without it"
                raise Conflict(why, path=("id",), code="duplicate")

    def moved(self, after: Position, by: int) -> Registry:
        """The same, with every position after one moved by so much: as if its definitions had come later."""
        if by == 0 or self.position <= after:
            return self
        types = {
            name: type if type.position <= after else type.at(type.position + by)
            for name, type in self.types.items()
        }
        return msgspec.structs.replace(self, types=types, position=self.position + by)

    def _rebuilt(self, position: int, names: set[str]) -> Registry:
        """With the types of those names made anew, and those that are made of them."""
        types = rebuilt(self.types, self.formats, names, position, self.fhir_version)
        return msgspec.structs.replace(self, types=types, position=position)


@cache
def _built_in(fhir_version: str) -> dict[str, CompiledType]:
    """What no definition made: the same for every registry, and compiled once."""
    definitions = builtin.compiled(fhir_version)
    return {name: CompiledType(one, 0, fhir_version, {}) for name, one in definitions.items()}


def _last(format: Format, name: str) -> str:
    """The definition without which there is no type of that name."""
    return "/".join(format.resources_of(name)[-1])


@lru_cache(maxsize=2)
def _environment(registry: Registry) -> Environment:
    """Of the registry as it is and as it was before."""
    return environment(registry, partial(_seen, registry))


def _seen(registry: Registry, name: str) -> TypeDefinition | None:
    if (found := registry.types.get(name)) is not None:
        return found.seen
    builtin_ones = fhir(registry.fhir_version)
    return seen(builtin_ones[name], builtin_ones) if name in builtin_ones else None
