"""A type of one format written in another: as far as FHIRSchema can say what Entity and Attribute say. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventstore.errors import Invalid, Issue, Path
from eventstore.types.definition import EXTENSION, REFERENCE, Element, TypeDefinition
from eventstore.types.entity import MODIFIER_EXTENSION
from eventstore.types.fhirschema import EXTENDED
from eventstore.types.unique import Place

_OF_ALL = frozenset(("id", "meta", "resourceType", EXTENSION, MODIFIER_EXTENSION))


def fhir_schema(definition: TypeDefinition, url: str) -> dict[str, Any]:
    """A type that Entity and Attribute define, as a FHIRSchema with that URL.

    What FHIR is stricter in holds for it then: nothing empty or blank, and only FHIR's own keys beside the elements.
    Raises Invalid with every key that a FHIRSchema cannot say.
    """
    issues = list(_unsayable(definition))
    if issues:
        raise Invalid(issues)
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


def _flag(definition: TypeDefinition) -> dict[str, Any]:
    """The key that lets open objects in, where there is one."""
    is_open = definition.open or any(one.open for one in _every(definition.elements))
    return {EXTENDED: True} if is_open else {}


def _every(elements: tuple[Element, ...]) -> Iterator[Element]:
    for element in elements:
        yield element
        yield from _every(element.children)


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
    if element.enum:
        contained.append(_value_set("-".join(place), element.enum))
        said["binding"] = {"strength": "required", "valueSet": f"#{contained[-1]['id']}"}
    if element.type:
        return said
    below = _children(element.children, place, contained)
    return said | ({} if below else {"any": True}) | _open(element.open) | below


def _value_set(id: str, codes: tuple[Any, ...]) -> dict[str, Any]:
    concepts = [{"code": code} for code in codes]
    return {
        "resourceType": "ValueSet",
        "id": id,
        "status": "active",
        "compose": {"include": [{"concept": concepts}]},
    }


def _unsayable(definition: TypeDefinition) -> Iterator[Issue]:
    if definition.schema is not None:
        yield _not(("schema",), "schema", "write its rules as constraints")
    if definition.sequence is not None:
        yield _not(("idGeneration",), "idGeneration", "ids of a sequence are for Entities")
    yield from _unsayable_in(definition.elements, ())


def _unsayable_in(elements: tuple[Element, ...], above: Path) -> Iterator[Issue]:
    for element in (one for one in elements if one.name not in _OF_ALL or above):
        at = (*above, element.name)
        if element.name in _OF_ALL:
            continue
        if element.schema is not None:
            yield _not(at, "schema", "write its rules as constraints")
        if not all(isinstance(value, str) for value in element.enum):
            yield _not(at, "an enum of anything but strings", "write it as a constraint")
        if element.unique:
            yield _not(at, "isUnique", "it is for Attributes")
        if element.extension_url:
            yield _not(at, "extensionUrl", "define the extension by a profile of Extension")
        yield from _unsayable_in(element.children, at)


def _not(at: Path, key: str, instead: str) -> Issue:
    return Issue(f"a FHIRSchema cannot say {key}: {instead}", at, "not-supported")
