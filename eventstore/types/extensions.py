"""Values of extensions: any type can stand there, so each is checked by the engine of its own type, shared by all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import jsonschema_rs
import msgspec

from eventstore.types.datatypes import fhir
from eventstore.types.definition import Element, TypeDefinition, made_of
from eventstore.types.jsonschema import Schema, compiled
from eventstore.types.publish import names_of, publish, published_datatypes

EXTENSION_TYPE = "Extension"


@cache
def open_extension(version: str) -> TypeDefinition:
    """Extension with any object for a value that is one."""
    library = fhir(version)
    extension = library[EXTENSION_TYPE]
    elements = tuple(
        Element(one.name, open=True, choice=one.choice)
        if one.choice and library[one.type].kind != "primitive"
        else one
        for one in extension.elements
    )
    return msgspec.structs.replace(extension, elements=elements)


@cache
def engine_datatypes(version: str, *, strict: bool) -> Mapping[str, Schema]:
    """As they are published, but for the Extension, which is open."""
    library = {**fhir(version), EXTENSION_TYPE: open_extension(version)}
    (name,) = names_of(library[EXTENSION_TYPE], strict=strict)
    schema = publish(library[EXTENSION_TYPE], library, strict=strict)
    return {**published_datatypes(version, strict=strict), name: schema}


@cache
def engine(version: str, type: str, *, strict: bool) -> jsonschema_rs.Validator:
    """The engine of a complex data type."""
    library = {**fhir(version), EXTENSION_TYPE: open_extension(version)}
    ready = engine_datatypes(version, strict=strict)
    needed = {type: library[type], "Element": library["Element"]}
    parts = needed | made_of(library[type], library.get) | made_of(library["Element"], library.get)
    names = [name for part in parts.values() for name in names_of(part, strict=strict)]
    root = names_of(library[type], strict=strict)[0]
    return compiled({"$ref": f"#/definitions/{root}"}, {name: ready[name] for name in names})
