"""What the log must hold, by rules of its own: a second, slow and simple opinion on what each write does."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import jsonpatch

from eventstore.event import EPOCH_TYPE, Event
from harness.record import Write

Key = tuple[str, str]
OURS = ("resourceType", "id", "meta")
"""What the server adds to a body."""


class History:
    """The events of a log, found by position, by resource and by the request that made them."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.at = {event.position: event for event in events}
        self.tip = events[-1].position if events else 0
        self.versions: dict[Key, list[int]] = defaultdict(list)
        self.before: dict[int, Event | None] = {}
        """The event before, of the same resource."""
        self.of_request: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            versions = self.versions[event.type, event.id]
            self.before[event.position] = self.at[versions[-1]] if versions else None
            versions.append(event.position)
            if event.type != EPOCH_TYPE:  # which is of a command, and of nobody's request
                self.of_request[request_of(event)].append(event)

    def after(self, key: Key, position: int) -> int | None:
        """The next version of a resource."""
        versions = self.versions.get(key, ())
        index = bisect_right(versions, position)
        return versions[index] if index < len(versions) else None


def request_of(event: Event) -> str:
    """The X-Request-Id of the request that made an event."""
    return str(json.loads(event.context or b"{}").get("request", ""))


def body(event: Event) -> dict[str, Any]:
    """The resource as the client sent it."""
    assert event.data is not None
    return own(json.loads(event.data))


def subject(event: Event) -> str:
    """Where a message of it has to be."""
    return f"quire.{_token(event.type)}.{_token(event.id)}.{event.action}"


def _token(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f"={ord(c):02X}" for c in text)


def digest(event: Event) -> str:
    """What a message says of a body that it leaves out."""
    return f"sha-256={sha256(event.data or b'').hexdigest()}"


def own(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key not in OURS}


def live(event: Event | None) -> bool:
    return event is not None and event.data is not None


def refusal(write: Write, before: Event | None) -> str:
    """Why a write has to be refused after the resource's event before it; empty when it has not."""
    is_there = live(before)
    if write.absent and is_there:
        return "If-None-Match: *, and there was one"
    if write.match is not None and (before is None or not is_there or before.position != write.match):
        return f"If-Match {write.match}, and it was {before.position if before else 'not there'}"
    if write.method == "POST" and is_there:
        return "POST of what was there"
    if write.method in ("PATCH", "DELETE") and not is_there:
        return f"{write.method} of what was not there"
    return ""


def result(write: Write, before: Event | None) -> dict[str, Any] | None:
    """The resource that a write makes of the one before; None for a delete."""
    if write.method == "DELETE":
        return None
    if write.method != "PATCH":
        return own(write.body)
    assert before is not None
    if isinstance(write.body, list):
        patched = jsonpatch.apply_patch(body(before), write.body)
        return own(patched)
    return own(merged(body(before), write.body))


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def action(write: Write, before: Event | None) -> str:
    if write.method == "DELETE":
        return "deleted"
    return "updated" if live(before) else "created"


def states(events: Sequence[Event]) -> Iterator[tuple[int, dict[str, dict[str, int]]]]:
    """After each event: by type, the current version of each live resource. The same mapping, changed in place."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for event in events:
        if live(event):
            found[event.type][event.id] = event.position
        else:
            found[event.type].pop(event.id, None)
        yield event.position, found
