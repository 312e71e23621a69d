"""Makes a package of the types whose names begin with a prefix, and of all that they need: it installs into an empty Quire."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from eventstore.command import Key
from eventstore.deciding import registry_at
from eventstore.errors import Invalid
from eventstore.event import Position
from eventstore.log.base import EventLog, Span
from eventstore.package import EXAMPLES, FOLDER, File, Left, Manifest, write_package
from eventstore.rehearsal import Rehearsal, Wanted
from eventstore.server.exporting import export, totals
from eventstore.server.guide import guide
from eventstore.server.installing import ordered
from eventstore.types.builtin import is_core_target
from eventstore.types.definition import named_in
from eventstore.types.entity import value_set_of
from eventstore.types.registry import DEFINITION_TYPES, Registry
from eventstore.types.table import CANONICAL
from eventstore.types.terminology import CODE_SYSTEMS, VALUE_SETS

EXAMPLES_MAX = 1000
"""Of one type."""
PAGE_EVENTS = 200

_SEARCH = "SearchParameter"
_GUIDE = "ImplementationGuide"
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-.][A-Za-z0-9]+)*[-.]?\Z")
_NAME = re.compile(r"[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+\Z")


class Plan(msgspec.Struct, frozen=True):
    """What a package is to be of, and what it says of itself."""

    prefix: str
    name: str = ""
    """Empty for `prefix.types`."""
    version: str = "0.1.0"
    canonical: str = ""
    """Empty for `urn:quire:name`."""
    rationale: str = ""
    """Why these types are; empty for what is known of them."""
    examples: int = 3
    """The newest of each type."""

    def checked(self) -> Plan:
        """With what was left out. Raises Invalid for what makes no sense."""
        name = self.name or f"{self.prefix.rstrip('-.').lower().replace('-', '.')}.types"
        if not _PREFIX.match(self.prefix):
            raise Invalid(
                f"--prefix {self.prefix[:80]!r}: the beginning of type names, as acme for acme-Ward"
            )
        if not _NAME.match(name) or len(name) > 64:
            raise Invalid(
                f"--name {name[:80]!r}: at most 64 of a-z 0-9 - in parts with dots between, as acme.wards"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", self.version):
            raise Invalid(f"--version {self.version[:80]!r}: a version such as 1.0.0")
        if not 0 <= self.examples <= EXAMPLES_MAX:
            raise Invalid(f"--examples {self.examples}: 0 to {EXAMPLES_MAX} of each type")
        return msgspec.structs.replace(self, name=name, canonical=self.canonical or f"urn:quire:{name}")

    def is_own(self, type: str) -> bool:
        """Whether a type's name begins with the prefix."""
        rest = type.removeprefix(self.prefix)
        return rest != type and (self.prefix[-1] in "-." or rest[:1] in ("", "-", "."))


class Packed(msgspec.Struct, frozen=True):
    """A package: its bytes, what is in it, and what was left out."""

    manifest: Manifest
    data: bytes
    counts: dict[str, int]
    """Resources by type, and `examples`."""
    left: list[Left]
    position: Position
    """It is as of this position."""


async def pack(log: EventLog, plan: Plan) -> Packed:
    """Make the package. The same log, plan and position give the same bytes.

    Raises Invalid when no type has the prefix, and when the definitions would not install into an empty Quire.
    """
    plan = plan.checked()
    stored = _Stored()
    there = {one.type for one in await totals(log)}
    wanted = {*DEFINITION_TYPES, _SEARCH, _GUIDE} & there
    position = (await export(log, stored, types=wanted)).position if wanted else 0
    registry = await registry_at(log, Registry.empty(log.fhir_version), position)
    chosen = _Chosen(plan, registry, stored.bodies)
    if not chosen.own:
        raise Invalid(f"no type's name begins with {plan.prefix}; there are {', '.join(registry.names())}")
    files = [_file(FOLDER, key, stored.bodies[key]) for key in chosen.needed()]
    for type in sorted(chosen.own & set(registry.names())):
        found = await _newest(log, type, plan.examples, position)
        files += [_file(EXAMPLES, (type, id), data) for id, data in found]
    files, left = _installable(files, log.fhir_version)
    about = guide(
        plan.name,
        plan.version,
        plan.canonical,
        _rationale(plan, chosen, stored.bodies),
        files,
        log.fhir_version,
    )
    manifest = Manifest(
        plan.name, plan.version, plan.canonical, description=about["description"], type="fhir.ig",
        fhir_versions=[log.fhir_version],
    )  # fmt: skip
    whole = [*files, _file(FOLDER, (_GUIDE, plan.name), msgspec.json.encode(about))]
    data = write_package(manifest, {file.path: file.data for file in whole})
    return Packed(manifest, data, _counts(files), left, position)


class _Stored:
    """Takes what is exported, by type and id."""

    def __init__(self) -> None:
        self.bodies: dict[Key, bytes] = {}

    def write(self, type: str, ids: Sequence[str], resources: Sequence[bytes]) -> None:
        self.bodies.update(((type, id), data) for id, data in zip(ids, resources, strict=True))

    def finish(self) -> None:
        return


