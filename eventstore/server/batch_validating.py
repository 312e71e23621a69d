"""`$batch-validate`: the stored resources of a type against its definition as it is now, while one waits or behind it.

A task belongs to the node that began it, and ends with it: what it found was never written, and is found again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Self

import msgspec
from uuid_utils import uuid7

from eventstore.body import read
from eventstore.errors import Issue, Malformed, NotFound, QuireError, Throttled, TooLarge
from eventstore.event import Position
from eventstore.membership import Membership, ended
from eventstore.referring import informed
from eventstore.server.call import Answer, Call, answer
from eventstore.server.negotiation import instant
from eventstore.server.outcomes import outcome
from eventstore.server.parameters import given
from eventstore.server.times import now
from eventstore.server.validating import checked
from eventstore.store import Store
from projections.query import PageQuery, page, totals

WAITED_RESOURCES_MAX = 10_000
"""Of a type that is validated while the client waits."""
TASKS_RUNNING_MAX = 2
TASKS_KEPT_MAX = 20
"""Of a node: the oldest that are done are forgotten."""
LISTED_RESOURCES_MAX = 1_000
"""Of a result; all are counted."""
CHUNK_RESOURCES = 100
"""Validated before others get their turn."""

_log = logging.getLogger("quire.validate")


class Asked(msgspec.Struct, frozen=True):
    """What is to be validated: resources last written in [since, until) where these are given."""

    type: str
    profiles: tuple[str, ...] = ()
    since: str = ""
    until: str = ""


class Found(msgspec.Struct):
    """What was found so far."""

    asked: Asked
    total: int = 0
    """How many there were when it began."""
    seen: int = 0
    valid: int = 0
    invalid: int = 0
    position: Position = 0
    """Of the definition of the type, by which all were judged."""
    listed: list[dict[str, Any]] = []
    error: str = ""
    """Why it ended before its end."""

    def add(self, resource: dict[str, Any], issues: list[Issue]) -> None:
        """Take in what is wrong with one version of a resource."""
        self.valid += not issues
        self.invalid += bool(issues)
        if not issues or len(self.listed) >= LISTED_RESOURCES_MAX:
            return
        version = f"{self.asked.type}/{resource['id']}/_history/{resource['meta']['versionId']}"
        told = outcome(issues, "/fhir", self.asked.type)
        parts = [_value("version", "String", version), {"name": "outcome", "resource": told}]
        self.listed.append({"name": "resource", "part": parts})

    def parameters(self) -> dict[str, Any]:
        """As it is answered."""
        values = (
            _value("type", "String", self.asked.type),
            _value("definition", "Integer", self.position),
            _value("validated", "Integer", self.valid + self.invalid),
            _value("valid", "Integer", self.valid),
            _value("invalid", "Integer", self.invalid),
        )
        return {"resourceType": "Parameters", "parameter": [*values, *self.listed]}


def _value(name: str, type: str, value: Any) -> dict[str, Any]:
    return {"name": name, f"value{type}": value}


class Validations:
    """The tasks of this node. The id of each ends as the node's, so that another can tell whose it is."""

    def __init__(self, store: Store, members: Membership) -> None:
        self._store = store
        self._members = members
        self._tasks: dict[str, tuple[Found, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for _, task in self._tasks.values():
            await ended(task)

    async def begin(self, call: Call) -> Answer:
        """`POST /T/$batch-validate`: the result, or with `Prefer: respond-async` where to ask for it."""
        call.only("POST")
        call.unknown("profile", "_since", "_until")
        await call.store.kind(call.route.type)
        await call.store.catch_up()
        found = Found(await _asked(call))
        found.total = (await totals(call.store.log, call.route.type))[0]
        if call.prefer.asynchronous:
            return self._behind(call, found)
        if found.total > WAITED_RESOURCES_MAX:
            raise TooLarge(
                f"{call.route.type} has {found.total} resources; with Prefer: respond-async more than "
                f"{WAITED_RESOURCES_MAX} are validated, and you are not kept waiting"
            )
        await _validate(self._store, found)
        return answer(found.parameters())

    def _behind(self, call: Call, found: Found) -> Answer:
        running = sum(not task.done() for _, task in self._tasks.values())
        if running >= TASKS_RUNNING_MAX:
            raise Throttled(f"{running} types are being validated; try again, or end one by DELETE", 5)
        done = [id for id, (_, task) in self._tasks.items() if task.done()]
        for id in done[: len(self._tasks) - TASKS_KEPT_MAX + 1]:
            del self._tasks[id]
        id = f"{uuid7()}-{_mark(self._members.id)}"
        self._tasks[id] = found, asyncio.create_task(_noted(self._store, found), name=f"validate {id}")
        return Answer(202, None, {"Content-Location": f"{call.base_url}/$batch-validate/{id}"})

    async def task(self, call: Call) -> Answer:
        """`/$batch-validate/id`: how far it is, or the result; DELETE ends and forgets it."""
        call.only("GET", "HEAD", "DELETE")
        if call.route.id not in self._tasks:
            raise NotFound(await self._whereabouts(call))
        found, task = self._tasks[call.route.id]
        if call.request.method == "DELETE":
            del self._tasks[call.route.id]
            await ended(task)
            return Answer(202)
        if not task.done():
            return Answer(202, None, {"X-Progress": f"{found.seen} of {found.total}", "Retry-After": "1"})
        if found.error:
            raise QuireError(f"the validation ended after {found.seen} resources: {found.error}")
        return answer(found.parameters())

    async def _whereabouts(self, call: Call) -> str:
        """What there is to say of a validation that is not here: whose it is, and how it is asked for."""
        id, nodes = call.route.id, (await self._store.log.nodes.roll()).nodes
        node = next((one for one in nodes if _mark(one.id) == _mark(id)), None)
        if node is None:
            return f"there is no validation {id}: it ends with the node that began it; begin it again"
        if node.id == self._members.id:
            return f"there is no validation {id}: it was ended, or forgotten, as {TASKS_KEPT_MAX} are kept; begin it again"
        whose = f"the validation {id} is of node {node.id}, which alone can tell of it"
        if [one.url for one in nodes].count(node.url) > 1:
            return f"{whose}: ask again, as {node.url} leads to several nodes"
        return f"{whose}: ask {node.url.rstrip('/')}{call.route.base}/$batch-validate/{id}"


def _mark(id: str) -> str:
    """What the ids of a node and of its validations end with."""
    return id.rpartition("-")[2]


async def _asked(call: Call) -> Asked:
    """From the URL, and from Parameters where there is a body."""
    asked: dict[str, list[str]] = {name: [value] for name, value in call.query.items()}
    if call.request.has_body:
        parameters = given((await call.document()).value)
        if parameters is None:
            raise Malformed("$batch-validate takes no body, or Parameters", path=("resourceType",))
        for name, value in parameters:
            asked.setdefault(name, []).append(str(value or ""))
    since, until = (asked.get(name, [""])[0] for name in ("_since", "_until"))
    return Asked(
        call.route.type,
        tuple(asked.get("profile", ())),
        instant("_since", since) if since else "",
        instant("_until", until) if until else "",
    )


async def _noted(store: Store, found: Found) -> None:
    """Validate; what goes wrong is told to who asks."""
    try:
        await _validate(store, found)
    except QuireError as error:
        found.error = str(error)
    except Exception as error:
        _log.exception("a validation failed")
        found.error = f"an error of the server's own: {type(error).__name__}"


async def _validate(store: Store, found: Found) -> None:
    """Check every resource of the type, as it is when its page is read. All by the types as they are now."""
    registry = store.registry
    kind = registry.served(found.asked.type)
    if kind is None:
        raise NotFound(f"there is no type {found.asked.type}")
    found.position = kind.position
    async for data in _resources(store, found.asked.type):
        found.seen += 1
        document = read(data)
        if found.seen % CHUNK_RESOURCES == 0:
            await asyncio.sleep(0)
        if not _is_asked_for(found.asked, document.value["meta"]["lastUpdated"]):
            continue
        judge = partial(checked, registry, kind, document, list(found.asked.profiles))
        issues = await informed(store.log, now(), judge)
        found.add(document.value, [issue for issue in issues if issue.severity != "warning"])


def _is_asked_for(asked: Asked, at: str) -> bool:
    return asked.since <= at and (not asked.until or at < asked.until)


async def _resources(store: Store, type: str) -> AsyncIterator[bytes]:
    after: str | None = ""
    while after is not None:
        found = await page(store.log, PageQuery(type, after, CHUNK_RESOURCES))
        for data in found.resources:
            yield data
        after = found.next
