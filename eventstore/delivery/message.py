"""Messages: an event as NATS carries it, in CloudEvents 1.0 binary mode, with what the fence compares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

import msgspec

from eventstore.delivery import cloudevent, subject
from eventstore.event import Context, Event, Position
from eventstore.log.base import Hole

VALUE_BYTES_MAX = 1024
"""Of a header value that a client chose; the log has all of it."""

LINE = "NATS/1.0\r\n"
POSITION, HASH, CORRELATION = "Quire-Position", "Quire-Hash", "Quire-Correlation"
ERASED, HOLE = "Quire-Erased", "Quire-Hole"
BODY_URL, BODY_BYTES, BODY_DIGEST = "ce-dataref", "Quire-Body-Bytes", "Quire-Body-Digest"
EXPECTED_SEQUENCE, EXPECTED_STREAM = "Nats-Expected-Last-Sequence", "Nats-Expected-Stream"

_SAFE = re.compile(r"[!#$&-~]*", re.ASCII)
_UNSAFE = re.compile(rb'[^!#$&-~]|"')
"""What CloudEvents has percent-encoded in a header: all but U+0021 to U+007E, and the quote and the percent sign."""
_context = msgspec.json.Decoder(Context).decode


class Message(NamedTuple):
    """One publish. `head` is the header block as it goes over the wire, `NATS/1.0` and empty line included."""

    subject: str
    head: bytes
    payload: bytes


class Composer:
    """Makes the messages of one log for one stream, on a broker that takes messages of `bytes_max`."""

    def __init__(self, log_id: str, stream: str, bytes_max: int, base_url: str = "") -> None:
        self._stream = safe(stream)
        self._log = safe(log_id)
        self._bytes_max = bytes_max
        self._base_url = base_url.rstrip("/")
        self._fixed = f"ce-specversion: {cloudevent.VERSION}\r\nce-source: {cloudevent.source(self._log)}\r\n"

    def message(self, event: Event) -> Message:
        """The event as a message: its body as it is, or where to fetch it when the broker would not take it.

        A delete has no body, and neither has an event that was erased.
        """
        where = subject.subject(event.type, event.id, event.action)
        text = self._head(event)
        if event.data is None:
            erased = f"{ERASED}: true\r\n" if is_erased(event) else ""
            return Message(where, _block(text + erased), b"")
        head = _block(f"{text}ce-datacontenttype: {cloudevent.CONTENT_TYPE}\r\n")
        if len(head) + len(event.data) <= self._bytes_max:
            return Message(where, head, event.data)
        return Message(where, _block(text + self._reference(event, event.data)), b"")

    def placeholder(self, position: Position, hole: Hole) -> Message:
        """What stands at a position that no event has, so that sequence and position stay one number."""
        head = f"{self._fence(position)}{HOLE}: {hole.after}-{hole.until}\r\n"
        return Message(subject.HOLE, _block(head), b"")

    def _head(self, event: Event) -> str:
        position, type = event.position, safe(event.type)
        return (
            f"{self._fence(position)}{self._fixed}"
            f"ce-id: {cloudevent.id(self._log, position)}\r\n"
            f"ce-type: {cloudevent.type(type, event.action)}\r\n"
            f"ce-subject: {cloudevent.subject(type, safe(event.id))}\r\n"
            f"ce-time: {event.at}\r\n"
            f"ce-sequence: {cloudevent.sequence(position)}\r\n"
            f"{HASH}: {event.hash.hex()}\r\n{_correlation(event.context)}"
        )

    def _fence(self, position: Position) -> str:
        """What makes the broker refuse it anywhere but at its position in the right stream."""
        return (
            f"{EXPECTED_SEQUENCE}: {position - 1}\r\n{EXPECTED_STREAM}: {self._stream}\r\n"
            f"{POSITION}: {position}\r\n"
        )

    def _reference(self, event: Event, body: bytes) -> str:
        url = f"{self._base_url}/{safe(event.type)}/{safe(event.id)}/_history/{event.position}"
        return (
            f"{BODY_URL}: {url}\r\n{BODY_BYTES}: {len(body)}\r\n"
            f"{BODY_DIGEST}: sha-256={sha256(body).hexdigest()}\r\n"
        )


def is_erased(event: Event) -> bool:
    """Whether the event had a body that was erased."""
    return event.data is None and event.action in ("created", "updated")


def safe(value: str) -> str:
    """A header value in printable ASCII, everything else percent-encoded, cut at VALUE_BYTES_MAX."""
    if len(value) <= VALUE_BYTES_MAX and _SAFE.fullmatch(value):
        return value
    found = _UNSAFE.sub(_escaped, value.encode("utf-8", "surrogatepass"))[:VALUE_BYTES_MAX]
    cut = found.rfind(b"%", len(found) - 2)
    if len(found) == VALUE_BYTES_MAX and cut >= 0:
        found = found[:cut]
    return found.decode("ascii")


def headers(block: bytes) -> Mapping[str, str]:
    """The fields of a header block, by name."""
    found = {}
    for line in block.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip()] = value.strip()
    return found


def difference(event: Event, where: str, fields: Mapping[str, str], payload: bytes | None) -> str:
    """How a stored message differs from the event at its position; empty when it does not. None: not looked at."""
    if fields.get(POSITION) != str(event.position) or HASH not in fields:
        return "it was not published by Quire"
    if fields[HASH] != event.hash.hex():
        return "its hash is not that of the log's event"
    if where != subject.subject(event.type, event.id, event.action):
        return f"its subject is {where}"
    if payload is None:
        return ""
    if BODY_URL in fields:
        return _referenced(event, fields, payload)
    if is_erased(event) and payload:
        return "its body was erased in the log and is still here"
    return "" if payload == (event.data or b"") else "its body is not that of the log's event"


def _referenced(event: Event, fields: Mapping[str, str], payload: bytes) -> str:
    digest = f"sha-256={sha256(event.data or b'').hexdigest()}"
    if payload or (event.data is not None and fields.get(BODY_DIGEST) != digest):
        return "its reference is not to the body of the log's event"
    return ""


def _correlation(context: bytes | None) -> str:
    if not context or b'"correlation"' not in context:
        return ""
    value = _context(context).correlation
    return f"{CORRELATION}: {safe(value)}\r\n" if value else ""


def _block(text: str) -> bytes:
    return f"{LINE}{text}\r\n".encode("ascii")


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(match[0])
