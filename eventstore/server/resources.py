"""Create, read, update, patch and delete: bytes to commands, and what became of them to answers."""

from __future__ import annotations

from typing import Any

import msgspec
from uuid_utils import uuid7

from eventstore.batch import is_needed
from eventstore.body import Document, exact, read, write
from eventstore.command import Accepted, Command, Method, Patch
from eventstore.decide import Previous
from eventstore.errors import Invalid, Issue, Malformed, NotAllowed, NotSupported
from eventstore.event import Event
from eventstore.server.call import Answer, Call, answer, ignored_header
from eventstore.server.checkers import Checkers
from eventstore.server.checking import Valid
from eventstore.server.negotiation import (
    JSON_PATCH,
    MERGE_PATCH,
    media_type,
    not_modified,
    precondition,
)
from eventstore.server.outcomes import outcome
from eventstore.server.routes import ID
from eventstore.server.times import http_date

PATCH_NAMES = {
    "json-patch": "json-patch",
    "merge-patch": "merge-patch",
    "json-merge-patch": "merge-patch",
    "fhirpath-patch": "fhirpath-patch",
}


async def resource(checkers: Checkers, call: Call) -> Answer:
    """`/T/id`."""
    match call.request.method:
        case "GET" | "HEAD":
            return await _read(call)
        case "PUT":
            return await _put(checkers, call)
        case "PATCH":
            return await _patch(call)
        case "DELETE":
            return await _delete(call)
    raise NotAllowed(f"{call.request.method} on a resource", ("GET", "HEAD", "PUT", "PATCH", "DELETE"))


async def version(call: Call) -> Answer:
    """`/T/id/_history/v`."""
    call.only("GET", "HEAD")
    return _stored(call, await call.store.version(call.route.type, call.route.id, call.route.version))


async def create(checkers: Checkers, call: Call) -> Answer:
    """`POST /T`."""
    if call.header("if-none-exist") is not None or _criteria(call):
        raise NotSupported("conditional create is not built yet; POST without criteria, or PUT with an id")
    valid = await _valid(checkers, call)
    if valid is not None and (valid.given or not call.id_ignored):
        return await _submit(call, _checked(call, "POST", valid))
    document = await _object(call)
    type = _type_of(call, document)
    id = document.value.get("id")
    if "id" not in document.value or call.id_ignored:
        given = _command(call, "POST", type, str(uuid7()), document=_without_id(document), given=True)
        return await _submit(call, given)
    return await _store(call, "POST", type, _checked_id(id), document)


async def put_by_body(call: Call) -> Answer:
    """`PUT /T`: the id is in the body; on the base `/` only."""
    if call.strict or _criteria(call):
        raise NotSupported("conditional update is not built yet; PUT to the resource's own URL")
    document = await _object(call)
    id = document.value.get("id")
    if id is None:
        raise Malformed("PUT without an id in the URL takes it from the body, which has none", path=("id",))
    return await _store(call, "PUT", _type_of(call, document), _checked_id(id), document)


async def _read(call: Call) -> Answer:
    built_in = _builtin(call)
    if built_in is not None:
        return answer(built_in)
    return _stored(call, await call.store.read(call.route.type, call.route.id))


def _builtin(call: Call) -> dict[str, Any] | None:
    """The built-in type that the URL names."""
    return call.store.registry.builtin(call.route.id) if call.route.type == "Entity" else None


def _refuse_builtin(call: Call) -> None:
    """Raises NotAllowed for a built-in type: it is read, and neither patched nor deleted."""
    if _builtin(call) is not None:
        raise NotAllowed(
            f"{call.request.method} on Entity/{call.route.id}, which is built in and only read",
            ("GET", "HEAD"),
        )


def _stored(call: Call, event: Event | Previous) -> Answer:
    etag = f'W/"{event.position}"'
    headers = {"ETag": etag, "Last-Modified": http_date(event.at)}
    if call.query:
        headers |= ignored_header(call.unknown())
    if not_modified(call.header("if-none-match"), event.position):
        return Answer(304, None, headers)
    return Answer(200, event.data, headers)


async def _put(checkers: Checkers, call: Call) -> Answer:
    call.unknown()
    id = call.route.id
    valid = await _valid(checkers, call)
    if valid is not None and not valid.given and valid.id == id:
        return await _submit(call, _checked(call, "PUT", valid))
    document = await _object(call)
    type = _type_of(call, document)
    sent = document.value.get("id")
    if sent is None and "id" in document.value:
        raise Invalid("null is no id; leave it out", path=("id",))
    if sent is None and call.strict:
        raise Malformed(f"the body has no id; under /fhir it must be {id!r}, as in the URL", path=("id",))
    if sent is not None and sent != id:
        raise Malformed(f"the id in the body is {sent!r}, in the URL {id!r}", path=("id",), code="value")
    return await _store(call, "PUT", type, id, document)


async def _delete(call: Call) -> Answer:
    call.unknown()
    await call.store.kind(call.route.type)
    _refuse_builtin(call)
    return await _submit(call, _command(call, "DELETE", call.route.type, call.route.id))


async def _patch(call: Call) -> Answer:
    call.unknown("_type", "_method")
    await call.store.kind(call.route.type)
    _refuse_builtin(call)
    patch = await _patch_of(call)
    command = _command(call, "PATCH", call.route.type, call.route.id, patch=patch)
    return await _submit(call, command)


