"""What FHIRPath knows of types: the fields of each, what it is based on, and how its name may be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventstore.types.datatypes import open_types
from eventstore.types.definition import Element, TypeDefinition
from eventstore.types.fhirpath.values import READ_TYPES, Node


class Field(msgspec.Struct, frozen=True, gc=False):
    """A key of an object, and what stands there."""

    key: str
    twin: str
    """The key of what belongs to a primitive: `_key`."""
    name: str
    """Of the element: `value` for `valueQuantity`."""
    type: str
    slot: bool = False
    """Any resource: its type is in its `resourceType`."""


class Shape(msgspec.Struct, frozen=True):
    """The fields of a type, by the name of the element and by key."""

    named: dict[str, tuple[Field, ...]]
    keyed: dict[str, Field]


def _field(key: str, type: str, name: str = "") -> Field:
    return Field(key, f"_{key}", name or key, type, type in _ANY_RESOURCE)


_ANY_RESOURCE = frozenset(("", "Resource", "DomainResource"))

_COMMON = {
    field.key: field
    for field in (
        _field("id", "id"),
        _field("meta", "Meta"),
        _field("implicitRules", "uri"),
        _field("language", "code"),
        _field("text", "Narrative"),
        _field("contained", "Resource"),
        _field("extension", "Extension"),
        _field("modifierExtension", "Extension"),
    )
}
"""Fields that mean the same wherever they are; `text` is a Narrative in a resource only."""

_COMMON_OF_ALL = {
    key: field for key, field in _COMMON.items() if key in ("id", "extension", "modifierExtension")
}

_SUFFIXES = {type[:1].upper() + type[1:]: type for type in (*open_types("5.0.0"), "Contributor")}
"""What may end the key of a choice, where the type is not known."""

_TEXTS = ("code", "id", "markdown")
_URIS = ("canonical", "oid", "url", "uuid")
_QUANTITIES = ("Age", "Count", "Distance", "Duration", "MoneyQuantity", "SimpleQuantity")
_BASES = (
    dict.fromkeys(_TEXTS, "string")
    | dict.fromkeys(_URIS, "uri")
    | dict.fromkeys(("positiveInt", "unsignedInt"), "integer")
    | dict.fromkeys(_QUANTITIES, "Quantity")
    | {"DomainResource": "Resource"}
)


def base_of(type: str) -> str:
    """What FHIR's own data types are based on, as far as an expression can ask for it."""
    return _BASES.get(type, "")


class Types:
    """The types that are known at a moment. Threads may share it; it only ever learns.

    `find` gives the definition of a name, or None; `base` the name of what a type is based on, or nothing.
    """

    def __init__(
        self, find: Callable[[str], TypeDefinition | None], base: Callable[[str], str] = base_of
    ) -> None:
        self._find = find
        self._base = base
        self._shapes: dict[str, Shape | None] = {}

    def shape(self, type: str) -> Shape | None:
        """The fields of a type; None for one that is not known."""
        try:
            return self._shapes[type]
        except KeyError:
            return self._shapes.setdefault(type, self._shape(type))

    def is_a(self, type: str, wanted: str) -> bool:
        """A type is the wanted one, or based on it. `wanted` is dotted: `acme.Device` for `acme-Device`."""
        seen: set[str] = set()
        while type and type not in seen:
            if type.replace("-", ".") == wanted:
                return True
            seen.add(type)
            type = self._base(type)
        return False

    def _shape(self, type: str) -> Shape | None:
        elements = self._elements(type)
        if elements is None:
            return None
        named: dict[str, tuple[Field, ...]] = {name: (field,) for name, field in _COMMON_OF_ALL.items()}
        for element in elements:
            if not element.extension_url:
                name = element.choice or element.name
                field = _field(element.name, element.type or f"{type}.{element.name}", name)
                named[name] = (*(named.get(name, ()) if element.choice else ()), field)
        return Shape(named, {field.key: field for fields in named.values() for field in fields})

    def _elements(self, type: str) -> tuple[Element, ...] | None:
        """The elements of a type, or of an element without a type that is named by its path."""
        if definition := self._find(type):
            return definition.elements
        parent, _, name = type.rpartition(".")
        for element in (self._elements(parent) or ()) if parent else ():
            if element.name == name and not element.type and element.children:
                return element.children
        return None


def children_named(items: list[Any], name: str, types: Types) -> list[Any]:
    """The children of that element name of each node."""
    found: list[Any] = []
    for node in items:
        if type(node) is not Node:
            continue
        value = node.value
        if type(value) is not dict:
            if type(node.twin) is dict and name in _COMMON_OF_ALL:
                _add(found, node, node.twin, _COMMON_OF_ALL[name])
            elif name == "value" and value is not None:
                found.append(value)
            continue
        for field in _fields(node.type, value, name, types):
            _add(found, node, value, field)
    return found


