"""What is neither a resource nor a list: $sql, $json-schema, $import, health and the root."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from eventstore import __version__
from eventstore.errors import Malformed, NotSupported, Unavailable, UnsupportedMedia
from eventstore.server.call import Answer, Call, answer
from eventstore.server.checkers import Checkers
from eventstore.server.importing import Importer
from eventstore.server.negotiation import flag, media_type
from eventstore.types.registry import Registry
from projections.views import view_name

IMPORT_TYPES = ("application/x-ndjson", "application/ndjson", "application/fhir+ndjson")

LOOK_SECONDS = 0.5
"""How often a long query looks whether its client is still there."""

Scalar = str | int | float | bool | None


async def sql(call: Call) -> Answer:
    """`POST /$sql`: a SELECT over the views of types, as a string or `[statement, parameter, ...]`."""
    call.only("POST")
    call.unknown()
    asked = (await call.document()).value
    statement, *parameters = asked if isinstance(asked, list) and asked else [asked]
    if not isinstance(statement, str):
        raise Malformed("$sql takes a string, or an array of a string and its parameters")
    for index, parameter in enumerate(parameters, 1):
        if not isinstance(parameter, Scalar):
            raise Malformed("a parameter is a string, number, boolean or null", path=(index,))
    await call.store.catch_up()
    views = [name for type in call.store.registry.names() for name in _views(type)]
    rows = await _while_connected(call, call.store.log.select(statement, parameters, views))
    return Answer(200, rows, fhir=False)


async def _while_connected(call: Call, work: Coroutine[Any, Any, bytes]) -> bytes:
    """Do the work as long as somebody waits for it."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_SECONDS)
            if call.request.is_abandoned:
                raise Unavailable("the client is gone")
        return task.result()
    finally:
        task.cancel()


def _views(type: str) -> tuple[str, str]:
    return view_name(type), f"{view_name(type)}_history"


async def json_schema(call: Call) -> Answer:
    """`GET /$json-schema?path=definitions.T`, or without a path the whole document."""
    call.only("GET", "HEAD")
    call.unknown("path")
    asked = call.query.get("path", "").split(".") if call.query.get("path") else []
    await call.store.catch_up()
    return _schema(call.store.registry, asked)


def _schema(registry: Registry, asked: list[str]) -> Answer:
    """`definitions.acme.Device.properties`: what follows `definitions` is the longest name that there is."""
    path = asked
    if asked[:1] == ["definitions"] and len(asked) > 1:
        names = registry.schema_at(["definitions"])
        ends = (end for end in range(len(asked), 1, -1) if ".".join(asked[1:end]) in names)
        end = next(ends, len(asked))
        path = ["definitions", ".".join(asked[1:end]), *asked[end:]]
    return answer({"path": path, "schema": registry.schema_at(path)}, fhir=False)


async def import_(checkers: Checkers, call: Call) -> Answer:
    """`POST /$import`: NDJSON in, for each line one line of what became of it."""
    call.only("POST")
    if media_type(call.header("content-type") or "") not in IMPORT_TYPES:
        raise UnsupportedMedia("$import takes application/x-ndjson: a resource on each line")
    call.unknown("define-open")
    define_open = flag(call.query, "define-open")
    lines = (await call.body()).split(b"\n")
    importer = Importer(call.store, checkers)
    outcomes = await importer.store(lines, define_open=define_open, context=call.context())
    body = b"\n".join(msgspec.json.encode(one) for one in outcomes)
    return Answer(200, body, content_type="application/x-ndjson")


async def health(call: Call) -> Answer:
    """Whether the process lives."""
    call.only("GET", "HEAD")
    return answer({"status": "pass", "version": __version__}, fhir=False)


async def root(call: Call) -> Answer:
    """What this server is; a bundle posted here comes with a later version."""
    if call.request.method in ("POST", "PUT"):
        raise NotSupported("bundles are not built yet; send each resource to its own URL")
    call.only("GET", "HEAD")
    await call.store.catch_up()
    return answer(
        {
            "name": "quire",
            "version": __version__,
            "fhirVersion": call.store.log.fhir_version,
            "log": call.store.log.id,
            "position": call.store.position,
            "types": call.store.registry.names(),
        },
        fhir=False,
    )


async def search(call: Call) -> Answer:
    raise NotSupported("search parameters are not built yet; GET the type to list it")
