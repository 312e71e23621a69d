"""Types as JSON Schema 2020-12: as they are published, and as the engine is given them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache

import msgspec

from eventstore.errors import Invalid
from eventstore.types.datatypes import fhir
from eventstore.types.definition import (
    EXTENSION,
    Element,
    Layer,
    Library,
    Site,
    TypeDefinition,
    choice_key,
    holds_resource,
    layers_at,
    layers_of,
    sites,
    target_of,
)
from eventstore.types.fragment import merge, split
from eventstore.types.jsonschema import DIALECT, Schema, listed

NEVER_REFUSED = "^(_.*|fhir_.*)"
"""Keys that are let in everywhere, where the rules are not FHIR's own."""

_SLOT: Schema = {
    "type": "object",
    "required": ["resourceType"],
    "properties": {"resourceType": {"type": "string"}},
}
"""A place for a whole resource: it is checked as what it says it is, by the plan."""

MAX_KEYS = 4_000
"""Of all objects that are written out in one type: those of a data type too, where an element adds to it."""

STRICT = "fhir:"
"""Before the name of what a type is made of, where FHIR's own rules hold in it."""

NO_TWIN = frozenset(("id", "resourceType"))
"""Primitives that have no `_x`."""

_ONLY_AN_ID: Schema = {
    "type": "object",
    "required": ["id"],
    "maxProperties": 1,
    "$comment": "an id alone says nothing: leave it out",
}


def publish(definition: TypeDefinition, library: Library, *, strict: bool = False) -> Schema:
    """The schema of a type, or of a profile what it adds. `strict` has FHIR's own rules in it.

    Raises Invalid when a fragment contradicts the rest of the definition.
    """
    strict = strict or definition.strict
    if definition.kind == "primitive":
        return dict((_FULL.get(definition.name) if strict else None) or definition.schema or {})
    publisher = Publisher(library, strict=strict)
    alone = definition.kind == "resource" or (strict and definition.name == "Element")
    schema = publisher.object(layers_of(definition, library), alone=alone)
    if definition.schema:
        merge(schema, deepcopy(definition.schema))
    return schema


def shared(definition: TypeDefinition, library: Library, *, strict: bool = False) -> dict[str, Schema]:
    """The schemas of those elements of a type that others in it point at, by what they are called."""
    publisher = Publisher({**library, definition.name: definition}, strict=strict or definition.strict)
    found: dict[str, Schema] = {}
    for one in definition.every:
        if one.content and one.content not in found:
            found[one.content] = publisher.target(one.content)
    return found


_FULL: dict[str, Schema] = {
    "string": {"type": "string", "pattern": r"\S", "maxLength": 1024 * 1024},
    "markdown": {"type": "string", "pattern": r"\S"},
    "xhtml": {"type": "string", "pattern": r"\S"},
    "base64Binary": {"type": "string", "contentEncoding": "base64", "minLength": 1},
    **{name: {"type": "string", "pattern": r"^\S+$"} for name in ("uri", "url", "canonical")},
}
"""Primitives as FHIR's own rules have them: never empty, never blank."""