def keys_of(names: frozenset[str] | None, type: str, shape: Shape) -> frozenset[str] | None:
    """By which keys an object of the type has something that is asked for by one of the names.

    None where that is not told by keys: of the names, or as one of them is that of the type.
    """
    if names is None or type.replace("-", ".").partition(".")[0] in names:
        return None
    keys = names.union(field.key for name in names for field in shape.named.get(name, ()))
    return keys.union(f"_{key}" for key in keys)


def is_there(node: Node, name: str, types: Types) -> bool:
    """A node has a child of that element name."""
    value = node.value
    if type(value) is not dict:
        return bool(children_named([node], name, types))
    for field in _fields(node.type, value, name, types):
        if value.get(field.key) not in _NOTHING or value.get(field.twin) not in _NOTHING:
            return True
    return False


_NOTHING: tuple[Any, ...] = (None, [])


def plain_text(node: Node, name: str, types: Types) -> str | None:
    """The one child of that name, where it is a text that is computed with as it stands; else None."""
    value = node.value
    fields = _fields(node.type, value, name, types) if type(value) is dict else ()
    if len(fields) != 1 or fields[0].type in READ_TYPES:
        return None
    text = value.get(fields[0].key)
    return text if type(text) is str else None


def _fields(type: str, value: dict[str, Any], name: str, types: Types) -> tuple[Field, ...]:
    shape = types.shape(type)
    if shape is not None and name in shape.named:
        fields = shape.named[name]
        return fields if len(fields) <= len(value) else _options(shape, value, name)
    if name in value or f"_{name}" in value:
        return (_COMMON.get(name) or _field(name, ""),)
    if shape is not None:
        return ()
    return tuple(
        _field(key, _SUFFIXES[key[len(name) :]], name)
        for key in value
        if key.startswith(name) and key[len(name) :] in _SUFFIXES
    )


def _options(shape: Shape, value: dict[str, Any], name: str) -> tuple[Field, ...]:
    """Of a choice of many types those that an object has."""
    there = dict.fromkeys(key[1:] if key[:1] == "_" else key for key in value if name in key)
    fields = [shape.keyed[key] for key in there if key in shape.keyed]
    return tuple(field for field in fields if field.name == name)


def _add(found: list[Any], node: Node, value: dict[str, Any], field: Field) -> None:
    item, twin, kind = value.get(field.key), value.get(field.twin), field.type
    if type(item) is list or type(twin) is list:
        items, twins = _listed(item), _listed(twin)
        for index in range(max(len(items), len(twins))):
            one = items[index] if index < len(items) else None
            other = twins[index] if index < len(twins) else None
            if one is not None or other is not None:
                found.append(
                    Node(one, _type_of(one, kind) if field.slot else kind, other, node, field.key, index)
                )
    elif item is not None or twin is not None:
        found.append(Node(item, _type_of(item, kind) if field.slot else kind, twin, node, field.key))


def _listed(value: Any) -> list[Any]:
    """The items of an array, and of what is none itself: a resource that was looked up may be of an open type."""
    return value if type(value) is list else [] if value is None else [value]


def _type_of(value: Any, declared: str) -> str:
    """Of what stands where any resource may."""
    if type(value) is dict:
        named = value.get("resourceType")
        return named if type(named) is str else declared
    if type(value) is bool:
        return "boolean"
    return declared or ("integer" if type(value) is int else "decimal" if isinstance(value, float) else "")


def children(node: Node, types: Types) -> list[Any]:
    """All that is directly in a node."""
    found: list[Any] = []
    value = node.value if type(node.value) is dict else node.twin
    if type(value) is not dict:
        return found
    shape = types.shape(node.type)
    keyed = shape.keyed if shape is not None else {}
    for key in value:
        if key[:1] == "_":
            key = key[1:]  # noqa: PLW2901 - the twin of a primitive that is there is taken with it
            if key in value:
                continue
        if key != "resourceType":
            _add(found, node, value, keyed.get(key) or _guess(key, value))
    return found


def _guess(key: str, value: dict[str, Any]) -> Field:
    """Of a key that no type knows: what it is by its name."""
    if key in _COMMON and (key != "text" or "resourceType" in value):
        return _COMMON[key]
    for start in range(1, len(key)):
        if key[start:] in _SUFFIXES:
            return _field(key, _SUFFIXES[key[start:]], key[:start])
    return _field(key, "")
