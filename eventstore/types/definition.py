"""The one form that every definition format is read into: a type, and the tree of its elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

Kind = Literal["resource", "type", "abstract", "primitive"]

REFERENCE = "Reference"
"""The data type whose elements may name their targets."""

EXTENSION = "extension"
"""The key whose array holds the values of elements that have an `extension_url`."""


class Element(msgspec.Struct, frozen=True):
    """What may stand at one key of an object. Types are named, and looked up when they are needed."""

    name: str
    """The key, `valueQuantity` for an option of a choice."""
    type: str = ""
    """Name of the type; without one it is an object of `children`."""
    children: tuple[Element, ...] = ()
    open: bool = False
    """Of an object without a type: keys besides the children are let in."""
    required: bool = False
    """Of an option: one of the options of its choice is required."""
    collection: bool = False
    choice: str = ""
    """`value` for `valueQuantity`: of the elements with one `choice` in an object, at most one may be there."""
    enum: tuple[Any, ...] = ()
    refers: tuple[str, ...] = ()
    """Of a Reference: names of the types that a relative one may point to; empty for any."""
    extension_url: str = ""
    """The value is in the object's `extension`, under this URL, and not at a key of its own."""
    schema: dict[str, Any] | None = None
    """A JSON Schema fragment that holds too."""


class TypeDefinition(msgspec.Struct, frozen=True):
    """A type: resources, a complex data type, a base for others, or a primitive (all of which is in its `schema`)."""

    name: str
    kind: Kind
    elements: tuple[Element, ...] = ()
    open: bool = False
    schema: dict[str, Any] | None = None


Library = Mapping[str, TypeDefinition]
"""Types by name."""


def choice_key(name: str, type: str) -> str:
    """The key of an option of a choice: `value` and `dateTime` make `valueDateTime`."""
    return name + type[:1].upper() + type[1:]


def every(elements: tuple[Element, ...]) -> Iterator[Element]:
    """The elements and all that are in them."""
    for element in elements:
        yield element
        yield from every(element.children)


def made_of(
    definition: TypeDefinition, find: Callable[[str], TypeDefinition | None]
) -> dict[str, TypeDefinition]:
    """The types that the definition reaches, as far as they are found."""
    reached: dict[str, TypeDefinition] = {}
    waiting = [definition]
    while waiting:
        for element in every(waiting.pop().elements):
            used = find(element.type)
            if used is not None and used.name not in reached:
                reached[used.name] = used
                waiting.append(used)
    return reached
