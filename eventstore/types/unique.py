"""Places of a type whose values no two of its resources share: where they are, and where there can be none. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from eventstore.errors import Issue
from eventstore.types.definition import REFERENCE, Element, TypeDefinition
from eventstore.types.format import Names

Place = tuple[str, ...]
"""The keys down to it."""

_PATH = ("isUnique",)


def places(elements: tuple[Element, ...], above: Place = ()) -> Iterator[Place]:
    """The unique places among elements and beneath them."""
    for element in elements:
        place = (*above, element.name)
        if element.unique:
            yield place
        yield from places(element.children, place)


def refusals(definition: TypeDefinition, names: Names) -> Iterator[Issue]:
    """Why places of a type cannot be unique."""
    if definition.kind != "resource" and any(places(definition.elements)):
        why = f"isUnique is for types of resources, and {definition.name} is none: it belongs to the type that uses it"
        yield Issue(why, _PATH)
    yield from _refusals(definition.elements, (), names)


def _refusals(elements: tuple[Element, ...], above: Place, names: Names) -> Iterator[Issue]:
    for element in elements:
        place = (*above, element.name)
        if element.collection and any(places((element,))):
            yield Issue(f"isUnique is for a place with one value: {'.'.join(place)} is a collection", _PATH)
        elif element.unique and (why := _unfit(element, names)):
            yield Issue(f"isUnique and {why}", _PATH)
        else:
            yield from _refusals(element.children, place, names)


def _unfit(element: Element, names: Names) -> str:
    if element.choice or element.extension_url:
        what = "union" if element.choice else "extensionUrl"
        return f"{what} exclude one another: the value is not at a key of its own"
    if element.type == REFERENCE or (
        names.kind_of(element.type) == "primitive" and element.type != "decimal"
    ):
        return ""
    return f"{element.type or 'an object'} exclude one another: it is for primitive types but decimal, and for refers"
