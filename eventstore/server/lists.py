"""Listing, history and changes: URL to query, rows to bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from eventstore.decide import Previous
from eventstore.errors import Malformed, NotAllowed, NotFound, NotSupported
from eventstore.event import Event
from eventstore.log.base import Span, bytes_of
from eventstore.server import bundles, resources
from eventstore.server.call import Answer, Call, answer, ignored_header
from eventstore.server.checkers import Checkers
from eventstore.server.negotiation import instant
from eventstore.server.routes import ID
from projections.history import HISTORY_DEFAULT, HISTORY_MAX, HistoryQuery, history
from projections.query import PAGE_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX, PageQuery, page

CHANGES_DEFAULT = 1000
CHANGES_MAX = 10_000


async def type_(checkers: Checkers, call: Call) -> Answer:
    """`/T`: the list, and creating."""
    match call.request.method:
        case "GET" | "HEAD":
            return await _list(call)
        case "POST":
            return await resources.create(checkers, call)
        case "PUT":
            return await resources.put_by_body(call)
        case "DELETE" | "PATCH":
            raise NotSupported("conditional delete and patch are not built yet; name the resource in the URL")
    raise NotAllowed(f"{call.request.method} on a type", ("GET", "HEAD", "POST", "PUT"))


async def _list(call: Call) -> Answer:
    type = call.route.type
    await call.store.kind(type)
    ignored = call.unknown("_count", "_after")
    count = call.count(PAGE_DEFAULT, PAGE_MAX)
    after = call.query.get("_after", "")
    if after and not ID.match(after):
        raise Malformed(f"_after={after[:80]}: the id is wanted after which the page begins", code="value")
    found = await page(call.store.log, PageQuery(type, after, count))
    asked = {name: value for name, value in call.query.items() if name not in ignored}
    bundle = bundles.searchset(found, type, call.base_url, asked, count, ignored, strict=call.strict)
    return answer(bundle, headers={"X-Log-Position": str(found.position)})


async def history_(call: Call) -> Answer:
    """`/_history`, `/T/_history` and `/T/id/_history`."""
    call.only("GET", "HEAD")
    ignored = call.unknown("_count", "_until", "_since")
    count = call.count(HISTORY_DEFAULT, HISTORY_MAX)
    after = 0
    if "_since" in call.query:
        after = await call.store.log.since(instant("_since", call.query["_since"]))
    type, id = call.route.type or None, call.route.id or None
    found = await history(call.store.log, HistoryQuery(type, id, after, call.position("_until"), count))
    await _known(call, found.events)
    links = _history_links(call, found.next, count, ignored)
    bodies = {} if call.strict else await _last_bodies(call, found.events)
    bundle = bundles.history_bundle(found, call.base_url, links, bodies, strict=call.strict)
    return answer(bundle, headers=ignored_header(ignored))


def _history_links(call: Call, next: int | None, count: int, ignored: list[str]) -> list[dict[str, str]]:
    url = "/".join(part for part in (call.base_url, call.route.type, call.route.id, "_history") if part)
    asked = {name: value for name, value in call.query.items() if name not in ignored}
    links = [bundles.link("self", url, asked)]
    if next is not None:
        rest = {name: value for name, value in asked.items() if name not in ("_until", "_count")}
        links.append(bundles.link("next", url, {**rest, "_count": count, "_until": next}))
    return links


async def changes(call: Call) -> Answer:
    """Polling `/$changes`, `/T/$changes` and `/T/id/$changes`: what came after a version, oldest first."""
    call.only("GET", "HEAD")
    ignored = call.unknown("version", "_count")
    type, id = call.route.type or None, call.route.id or None
    version = call.position("version")
    tip = (await call.store.log.tip()).position
    if version is None:
        await _known(call, await call.store.log.events(Span(0, None, type, id, limit=1)))
        headers = {"X-Log-Position": str(tip), **ignored_header(ignored)}
        return answer({"version": tip}, headers=headers, fhir=False)
    if version > tip:
        raise Malformed(f"version={version} is in the future: the log is at {tip}", code="value")
    count = max(1, call.count(CHANGES_DEFAULT, CHANGES_MAX))
    span = Span(version, tip, type, id, limit=count + 1, bytes_max=PAGE_BYTES_MAX)
    events = await call.store.log.events(span)
    if not events:
        await _known(call, await call.store.log.events(Span(0, None, type, id, limit=1)))
        return Answer(304, None, {"X-Log-Position": str(tip)})
    more = len(events) > count or bytes_of(events) >= PAGE_BYTES_MAX
    events = events[:count]
    return await _changes(call, events, events[-1].position if more else tip, ignored)


async def _changes(call: Call, events: Sequence[Event], until: int, ignored: list[str]) -> Answer:
    bodies = await _last_bodies(call, events)
    told: list[dict[str, Any]] = [
        {"event": event.action, "resource": msgspec.Raw(bundles.body_of(event, bodies))} for event in events
    ]
    headers = {"X-Log-Position": str(until), **ignored_header(ignored)}
    return answer({"version": until, "changes": told}, headers=headers, fhir=False)


async def _known(call: Call, events: Iterable[Event]) -> None:
    """Raises NotFound when there is nothing to tell of what the URL names."""
    if call.route.type and not any(True for _ in events):
        await call.store.kind(call.route.type)
        if call.route.id and await call.store.log.last(call.route.type, call.route.id) is None:
            raise NotFound(f"{call.route.type}/{call.route.id} does not exist and never did")


async def _last_bodies(call: Call, events: Sequence[Event]) -> dict[int, Previous]:
    """For each delete among the events, the body before it."""
    wanted = [(event.type, event.id, event.position) for event in events if event.data is None]
    return await call.store.log.before(wanted, bodies=True) if wanted else {}
