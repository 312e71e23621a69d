"""Who names types how: Prefix resources, and what they mean for the name of a new type. Pure.

A Prefix defines no type. It is a definition all the same: its events are folded into the registry, so that the rule
holds at a position, on every node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

import msgspec

from eventstore.errors import Conflict, Invalid, Issue
from eventstore.types import builtin
from eventstore.types.definition import Kind, TypeDefinition
from eventstore.types.format import Names

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9]*\Z")
_AT_ID = ("id",)


class Prefixes(msgspec.Struct, frozen=True):
    """All Prefixes, with what each says of its status."""

    resource_types: ClassVar[tuple[str, ...]] = ("Prefix",)

    status: dict[str, str] = {}
    """By id, which is the prefix."""

    @property
    def active(self) -> list[str]:
        return sorted(id for id, status in self.status.items() if status == "active")

    def changed(
        self, type: str, id: str, value: dict[str, Any] | None, names: Names
    ) -> tuple[Self, set[str]]:
        status = {one: of for one, of in self.status.items() if one != id}
        if value is not None:
            status[id] = value["status"]
        return msgspec.structs.replace(self, status=status), set()

    def prove(self, type: str, id: str, value: dict[str, Any], names: Names) -> str:
        if not _PREFIX.match(id):
            raise Invalid(
                "a prefix is letters and digits, beginning with a letter: it is the id", path=_AT_ID
            )
        for other in self.status:
            if other != id and other.lower() == id.lower():
                why = f"{id} differs from {other} only in case: prefixes are unique without it"
                raise Conflict(why, path=_AT_ID, code="duplicate")
        return ""

    def definition(self, name: str) -> TypeDefinition | None:
        return None

    def kind_of(self, name: str) -> Kind | None:
        return None

    def names(self) -> Iterable[str]:
        return ()

    def resources_of(self, name: str) -> list[tuple[str, str]]:
        return []

    def user_of(self, name: str) -> str:
        return ""

    def check_return(self, name: str, names: Names) -> None:
        return

    def refusal(self, name: str, version: str) -> str:
        """Why a new type may not be called so; nothing when it may. While no Prefix is active, any name may be."""
        if not self.active or builtin.is_core_name(name, version):
            return ""
        first, *more = re.split("[-.]", name)
        if not more:
            return (
                f"{name} has no prefix: while there are active Prefixes ({', '.join(self.active)}), a type is called "
                f"like {self.active[0]}-{name}"
            )
        if self.status.get(first) != "active":
            return f"there is no active Prefix {first}: PUT /Prefix/{first} with status active first"
        return ""


def warnings(new: TypeDefinition, version: str) -> Iterator[Issue]:
    """What will not interoperate of a new type."""
    if new.kind == "type":
        why = (
            "is a data type of your own, which FHIR does not allow: others cannot read resources that use it"
        )
        yield _warning(f"{new.name} {why}")
    if new.kind == "resource" and builtin.is_core_name(new.name, version) and not new.url.startswith(_HL7):
        why = f"is FHIR {version}'s name for something else: others take your resources for that"
        yield _warning(f"{new.name} {why}")


_HL7 = "http://hl7.org/fhir/"


def _warning(message: str) -> Issue:
    return Issue(message, _AT_ID, "value", "warning")
