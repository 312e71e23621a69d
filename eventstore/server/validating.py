"""`$validate`: what would be said of a resource if it were written."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from eventstore.body import Document, read
from eventstore.errors import Issue, Malformed
from eventstore.referring import informed
from eventstore.server.call import Answer, Call, answer
from eventstore.server.outcomes import outcome
from eventstore.server.parameters import given
from eventstore.server.times import now
from eventstore.types.compiled import CompiledType
from eventstore.types.facts import Facts
from eventstore.types.registry import Registry


async def validate(call: Call) -> Answer:
    """`POST /T/$validate`: a resource, or Parameters with one. Always 200, with an OperationOutcome."""
    call.only("POST")
    call.unknown("profile", "mode")
    kind = await call.store.kind(call.route.type)
    document = await call.document()
    profiles = [call.query["profile"]] if "profile" in call.query else []
    parameters = given(document.value)
    if parameters is not None and (kind.name != "Parameters" or "resource" in dict(parameters)):
        document = _unwrapped(dict(parameters))
        profiles += [str(value or "") for name, value in parameters if name == "profile"]
    if not isinstance(document.value, dict):
        raise Malformed("a resource is an object")
    if not call.strict:
        document.value.setdefault("resourceType", kind.name)
        kind.normalise(document.value)
    registry = call.store.registry
    judge = partial(checked, registry, kind, document, profiles)
    issues = [*_misplaced(call.route.id, document), *await informed(call.store.log, now(), judge)]
    is_valid = all(issue.severity == "warning" for issue in issues)
    told = issues or [Issue("all ok", code="informational", severity="information")]
    about = outcome(told, call.route.base, kind.name)
    return answer(
        {"resourceType": "OperationOutcome", "id": "allok" if is_valid else "validationfail", **about}
    )


def _misplaced(id: str, document: Document) -> list[Issue]:
    """What is wrong with the resource's place, where the URL has an id."""
    sent = document.value.get("id")
    if not id or sent in (None, id):
        return []
    return [Issue(f"the id in the body is {sent!r}, in the URL {id!r}", ("id",), "value")]


def _unwrapped(parameters: dict[str, Any]) -> Document:
    """The resource in Parameters."""
    resource = parameters.get("resource")
    if resource is None:
        raise Malformed("Parameters need a parameter `resource` with a resource", path=("parameter",))
    return read(msgspec.json.encode(resource))


def checked(
    registry: Registry, kind: CompiledType, document: Document, profiles: list[str], facts: Facts
) -> list[Issue]:
    """What is wrong with a resource by its type and by profiles, and warnings."""
    issues = registry.check(kind, document, facts)
    for url in profiles:
        found = registry.profile(url)
        if found is None:
            issues = [*issues, Issue(f"the profile {url[:200]} is not known here", code="not-found")]
        else:
            issues = [*issues, *registry.check(found, document, facts)]
    return issues
