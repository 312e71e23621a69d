"""The port of definition formats: what each makes of its definitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, Self

from eventstore.types.definition import Kind, TypeDefinition


class Names(Protocol):
    """What a name in a definition stands for, in all formats."""

    @property
    def fhir_version(self) -> str: ...

    def kind_of(self, name: str) -> Kind | None:
        """Of the type of that name, if there is one."""

    def why_unknown(self, name: str) -> str:
        """What to say where there is none."""

    def is_target(self, name: str) -> bool:
        """Whether a Reference may point to it."""

    def is_in_extensions(self, name: str) -> bool:
        """Whether an Extension can hold a value of it."""

    def check_case(self, name: str) -> None:
        """Raise Conflict when the name differs from another one only in case."""


class Format(Protocol):
    """The definitions of one format as of a position. Immutable: `changed` gives the next.

    A definition in the log has been accepted once; to fold it again must give the same, and never fail. So
    `changed` raises only for what can never be, and `prove` refuses what a new definition may not.
    """

    resource_types: ClassVar[tuple[str, ...]]
    """Whose resources are definitions of this format."""

    def changed(
        self, type: str, id: str, value: dict[str, Any] | None, names: Names
    ) -> tuple[Self, set[str]]:
        """After a definition is written, or with None deleted; and the names of the types that it touches.

        `value` fits the built-in type `type`. Raises Invalid or Conflict when it cannot be.
        """

    def definition(self, name: str) -> TypeDefinition | None:
        """The type of that name, or the profile of that URL."""

    def kind_of(self, name: str) -> Kind | None:
        """Of the type of that name; without assembling it."""

    def names(self) -> Iterable[str]:
        """Of its types, and the URLs of its profiles."""

    def resources_of(self, name: str) -> list[tuple[str, str]]:
        """The definitions that make the type or profile of that name or URL, by type and id, the last first needed."""

    def user_of(self, name: str) -> str:
        """Which of its definitions has an element of that type, in words; nothing when there is none."""

    def check_return(self, name: str, names: Names) -> None:
        """Raise Invalid when a type that is there again, by this format, can no longer be. `names` knows it."""

    def prove(self, type: str, id: str, value: dict[str, Any], names: Names) -> str:
        """Refuse a new definition, just taken in, for what it says. Raises Invalid.

        Returns the name of the type that is to be compiled, or nothing.
        """