class _Chosen:
    """Which definitions, value sets and search parameters belong to the types of a prefix."""

    def __init__(self, plan: Plan, registry: Registry, bodies: Mapping[Key, bytes]) -> None:
        self._registry = registry
        self._bodies = bodies
        defined = {name for one in registry.formats for name in one.names() if registry.resources_of(name)}
        self.own = {
            name for name in defined
            if plan.is_own(name) or any(plan.is_own(id) for _, id in self.defining(name))
        }  # fmt: skip
        profiles = {name for name in defined if any(registry.is_a(name, own) for own in self.own)}
        self._names: set[str] = set()
        self._add(self.own | profiles)

    def needed(self) -> list[Key]:
        """All of them and what they need, each once, sorted."""
        others = [*self._value_sets(self._definitions()), *self._search_parameters()]
        self._add({type for type, _ in others})
        return sorted({*self._definitions(), *others})

    def _definitions(self) -> set[Key]:
        return {key for name in self._names for key in self._registry.resources_of(name)}

    def defining(self, name: str) -> list[Key]:
        """What makes the type, but for the places in it."""
        return [key for key in self._registry.resources_of(name) if key[0] != "Attribute"]

    def _add(self, names: Iterable[str]) -> None:
        """These, and what they are made of or point to, as far as it is defined here."""
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in self._names and self._registry.resources_of(name):
                self._names.add(name)
                waiting += self._needed(name)

    def _needed(self, name: str) -> Iterator[str]:
        definition = self._registry.definition_of(name)
        if definition is None:
            return
        yield from named_in([definition])
        for element in definition.every:
            yield from element.profiles
            for target in element.refers:
                if not is_core_target(target.removeprefix(CANONICAL), self._registry.fhir_version):
                    yield target

    def _value_sets(self, definitions: Iterable[Key]) -> set[Key]:
        """Those that are bound, and the code systems and value sets that these are made of; every version of each."""
        terms = self._registry.terminology
        found: set[Key] = set()
        waiting = [name for key in definitions for name in _bound(msgspec.json.decode(self._bodies[key]))]
        while waiting:
            name = waiting.pop().partition("|")[0]
            new = {
                *((VALUE_SETS, id) for id in terms.value_sets.called(name)),
                *((CODE_SYSTEMS, id) for id in terms.code_systems.called(name)),
            } - found
            found |= new
            waiting += [inner for key in new for inner in _composed(msgspec.json.decode(self._bodies[key]))]
        return found

    def _search_parameters(self) -> set[Key]:
        return {
            key
            for key, data in self._bodies.items()
            if key[0] == _SEARCH and not self.own.isdisjoint(_texts(msgspec.json.decode(data).get("base")))
        }


def _bound(value: Any) -> Iterator[str]:
    """The value sets that a definition names, by URL or as `ValueSet/id`, wherever in it."""
    if isinstance(value, list):
        for one in value:
            yield from _bound(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == "valueSet" and isinstance(one, str):
                yield one
            elif key == "valueSet" and isinstance(one, dict):
                yield value_set_of(one)
            else:
                yield from _bound(one)


def _composed(value: Any) -> Iterator[str]:
    """What a value set includes and excludes, and what a code system says is all of it."""
    yield from _texts([value.get("valueSet"), value.get("supplements")])
    compose = value.get("compose")
    for part in ("include", "exclude"):
        for one in compose.get(part, ()) if isinstance(compose, dict) else ():
            yield from _texts([one.get("system"), *(one.get("valueSet") or ())])


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


async def _newest(log: EventLog, type: str, count: int, until: Position) -> list[tuple[str, bytes]]:
    """The resources of a type that were written last, with their ids."""
    found: dict[str, bytes | None] = {}
    while sum(data is not None for data in found.values()) < count:
        events = await log.events(Span(until=until, type=type, newest_first=True, limit=PAGE_EVENTS))
        for event in events:
            found.setdefault(event.id, event.data)
        if len(events) < PAGE_EVENTS:
            break
        until = events[-1].position - 1
    return [(id, data) for id, data in found.items() if data is not None][:count]


def _file(folder: str, key: Key, data: bytes) -> File:
    type, id = key
    return File(f"{folder}/{type}-{id}.json", type, id, _without_version(data) + b"\n")


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _without_version(data: bytes) -> bytes:
    """Less what the log adds: versionId and lastUpdated. The rest byte by byte."""
    members = _members(data)
    if "meta" in members:
        meta = _members(members["meta"])
        kept = {key: value for key, value in meta.items() if key not in ("versionId", "lastUpdated")}
        members["meta"] = msgspec.Raw(msgspec.json.encode(kept))
        if not kept:
            del members["meta"]
    return msgspec.json.encode(members)


def _installable(files: Sequence[File], version: str) -> tuple[list[File], list[Left]]:
    """What an empty Quire takes, and what it does not. Raises Invalid when it refuses the definitions."""
    wanted = [Wanted(file.type, file.id, file.data) for file in ordered(files)]
    rehearsal = Rehearsal(wanted, Registry.empty(version), 0, {}, b"{}", lambda _done: None)
    rehearsal.define()
    nothing: dict[Key, bytes | None] = {}
    while missing := rehearsal.decide(nothing):
        nothing |= dict.fromkeys(missing)
    left = [Left(one.name, str(error)) for one, error in rehearsal.ready().left]
    names = {one.name for one in left}
    return [file for file in files if file.name not in names], left


def _rationale(plan: Plan, chosen: _Chosen, bodies: Mapping[Key, bytes]) -> str:
    """As it was told, now or in a guide that is stored; else what the types say of themselves."""
    if plan.rationale:
        return plan.rationale
    stored = bodies.get((_GUIDE, plan.name))
    told = msgspec.json.decode(stored).get("description") if stored is not None else None
    if isinstance(told, str):
        return told
    lines = []
    for key in sorted({key for name in chosen.own for key in chosen.defining(name)}):
        about = msgspec.json.decode(bodies[key])
        said = about.get("purpose") or about.get("description")
        lines.append(f"{key[1]}: {said}" if isinstance(said, str) else key[1])
    return f"Types whose names begin with {plan.prefix}, with what they need.\n\n" + "\n".join(
        f"- {one}" for one in lines
    )


def _counts(files: Iterable[File]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in files:
        what = "examples" if file.is_example else file.type
        counts[what] = counts.get(what, 0) + 1
    return counts
