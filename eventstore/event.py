"""The event: its fields, its bytes, and the hashes that chain it to the one before."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

import msgspec

Position = int
"""1, 2, 3 ... without a gap, over the whole log; also `meta.versionId` and the ETag."""

Action = Literal["created", "updated", "deleted", "erased"]

SALT_BYTES = 16
EPOCH_TYPE = "QuireEpoch"
"""The type of the record that begins an epoch: its position follows the highest that anyone has seen."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """What an event says of itself; nothing in it ever needs erasing. Stored as JSON bytes."""

    position: Position
    type: str
    id: str
    action: str
    at: str
    """When it was written: UTC, milliseconds, `2026-11-20T17:42:13.123Z`; never decreasing along positions."""
    transaction: Position
    """Position of the first event of its transaction."""
    definition: Position
    """Position of the latest event that changed the compiled form of its type; 0 for built-in types."""
    method: str
    """The HTTP method that caused it: POST, PUT, PATCH or DELETE."""
    url: str
    """`Type/id`."""


class Context(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Who and why: free text, erasable like the data. Stored as JSON bytes."""

    actor: str = ""
    url: str = ""
    request: str = ""
    correlation: str = ""
    reason: str = ""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One immutable change, as it stands in the log."""

    position: Position
    type: str
    id: str
    action: str
    at: str
    transaction: Position
    definition: Position
    method: str
    header: bytes
    data: bytes | None
    """The whole resource as JSON, as readers get it; None for a delete."""
    context: bytes
    salt: bytes
    digest: bytes
    hash: bytes


class Tip(msgspec.Struct, frozen=True, gc=False):
    """The end of the log: position 0 and the genesis hash when it is empty."""

    position: Position
    at: str
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode


def genesis(log_id: str, fhir_version: str, created: str) -> bytes:
    """The hash before position 1: it binds the chain to this log, its FHIR version and when it was made."""
    return sha256(f"quire {log_id} {fhir_version} {created}".encode()).digest()


def digest_of(salt: bytes, data: bytes | None, context: bytes) -> bytes:
    """SHA-256(salt || data || context); it survives when the three are erased."""
    return sha256(salt + (data or b"") + context).digest()


def chain(previous: bytes, header: bytes, digest: bytes) -> bytes:
    """SHA-256(previous hash || header || digest)."""
    return sha256(previous + header + digest).digest()


def seal(header: Header, data: bytes | None, context: bytes, salt: bytes, previous: bytes) -> Event:
    """Make the event that follows the one whose hash is `previous`."""
    head = _encode(header)
    digest = digest_of(salt, data, context)
    return Event(
        header.position, header.type, header.id, header.action, header.at, header.transaction,
        header.definition, header.method, head, data, context, salt, digest, chain(previous, head, digest),
    )  # fmt: skip


def header_of(event: Event) -> Header:
    """Decode the header's bytes. Raises msgspec.ValidationError or DecodeError when they are not a header."""
    return _decode_header(event.header)


def encode_context(context: Context) -> bytes:
    """The bytes that are stored and digested."""
    return _encode(context)
