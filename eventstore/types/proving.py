"""What a new definition, just applied, is refused for, and what it is warned of. What comes from the log has been proven."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventstore.errors import Conflict, Invalid, Issue
from eventstore.types.compiled import CompiledType
from eventstore.types.expressions import unparsable
from eventstore.types.prefixes import warnings
from eventstore.types.registry import Registry
from eventstore.types.terminology import TERMS


def prove(registry: Registry, type: str, id: str, value: dict[str, Any] | None) -> list[Issue]:
    """Refuse a new definition, which the registry has, that is too much or cannot be compiled. Raises Invalid.

    Returns what of it is not checked, as warnings.
    """
    if value is None or type in TERMS:
        return []
    name = registry.format_of(type).prove(type, id, value, registry)
    if name in registry.types:
        _check_bases(registry.types[name])
        registry.types[name].prove()
    return [*_unknown(registry, name)]


def _check_bases(made: CompiledType) -> None:
    """Raise Invalid where the bases of a type or profile go in a circle, or where that of a type is a name and no more."""
    last = made.bases[-1]
    if last.base and any(last.base in (one.name, one.url) for one in made.bases):
        why = f"the bases go in a circle: {' > '.join((*(one.name for one in made.bases), last.base))}"
        raise Invalid(why)
    if made.kind != "profile" and made.definition.base and len(made.bases) == 1:
        raise Invalid(f"{made.definition.base} is not known here: define it first", code="not-found")


def _unknown(registry: Registry, name: str) -> Iterable[Issue]:
    """The value sets of a type's or profile's own required bindings whose codes are not all known."""
    found = registry.types.get(name)
    for value_set in found.definition.value_sets if found is not None else ():
        missing = registry.expand(value_set).missing
        if missing and registry.has_code(value_set, None, "") is None:
            yield Issue(f"{missing}: codes of {value_set} are not checked", (), "not-found", "warning")


def check_expressions(registry: Registry, type: str, id: str) -> None:
    """Refuse a definition with a constraint that is not FHIRPath. Raises Invalid.

    Only one that comes alone: what a package has of them is marked, and never holds back the others.
    """
    definition = registry.definition_in(type, id)
    if definition is not None and (issues := [*unparsable(definition)]):
        raise Invalid(issues)


def check_bases(registry: Registry, before: Registry) -> None:
    """Refuse a change that takes away what a type or profile is based on. Raises Conflict."""
    gone = _called(before) - _called(registry)
    for name, one in registry.types.items():
        if one.definition.base in gone:
            raise Conflict(
                f"{registry.defined_by(name)} is based on {one.definition.base}: change that first"
            )


def _called(registry: Registry) -> set[str]:
    return {called for name, one in registry.types.items() for called in (name, one.definition.url) if called}


def welcome(registry: Registry, before: Registry) -> list[Issue]:
    """What new types, that the registry before did not have, are warned of. Raises Invalid for their names."""
    prefixes, version = registry.prefixes, registry.fhir_version
    new = [
        one.definition
        for name, one in registry.types.items()
        if name not in before.types and one.kind != "profile"
    ]
    for one in new:
        if why := prefixes.refusal(one.name, version):
            raise Invalid(why, path=("id",))
    return [issue for one in new for issue in warnings(one, version)]
