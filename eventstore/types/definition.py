"""The one form that every definition format is read into: a type, and the tree of its elements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

Kind = Literal["resource", "type", "abstract", "primitive", "profile"]

REFERENCE = "Reference"
"""The data type whose elements may name their targets."""

EXTENSION = "extension"
"""The key whose array holds the values of elements that have an `extension_url`."""

RESOURCE_TYPE = "resourceType"
"""The key of a resource that names its type."""

RESOURCE = "Resource"
"""The type whose elements hold a whole resource, of any type."""


REQUIRED = "required"
"""The strength of a binding that refuses other codes."""

BINDING = (REQUIRED, "extensible")
"""The strengths of bindings that are checked."""


class Constraint(msgspec.Struct, frozen=True):
    """A rule in FHIRPath that holds where it stands."""

    key: str
    expression: str = ""
    severity: str = "error"
    """`error` refuses, `warning` is told."""
    human: str = ""


class Binding(msgspec.Struct, frozen=True):
    """A value set that a coded value is from. What it holds is looked up when it is needed."""

    strength: str
    """`required` refuses other codes, `extensible` warns of them."""
    value_set: str
    """Its canonical URL, with `|version` where one is asked for; or `ValueSet/id`."""
    codes: tuple[str, ...] = ()
    """Those of a value set that the definition itself contains, and lists."""


class Bound(msgspec.Struct, frozen=True):
    """The least value that is let in, or the greatest, of a type that JSON Schema has no order for."""

    value: Any
    type: str
    greatest: bool = False


class Discriminator(msgspec.Struct, frozen=True):
    """What tells the slice of an item: the `kind` of what stands at a path below it."""

    kind: str
    path: str


class Slice(msgspec.Struct, frozen=True):
    """Some of the items of a collection, and what holds for them."""

    element: Element
    """Its name is the slice's; what it says holds for each item."""
    fewest: int = 0
    most: int | None = None


class Slicing(msgspec.Struct, frozen=True):
    """A collection told apart."""

    slices: tuple[Slice, ...]
    discriminators: tuple[Discriminator, ...] = ()
    closed: bool = False
    """Items of no slice are refused."""


class Element(msgspec.Struct, frozen=True):
    """What may stand at one key of an object. Types are named, and looked up when they are needed."""

    name: str
    """The key, `valueQuantity` for an option of a choice."""
    type: str = ""
    """Name of the type; without one it is an object of `children`, or what another layer says."""
    children: tuple[Element, ...] = ()
    """Of an object without a type: its keys. With one: what holds for the type's keys here, and keys besides."""
    open: bool = False
    """Of an object without a type: keys besides the children are let in."""
    rest: Element | None = None
    """What stands at keys besides the children, where these are let in."""
    required: bool = False
    """Of an option: one of the options of its choice is required."""
    collection: bool = False
    either: bool = False
    """Of a collection: one value may stand without its array."""
    choice: str = ""
    """`value` for `valueQuantity`: of the elements with one `choice` in an object, at most one may be there.

    An element `value[x]` of the choice `value` speaks of each option that a layer beneath it has.
    """
    excluded: bool = False
    """It may not be there."""
    enum: tuple[Any, ...] = ()
    refers: tuple[str, ...] = ()
    """Of a Reference: the types that a relative one may point to, by name or URL; empty for any."""
    extension_url: str = ""
    """The value is in the object's `extension`, under this URL, and not at a key of its own."""
    schema: dict[str, Any] | None = None
    """A JSON Schema fragment that holds too."""
    bounds: tuple[Bound, ...] = ()
    unique: bool = False
    """No two resources of the type have the same value here."""
    content: str = ""
    """`Questionnaire:item`: it has the children of the element at that path of that type."""
    constraints: tuple[Constraint, ...] = ()
    binding: Binding | None = None
    profiles: tuple[str, ...] = ()
    """URLs of profiles, one of which holds."""
    slicing: Slicing | None = None


class TypeDefinition(msgspec.Struct, frozen=True):
    """A type: resources, a complex data type, a base for others, or a primitive (all of which is in its `schema`).

    Or a profile: what holds besides for resources or values of the type that is its last `base`.
    """

    name: str
    """Of a profile its URL."""
    kind: Kind
    elements: tuple[Element, ...] = ()
    open: bool = False
    schema: dict[str, Any] | None = None
    base: str = ""
    """Name of the definition that it adds to: a layer beneath, never merged."""
    strict: bool = False
    """FHIR's own rules hold: nothing empty or blank, `_x` only beside a primitive `x`, the data types' constraints."""
    constraints: tuple[Constraint, ...] = ()
    url: str = ""
    """What it is called by others besides its name."""
    contexts: tuple[str, ...] = ()
    """Of a profile of Extension: paths and types that may have it; empty for any."""
    most: int | None = None
    """Of a profile of Extension: how often one element may have it."""
    rest: Element | None = None
    """What stands at keys that nothing describes, where these are let in."""
    sequence: str | None = None
    """Of resources: what the ids that the server gives begin with, before a number; None: they are UUIDs."""
    unchecked: tuple[str, ...] = ()
    """What the definition says that is not checked, in words."""

    @property
    def every(self) -> Iterator[Element]:
        """Its elements and all that are in them, what stands at keys that nothing describes too."""
        return every((*self.elements, self.rest) if self.rest is not None else self.elements)

    @property
    def value_sets(self) -> dict[str, None]:
        """Those that its own required bindings name."""
        bound = (one.binding for one in self.every if not one.enum)
        return {one.value_set: None for one in bound if one is not None and one.strength == REQUIRED}


Library = Mapping[str, TypeDefinition]
"""Types by name, and profiles by URL."""


