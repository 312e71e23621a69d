"""A type of one format written in another: as far as FHIR's formats can say what Entity and Attribute say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from eventstore.errors import Invalid, Issue, Path
from eventstore.types.definition import EXTENSION, REFERENCE, Element, TypeDefinition
from eventstore.types.entity import MODIFIER_EXTENSION
from eventstore.types.fhirschema import EXTENDED
from eventstore.types.table import CANONICAL
from eventstore.types.unique import Place

_OF_ALL = frozenset(("id", "meta", "resourceType", EXTENSION, MODIFIER_EXTENSION))


def fhir_schema(definition: TypeDefinition, url: str) -> dict[str, Any]:
    """A type that Entity and Attribute define, as a FHIRSchema with that URL.

    What FHIR is stricter in holds for it then: nothing empty or blank, and only FHIR's own keys beside the elements.
    Raises Invalid with every key that a FHIRSchema cannot say.
    """
    _check(definition, "FHIRSchema")
    about: dict[str, Any] = {
        "resourceType": "FHIRSchema",
        "id": definition.name,
        "url": url,
        "name": definition.name,
        "type": definition.name,
        "kind": "resource" if definition.kind != "type" else "complex-type",
        "derivation": "specialization",
        "base": "DomainResource" if definition.kind != "type" else "Element",
    }
    if definition.kind == "abstract":
        about["abstract"] = True
    contained: list[dict[str, Any]] = []
    about |= _open(definition.open) | _children(definition.elements, (), contained) | _flag(definition)
    return about | ({"contained": contained} if contained else {})


def structure_definition(definition: TypeDefinition, url: str) -> dict[str, Any]:
    """The same as a StructureDefinition, which cannot say either that a type or an object is open."""
    _check(definition, "StructureDefinition")
    is_type = definition.kind == "type"
    contained: list[dict[str, Any]] = []
    elements = list(_lines(definition.elements, (definition.name,), contained))
    about: dict[str, Any] = {
        "resourceType": "StructureDefinition",
        "id": definition.name,
        "url": url,
        "name": definition.name,
        "status": "active",
        "kind": "complex-type" if is_type else "resource",
        "abstract": definition.kind == "abstract",
        "type": definition.name,
        "baseDefinition": CANONICAL + ("Element" if is_type else "DomainResource"),
        "derivation": "specialization",
        "differential": {"element": [{"id": definition.name, "path": definition.name}, *elements]},
    }
    return about | ({"contained": contained} if contained else {})


def _lines(
    elements: tuple[Element, ...], above: Place, contained: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The ElementDefinitions of an object, those of its objects after each; a choice is one."""
    named: dict[str, list[Element]] = {}
    for element in (one for one in elements if one.name not in _OF_ALL):
        named.setdefault(f"{element.choice}[x]" if element.choice else element.name, []).append(element)
    for name, options in named.items():
        first, place = options[0], (*above, name)
        path = ".".join(place)
        line: dict[str, Any] = {
            "id": path,
            "path": path,
            "min": int(first.required),
            "max": "*" if first.collection else "1",
            "type": [_type(one) for one in options],
        }
        yield line | _bound(first, place[1:], contained)
        yield from _lines(first.children, place, contained)


def _type(element: Element) -> dict[str, Any]:
    targets = {"targetProfile": [CANONICAL + one for one in element.refers]} if element.refers else {}
    return {"code": element.type or "BackboneElement", **targets}


def _bound(element: Element, place: Place, contained: list[dict[str, Any]]) -> dict[str, Any]:
    """Its binding, or that which an enum becomes, to a value set that is added to what is contained."""
    if element.binding is not None:
        return {"binding": {"strength": element.binding.strength, "valueSet": element.binding.value_set}}
    if not element.enum:
        return {}
    contained.append(_value_set("-".join(place), element.enum))
    return {"binding": {"strength": "required", "valueSet": f"#{contained[-1]['id']}"}}


def _check(definition: TypeDefinition, format: str) -> None:
    if issues := list(_unsayable(definition, format)):
        raise Invalid(issues)


def _flag(definition: TypeDefinition) -> dict[str, Any]:
    """The key that lets open objects in, where there is one."""
    is_open = definition.open or any(one.open for one in definition.every)
    return {EXTENDED: True} if is_open else {}


def _open(is_open: bool) -> dict[str, Any]:
    return {"additionalProperties": {"any": True}} if is_open else {}


def _children(elements: tuple[Element, ...], above: Place, contained: list[dict[str, Any]]) -> dict[str, Any]:
    """The elements of an object; value sets of their enums are added to what is contained."""
    own = [one for one in elements if one.name not in _OF_ALL]
    found: dict[str, Any] = {}
    for one in own:
        if one.choice:
            found.setdefault(one.choice, {"choices": []})["choices"].append(one.name)
        found[one.name] = _element(one, (*above, one.name), contained)
    required = list(dict.fromkeys(one.choice or one.name for one in own if one.required))
    return ({"elements": found} if found else {}) | ({"required": required} if required else {})


def _element(element: Element, place: Place, contained: list[dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {"type": element.type} if element.type else {}
    if element.choice:
        said["choiceOf"] = element.choice
    said |= {"array": True} if element.collection else {"scalar": True}
    if element.refers:
        said |= {"type": REFERENCE, "refers": list(element.refers)}
    said |= _bound(element, place, contained)
    if element.type:
        return said
    below = _children(element.children, place, contained)
    return said | ({} if below else {"any": True}) | _open(element.open) | below


def _value_set(id: str, codes: tuple[Any, ...]) -> dict[str, Any]:
    include = {"system": _OF_ENUMS, "concept": [{"code": code} for code in codes]}
    name = re.sub("[^A-Za-z0-9]", "", id.title())
    return {
        "resourceType": "ValueSet",
        "id": id,
        "name": name,
        "status": "active",
        "compose": {"include": [include]},
    }


_OF_ENUMS = "urn:quire:enum"
"""The system of codes that come from an enum, which has none."""


def _unsayable(definition: TypeDefinition, format: str) -> Iterator[Issue]:
    if definition.schema is not None:
        yield _not(format, ("schema",), "schema", "write its rules as constraints")
    if definition.sequence is not None:
        yield _not(format, ("idGeneration",), "idGeneration", "ids of a sequence are for Entities")
    if definition.open and format != "FHIRSchema":
        yield _not(format, ("isOpen",), "isOpen", "dump it as a FHIRSchema")
    yield from _unsayable_in(definition.elements, (), format)


def _unsayable_in(elements: tuple[Element, ...], above: Path, format: str) -> Iterator[Issue]:
    for element in (one for one in elements if one.name not in _OF_ALL):
        at = (*above, element.name)
        if element.schema is not None:
            yield _not(format, at, "schema", "write its rules as constraints")
        if not all(isinstance(value, str) for value in element.enum):
            yield _not(format, at, "an enum of anything but strings", "write it as a constraint")
        if element.binding is not None and element.binding.value_set.startswith("ValueSet/"):
            yield _not(format, at, "a valueSet by its id", "name it by its url, as valueSet: {uri: ...}")
        if element.unique:
            yield _not(format, at, "isUnique", "it is for Attributes")
        if element.extension_url:
            yield _not(format, at, "extensionUrl", "define the extension by a profile of Extension")
        if element.open and format != "FHIRSchema":
            yield _not(format, at, "isOpen", "dump it as a FHIRSchema")
        yield from _unsayable_in(element.children, at, format)


def _not(format: str, at: Path, key: str, instead: str) -> Issue:
    return Issue(f"a {format} cannot say {key}: {instead}", at, "not-supported")
