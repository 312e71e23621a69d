"""The attributes of an event as a CloudEvent 1.0, the same on every way out (https://cloudevents.io, v1.0.2)."""

from __future__ import annotations

from eventstore.event import Position

VERSION = "1.0"
CONTENT_TYPE = "application/fhir+json"
SEQUENCE_DIGITS = 20
"""`sequence` is compared as text (extension "Sequence"), so it has leading zeros."""


def id(log_id: str, position: Position) -> str:
    """`id`: with `source`, which is the log, it names one event for ever."""
    return f"{log_id}:{position}"


def source(log_id: str) -> str:
    return f"urn:uuid:{log_id}"


def type(type: str, action: str) -> str:
    """`type`: what happened to what."""
    return f"quire.{type}.{action}"


def subject(type: str, id: str) -> str:
    return f"{type}/{id}"


def sequence(position: Position) -> str:
    return f"{position:0{SEQUENCE_DIGITS}d}"
