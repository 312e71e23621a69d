"""What is asked of a definition besides reading and writing it: to let its type be written, or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventstore.command import Patch
from eventstore.errors import Conflict, NotFound
from eventstore.server.call import Answer, Call, answer
from eventstore.server.resources import patched
from eventstore.types.builtin import DEACTIVATED
from eventstore.types.definition import TypeDefinition
from eventstore.types.dump import fhir_schema, structure_definition


async def activate(call: Call) -> Answer:
    """`POST /Entity/T/$activate`: resources of the type are written again."""
    call.only("POST")
    await _defined(call)
    return await patched(call, Patch("untag", DEACTIVATED))


async def deactivate(call: Call) -> Answer:
    """`POST /Entity/T/$deactivate`: resources of the type are read, and not written."""
    call.only("POST")
    await _defined(call)
    return await patched(call, Patch("tag", DEACTIVATED))


async def dump(call: Call) -> Answer:
    """`GET /Entity/T/$dump-as-fhir-schema`: the type as a FHIRSchema. `url` is what it shall be called."""
    return await _dumped(call, fhir_schema, "FHIRSchema")


async def dump_structure(call: Call) -> Answer:
    """`GET /Entity/T/$dump-as-structure-definition`: the type as a StructureDefinition."""
    return await _dumped(call, structure_definition, "StructureDefinition")


async def _dumped(
    call: Call, written: Callable[[TypeDefinition, str], dict[str, Any]], format: str
) -> Answer:
    call.only("GET", "HEAD")
    call.unknown("url")
    await call.store.catch_up()
    registry, name = call.store.registry, call.route.id
    if call.route.type != "Entity" or registry.defined_by(name) != f"Entity/{name}":
        raise NotFound(f"{call.route.type}/{name} is no Entity that was defined: only these are dumped")
    url = call.query.get("url") or f"{call.base_url}/{format}/{name}"
    return answer(written(registry.types[name].definition, url))


async def _defined(call: Call) -> None:
    """Raises NotFound unless the URL names the definition of a type, Conflict where it has no resources to write."""
    call.unknown()
    await call.store.catch_up()
    registry, definition = call.store.registry, f"{call.route.type}/{call.route.id}"
    if registry.defined_by(call.route.id) != definition:
        raise NotFound(f"{definition} is no definition of a type")
    if registry.served(call.route.id) is None:
        raise Conflict(f"{call.route.id} is no type of resources: there is nothing to write")
