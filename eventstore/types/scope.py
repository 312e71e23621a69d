"""One resource while it is checked: what was found, and what there is to look at once its shape is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jsonschema_rs
import msgspec

from eventstore.errors import Issue, Path
from eventstore.types.definition import Binding, Constraint
from eventstore.types.jsonschema import findings

Rule = Callable[[Any, Path, "Scope"], None]
"""Looks at a value, and tells the scope what it finds. A value of the wrong JSON type is for the schema to find."""


class Slot(msgspec.Struct, frozen=True):
    """A resource in another."""

    value: Any
    path: Path
    type: str
    """What it may be: that, or what is based on it."""


class Asked(msgspec.Struct, frozen=True):
    """A value, and profiles of which one has to hold for it."""

    value: Any
    path: Path
    profiles: tuple[str, ...]


class Coded(msgspec.Struct, frozen=True):
    """A coded value, and where its codes are from."""

    value: Any
    path: Path
    binding: Binding


class Ruled(msgspec.Struct, frozen=True):
    """A value, and the constraints in FHIRPath that hold for it."""

    value: Any
    path: Path
    constraints: tuple[Constraint, ...]


class Scope:
    """`resource` is what is checked, `container` what it is contained in: itself, where it is in none."""

    __slots__ = ("asked", "coded", "container", "issues", "resource", "ruled", "slots")

    def __init__(self, resource: dict[str, Any], container: dict[str, Any] | None = None) -> None:
        self.resource = resource
        self.container = resource if container is None else container
        self.issues: list[Issue] = []
        self.slots: list[Slot] = []
        self.asked: list[Asked] = []
        self.coded: list[Coded] = []
        self.ruled: list[Ruled] = []

    def tell(self, message: str, path: Path, code: str = "value", severity: str = "error") -> None:
        self.issues.append(Issue(message, path, code, severity))

    def run(self, engine: jsonschema_rs.Validator, value: Any, path: Path) -> None:
        """Tell what an engine finds in a value."""
        if not engine.is_valid(value):
            self.take((one.issue for one in findings(engine, value)), path)

    def take(self, issues: Iterable[Issue], path: Path) -> None:
        """Tell what was found in a value that stands at a path."""
        self.issues.extend(msgspec.structs.replace(one, path=(*path, *one.path)) for one in issues)