async def _patch_of(call: Call) -> Patch:
    """What kind of patch it is: by Content-Type, by `_type` or `_method`, else by the body's shape."""
    kind = media_type(call.header("content-type") or "")
    named = call.query.get("_type") or call.query.get("_method")
    document = await call.document(patch=True)
    if kind in (JSON_PATCH, MERGE_PATCH):
        format = "json-patch" if kind == JSON_PATCH else "merge-patch"
    elif named is not None:
        if named not in PATCH_NAMES:
            raise Malformed(f"_type={named[:80]}: json-patch or merge-patch is wanted", code="value")
        format = PATCH_NAMES[named]
    else:
        format = _shape(document.value)
    if format == "fhirpath-patch":
        raise NotSupported("FHIRPath Patch is not built yet; send a JSON Patch or a merge patch")
    if not isinstance(document.value, list if format == "json-patch" else dict):
        raise Malformed("a JSON Patch is an array of operations, a merge patch an object")
    return Patch("json-patch" if format == "json-patch" else "merge-patch", exact(document.data))


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return "json-patch"
    if isinstance(value, dict) and value.get("resourceType") == "Parameters":
        return "fhirpath-patch"
    return "merge-patch"


async def _store(call: Call, method: Method, type: str, id: str, document: Document) -> Answer:
    return await _submit(call, _command(call, method, type, id, document=document))


async def _valid(checkers: Checkers, call: Call) -> Valid | None:
    """The body, when it is a resource of the URL's type that another process found valid; else it is looked at here."""
    kind = await call.store.kind(call.route.type)
    data = call.json
    if data is None or is_needed(kind) or not checkers.wants(data, call.in_flight.bytes):
        return None
    await call.body()
    valid = await checkers.check_body(data, call.store.registry, short_references=not call.strict)
    return valid if valid is not None and valid.type == call.route.type else None


def _checked(call: Call, method: Method, valid: Valid) -> Command:
    return _command(
        call, method, valid.type, valid.id,
        given=valid.given, body=valid.body, checked=valid.checked, warnings=valid.warnings,
    )  # fmt: skip


def _command(call: Call, method: Method, type: str, id: str, **more: Any) -> Command:
    asked = precondition(call.header("if-match"), call.header("if-none-match"))
    return Command(
        method, type, id, call.context(), precondition=asked, short_references=not call.strict, **more
    )


async def patched(call: Call, patch: Patch) -> Answer:
    """The resource of the URL, with a patch."""
    return await _submit(call, _command(call, "PATCH", call.route.type, call.route.id, patch=patch))


async def _submit(call: Call, command: Command) -> Answer:
    accepted = await call.store.submit(command)
    url = f"{command.type}/{accepted.id or command.id}"
    headers = _headers(call, command.method, url, accepted)
    if command.method == "DELETE":
        return Answer(204, None, headers)
    status = 201 if accepted.action == "created" else 200
    if call.prefer.returned == "minimal":
        return Answer(status, None, headers)
    if call.prefer.returned == "operationoutcome":
        text = f"{url} {accepted.action} at version {accepted.position}"
        done = Issue(text, code="informational", severity="information")
        told = outcome([done, *accepted.warnings], call.route.base, command.type)
        return answer(told, status, headers)
    return Answer(status, accepted.data, headers)


def _headers(call: Call, method: Method, url: str, accepted: Accepted) -> dict[str, str]:
    if accepted.position is None:
        return {"X-Log-Position": str(call.store.position)}
    version = str(accepted.position)
    headers = {"ETag": f'W/"{version}"', "Last-Modified": http_date(accepted.at), "X-Log-Position": version}
    if accepted.warnings:
        headers["X-Quire-Warnings"] = str(len(accepted.warnings))
    if method != "DELETE":
        headers["Location"] = f"{call.base_url}/{url}/_history/{version}"
    return headers


async def _object(call: Call) -> Document:
    """The body as a resource. An unknown type is told before anything is said of the body."""
    await call.store.kind(call.route.type)
    document = await call.document()
    if not isinstance(document.value, dict):
        raise Malformed("a resource is an object")
    return document


def _type_of(call: Call, document: Document) -> str:
    type = call.route.type
    sent = document.value.get("resourceType")
    if sent is None and call.strict:
        raise Malformed(
            f"the body has no resourceType; under /fhir it must be {type!r}", path=("resourceType",)
        )
    if sent is not None and sent != type:
        raise Malformed(
            f"the resourceType in the body is {sent!r}, in the URL {type!r}",
            path=("resourceType",),
            code="value",
        )
    return type


def _checked_id(id: Any) -> str:
    if not isinstance(id, str) or not ID.match(id):
        sent = msgspec.json.encode(id).decode()[:80]
        raise Invalid(f"an id is a string of 1 to 64 of A-Z a-z 0-9 - and ., not {sent}", path=("id",))
    return id


def _without_id(document: Document) -> Document:
    """The document as if no id had been sent."""
    if "id" not in document.value:
        return document

    tree = exact(document.data)
    del tree["id"]
    return read(write(tree))


def _criteria(call: Call) -> bool:
    """Whether the URL has search criteria: parameters that are not about the answer's form."""
    return any(name not in ("_format", "_pretty") for name in call.query)
