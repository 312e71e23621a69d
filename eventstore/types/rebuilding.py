"""Which types a change of definitions makes anew: those that it names, and those that are made of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import msgspec

from eventstore.types.compiled import CompiledType
from eventstore.types.datatypes import fhir
from eventstore.types.definition import TypeDefinition, made_of
from eventstore.types.format import Format
from eventstore.types.table import CANONICAL

Compiled = Mapping[str, CompiledType]
"""By name, or by URL where it is a profile."""


def rebuilt(
    before: Compiled, formats: Iterable[Format], names: set[str], position: int, fhir_version: str
) -> dict[str, CompiledType]:
    """The types after a change, at a position, that touched those names; `formats` are as it left them.

    A type whose definition is as it was, and that is made of none that is not, stays the same object.
    """
    formats = tuple(formats)
    defined, part = partial(_defined, formats), partial(_part, formats, fhir_version)
    found = [one for name in names for format in formats if (one := format.definition(name))]
    made = {one.name: one for one in sorted(found, key=lambda one: one.name)}
    changed = {name for name in names if not _same(called(before, name), defined(name))}
    types = {name: type for name, type in before.items() if not {name, type.definition.url} & changed}
    made |= {name: type.definition for name, type in types.items() if type.names & changed}
    for name, definition in made.items():
        if name not in types or before[name].names & changed:
            types[name] = CompiledType(definition, position, fhir_version, made_of(definition, part))
    return types


def called(types: Compiled, name: str) -> TypeDefinition | None:
    """The definition as it is compiled, by name or URL."""
    found = types.get(name)
    others = (one.definition for one in types.values() if one.definition.url == name)
    return found.definition if found is not None else next(others, None)


def _defined(formats: Iterable[Format], name: str) -> TypeDefinition | None:
    """As the formats have it, by name or URL."""
    return next((found for one in formats if (found := one.definition(name)) is not None), None)


def _part(formats: Iterable[Format], fhir_version: str, name: str) -> TypeDefinition | None:
    """A definition that others are made of. What is built in is known to all, but where it is called by its URL."""
    short = name.removeprefix(CANONICAL)
    own = fhir(fhir_version).get(short) if short != name else None
    return own or _defined(formats, name)


def _same(one: TypeDefinition | None, other: TypeDefinition | None) -> bool:
    """Whether two definitions let in the same. (To Python `1 == True`, to JSON Schema not.)"""
    return one == other and msgspec.json.encode(one) == msgspec.json.encode(other)