class Publisher:
    """Writes schemas by one set of rules."""

    def __init__(self, library: Library, *, strict: bool) -> None:
        self._library = library
        self._strict = strict
        self._left = MAX_KEYS

    def target(self, content: str) -> Schema:
        element = target_of(content, self._library)
        return self.object(layers_at(Site(element.name, ((element, True),)), self._library))

    def object(self, layers: tuple[Layer, ...], *, alone: bool = False) -> Schema:
        """An object, closed where all that is known of it is in the layers, and none of them is open."""
        there = sites(layers)
        self._left -= len(there)
        if self._left < 0:
            raise Invalid(f"the type would have more than {MAX_KEYS} keys in its objects", code="too-long")
        properties = {one.name: self._value(one) for one in there if self._is_a_key(one)}
        is_whole = all(layer.stated for layer in layers)
        schema = self._head(there, alone) if is_whole else {}
        schema["properties"] = properties
        if is_whole and self._strict:
            properties |= {f"_{one.name}": _twin(one) for one in there if self._has_twin(one)}
        for key, remedy in _misplaced(layers):
            properties.setdefault(key, {"not": {"$comment": remedy}})
        for key, remedy in _narrowed(layers, there):
            properties[key] = {"not": {"$comment": remedy}}
        if held := [one for site in there for one in site.stated if one.extension_url]:
            properties[EXTENSION]["items"]["allOf"] = [self._extension_rule(one) for one in held]
        if required := [one.name for one in there if self._is_required(one)]:
            schema["required"] = required
        if rest := [layer.rest for layer in layers if layer.rest is not None]:
            schema["additionalProperties"] = self._value(Site("*", ((rest[0], True),)))
        elif is_whole and not any(layer.open for layer in layers):
            schema["additionalProperties"] = False
        return schema

    def _head(self, there: list[Site], alone: bool) -> Schema:
        """`alone` is a resource, or what belongs to a primitive: it may have an id and nothing else."""
        schema: Schema = {"type": "object"}
        if alone or self._strict:
            schema["minProperties"] = 1
        if not self._strict:
            schema["patternProperties"] = {NEVER_REFUSED: {}}
        elif not alone and any(site.name == "id" for site in there):
            schema["not"] = _ONLY_AN_ID
        return schema

    def _is_a_key(self, site: Site) -> bool:
        return any(not element.extension_url for element in site.stated)

    def _is_required(self, site: Site) -> bool:
        """Whether the schema can say so. A primitive may be there by its `_x` alone, a choice by any option."""
        return site.required and not (self._strict and self._is_primitive(site))

    def _is_primitive(self, site: Site) -> bool:
        used = self._library.get(site.shape.type)
        return used is not None and used.kind == "primitive" and used.name != "*"

    def _has_twin(self, site: Site) -> bool:
        return self._is_primitive(site) and site.name not in NO_TWIN

    def _value(self, site: Site) -> Schema:
        if any(element.excluded for element in site.stated):
            return {"not": {"$comment": "not allowed here"}}
        one: Schema = self._single(site)
        array: Schema = {}
        for element in site.stated:
            fragment = deepcopy(element.schema or {})
            of_array, of_items = split(fragment) if site.collection else ({}, fragment)
            merge(one, of_items)
            merge(array, of_array)
        if not site.collection:
            return one
        return self._array(site, one, array)

    def item(self, site: Site) -> Schema:
        """What is stated of one item at a key."""
        one = self._single(site)
        for element in site.stated:
            merge(
                one,
                split(deepcopy(element.schema or {}))[1]
                if site.collection
                else deepcopy(element.schema or {}),
            )
        return one

    def _array(self, site: Site, one: Schema, rest: Schema) -> Schema:
        items = self._with_gaps(one, site)
        array: Schema = (
            {"type": "array", "items": items} if site.is_new else {"items": items} if items else {}
        )
        if any(one.required for one in site.stated) or (self._strict and site.is_new):
            array["minItems"] = 1
        merge(array, rest)
        return {"if": {"type": "array"}, "then": array, "else": one} if site.either else array

    def _with_gaps(self, one: Schema, site: Site) -> Schema:
        """An item of an array of primitives may be null: the place of an extension in the array's twin."""
        used = self._library.get(site.shape.type)
        if used is None or "type" not in (used.schema or {}):
            return one
        item = dict(one)
        if "$ref" in item:
            item["$ref"] += _OR_NULL
        elif "type" in item:
            item["type"] = [item["type"], "null"]
        if "enum" in item:
            item["enum"] = [*item["enum"], None]
        return item

    def _single(self, site: Site) -> Schema:
        shape = site.shape
        schema: Schema = self._typed(site, shape) if site.is_new or self._is_nested(site) else {}
        for element in site.stated:
            if element.enum and not self._is_coded(site):
                merge(schema, {"enum": list(element.enum)})
        return schema

    def _is_coded(self, site: Site) -> bool:
        """Whether the value is an object that holds the code: which one is for the plan to look at."""
        used = self._library.get(site.shape.type)
        return used is not None and used.kind == "type"

    def _is_nested(self, site: Site) -> bool:
        """Whether there is more to say of the object at that key than that it is of its type."""
        return not self._is_primitive(site) and any(
            one.children or one.open or len(one.profiles) == 1 for one in site.stated
        )

    def _typed(self, site: Site, shape: Element) -> Schema:
        used = self._library.get(shape.type)
        if shape.type and used is None:
            return {}
        if used is not None and used.kind == "primitive":
            is_any = used.name == "*"
            return self._named(used.name) if self._strict and not is_any else dict(used.schema or {})
        if used is not None and holds_resource(used.name, self._library):
            return deepcopy(_SLOT)
        if self._is_nested(site) or not (used or shape.content):
            return self.object(layers_at(site, self._library))
        return _reference(shape.content) if shape.content else self._named(shape.type)

    def _named(self, name: str) -> Schema:
        return _reference(STRICT + name if self._strict else name)

    def _extension_rule(self, element: Element) -> Schema:
        """An extension of this URL holds a value of the element's type."""
        key = choice_key("value", element.type)
        single = msgspec.structs.replace(element, collection=False)
        value = self._value(Site(element.name, ((single, True),)))
        url = {"properties": {"url": {"const": element.extension_url}}, "required": ["url"]}
        return {"if": url, "then": {"properties": {key: value}, "required": [key]}}


