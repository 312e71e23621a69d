"""Puts a package into a store: in the right order, in one transaction, and nothing where all is there already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventstore.batch import Outdated
from eventstore.errors import Conflict, Unavailable
from eventstore.package import File, Left, Manifest, Package
from eventstore.referring import Referred
from eventstore.rehearsal import Rehearsal, Rehearsed, Wanted
from eventstore.server.outcomes import expression
from eventstore.server.routes import ID
from eventstore.store import Store
from eventstore.types.expressions import unchecked
from eventstore.types.registry import DEFINITION_TYPES, Registry

TRIES_MAX = 5
"""How often a package is prepared again because definitions have changed meanwhile."""

_ORDER = (
    "CodeSystem", "ValueSet", "Entity", "StructureDefinition", "FHIRSchema", "Attribute", "SearchParameter",
)  # fmt: skip
"""Each may need what those before it define."""
_KINDS = ("primitive-type", "complex-type", "resource", "logical")

Progress = Callable[[int, int | None], None]
"""Takes how many resources are done, and of how many."""


class Choice(msgspec.Struct, frozen=True):
    """What of a package is installed, and what it may do."""

    examples: bool = False
    """Its examples too."""
    replace_open: bool = False
    """Its definitions may take the place of open Entities."""


class Installed(msgspec.Struct, frozen=True):
    """What became of a package."""

    name: str
    version: str
    transaction: int
    """The position at which its transaction begins; 0 when nothing was changed."""
    created: int
    updated: int
    unchanged: int
    deleted: int
    """Entities and Attributes that it took the place of."""
    skipped: list[Left]
    """What was not taken, and why."""
    marked: list[Left]
    """Definitions that say more than is checked, and what."""


async def install(
    store: Store,
    package: Package,
    context: bytes,
    choice: Choice,
    progress: Progress = lambda _done, _total: None,
) -> Installed:
    """Store a package's resources, each as by PUT: all of its definitions or nothing, in one transaction.

    Raises Invalid for a package of another FHIR version, and Invalid or Conflict for definitions that are refused.
    """
    package.manifest.check_version(store.log.fhir_version)
    chosen, skipped = await asyncio.to_thread(_chosen, package, examples=choice.examples)
    for _ in range(TRIES_MAX):
        await store.catch_up()
        rehearsed = await _rehearsed(store, chosen, context, choice, progress)
        try:
            accepted = await store.transact(rehearsed.prepared)
        except Outdated:
            continue
        actions = [(one.action, one.position or 0) for one in accepted]
        return _installed(package.manifest, rehearsed, actions, skipped)
    raise Unavailable("definitions change faster than the package can be prepared; try again")


async def _rehearsed(
    store: Store, chosen: Sequence[File], context: bytes, choice: Choice, progress: Progress
) -> Rehearsed:
    """The transaction, decided beside the event loop against the types and what is stored as they are now."""
    registry, tip = store.registry, store.position
    wanted = [*_in_the_way(chosen, registry, replace_open=choice.replace_open), *map(_wanted, chosen)]
    previous = {
        one.key: found
        for one in wanted
        if one.type in DEFINITION_TYPES and (found := await store.log.last(*one.key)) is not None
    }

    def done(count: int) -> None:
        progress(count, len(wanted))

    rehearsal, referred = Rehearsal(wanted, registry, tip, previous, context, done), Referred()
    await asyncio.to_thread(rehearsal.define)
    while missing := await asyncio.to_thread(rehearsal.decide, referred.bodies, referred.limit):
        await referred.learn(store.log, missing)
    return rehearsal.ready()


def _chosen(package: Package, *, examples: bool) -> tuple[list[File], list[Left]]:
    """What is to be installed, in order, and what is not."""
    chosen: dict[str, File] = {}
    skipped = list(package.left)
    for file in sorted(package.files, key=lambda one: (one.is_example, one.path)):
        if file.is_example and not examples:
            continue
        if not ID.match(file.id):
            skipped.append(Left(file.path, "its id is none: 1 to 64 of A-Z a-z 0-9 - and ."))
        elif file.name in chosen:
            skipped.append(Left(file.path, f"{file.name} is in the package twice"))
        else:
            chosen[file.name] = file
    return ordered(chosen.values()), skipped


def ordered(files: Iterable[File]) -> list[File]:
    """Definitions first, in the order in which they need one another; examples last."""
    files = list(files)
    told = {file.path: _about(file) for file in files if file.type in ("StructureDefinition", "FHIRSchema")}
    bases = {one.url: one.base for one in told.values()}

    def rank(file: File) -> tuple[Any, ...]:
        about = told.get(file.path, _NOTHING)
        return (
            file.type not in DEFINITION_TYPES,
            file.is_example,
            _ORDER.index(file.type) if file.type in _ORDER else len(_ORDER),
            about.derivation == "constraint",
            _KINDS.index(about.kind) if about.kind in _KINDS else len(_KINDS),
            _depth(about.url, bases),
            file.name,
        )

    return sorted(files, key=rank)


class _About(msgspec.Struct):
    """What the place of a definition depends on."""

    url: Any = ""
    kind: Any = ""
    derivation: Any = ""
    base_definition: Any = msgspec.field(default="", name="baseDefinition")
    base_of_schema: Any = msgspec.field(default="", name="base")

    @property
    def base(self) -> Any:
        return self.base_definition or self.base_of_schema


_NOTHING = _About()
_read_about = msgspec.json.Decoder(_About).decode


def _about(file: File) -> _About:
    found = _read_about(file.data)
    return found if isinstance(found.url, str) and isinstance(found.base, str) else _NOTHING


def _depth(url: str, bases: Mapping[str, str]) -> int:
    """How many definitions of the package are beneath it."""
    seen: set[str] = set()
    while url in bases and url not in seen:
        seen.add(url)
        url = bases[url]
    return len(seen)


def _wanted(file: File) -> Wanted:
    return Wanted(file.type, file.id, file.data)


def _in_the_way(chosen: Sequence[File], registry: Registry, *, replace_open: bool) -> list[Wanted]:
    """The open Entities that definitions of the package take the place of, to go first.

    Raises Conflict, naming them, when they may not.
    """
    own = {file.name for file in chosen}
    names = [file.id for file in chosen if file.type in ("StructureDefinition", "FHIRSchema")]
    found = {name: registry.open_entity(name) for name in names if f"Entity/{name}" not in own}
    there = sorted(name for name, keys in found.items() if keys)
    if there and not replace_open:
        raise Conflict(
            f"open types are in the way: {', '.join(f'Entity/{name}' for name in there)}; "
            "with --replace-open (in a request replace-open=true) the package takes their place"
        )
    return [Wanted(*key) for name in there for key in found[name]]


def _installed(
    manifest: Manifest, rehearsed: Rehearsed, actions: Sequence[tuple[str, int]], skipped: Sequence[Left]
) -> Installed:
    positions = [position for action, position in actions if action != "unchanged"]
    told = [action for action, _ in actions]
    left = [
        Left(
            one.name,
            "; ".join(
                f"{expression(issue.path, one.type)}: {issue.message}" if issue.path else issue.message
                for issue in error.issues
                if issue.severity != "warning"
            ),
        )
        for one, error in rehearsed.left
    ]
    return Installed(
        manifest.name,
        manifest.version,
        min(positions, default=0),
        told.count("created"),
        told.count("updated"),
        told.count("unchanged"),
        told.count("deleted"),
        [*skipped, *left],
        _marked(rehearsed),
    )


def _marked(rehearsed: Rehearsed) -> list[Left]:
    """The definitions of the package of which not all is checked."""
    types = rehearsed.prepared.registry
    found = []
    for one in rehearsed.changed:
        definition = types.definition_in(one.type, one.id) if one.data is not None else None
        if definition is not None and (left := [*definition.unchecked, *unchecked(definition)]):
            found.append(Left(one.name, f"not checked: {'; '.join(left)}"))
    return found
