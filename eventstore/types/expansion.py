"""Which codes a value set has: put together from the ValueSets and CodeSystems that are here, or why that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice

import msgspec

from eventstore.types.filters import NotKnown, selected
from eventstore.types.terminology import CodeSystem, Include, Stored, Terminology, ValueSet

MAX_CODES = 50_000
"""Of one expansion."""
MAX_LEVELS = 32
"""Of value sets inside one another."""

_PARTIAL = frozenset(("filter", "count", "offset", "limitedExpansion"))
"""Parameters of an expansion that leave codes out."""


class Member(msgspec.Struct, frozen=True):
    """A code that is in a value set."""

    system: str
    code: str
    display: str = ""
    inactive: bool = False


class Expansion(msgspec.Struct, frozen=True, dict=True):
    """The codes of a value set, as far as they are known."""

    members: dict[tuple[str, str], Member] = {}
    """By system and code. They are in it for certain."""
    missing: str = ""
    """Why there may be more, in words; empty when these are all."""
    loose: frozenset[str] = frozenset()
    """Systems whose codes are the same in upper and lower case."""
    levels: int = 1
    """Of value sets inside one another."""

    def has(self, system: str | None, code: str) -> bool | None:
        """Whether a code is in it, in whatever system where none is said; None where that is not known."""
        if self.members and self.find(system, code) is not None:
            return True
        return None if self.missing else False

    def find(self, system: str | None, code: str) -> Member | None:
        """The code as it is in it."""
        found = self._by_code.get(code) if system is None else self.members.get((system, code))
        return found if found is not None or not self.loose else self._folded(system, code.casefold())

    @cached_property
    def _by_code(self) -> dict[str, Member]:
        return {one.code: one for one in reversed(self.members.values())}

    def _folded(self, system: str | None, code: str) -> Member | None:
        if system is not None:
            return self._by_folded.get((system, code))
        return next((one for each in self.loose if (one := self._by_folded.get((each, code)))), None)

    @cached_property
    def _by_folded(self) -> dict[tuple[str, str], Member]:
        members = (one for one in self.members.values() if one.system in self.loose)
        return {(one.system, one.code.casefold()): one for one in members}


class _Endless(Exception):
    """Value sets go in a circle, or too deep; the message says so."""


class Expander:
    """The expansions of one Terminology, each made when it is first asked for."""

    def __init__(self, terminology: Terminology, builtin: Callable[[str], Expansion | None]) -> None:
        """`builtin` gives what is known of a value set by its URL, without its resource."""
        self._terminology = terminology
        self._builtin = builtin
        self._made: dict[str, Expansion] = {}
        self._endless: dict[str, str] = {}

    def expand(self, value_set: str) -> Expansion:
        """Of the value set of a URL (`url|version` of that version) or of `ValueSet/id`. It never raises."""
        found = self._made.get(value_set)
        if found is not None:
            return found
        try:
            return self._expand(value_set, ())
        except _Endless as error:
            self._endless[value_set] = str(error)
            return Expansion(missing=str(error))

    def of(self, value_set: ValueSet) -> Expansion:
        """Of a value set that is not kept here."""
        try:
            return self._of(value_set, (value_set.url,))
        except _Endless as error:
            return Expansion(missing=str(error))

    def _expand(self, name: str, above: tuple[str, ...]) -> Expansion:
        if name in self._endless:
            raise _Endless(self._endless[name])
        if name in above:
            raise _Endless(
                f"the value sets go in a circle: {' > '.join((*above[above.index(name) :], name))}"
            )
        found = self._made.get(name)
        if len(above) + (found.levels if found is not None else 1) > MAX_LEVELS:
            raise _Endless(f"more than {MAX_LEVELS} value sets are inside one another")
        if found is None:
            found = self._made[name] = self._make(name, above)
        return found

    def _make(self, name: str, above: tuple[str, ...]) -> Expansion:
        if (ready := self._builtin(name.partition("|")[0])) is not None:
            return ready
        found = self._terminology.value_sets.find(name)
        if found is None:
            return Expansion(missing=f"the value set {name} is not known here")
        return self._of(found, (*above, name))

    def _of(self, value_set: ValueSet, above: tuple[str, ...]) -> Expansion:
        """As it is composed, or as somebody else has expanded it."""
        composed = self._composed(value_set, above)
        stored = value_set.expansion
        return _taken(stored) if composed.missing and stored is not None and _is_whole(stored) else composed

    def _composed(self, value_set: ValueSet, above: tuple[str, ...]) -> Expansion:
        compose = value_set.compose
        if compose is None:
            return Expansion(missing="the value set does not say which codes it has")
        found = _union([self._part(one, above) for one in compose.include])
        less = _union([self._part(one, above) for one in compose.exclude])
        if less.missing:
            return Expansion(missing=less.missing, levels=max(found.levels, less.levels))
        members = {
            key: one
            for key, one in found.members.items()
            if less.find(*key) is None and (compose.inactive or not one.inactive)
        }
        return msgspec.structs.replace(found, members=members, levels=max(found.levels, less.levels))

    def _part(self, include: Include, above: tuple[str, ...]) -> Expansion:
        """The codes that are in all that an include names."""
        inner = [self._expand(url, above) for url in include.value_sets]
        levels = 1 + max((one.levels for one in inner), default=0)
        parts = [self._of_system(include), *inner] if include.system else inner
        if not parts:
            return Expansion(missing="an include names neither a system nor a value set")
        first, *others = parts
        return Expansion(
            {key: one for key, one in first.members.items() if all(part.has(*key) for part in others)},
            next((one.missing for one in parts if one.missing), ""),
            _loose_of(parts),
            levels,
        )

    def _of_system(self, include: Include) -> Expansion:
        name = f"{include.system}|{include.version}" if include.version else include.system
        system = self._terminology.code_systems.find(name)
        if include.concept:
            return _listed(include, system)
        if system is None:
            return Expansion(missing=f"the code system {name} is not known here")
        if not system.is_complete:
            return Expansion(
                missing=f"not all codes of {name} are here: its content is {system.content or 'not told'}"
            )
        try:
            kept = [selected(system, one) for one in include.filter]
        except NotKnown as error:
            return Expansion(missing=str(error))
        concepts = [one for code, one in system.concepts.items() if all(code in some for some in kept)]
        members = (Member(include.system, one.code, one.display, one.inactive) for one in concepts)
        return _whole(members, _loose(include, system))


def _listed(include: Include, system: CodeSystem | None) -> Expansion:
    """The codes that an include lists, with what their system says of them."""
    members = []
    for one in include.concept:
        known = system.look_up(one.code) if system is not None else None
        display = one.display or (known.display if known is not None else "")
        if one.code:
            members.append(Member(include.system, one.code, display, known is not None and known.inactive))
    return _whole(members, _loose(include, system))


def _loose(include: Include, system: CodeSystem | None) -> frozenset[str]:
    return frozenset((include.system,) if system is not None and not system.case_sensitive else ())


def _whole(members: Iterable[Member], loose: frozenset[str] = frozenset()) -> Expansion:
    found: dict[tuple[str, str], Member] = {}
    for one in islice(members, MAX_CODES + 1):
        found.setdefault((one.system, one.code), one)
    if len(found) > MAX_CODES:
        return Expansion(missing=_TOO_MANY)
    return Expansion(found, "", loose)


_TOO_MANY = f"it has more than {MAX_CODES:,} codes"


def _union(parts: list[Expansion]) -> Expansion:
    members: dict[tuple[str, str], Member] = {}
    for part in parts:
        for key, one in part.members.items():
            members.setdefault(key, one)
    levels = max((one.levels for one in parts), default=1)
    if len(members) > MAX_CODES:
        return Expansion(missing=_TOO_MANY, levels=levels)
    missing = next((one.missing for one in parts if one.missing), "")
    return Expansion(members, missing, _loose_of(parts), levels)


def _loose_of(parts: list[Expansion]) -> frozenset[str]:
    return frozenset[str]().union(*(one.loose for one in parts))


def _is_whole(stored: Stored) -> bool:
    """Whether it leaves no code out, as far as it tells."""
    count = sum(1 for one in stored.entries() if one.code and not one.abstract)
    most = sum(1 for _ in stored.entries())
    is_partial = any(one.get("name") in _PARTIAL for one in stored.parameter)
    is_counted = stored.total is None or count <= stored.total <= most
    return is_counted and count > 0 and not stored.offset and not stored.next and not is_partial


def _taken(stored: Stored) -> Expansion:
    return _whole(
        Member(one.system, one.code, one.display, one.inactive)
        for one in stored.entries()
        if one.code and not one.abstract
    )