_OR_NULL = "_or_null"


def _twin(site: Site) -> Schema:
    """What may stand at `_x`, beside a primitive `x`."""
    if not site.collection:
        return _reference(STRICT + "Element")
    array: Schema = {"type": "array", "minItems": 1, "items": _reference(STRICT + "Element" + _OR_NULL)}
    return (
        {"if": {"type": "array"}, "then": array, "else": _reference(STRICT + "Element")}
        if site.either
        else array
    )


def _reference(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _misplaced(layers: tuple[Layer, ...]) -> Iterator[tuple[str, str]]:
    """Keys that people use where another is right, and which."""
    elements = [element for layer in reversed(layers) if layer.stated for element in layer.elements]
    for choice in dict.fromkeys(element.choice for element in elements if element.choice):
        if left := [name for name in _options(elements, choice) if not name.endswith("[x]")]:
            yield choice, f"use {listed(left, ' or ')}"
    for element in elements:
        if element.extension_url:
            key = choice_key("value", element.type)
            yield element.name, f"use {EXTENSION}: [{{url: {element.extension_url}, {key}: ...}}]"


def _narrowed(layers: tuple[Layer, ...], there: list[Site]) -> Iterator[tuple[str, str]]:
    """The options of a choice that a layer above leaves out."""
    for layer in layers:
        for choice in dict.fromkeys(one.choice for one in layer.elements if one.choice and layer.stated):
            left = _options(layer.elements, choice)
            for site in there if f"{choice}[x]" not in left else ():
                if site.shape.choice == choice and site.name not in left:
                    yield site.name, f"use {listed(left, ' or ')}"


def _options(elements: Iterable[Element], choice: str) -> list[str]:
    return [element.name for element in elements if element.choice == choice]


def names_of(part: TypeDefinition, *, strict: bool) -> tuple[str, ...]:
    """What the schemas of a type that others are made of are called."""
    if not strict:
        return (part.name,) if part.kind != "primitive" else ()
    has_gaps = part.kind == "primitive" or part.name == "Element"
    return (STRICT + part.name, STRICT + part.name + _OR_NULL) if has_gaps else (STRICT + part.name,)


PARTS = ("type", "abstract", "primitive")


@cache
def published_datatypes(version: str, *, strict: bool = False) -> Mapping[str, Schema]:
    """The schemas of the built-in types that others are made of."""
    library = fhir(version)
    found = {name: publish(one, library, strict=strict) for name, one in library.items() if one.kind in PARTS}
    if not strict:
        return found
    found["Element" + _OR_NULL] = {"if": {"type": "null"}, "then": {}, "else": _reference(STRICT + "Element")}
    for name, one in library.items():
        if one.kind == "primitive":
            found[name + _OR_NULL] = {**found[name], "type": [found[name]["type"], "null"]}
    return {STRICT + name: schema for name, schema in found.items()}


def whole(schemas: Mapping[str, Schema], resources: Iterable[str]) -> Schema:
    """One document of all types, which tells by `resourceType` which of the resources an instance has to be."""
    names = list(resources)
    rules = [
        {"if": {"properties": {"resourceType": {"const": name}}}, "then": {"$ref": f"#/definitions/{name}"}}
        for name in names
    ]
    known = {"resourceType": {"type": "string", "enum": names}}
    head = {"$schema": DIALECT, "type": "object", "required": ["resourceType"], "properties": known}
    return {**head, "allOf": rules, "definitions": dict(schemas)}
