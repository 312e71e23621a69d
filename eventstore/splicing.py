"""A resource's bytes, and the place in them where its version goes."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from eventstore.body import Document

_encode = msgspec.json.Encoder().encode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_VERSION = re.compile(
    rb'"versionId":"[1-9][0-9]*","lastUpdated":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"'
)

_GIVEN = ("versionId", "lastUpdated")
"""What the store says in `meta`, whatever was sent."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """A resource's bytes, open at the place where its version goes."""

    head: bytes
    """Ends just after `"meta":{`."""
    tail: bytes
    """From there on: `}...`, or `,"tag":[...]}...`."""

    def render(self, position: int, at: str) -> bytes:
        return b'%b"versionId":"%d","lastUpdated":"%b"%b' % (self.head, position, at.encode(), self.tail)

    def same_as(self, stored: bytes) -> bool:
        """Whether `stored` is this but for versionId and lastUpdated."""
        end = len(stored) - len(self.tail)
        return (
            stored.startswith(self.head)
            and stored.endswith(self.tail)
            and _VERSION.fullmatch(stored, len(self.head), end) is not None
        )


def splice(document: Document, type: str, id: str) -> Body:
    """Open an object's bytes for its version, its type and id put in.

    It also brings `document.value` to what will be stored, less versionId and lastUpdated. A `meta` that is not
    an object stays there as it is, to be refused by validation; the Body is then of no use.
    """
    value: dict[str, Any] = document.value
    plain = _splice_plain(document, type, id)
    if plain is not None:
        return plain
    members: dict[str, Any] = _decode_members(document.data)
    order = _order(members)
    for key, given in (("resourceType", type), ("id", id)):
        value[key] = members[key] = given
    at = order.index("meta")
    before = _encode({key: members[key] for key in order[:at]})[1:-1]
    after = _encode({key: members[key] for key in order[at + 1 :]})[1:-1]
    head = b"{" + before + b',"meta":{' if before else b'{"meta":{'
    return Body(head, _splice_meta(value, members) + b"}" + (b"," + after if after else b"") + b"}")


def _splice_plain(document: Document, type: str, id: str) -> Body | None:
    """The same for most bodies, past their members: no version, type and id first or nowhere, and all keys as we write them."""
    value, data = document.value, document.data
    has_type, has_id = "resourceType" in value, "id" in value
    of_type, with_id = b'"resourceType":"%b"' % type.encode(), b'"id":"%b"' % id.encode()
    sent = b"{%b%b%b" % (of_type * has_type, b"," * (has_type and has_id), with_id * has_id)
    if not data.startswith(sent) or (document.escaped != frozenset() and any(map(document.may_spell, value))):
        return None
    rest = data[len(sent) :] if data[len(sent)] in b",}" else b"," + data[len(sent) :]
    at = rest.find(_META)
    if at >= 0 and not _is_kept(value.get("meta"), rest, at):
        return None
    value["resourceType"], value["id"] = type, id
    if at < 0:
        return Body(b'{%b,%b,"meta":{' % (of_type, with_id), b"}" + rest)
    opened = at + len(_META) + 1
    return Body(b"{%b,%b%b" % (of_type, with_id, rest[:opened]), b"," + rest[opened:])


_META = b'"meta":'


def _is_kept(meta: Any, rest: bytes, at: int) -> bool:
    """Whether the one meta in `rest`, whose key is at `at`, is the resource's, with nothing in it to be dropped."""
    return (
        isinstance(meta, dict)
        and bool(meta)
        and meta.keys().isdisjoint(_GIVEN)
        and rest.startswith(_encode(meta), at + len(_META))
        and rest.find(_META, at + 1) < 0
    )


def _order(members: dict[str, Any]) -> list[str]:
    """The client's order of keys, with what is missing where it belongs."""
    order = list(members)
    if "resourceType" not in members:
        order.insert(0, "resourceType")
    if "id" not in members:
        order.insert(order.index("resourceType") + 1, "id")
    if "meta" not in members:
        order.insert(order.index("id") + 1, "meta")
    return order


def _splice_meta(value: dict[str, Any], members: dict[str, Any]) -> bytes:
    """What a client's meta keeps, `,"tag":[...]`, or nothing; the rest is dropped from `value`."""
    meta = value.get("meta")
    if not isinstance(meta, dict):
        return b""
    kept = _decode_members(members["meta"])
    for key in _GIVEN:
        meta.pop(key, None)
        kept.pop(key, None)
    if meta:
        return b"," + _encode(kept)[1:-1]
    del value["meta"]
    return b""
