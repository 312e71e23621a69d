"""Definitions by Entity and Attribute resources, read into the one form inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from eventstore.errors import Invalid, Issue, Path
from eventstore.types.datatypes import PART
from eventstore.types.definition import (
    EXTENSION,
    REFERENCE,
    REQUIRED,
    Binding,
    Element,
    Kind,
    TypeDefinition,
    choice_key,
)
from eventstore.types.format import Names
from eventstore.types.terminology import VALUE_SETS

MODIFIER_EXTENSION = "modifierExtension"

_MODIFIABLE = (*PART, Element(MODIFIER_EXTENSION, "Extension", collection=True))
_RESERVED_AT_TOP = frozenset({"id", "resourceType", "meta", EXTENSION, MODIFIER_EXTENSION})
_RESERVED_BELOW = frozenset({EXTENSION, MODIFIER_EXTENSION})
_RESERVED_PREFIX = "fhir_"

_UNAVAILABLE = ("isMeta", "nonPersistable", "history")
"""What of an Entity is not built."""

_CODED = frozenset((
    "code", "string", "uri", "url", "canonical", "id", "markdown", "Coding", "CodeableConcept", "CodeableReference",
    "Quantity", "Age", "Count", "Distance", "Duration",
))  # fmt: skip
"""The types whose values have codes."""


class EntitySpec(msgspec.Struct, frozen=True):
    """What an Entity says of its type."""

    kind: Kind
    open: bool
    schema: dict[str, Any] | None
    sequence: str | None = None
    """What the ids that the server gives begin with; None: they are UUIDs."""


class AttributeSpec(msgspec.Struct, frozen=True):
    """What an Attribute says of the elements of its owner."""

    id: str
    owner: str
    path: tuple[str, ...]
    elements: tuple[Element, ...]
    """One; or of a union one for each type."""
    used: tuple[tuple[Path, str], ...]
    """Names of the types that the elements have, and where in the Attribute each is named."""
    bound: bool = False
    """Whether codes are from a value set."""

    @property
    def is_object(self) -> bool:
        return not self.elements[0].type

    @property
    def extension_url(self) -> str:
        return self.elements[0].extension_url

    @property
    def keys(self) -> frozenset[str]:
        """What it takes up among its neighbours."""
        return frozenset((self.path[-1], *(element.name for element in self.elements)))


def _unavailable(value: dict[str, Any]) -> Iterator[Issue]:
    for field in _UNAVAILABLE:
        if value.get(field):
            yield Issue(f"{field} is not available in this version: leave it out", (field,), "not-supported")


def read_entity(value: dict[str, Any]) -> EntitySpec:
    """Read an Entity that its own schema has let in. Raises Invalid."""
    issues = list(_unavailable(value))
    if value["type"] == "primitive":
        why = "primitive types cannot be defined: use an Attribute of a built-in one with a schema"
        issues.append(Issue(why, ("type",), "not-supported"))
    is_open, schema = value.get("isOpen", False), value.get("schema")
    if not is_open and "additionalProperties" in (schema or {}):
        issues.append(_closed())
    issues.extend(_numbering(value))
    if issues:
        raise Invalid(issues)
    sequence = value.get("sequencePrefix", "") if value.get("idGeneration") == "sequence" else None
    return EntitySpec(value["type"], is_open, schema, sequence)


def _numbering(value: dict[str, Any]) -> Iterator[Issue]:
    """What makes no sense of how the server gives ids."""
    if "idGeneration" in value and value["type"] != "resource":
        yield Issue("idGeneration is for types of resources", ("idGeneration",), "value")
    if "sequencePrefix" in value and value.get("idGeneration") != "sequence":
        yield Issue("sequencePrefix is for idGeneration: sequence", ("sequencePrefix",), "value")


def _closed() -> Issue:
    why = "additionalProperties is for objects that say isOpen: true"
    return Issue(why, ("schema", "additionalProperties"), "value")


def read_attribute(id: str, value: dict[str, Any]) -> AttributeSpec:
    """Read an Attribute that its own schema has let in. Raises Invalid with everything that makes no sense."""
    issues = [*_reserved(value["path"]), *_contradictions(value)]
    used = list(_used(value, issues))
    owner = type_named(value["resource"], ("resource",), issues)
    refers = tuple(
        type_named(target, ("refers", index), issues) for index, target in enumerate(value.get("refers", ()))
    )
    names = [name for _, name in used] or ([REFERENCE] if refers else [])
    if refers and REFERENCE not in names:
        issues.append(Issue("refers is for a Reference: leave the type out", ("refers",), "value"))
    elements = tuple(_elements(value, names, refers))
    issues = issues or list(_options(elements, len(value["path"]) - 1))
    if issues:
        raise Invalid(issues)
    return AttributeSpec(id, owner, tuple(value["path"]), elements, tuple(used), bool(value.get("valueSet")))


def type_named(target: Any, path: Path, issues: list[Issue]) -> str:
    """The name in `{id, resourceType: Entity}`, `{reference: "Entity/X"}` or, in a list, just `X`."""
    if isinstance(target, str):
        return target
    id, reference = target.get("id"), target.get("reference")
    if reference is not None and not reference.startswith("Entity/"):
        issues.append(Issue("expected a reference to an Entity: Entity/X", (*path, "reference"), "value"))
    elif id is None and reference is None:
        issues.append(Issue("is required: name the Entity", (*path, "id"), "required"))
    elif id is not None and reference not in (None, f"Entity/{id}"):
        issues.append(Issue("id and reference name different Entities", (*path, "reference"), "value"))
    return str(id) if id is not None else str(reference).removeprefix("Entity/")


def _used(value: dict[str, Any], issues: list[Issue]) -> Iterator[tuple[Path, str]]:
    if "type" in value:
        yield ("type",), type_named(value["type"], ("type",), issues)
    for index, target in enumerate(value.get("union", ())):
        yield ("union", index), type_named(target, ("union", index), issues)


def _reserved(path: list[str]) -> Iterator[Issue]:
    for index, name in enumerate(path):
        if name in (_RESERVED_BELOW if index else _RESERVED_AT_TOP):
            yield Issue(f"{name} is reserved: every type has it", ("path", index), "value")
        elif name.startswith(_RESERVED_PREFIX):
            yield Issue(f"names beginning {_RESERVED_PREFIX} are reserved", ("path", index), "value")


def _options(elements: tuple[Element, ...], depth: int) -> Iterator[Issue]:
    """What is wrong with the keys of a union."""
    seen = set(_RESERVED_BELOW if depth else _RESERVED_AT_TOP)
    for index, element in enumerate(elements if elements[0].choice else ()):
        if element.name in seen:
            yield Issue(f"{element.name} is there already", ("union", index), "value")
        seen.add(element.name)


def _contradictions(value: dict[str, Any]) -> Iterator[Issue]:
    """Fields that make no sense beside one another."""
    has_type = "type" in value or "union" in value or "refers" in value
    for one, other in (
        ("type", "union"),
        ("enum", "union"),
        ("enum", "refers"),
        ("enum", "valueSet"),
        ("schema", "union"),
    ):
        if one in value and other in value:
            yield Issue(f"{one} and {other} exclude one another", (one,), "value")
    for flag in ("isCollection", "extensionUrl"):
        if value.get(flag) and "union" in value:
            yield Issue(f"{flag} and union exclude one another: a choice has one value", (flag,), "value")
    if value.get("isOpen") and has_type:
        yield Issue("isOpen is for objects without a type", ("isOpen",), "value")
    if "extensionUrl" in value and not has_type:
        yield Issue("an extension needs a type: say which it holds", ("extensionUrl",), "value")
    for field, what in (("enum", "an enum"), ("valueSet", "a valueSet")):
        if value.get(field) and not has_type:
            yield Issue(f"{what} needs a type: say which it is", (field,), "value")
    if value.get("valueSet") and not value_set_of(value["valueSet"]):
        yield Issue("is required: name the ValueSet by id, reference or uri", ("valueSet", "id"), "required")
    if "additionalProperties" in value.get("schema", ()) and not value.get("isOpen"):
        yield _closed()


def _elements(value: dict[str, Any], types: list[str], refers: tuple[str, ...]) -> Iterator[Element]:
    name, is_choice = value["path"][-1], "union" in value
    for type in types or [""]:
        yield Element(
            choice_key(name, type) if is_choice else name,
            type,
            open=value.get("isOpen", False),
            required=value.get("isRequired", False),
            collection=value.get("isCollection", False),
            choice=name if is_choice else "",
            enum=tuple(value.get("enum", ())),
            refers=refers if type == REFERENCE else (),
            extension_url=value.get("extensionUrl", ""),
            unique=value.get("isUnique", False),
            schema=value.get("schema"),
            binding=_binding(value) if type in _CODED else None,
        )


def _binding(value: dict[str, Any]) -> Binding | None:
    """Codes are from there, and from nowhere else."""
    name = value_set_of(value.get("valueSet", {}))
    return Binding(REQUIRED, name) if name else None


def value_set_of(named: dict[str, Any]) -> str:
    """The one that an Attribute names: `{uri: http://...}`, `{reference: ValueSet/colors}` or `{id: colors}`."""
    by_id = f"{VALUE_SETS}/{named['id']}" if "id" in named else ""
    return str(named.get("uri") or named.get("reference") or by_id)


_WHY_NOT = {
    "resource": "is a resource type: to point to one, use refers",
    "abstract": "is abstract: no element can be just that",
}


def link(spec: AttributeSpec, names: Names) -> Iterator[Issue]:
    """What is wrong with the types that an Attribute names."""
    for path, name in spec.used:
        kind = names.kind_of(name)
        if why := names.why_unknown(name) if kind is None else _WHY_NOT.get(kind, ""):
            yield Issue(f"{name} {why}", path, "value")
    first = spec.elements[0]
    if first.enum and names.kind_of(first.type) == "type":
        yield Issue(f"an enum is for primitive types, and {first.type} is none", ("enum",), "value")
    if spec.bound and not any(name in _CODED for _, name in spec.used):
        yield Issue(f"a valueSet is for codes, and {first.type} has none", ("valueSet",), "value")
    if first.extension_url and not names.is_in_extensions(first.type):
        yield Issue(f"an extension cannot hold a {first.type}", ("extensionUrl",), "value")


def aim(spec: AttributeSpec, names: Names) -> Iterator[Issue]:
    """What is wrong with the types that an Attribute refers to."""
    targets = next((element.refers for element in spec.elements if element.refers), ())
    for index, target in enumerate(targets):
        if not names.is_target(target):
            yield Issue(f"there is no resource type {target}", ("refers", index), "value")


def clash(new: AttributeSpec, old: AttributeSpec) -> str:
    """Why two Attributes of one type cannot both be; nothing when they can."""
    upper, lower = sorted((new, old), key=lambda spec: len(spec.path))
    depth = len(upper.path) - 1
    if upper.path[:depth] != lower.path[:depth]:
        return ""
    are_level = len(lower.path) == len(upper.path)
    if upper.path[depth] == lower.path[depth]:
        return "" if upper.is_object and not are_level else _overlap(new, old)
    if both := upper.keys & (lower.keys if are_level else {lower.path[depth]}):
        return f"the key {min(both)} is that of Attribute {old.id}"
    if are_level and upper.extension_url and upper.extension_url == lower.extension_url:
        return f"the extension {upper.extension_url} is that of Attribute {old.id}"
    return ""


def _overlap(new: AttributeSpec, old: AttributeSpec) -> str:
    if new.path == old.path:
        return f"the path {'.'.join(new.path)} is that of Attribute {old.id}"
    if len(old.path) < len(new.path):
        names = " or ".join(element.type for element in old.elements)
        return f"{'.'.join(old.path)} is {names} by Attribute {old.id}: there are no elements to add in it"
    return f"Attribute {old.id} is inside it: only an object without a type has elements of its own"


def assemble(name: str, entity: EntitySpec, attributes: Iterable[AttributeSpec]) -> TypeDefinition:
    """The definition of a type from its Entity and those of its Attributes, which are known not to clash."""
    standard: tuple[Element, ...] = _MODIFIABLE
    if entity.kind == "resource":
        type = Element("resourceType", "string", schema={"const": name})
        standard = (*_MODIFIABLE, Element("meta", "Meta"), type)
    elements = (*standard, *_level(list(attributes), 0))
    return TypeDefinition(name, entity.kind, elements, entity.open, entity.schema, sequence=entity.sequence)


def _level(specs: list[AttributeSpec], depth: int) -> Iterator[Element]:
    """The elements at one depth of the paths; parents that no Attribute defines are closed objects."""
    grouped: dict[str, list[AttributeSpec]] = {}
    for spec in specs:
        grouped.setdefault(spec.path[depth], []).append(spec)
    for name, group in grouped.items():
        own = [spec for spec in group if len(spec.path) == depth + 1]
        if own and not own[0].is_object:
            yield from own[0].elements
        else:
            element = own[0].elements[0] if own else Element(name)
            children = tuple(_level([spec for spec in group if len(spec.path) > depth + 1], depth + 1))
            named = {child.name for child in children}
            standard = tuple(element for element in _MODIFIABLE if element.name not in named)
            yield msgspec.structs.replace(element, children=(*standard, *children))
