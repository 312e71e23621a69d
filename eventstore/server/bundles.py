"""Bundles from stored bytes: strict FHIR under /fhir, the tutorial's dialect under /."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import msgspec

from eventstore.body import read
from eventstore.decide import Previous
from eventstore.errors import Issue
from eventstore.event import Event
from eventstore.server.outcomes import outcome
from eventstore.splicing import splice
from projections.history import HistoryPage
from projections.query import Page

_PLAIN = re.compile(r"[\w.~/:,$-]*", re.ASCII)

STATUS_OF = {"created": "201", "updated": "200", "deleted": "204"}


def link(relation: str, url: str, parameters: Mapping[str, str | int]) -> dict[str, str]:
    """One Bundle.link."""
    text = "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in parameters.items()])
    return {"relation": relation, "url": f"{url}?{text}" if text else url}


def _quoted(value: str | int) -> str:
    """As it stands in a query."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else quote_plus(text, safe="/:,$")


def searchset(
    page: Page,
    type: str,
    base: str,
    asked: Mapping[str, str],
    count: int,
    ignored: list[str],
    *,
    strict: bool,
) -> dict[str, Any]:
    """A page of resources. `base` is the base's whole URL."""
    url = f"{base}/{type}"
    links = [link("self", url, asked)]
    if page.next is not None:
        rest = {name: value for name, value in asked.items() if name not in ("_after", "_count")}
        links.append(link("next", url, {**rest, "_count": count, "_after": page.next}))
    entries: list[dict[str, Any]] = [
        {
            "fullUrl": f"{base}/{type}/{id}",
            "resource": msgspec.Raw(data),
            "search": {"mode": "match"},
        }
        for id, data in zip(page.ids, page.resources, strict=True)
    ]
    if ignored:
        entries.append(_ignored(ignored, strict=strict))
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": page.total,
        "link": links,
    }
    if not strict:
        bundle["params"] = []
        bundle["query-sql"] = [page.sql[0], *page.sql[1]]
        bundle["query-time"] = round(page.seconds * 1000, 3)
    if entries or not strict:
        bundle["entry"] = entries
    return bundle


def _ignored(names: list[str], *, strict: bool) -> dict[str, Any]:
    issues = [
        Issue(f"the parameter {name} is not known and was ignored", code="not-supported", severity="warning")
        for name in names
    ]
    return {"resource": outcome(issues, "/fhir" if strict else ""), "search": {"mode": "outcome"}}


def history_bundle(
    page: HistoryPage,
    base: str,
    links: list[dict[str, str]],
    last_bodies: Mapping[int, Previous],
    *,
    strict: bool,
) -> dict[str, Any]:
    """A page of versions, newest first."""
    entry = _history_entry if strict else _history_entry_of_tutorial
    entries = [entry(event, base, last_bodies) for event in page.events]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "history", "total": page.total, "link": links}
    if entries or not strict:
        bundle["entry"] = entries
    return bundle


def _history_entry(event: Event, base: str, last_bodies: Mapping[int, Previous]) -> dict[str, Any]:
    method = _method(event)
    name = f"{event.type}/{event.id}"
    entry: dict[str, Any] = {"fullUrl": f"{base}/{name}"}
    if event.data is not None:
        entry["resource"] = msgspec.Raw(event.data)
    entry["request"] = {"method": method, "url": event.type if method == "POST" else name}
    entry["response"] = {
        "status": STATUS_OF[event.action],
        "etag": f'W/"{event.position}"',
        "lastModified": event.at,
    }
    return entry


def _history_entry_of_tutorial(
    event: Event, base: str, last_bodies: Mapping[int, Previous]
) -> dict[str, Any]:
    return {
        "resource": msgspec.Raw(body_of(event, last_bodies)),
        "request": {"method": _method(event), "url": event.type},
    }


def _method(event: Event) -> str:
    """As history shows it: a patch is a PUT."""
    return "PUT" if event.method == "PATCH" else event.method


def body_of(event: Event, last_bodies: Mapping[int, Previous]) -> bytes:
    """The event's body; for a delete the last body, with the delete's version and time."""
    if event.data is not None:
        return event.data
    last = last_bodies.get(event.position)
    stored = last.data if last is not None and last.data is not None else b"{}"
    return splice(read(stored), event.type, event.id).render(event.position, event.at)
