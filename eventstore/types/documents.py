"""Formats in which one resource defines one type or profile: what they have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

import msgspec

from eventstore.errors import Conflict, Invalid, Issue, Path
from eventstore.types import builtin
from eventstore.types.definition import Element, Kind, TypeDefinition, target_of
from eventstore.types.format import Names
from eventstore.types.table import CANONICAL


class Spec(msgspec.Struct, frozen=True):
    """What one definition says."""

    definition: TypeDefinition | None
    """None where it defines nothing here: FHIR's own of what is built in, and of what is only a pattern."""
    types: tuple[tuple[Path, str], ...] = ()
    """Types that it names, and where."""


class Specs(msgspec.Struct, frozen=True):
    """All definitions of such a format."""

    resource_types: ClassVar[tuple[str, ...]]

    specs: dict[str, Spec] = {}
    """By id."""
    ids: dict[str, str] = {}
    """By the name of the type, and by URL."""

    @classmethod
    @abstractmethod
    def read(cls, id: str, value: dict[str, Any], names: Names) -> Spec:
        """Read a definition that its own type has let in. Raises Invalid with everything that makes no sense."""

    def names(self) -> Iterable[str]:
        return self.ids

    def kind_of(self, name: str) -> Kind | None:
        found = self.definition(name)
        return found.kind if found is not None else None

    def definition(self, name: str) -> TypeDefinition | None:
        id = self.ids.get(name)
        return self.specs[id].definition if id is not None else None

    def resources_of(self, name: str) -> list[tuple[str, str]]:
        return [(self.resource_types[0], self.ids[name])] if name in self.ids else []

    def changed(
        self, type: str, id: str, value: dict[str, Any] | None, names: Names
    ) -> tuple[Self, set[str]]:
        specs, ids = dict(self.specs), {name: of for name, of in self.ids.items() if of != id}
        touched = self.ids.keys() - ids.keys()
        specs.pop(id, None)
        if value is not None:
            spec = specs[id] = self.read(id, value, names)
            if spec.definition is not None:
                names.check_case(spec.definition.name)
                for name in dict.fromkeys((spec.definition.name, spec.definition.url)):
                    self._check_free(name, id)
                    ids[name] = id
                    touched = touched | {name}
        return msgspec.structs.replace(self, specs=specs, ids=ids), set(touched)

    def _check_free(self, name: str, id: str) -> None:
        other = self.ids.get(name, id)
        if other != id:
            why = f"{name} is that of {self.resource_types[0]}/{other}"
            raise Conflict(why, path=("url",), code="duplicate")

    def user_of(self, name: str) -> str:
        for id, spec in self.specs.items():
            if any(used == name for _, used in spec.types):
                return f"{self.resource_types[0]}/{id} has an element of type {name}"
        return ""

    def check_return(self, name: str, names: Names) -> None:
        return

    def prove(self, type: str, id: str, value: dict[str, Any], names: Names) -> str:
        spec = self.specs[id]
        if spec.definition is None:
            return ""
        if spec.definition.kind != "profile":
            builtin.check_name(spec.definition.name, names.fhir_version, value)
        issues = [
            *_unknown(spec, names),
            *_untargeted(spec.definition),
            *_baseless(spec.definition, names),
        ]
        if issues:
            raise Invalid(issues)
        return spec.definition.name


def _unknown(spec: Spec, names: Names) -> Iterable[Issue]:
    for at, name in spec.types:
        if names.kind_of(name) is None:
            yield Issue(f"{name} {names.why_unknown(name)}", at, "value")


def _untargeted(definition: TypeDefinition) -> Iterable[Issue]:
    """A `contentReference` names an element of the same definition."""
    for element in definition.every:
        if element.content:
            try:
                target_of(element.content, {definition.name: definition})
            except (KeyError, StopIteration):
                yield Issue(f"there is no element {element.content}", (), "value")


def _baseless(definition: TypeDefinition, names: Names) -> Iterable[Issue]:
    if definition.base and names.kind_of(definition.base) is None:
        yield Issue(f"{definition.base} is not known here: define it first", (), "not-found")


def check_version(value: dict[str, Any], version: str) -> None:
    given = value.get("fhirVersion", version)
    if given.split(".")[:2] != version.split(".")[:2]:
        why = f"the definition is of FHIR {given}, and this log is of FHIR {version}"
        raise Invalid(why, path=("fhirVersion",), code="not-supported")


def check_id(id: str, name: str) -> None:
    """Raise Invalid unless a type's definition has the type's name as its id."""
    if id != name:
        raise Invalid(f"the id of a type's definition is the name of the type: {name}", path=("id",))


def with_what_all_have(
    elements: tuple[Element, ...], name: str, value: dict[str, Any]
) -> tuple[Element, ...]:
    """The elements of a resource type, and what every resource has, whatever it is based on."""
    type = Element("resourceType", "string", required=True, schema={"const": name})
    given = {element.name for element in elements}
    standard = (Element("id", "id"), Element("meta", "Meta"), type, *_said_by(value))
    return (*elements, *(one for one in standard if one.name not in given))


def _said_by(value: dict[str, Any]) -> Iterator[Element]:
    """What a resource that is none of FHIR's own may say of its definition: FHIR R6's `resourceDefinition`."""
    url, version = value["url"], value.get("version")
    if not url.startswith(CANONICAL):
        known = (url,) if version is None else (url, f"{url}|{version}")
        yield Element("resourceDefinition", "canonical", enum=known)


class _Concept(msgspec.Struct):
    code: str


class _Include(msgspec.Struct):
    concept: list[_Concept]
    value_set: list[Any] = msgspec.field(default_factory=list, name="valueSet")


class _Compose(msgspec.Struct):
    include: list[_Include]
    exclude: list[Any] = []

    @property
    def is_list(self) -> bool:
        """Whether its codes are those that it lists, and no fewer."""
        return not self.exclude and not any(one.value_set for one in self.include)


class _Enumeration(msgspec.Struct):
    """A ValueSet that lists its codes."""

    compose: _Compose


def enumerated(contained: list[Any], binding: dict[str, Any]) -> tuple[str, ...]:
    """The codes of a required binding to a value set that the definition itself contains, where it lists them."""
    if binding.get("strength") != "required":
        return ()
    for one in contained:
        if binding.get("valueSet") == f"#{one.get('id')}":
            try:
                found = msgspec.convert(one, _Enumeration)
            except msgspec.ValidationError:
                continue
            listed = (concept.code for some in found.compose.include for concept in some.concept)
            return tuple(dict.fromkeys(listed)) if found.compose.is_list else ()
    return ()


def base_name(url: str, version: str) -> str:
    """A base by name where it is FHIR's own, else by URL; nothing for Base, which has no elements."""
    url = url.partition("|")[0]
    name = url.removeprefix(CANONICAL)
    if name == "Base":
        return ""
    return name if builtin.is_core_name(name, version) else url
