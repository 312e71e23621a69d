"""What `quire types status` finds out of the defined types, and how it prints it."""

from __future__ import annotations

import msgspec

from eventstore.deciding import registry_at
from eventstore.event import Position
from eventstore.log.base import EventLog
from eventstore.server.exporting import totals
from eventstore.types.registry import Registry


class Budget(msgspec.Struct, frozen=True):
    """How much of something a type has, and how much it may have."""

    of: str
    used: int
    most: int


class TypeStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A type or profile that was defined."""

    name: str
    kind: str
    definition: str
    """`Entity/Pump`: its format, and its id."""
    position: Position
    """Of the latest event that changed what it accepts: its version."""
    live: int
    """Resources that are there now."""
    is_deactivated: bool
    budgets: list[Budget]
    unique: list[str]
    """Its unique places."""
    unchecked: list[str]
    """What its definition says that is not checked, in words."""
    unknown_value_sets: list[str]
    """Of required bindings: nobody here knows what is in them, so every code is taken."""


class TypesStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The defined types of a log."""

    position: Position
    """Of the latest definition."""
    prefixes: list[str]
    """The active ones."""
    types: list[TypeStatus]


async def types_status(log: EventLog) -> TypesStatus:
    """Read the definitions of a log, beside whoever writes to it."""
    registry = await registry_at(log, Registry.empty(log.fhir_version), (await log.tip()).position)
    has_totals = await log.checkpoint("current") is not None
    live = {one.type: one.live for one in await totals(log)} if has_totals else {}
    names = sorted(name for name in registry.types if registry.defined_by(name))
    found = [_status(registry, name, live.get(name, 0)) for name in names]
    return TypesStatus(registry.position, registry.prefixes.active, found)


def _status(registry: Registry, name: str, live: int) -> TypeStatus:
    kind = registry.types[name]
    return TypeStatus(
        name=name,
        kind=kind.kind,
        definition=registry.defined_by(name),
        position=kind.position,
        live=live,
        is_deactivated=name in registry.deactivated,
        budgets=[Budget(*one) for one in kind.budget],
        unique=[".".join(place) for place in kind.unique],
        unchecked=list(kind.unchecked),
        unknown_value_sets=sorted(
            one for one in kind.definition.value_sets if registry.has_code(one, None, "") is None
        ),
    )


def types_text(found: TypesStatus) -> str:
    """As people read it."""
    lines = [f"definitions  up to position {found.position:,}"]
    if found.prefixes:
        lines.append(f"prefixes     {', '.join(found.prefixes)}: new types are named with one of them")
    for one in found.types:
        lines += _lines(one)
    return "\n".join(lines) if found.types else "\n".join((*lines, "types        none is defined yet"))


def _lines(one: TypeStatus) -> list[str]:
    off = ", deactivated" if one.is_deactivated else ""
    used = ", ".join(f"{budget.used:,} of {budget.most:,} {budget.of}" for budget in one.budgets)
    lines = [
        f"{one.kind:<12} {one.name}, {one.definition} at position {one.position:,}, {one.live:,} live{off}",
        f"             {used}",
    ]
    lines += [f"             unique: {place}" for place in one.unique]
    lines += [f"             not checked: {what}" for what in one.unchecked]
    return lines + [f"             value set not known here: {url}" for url in one.unknown_value_sets]
