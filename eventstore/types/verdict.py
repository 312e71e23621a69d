"""What is to be looked at once the shape of a resource is known: what it holds, and what other definitions say."""

from __future__ import annotations

from typing import Any, Protocol

from eventstore.body import Document
from eventstore.errors import Issue
from eventstore.types.builtin import is_core_target
from eventstore.types.definition import RESOURCE
from eventstore.types.scope import Asked, Scope, Slot

CONTAINED = "contained"


class Checked(Protocol):
    """A type or a profile, compiled."""

    name: str

    def check(
        self, document: Document, types: Types, container: dict[str, Any] | None = None
    ) -> list[Issue]: ...


class Types(Protocol):
    """The other types as of now."""

    @property
    def fhir_version(self) -> str: ...

    def served(self, name: str) -> Checked | None:
        """The resource type of that name."""

    def profile(self, url: str) -> Checked | None:
        """The profile of that URL."""

    def is_a(self, name: str, base: str) -> bool:
        """Whether the type is, or is based on, the other."""


def follow(scope: Scope, document: Document, types: Types, *, sound: bool) -> None:
    """Tell the scope what else is wrong. `sound` says that the schema has let the resource in."""
    for slot in scope.slots:
        _check_slot(slot, scope, document, types)
    for asked in scope.asked:
        _check_profiles(asked, scope, types)


def _check_slot(slot: Slot, scope: Scope, document: Document, types: Types) -> None:
    name = slot.value.get("resourceType") if isinstance(slot.value, dict) else None
    if not isinstance(name, str):
        return
    kind = types.served(name)
    at = (*slot.path, "resourceType")
    if kind is None:
        is_known = is_core_target(name, types.fhir_version)
        what = f"{name} is not defined here: not checked" if is_known else f"there is no type {name}"
        scope.tell(what, at, "not-found", "warning" if is_known else "error")
    elif slot.type != RESOURCE and not types.is_a(name, slot.type):
        scope.tell(f"expected a {slot.type}", at)
    else:
        container = scope.container if CONTAINED in slot.path[-2:] else None
        scope.take(kind.check(_inner(document, slot), types, container), slot.path)


def _inner(document: Document, slot: Slot) -> Document:
    """A resource in another, with what was noted of it."""
    wide = tuple(
        path[len(slot.path) :] for path in document.wide_integers if path[: len(slot.path)] == slot.path
    )
    return Document(slot.value, document.data, (), wide)


def _check_profiles(asked: Asked, scope: Scope, types: Types) -> None:
    """One of them holds; of one alone, everything that is wrong is told."""
    known = [found for url in asked.profiles if (found := types.profile(url)) is not None]
    if len(known) < len(asked.profiles):
        return
    results = [one.check(Document(asked.value, b""), types, scope.container) for one in known]
    if not any(_is_valid(one) for one in results):
        if len(results) == 1:
            scope.take(results[0], asked.path)
        else:
            scope.tell(f"fits none of {', '.join(asked.profiles)}", asked.path)


def _is_valid(issues: list[Issue]) -> bool:
    return all(one.severity not in ("error", "fatal") for one in issues)
