"""One resource while it is checked: what was found, and what there is to look at once its shape is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jsonschema_rs
import msgspec

from eventstore.body import Document
from eventstore.errors import Issue, Path
from eventstore.types.definition import Binding, TypeDefinition
from eventstore.types.due import Due
from eventstore.types.fhirpath.model import Types as Shapes
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirpath.scope import Scope as Evaluation
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


class Extended(msgspec.Struct, frozen=True):
    """An extension, and the definition of its URL, which one that modifies has to have."""

    value: dict[str, Any]
    path: Path
    profile: Checked | None


class Coded(msgspec.Struct, frozen=True):
    """A coded value, and where its codes are from."""

    value: Any
    path: Path
    binding: Binding


class Ruled(msgspec.Struct, frozen=True):
    """A value, and the constraints in FHIRPath that have to be run for it."""

    value: Any
    path: Path
    type: str
    """What FHIRPath calls the value's type."""
    due: list[Due]


class Checked(Protocol):
    """A type or a profile, compiled."""

    name: str
    definition: TypeDefinition

    def check(self, document: Document, types: Types, container: dict[str, Any] | None = None) -> list[Issue]:
        """Everything that is wrong with a value, and warnings."""

    def types_at(self, path: Path) -> frozenset[str]:
        """What stands at a path is called so: the paths that lead there, and the types it has."""


class Types(Protocol):
    """The other types as of now."""

    @property
    def fhir_version(self) -> str: ...

    @property
    def shapes(self) -> Shapes:
        """The types as FHIRPath knows them."""

    @property
    def base_url(self) -> str:
        """Below which resources are reached, without a slash at its end; empty where that is not known."""

    @property
    def environment(self) -> Environment:
        """What expressions may ask of the types."""

    def served(self, name: str) -> Checked | None:
        """The resource type of that name."""

    def profile(self, url: str) -> Checked | None:
        """The profile of that URL."""

    def definition_of(self, name: str) -> TypeDefinition | None:
        """The type or profile that is called so, by name or URL."""

    def is_target(self, name: str) -> bool:
        """Whether a Reference may point to a resource type of that name."""

    def is_a(self, name: str, base: str) -> bool:
        """Whether the type or profile is, or is based on, the other, which is called by name or URL."""

    def has_code(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a code is in a value set; None where that is not known."""

    def findings_of(self, profile: Checked, value: Any, container: dict[str, Any]) -> list[Issue]:
        """What a profile finds in a value that is in the container; warnings too."""


class Scope:
    """`resource` is what is checked, `container` what it is contained in: itself, where it is in none."""

    __slots__ = ("container", "evaluation", "issues", "resource", "told", "types", "waiting")

    def __init__(self, resource: Any, types: Types, container: dict[str, Any] | None = None) -> None:
        self.resource = resource
        self.types = types
        self.container = resource if container is None else container
        self.issues: list[Issue] = []
        self.waiting: list[Slot | Asked | Extended | Coded | Ruled] = []
        """What is to be looked at after the plan."""
        self.evaluation: Evaluation | None = None
        """Of the constraints in FHIRPath, once one has to be run."""
        self.told: set[str] | None = None
        """What was told of as not known."""

    def tell(self, message: str, path: Path, code: str = "value", severity: str = "error") -> None:
        self.issues.append(Issue(message, path, code, severity))

    def tell_once(self, message: str, path: Path) -> None:
        """Warn of what is not known here; at the first of the places."""
        self.told = self.told or set()
        if message not in self.told:
            self.told.add(message)
            self.tell(message, path, "not-found", "warning")

    def may_mean(self, target: str, name: str) -> bool:
        """Whether a reference to a type may be one to the target, which is no type's name: a profile, or a URL."""
        if self.types.is_target(target):
            return False
        known = self.types.definition_of(target)
        return known is None or self.types.is_a(known.name, name) or self.types.is_a(name, known.name)

    def conforms(self, value: Any, url: str) -> bool:
        """Whether a value is as the profile of a URL asks; not, where there is none."""
        found = self.types.profile(url)
        if found is None:
            return False
        issues = self.types.findings_of(found, value, self.container)
        return all(issue.severity == "warning" for issue in issues)

    def run(self, engine: jsonschema_rs.Validator, value: Any, path: Path) -> None:
        """Tell what an engine finds in a value."""
        if not engine.is_valid(value):
            self.take((one.issue for one in findings(engine, value)), path)

    def take(self, issues: Iterable[Issue], path: Path) -> None:
        """Tell what was found in a value that stands at a path."""
        self.issues.extend(msgspec.structs.replace(one, path=(*path, *one.path)) for one in issues)
