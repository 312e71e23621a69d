"""What a client asks to be changed: one command is one request to one resource."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from eventstore.body import Document
from eventstore.errors import Issue
from eventstore.event import Position
from eventstore.splicing import Body

Method = Literal["POST", "PUT", "PATCH", "DELETE"]
Key = tuple[str, str]
"""(type, id)."""


class Precondition(msgspec.Struct, frozen=True, gc=False):
    """If-Match and If-None-Match, as asked."""

    match: frozenset[Position] | None = None
    """The versions of which one must be current; None: not asked."""
    exists: bool = False
    """`If-Match: *`: there must be a current version."""
    absent: bool = False
    """`If-None-Match: *`: there must be none."""


class Patch(msgspec.Struct, frozen=True):
    """A change to whatever the resource is when its turn comes."""

    format: Literal["json-patch", "merge-patch", "tag", "untag"]
    operations: Any
    """The parsed patch document, numbers with their digits (`body.exact`); of tag and untag the code in `meta.tag`."""


ANYTHING = Precondition()


class Command(msgspec.Struct, frozen=True):
    """One create, update, patch or delete, parsed and checked as far as that goes without the log."""

    method: Method
    type: str
    id: str
    context: bytes
    document: Document | None = None
    """The resource to store; None for PATCH and DELETE, and where nothing but `body` is at hand."""
    body: Body | None = None
    """The document's bytes, open at its version."""
    patch: Patch | None = None
    precondition: Precondition = ANYTHING
    checked: Position = -1
    """Position of the registry that the document was found valid by; -1: not checked."""
    warnings: tuple[Issue, ...] = ()
    """What was found then, and did not stand against it."""
    refers: frozenset[Key] = frozenset()
    """Stored resources, and versions of them, that its constraints were found to ask for (`types.facts.Key`): it is
    checked in its turn, when they are known."""
    short_references: bool = False
    """`{resourceType, id}` is taken for a reference: the dialect of the base `/`."""
    given: bool = False
    """The id is the server's: a type with a sequence gives another when it is written."""
    unless_same: bool = False
    """No event when the resource is already just this (imports)."""

    @property
    def key(self) -> Key:
        return (self.type, self.id)

    @property
    def size(self) -> int:
        """About how many bytes it will store."""
        if self.document is not None:
            return len(self.document.data)
        return len(self.body.head) + len(self.body.tail) if self.body is not None else 0

    @property
    def needs_body(self) -> bool:
        """Whether deciding needs the bytes of the resource as it is."""
        return self.patch is not None or self.unless_same


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """What became of a command that was not refused."""

    action: Literal["created", "updated", "deleted", "unchanged"]
    position: Position | None
    """The resource's version; None when there was nothing to delete."""
    at: str
    data: bytes | None
    warnings: tuple[Issue, ...] = ()
    """What was found, and did not stand against it."""
    id: str = ""
    """Of the resource, where there was an event: a sequence may have given it."""
