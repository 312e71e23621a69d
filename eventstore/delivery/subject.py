"""Subjects: `quire.<type>.<id>.<action>` on NATS, for publishing, for subscribing, and back again."""

from __future__ import annotations

import re
from typing import NamedTuple

from eventstore.errors import Malformed

ROOT = "quire"
EVERYTHING = f"{ROOT}.>"
"""What the stream takes in: the events and the placeholders."""
EVENTS = f"{ROOT}.*.*.*"
"""Every event, and no placeholder."""
HOLE = f"{ROOT}.hole"
"""Placeholders for positions that no event has: one token less than any event's subject."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_TOKEN = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+", re.ASCII)
_OTHER_BYTE = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")


class Parts(NamedTuple):
    """What a subject says of its event."""

    type: str
    id: str
    action: str


def encode(text: str) -> str:
    """A type, id or action as one token: every byte outside `[A-Za-z0-9_-]` as `=XX`. Raises Malformed for nothing.

    No two texts have the same token, and no text can end its token or become a wildcard.
    """
    if _PLAIN.fullmatch(text):
        return text
    if not text:
        raise Malformed("a subject has no empty parts: give a type, an id and an action", code="value")
    return _OTHER_BYTE.sub(_escaped, text.encode("utf-8", "surrogatepass")).decode("ascii")


def decode(token: str) -> str:
    """The text of a token. Raises Malformed for what `encode` does not write."""
    if _TOKEN.fullmatch(token):
        try:
            text = _ESCAPE.sub(_unescaped, token.encode()).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            text = ""
        if text and encode(text) == token:
            return text
    raise Malformed(f"{token[:200]!r} is no encoded type, id or action", code="value")


def subject(type: str, id: str, action: str) -> str:
    """Where an event is published."""
    return f"{ROOT}.{encode(type)}.{encode(id)}.{encode(action)}"


def parse(text: str) -> Parts:
    """The type, id and action of a subject. Raises Malformed for one that is no event's."""
    root, *tokens = text.split(".")
    if root != ROOT or len(tokens) != len(Parts._fields):
        raise Malformed(f"{text[:200]!r} is not {ROOT}.<type>.<id>.<action>", code="value")
    return Parts(*map(decode, tokens))


def filter_of(type: str | None = None, id: str | None = None, action: str | None = None) -> str:
    """What to subscribe to for the events of a type, of a resource, of an action; None is any. No placeholder matches."""
    return ".".join((ROOT, *("*" if part is None else encode(part) for part in (type, id, action))))


def old(generation: int) -> str:
    """What the stream of an earlier generation takes in, so that its successor can have EVERYTHING."""
    return f"{ROOT}-old-{generation}.>"


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"=%02X" % ord(match[0])


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode())
