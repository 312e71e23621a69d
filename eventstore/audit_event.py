"""What one event says of itself, and whether that agrees with itself; the audit's rules for a single event. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from eventstore.decide import Previous
from eventstore.event import Event, Header, Position

SHAPES = tuple(
    (int, str, str, str, str, int, int, str, bytes, data, bytes, bytes, bytes, bytes)
    for data in (bytes, type(None))
)
"""The types of an event's fields, in their order."""


def misshapen(columns: tuple[Any, ...]) -> Iterator[str]:
    """Which columns hold what they cannot."""
    for name, value, *kinds in zip(Event.__struct_fields__, columns, *SHAPES, strict=True):
        if type(value) not in kinds:
            found = "nothing" if value is None else type(value).__name__
            yield f"the column {name} holds {found}, not {kinds[0].__name__}"


def differences(header: Header, columns: tuple[Any, ...]) -> Iterator[str]:
    """Where the columns, or the URL, are not what the header says."""
    for name, value in zip(Header.__struct_fields__[:-1], columns, strict=False):
        if (said := getattr(header, name)) != value:
            yield f"the column {name} is {value!r:.80}, the header says {said!r:.80}"


def of_columns(columns: tuple[Any, ...]) -> Header:
    """The header that the columns make."""
    return Header(*(*columns[:8], f"{columns[1]}/{columns[2]}"))


class _Meta(msgspec.Struct):
    versionId: str  # noqa: N815 - FHIR's name
    lastUpdated: str  # noqa: N815 - FHIR's name


class _Resource(msgspec.Struct):
    """What the body repeats of the header."""

    resourceType: str  # noqa: N815 - FHIR's name
    id: str
    meta: _Meta


_decode_resource = msgspec.json.Decoder(_Resource).decode


def bodied(event: Event, facts: Header) -> Iterator[str]:
    """What is wrong with the body, and with the URL, which repeat the header."""
    if facts.url != f"{facts.type}/{facts.id}":
        yield f"the header's url is {facts.url[:80]!r}, not {facts.type}/{facts.id}"
    if (event.data is None) != (facts.action == "deleted"):
        yield f"{facts.action}, and {'no' if event.data is None else 'a'} body"
    if event.data is None:
        return
    try:
        body = _decode_resource(event.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        yield f"the body is not a stored resource: {error}"
        return
    found = (body.resourceType, body.id, body.meta.versionId, body.meta.lastUpdated)
    right = (facts.type, facts.id, str(facts.position), facts.at)
    if found != right:
        yield f"the body says it is {'/'.join(found)[:160]}, the header {'/'.join(right)}"


def acted(facts: Header, previous: Previous | None) -> Iterator[str]:
    """An action must be one that the resource's last event allows."""
    live = previous is not None and previous.live
    if facts.action not in ("created", "updated", "deleted"):
        yield f"the action {facts.action[:40]!r} is none of created, updated, deleted"
    elif live == (facts.action == "created"):
        state = f"{previous.action} at {previous.position}" if previous is not None else "never there"
        yield f"{facts.action}, and the resource was {state}"


class _Epoch(msgspec.Struct):
    after: Position


_decode_epoch = msgspec.json.Decoder(_Epoch).decode


def hole_after(event: Event) -> Position:
    """After which position an epoch's record says that there is nothing, up to it; 0 when it cannot be read."""
    try:
        return _decode_epoch(event.data).after if isinstance(event.data, bytes) else 0
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0