def choice_key(name: str, type: str) -> str:
    """The key of an option of a choice: `value` and `dateTime` make `valueDateTime`."""
    return name + type[:1].upper() + type[1:]


def every(elements: tuple[Element, ...]) -> Iterator[Element]:
    """The elements and all that are in them."""
    for element in elements:
        yield element
        yield from every(element.children)
        if element.rest is not None:
            yield from every((element.rest,))
        if element.slicing is not None:
            yield from every(tuple(one.element for one in element.slicing.slices))


def made_of(
    definition: TypeDefinition, find: Callable[[str], TypeDefinition | None]
) -> dict[str, TypeDefinition]:
    """The types that the definition reaches, by what they are called there, as far as they are found.

    A resource is reached as what stands in a slot, and what it is made of itself is not.
    """
    reached: dict[str, TypeDefinition] = {}
    waiting = [definition]
    while waiting:
        one = waiting.pop()
        for name in named_in([one]) - reached.keys():
            used = find(name)
            if used is not None:
                reached[name] = used
                if used.kind != "resource" or name == one.base:
                    waiting.append(used)
    return reached


def named_in(definitions: Iterable[TypeDefinition]) -> frozenset[str]:
    """The names that definitions call others by, whether these are found or not."""
    return frozenset(
        name for one in definitions for name in (one.base, *(element.type for element in one.every)) if name
    )


def bases(definition: TypeDefinition, library: Library) -> Iterator[TypeDefinition]:
    """The definition, and those beneath it as far as they are found. It ends also where bases go in a circle."""
    seen: set[str] = set()
    found: TypeDefinition | None = definition
    while found is not None and found.name not in seen:
        seen.add(found.name)
        yield found
        found = library.get(found.base)


def holds_resource(type: str, library: Library) -> bool:
    """Whether an element of the type holds a whole resource."""
    found = library.get(type)
    return found is not None and any(one.name == RESOURCE for one in bases(found, library))


class Layer(msgspec.Struct, frozen=True):
    """Some definition's elements of one object."""

    elements: tuple[Element, ...]
    open: bool = False
    rest: Element | None = None
    stated: bool = True
    """False for what only tells the shape: that it holds is checked elsewhere."""


class Site(msgspec.Struct, frozen=True):
    """One key of an object, and what each layer says of it; the topmost comes first."""

    name: str
    said: tuple[tuple[Element, bool], ...]
    """With whether it is stated."""

    @property
    def stated(self) -> list[Element]:
        return [element for element, stated in self.said if stated]

    @property
    def is_new(self) -> bool:
        """Whether its type is stated here, and not only known from elsewhere."""
        return all(stated or not (element.type or element.content) for element, stated in self.said)

    @property
    def shape(self) -> Element:
        """The element that gives the type: the topmost that has one."""
        elements = [element for element, _ in self.said]
        return next((one for one in elements if one.type or one.content), elements[-1])

    @property
    def collection(self) -> bool:
        """Whether it is an array: the lowest layer that knows the key has made it so."""
        return self.said[-1][0].collection

    @property
    def either(self) -> bool:
        return self.said[-1][0].either

    @property
    def required(self) -> bool:
        """Whether this key is, and not only one of its choice."""
        return any(one.required and not one.choice and not one.extension_url for one in self.stated)


def sites(layers: tuple[Layer, ...]) -> list[Site]:
    """The keys that the layers know, those of the lowest layer first."""
    said: dict[str, list[tuple[Element, bool]]] = {}
    for layer in reversed(layers):
        for element in layer.elements:
            for name in _keys(element, said):
                said.setdefault(name, []).insert(0, (element, layer.stated))
    return [Site(name, tuple(some)) for name, some in said.items()]


def _keys(element: Element, said: dict[str, list[tuple[Element, bool]]]) -> list[str]:
    """The key that an element is about; of a choice as a whole those of its options."""
    if not element.choice or element.name != f"{element.choice}[x]":
        return [element.name]
    return [name for name, some in said.items() if some[-1][0].choice == element.choice]


def layers_of(definition: TypeDefinition, library: Library) -> tuple[Layer, ...]:
    """What there is to say of an object of the type, or of the profile: its type beneath it only tells the shape.

    What a base says of its own resources' `resourceType` is not said of those of a type based on it.
    """
    stated, found = True, []
    for one in bases(definition, library):
        stated = stated and (definition.kind != "profile" or one.kind == "profile")
        is_base = one is not definition and definition.kind != "profile"
        elements = tuple(e for e in one.elements if e.name != RESOURCE_TYPE) if is_base else one.elements
        found.append(Layer(elements, one.open, one.rest, stated))
    return tuple(found)


def target_of(content: str, library: Library) -> Element:
    """The element that another one's `content` names. It is there: whoever read the definition has looked."""
    name, _, path = content.partition(":")
    elements = library[name].elements
    for key in path.split("."):
        found = next(element for element in elements if element.name == key)
        elements = found.children
    return found


def layers_at(site: Site, library: Library) -> tuple[Layer, ...]:
    """What there is to say of an object at that key."""
    if site.shape.content:
        target = target_of(site.shape.content, library)
        said = [one for one in site.said if not one[0].content]
        stated = all(stated or not element.content for element, stated in site.said)
        site = Site(site.name, (*said, (target, stated)))
    own = [
        Layer(element.children, element.open, element.rest, stated)
        for element, stated in site.said
        if element.children or element.open or not element.type
    ]
    shape = site.shape
    beneath = library.get(shape.type)
    if beneath is None:
        return tuple(own)
    stated = all(stated or not element.type for element, stated in site.said)
    typed = layers_of(beneath, library)
    return (*own, *(Layer(one.elements, one.open, one.rest, one.stated and stated) for one in typed))
