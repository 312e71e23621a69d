"""ValueSets and CodeSystems as of a position: what they say of codes, and how they are found by URL and version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from eventstore.errors import Conflict

VALUE_SETS = "ValueSet"
CODE_SYSTEMS = "CodeSystem"
TERMS = (CODE_SYSTEMS, VALUE_SETS)
"""The types whose resources say which codes there are."""


class Concept(msgspec.Struct, frozen=True):
    """One code: of a CodeSystem with what is below it, or as a ValueSet lists it."""

    code: str = ""
    """Empty where only an extension stands in its place."""
    display: str = ""
    designation: list[dict[str, Any]] = []
    properties: list[dict[str, Any]] = msgspec.field(default_factory=list, name="property")
    concept: list[Concept] = []

    def values(self, property: str) -> list[str]:
        """Of a property, as text; of a Coding its code."""
        return [
            _text(value)
            for one in self.properties
            if one.get("code") == property
            for key, value in one.items()
            if key.startswith("value")
        ]

    @property
    def inactive(self) -> bool:
        return bool(self.properties) and self._is_retired()

    def _is_retired(self) -> bool:
        return "true" in self.values("inactive") or "retired" in self.values("status")

    @property
    def displays(self) -> frozenset[str]:
        """Everything that it is called."""
        return frozenset((self.display, *(str(one.get("value", "")) for one in self.designation))) - {""}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("code", ""))
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Named(msgspec.Struct, frozen=True):
    code: str = ""


class CodeSystem(msgspec.Struct, frozen=True, dict=True):
    """What a CodeSystem says of its codes."""

    url: str = ""
    version: str = ""
    content: str = ""
    case_sensitive: bool = msgspec.field(default=True, name="caseSensitive")
    properties: list[_Named] = msgspec.field(default_factory=list, name="property")
    concept: list[Concept] = []

    @property
    def is_complete(self) -> bool:
        """Whether every code is here."""
        return self.content == "complete"

    @cached_property
    def concepts(self) -> Mapping[str, Concept]:
        """By code, in the order they are written."""
        found: dict[str, Concept] = {}
        waiting = [*reversed(self.concept)]
        while waiting:
            one = waiting.pop()
            if one.code:
                found.setdefault(one.code, one)
            waiting.extend(reversed(one.concept))
        return found

    def look_up(self, code: str) -> Concept | None:
        """The concept of a code, which counts in lower case where the system says so."""
        found = self.concepts.get(code)
        return found if found is not None or self.case_sensitive else self._folded.get(code.casefold())

    @cached_property
    def _folded(self) -> Mapping[str, Concept]:
        return {code.casefold(): one for code, one in self.concepts.items()}

    def references(self) -> frozenset[str]:
        """The URLs of what it is made of."""
        return frozenset()


class Filter(msgspec.Struct, frozen=True):
    """Of the codes of a system, those of which a property is so."""

    property: str = ""
    op: str = ""
    value: str = ""


class Include(msgspec.Struct, frozen=True):
    """Codes that are in all of these: of a system, and of value sets."""

    system: str = ""
    version: str = ""
    concept: list[Concept] = []
    filter: list[Filter] = []
    value_set: list[str | None] = msgspec.field(default_factory=list, name="valueSet")

    @property
    def value_sets(self) -> list[str]:
        """The URLs; an extension may stand in the place of one."""
        return [one for one in self.value_set if one is not None]


class Compose(msgspec.Struct, frozen=True):
    """Codes that are in one of the includes, and in no exclude."""

    include: list[Include] = []
    exclude: list[Include] = []
    inactive: bool = True


class Entry(msgspec.Struct, frozen=True):
    """One code of an expansion that somebody else has made, and those below it."""

    system: str = ""
    code: str = ""
    display: str = ""
    abstract: bool = False
    inactive: bool = False
    contains: list[Entry] = []


class Stored(msgspec.Struct, frozen=True):
    """An expansion that somebody else has made."""

    total: float | None = None
    offset: float = 0
    next: str = ""
    parameter: list[dict[str, Any]] = []
    contains: list[Entry] = []

    def entries(self) -> Iterator[Entry]:
        """All of them, those that only group others too."""
        waiting = [*reversed(self.contains)]
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(one.contains))


class ValueSet(msgspec.Struct, frozen=True):
    """What a ValueSet says of its codes."""

    url: str = ""
    version: str = ""
    compose: Compose | None = None
    expansion: Stored | None = None

    def references(self) -> frozenset[str]:
        """The URLs of what it is made of."""
        if self.compose is None:
            return frozenset()
        parts = (*self.compose.include, *self.compose.exclude)
        urls = (url for one in parts for url in (one.system, *one.value_sets) if url)
        return frozenset(url.partition("|")[0] for url in urls)


class _Term(Protocol):
    @property
    def url(self) -> str: ...

    @property
    def version(self) -> str: ...

    def references(self) -> frozenset[str]: ...


_T = TypeVar("_T", bound=_Term)


class Shelf(msgspec.Struct, Generic[_T], frozen=True):
    """All resources of one of the types. Immutable."""

    type: str
    terms: dict[str, _T] = {}
    """By id."""
    ids: dict[str, tuple[str, ...]] = {}
    """By URL: one for each version."""

    def names(self, id: str) -> frozenset[str]:
        """What others call it by, if it is there."""
        found = self.terms.get(id)
        return frozenset((f"{self.type}/{id}", found.url)) - {""} if found is not None else frozenset()

    def called(self, name: str) -> tuple[str, ...]:
        """The ids of those of a URL, or of `ValueSet/id`."""
        type, _, id = name.partition("/")
        return (id,) if type == self.type and id in self.terms else self.ids.get(name, ())

    def id_of(self, canonical: str) -> str | None:
        """Of the one of a URL, or of `ValueSet/id`; with `|version` of that, without of the newest."""
        name, _, version = canonical.partition("|")
        ids = [id for id in self.called(name) if version in ("", self.terms[id].version)]
        return max(ids, key=lambda id: _age(self.terms[id].version), default=None)

    def find(self, canonical: str) -> _T | None:
        """The one that `id_of` names."""
        id = self.id_of(canonical)
        return self.terms[id] if id is not None else None

    def changed(self, id: str, term: _T | None) -> Self:
        """After a resource is written, or with None deleted. Raises Conflict when another has its URL and version."""
        terms, ids = dict(self.terms), dict(self.ids)
        before = terms.pop(id, None)
        if before is not None and before.url:
            ids[before.url] = tuple(one for one in ids[before.url] if one != id)
        if term is not None:
            for other in ids.get(term.url, ()) if term.url else ():
                if terms[other].version == term.version:
                    why = f"{self.type}/{other} has that URL and version"
                    raise Conflict(why, path=("url",), code="duplicate")
            terms[id] = term
            if term.url:
                ids[term.url] = (*ids.get(term.url, ()), id)
        return msgspec.structs.replace(self, terms=terms, ids=ids)


def _age(version: str) -> list[tuple[int, str]]:
    """`1.10` is newer than `1.9`: a longer number is greater."""
    parts = re.split(r"[.+-]", version)
    return [(len(one.lstrip("0")), one.lstrip("0")) if one.isdecimal() else (-1, one) for one in parts]


def read(value: dict[str, Any], kind: type[_T]) -> _T:
    """What a resource says, that its own type has let in."""
    return msgspec.convert(value, kind)


class Terminology(msgspec.Struct, frozen=True):
    """All ValueSets and CodeSystems. Immutable: `changed` gives the next."""

    value_sets: Shelf[ValueSet] = Shelf(VALUE_SETS)
    code_systems: Shelf[CodeSystem] = Shelf(CODE_SYSTEMS)
    users: dict[str, frozenset[str]] = {}
    """The ids of the value sets that are made of what is called so."""

    def changed(self, type: str, id: str, value: dict[str, Any] | None) -> tuple[Self, frozenset[str]]:
        """After one is written, or with None deleted; and what it is and was called by, where its codes differ.

        Raises Conflict when another has its URL and version.
        """
        if type == VALUE_SETS:
            after = read(value, ValueSet) if value is not None else None
            sets, names = _replaced(self.value_sets, id, after)
            users = _using(self.users, id, self.value_sets.terms.get(id), after)
            return msgspec.structs.replace(self, value_sets=sets, users=users), names
        systems, names = _replaced(
            self.code_systems, id, read(value, CodeSystem) if value is not None else None
        )
        return msgspec.structs.replace(self, code_systems=systems), names

    def affected(self, names: Iterable[str]) -> frozenset[str]:
        """The names, and those of every value set that is made of one of them; without versions."""
        seen = set(names)
        waiting = [*seen]
        while waiting:
            for id in self.users.get(waiting.pop(), ()):
                new = self.value_sets.names(id) - seen
                seen |= new
                waiting.extend(new)
        return frozenset(seen)


def _using(
    users: dict[str, frozenset[str]], id: str, before: ValueSet | None, after: ValueSet | None
) -> dict[str, frozenset[str]]:
    """Who is made of what, after a value set changes."""
    changed = dict(users)
    for name in before.references() if before is not None else ():
        changed[name] -= {id}
    for name in after.references() if after is not None else ():
        changed[name] = changed.get(name, frozenset()) | {id}
    return changed


def _replaced(shelf: Shelf[_T], id: str, term: _T | None) -> tuple[Shelf[_T], frozenset[str]]:
    after = shelf.changed(id, term)
    is_same = shelf.terms.get(id) == term
    return after, frozenset() if is_same else shelf.names(id) | after.names(id)
