"""The rules of change: what a command does to a resource, given its last event. Pure."""

from __future__ import annotations

from typing import Any, Literal

import jsonpatch
import msgspec

from eventstore.body import RESOURCE_BYTES_MAX, exact, merge_patch, write
from eventstore.command import Command, Patch
from eventstore.errors import Conflict, Gone, Invalid, Malformed, NotFound, PreconditionFailed, TooLarge
from eventstore.event import Position

PATCH_OPERATIONS_MAX = 1000


class Previous(msgspec.Struct, frozen=True, gc=False):
    """The last event of a resource, as far as deciding needs it."""

    position: Position
    action: str
    at: str
    data: bytes | None
    """None for a delete, and where no command of the batch needs it."""

    @property
    def live(self) -> bool:
        return self.action in ("created", "updated")


Decision = Literal["created", "updated", "deleted", "unchanged"]


def decide(command: Command, previous: Previous | None) -> Decision:
    """What the command does. Raises PreconditionFailed, Conflict, NotFound or Gone when it may not."""
    current = previous if previous is not None and previous.live else None
    _hold(command, current)
    match command.method:
        case "POST" if current is not None:
            raise Conflict(
                f"{command.type}/{command.id} exists; PUT changes it, a POST without an id makes another",
                code="duplicate",
            )
        case "DELETE":
            return "deleted" if current is not None else "unchanged"
        case "PATCH" if current is None:
            raise _missing(command, previous)
    return "created" if current is None else "updated"


def _hold(command: Command, current: Previous | None) -> None:
    """Check If-Match and If-None-Match against the current version."""
    asked = command.precondition
    if asked.absent and current is not None:
        raise PreconditionFailed(f"{command.type}/{command.id} exists", current.position)
    if asked.exists and current is None:
        raise PreconditionFailed(f"{command.type}/{command.id} does not exist")
    if asked.match is not None and (current is None or current.position not in asked.match):
        now = f"at version {current.position}" if current else "not there"
        raise PreconditionFailed(
            f"If-Match does not hold: {command.type}/{command.id} is {now}; read it again and retry",
            current.position if current else None,
        )


def _missing(command: Command, previous: Previous | None) -> NotFound | Gone:
    name = f"{command.type}/{command.id}"
    if previous is None:
        return NotFound(f"{name} does not exist")
    return Gone(f"{name} was deleted at version {previous.position}", previous.position)


def patched(patch: Patch, stored: bytes) -> Any:
    """The stored resource with the patch applied, digits kept. Raises Malformed, Invalid or TooLarge."""
    value = exact(stored)
    if patch.format == "merge-patch":
        return merge_patch(value, patch.operations)
    if patch.format in ("tag", "untag"):
        return _tagged(value, patch.operations, there=patch.format == "tag")
    if len(patch.operations) > PATCH_OPERATIONS_MAX:
        raise TooLarge(f"{len(patch.operations)} operations; a JSON Patch may have {PATCH_OPERATIONS_MAX}")
    copied = 0
    for operation in patch.operations:
        if isinstance(operation, dict) and operation.get("op") == "copy":
            copied += _size(value, operation.get("from"))
            if copied > RESOURCE_BYTES_MAX:
                raise TooLarge(f"the JSON Patch copies more than {RESOURCE_BYTES_MAX} bytes")
        value = _operated(operation, value)
    return value


def _tagged(value: dict[str, Any], code: str, *, there: bool) -> dict[str, Any]:
    """With the code among the tags, or without it."""
    meta = value.get("meta", {})
    tags = meta.get("tag", [])
    if there == any(tag.get("code") == code for tag in tags):
        return value
    kept = [*tags, {"code": code}] if there else [tag for tag in tags if tag.get("code") != code]
    others = {key: one for key, one in meta.items() if key != "tag"}
    return {**value, "meta": {**others, "tag": kept} if kept else others}


def _operated(operation: Any, value: Any) -> Any:
    try:
        return jsonpatch.JsonPatch([operation]).apply(value, in_place=True)
    except jsonpatch.JsonPatchTestFailed as error:
        raise Invalid(f"a test of the JSON Patch failed: {str(error)[:200]}") from error
    except jsonpatch.InvalidJsonPatch as error:
        raise Malformed(f"not a JSON Patch: {str(error)[:200]}") from error
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise Invalid(f"the JSON Patch does not apply: {str(error)[:200]}") from error
    except RecursionError:
        raise Malformed("the JSON Patch makes the resource too deep") from None
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise Malformed(f"not a JSON Patch: {str(error)[:200]}") from error


def _size(value: Any, pointer: Any) -> int:
    """Bytes of what a pointer names; 0 when it names nothing, which the operation itself will tell."""
    try:
        return len(write(jsonpatch.JsonPointer(pointer).resolve(value)))
    except (jsonpatch.JsonPointerException, TypeError, KeyError, IndexError, ValueError, AttributeError):
        return 0
