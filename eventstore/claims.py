"""Values that no two resources of a type share: what each resource claims, and who has it while a batch is decided. Pure.

Ids that a sequence gives are claimed like values.

The table of claims is an index of the log: who ever had a value. Its rows are never taken away, and a row says no more
than where to look: whether a resource has the value still, its last event in the log says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from eventstore.command import Key
from eventstore.errors import Conflict
from eventstore.event import Position
from eventstore.projection import Column, Rows, Table
from eventstore.types.compiled import CompiledType
from eventstore.types.unique import Place

CLAIMS = "claims"
"""What the checkpoint of the table is called."""
TABLE = Table(
    "quire_claim",
    key=(Column("type"), Column("place"), Column("value"), Column("id")),
    columns=(),
)
DIGEST_BYTES = 16
QUOTED_CHARACTERS_MAX = 80


class Claim(NamedTuple):
    """A value at a place of a type."""

    type: str
    place: str
    """The keys down to it, joined by `.`, which is in none of them."""
    value: str
    """Digest of the value."""


class Unscanned(Exception):
    """A place becomes unique: what the resources of the type have there must be read first."""

    def __init__(self, kind: CompiledType) -> None:
        super().__init__(kind.name)
        self.kind = kind


def claims_of(type: str, places: Iterable[Place], resource: Any) -> dict[Claim, Any]:
    """What a resource claims, with the values themselves."""
    found = ((place, _at(resource, place)) for place in places)
    return {
        Claim(type, ".".join(place), _digest(value)): value for place, value in found if value is not None
    }


def _at(resource: Any, place: Place) -> Any:
    """The value at a place; of a Reference, where it points to."""
    value = resource
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value.get("reference") if isinstance(value, dict) else value


def _digest(value: Any) -> str:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return blake2b(msgspec.json.encode(whole), digest_size=DIGEST_BYTES).hexdigest()


class Scan:
    """What the resources of a type claim, as of a position."""

    def __init__(self, kind: CompiledType) -> None:
        self.kind = kind
        self.position: Position = 0
        self.held: dict[str, frozenset[Claim]] = {}
        """By id; those without a claim are left out."""

    def covers(self, places: Iterable[Place]) -> bool:
        return set(places) <= set(self.kind.unique)

    def see(self, id: str, resource: Any) -> None:
        """Take in the next event; the resource is None where it was deleted."""
        self.held[id] = frozenset(claims_of(self.kind.name, self.kind.unique, resource))
        if not self.held[id]:
            del self.held[id]


class Known:
    """What was read of the log for a batch; grows until it is enough."""

    def __init__(self) -> None:
        self.asked: set[tuple[Claim, str]] = set()
        """Claims, and the id of who wants each."""
        self.claimants: dict[Claim, set[str]] = {}
        """Who has what was asked for, but for who wants it."""
        self.ids: dict[tuple[str, str], bool] = {}
        """Of a type and an id that its sequence would give: whether there was such a resource."""
        self.scans: Mapping[str, Scan] = {}
        """By type; those of types with places that become unique."""


class Claims:
    """The overlay: what the log says of claims, changed by each command in turn."""

    def __init__(self, known: Known) -> None:
        self.unknown: set[tuple[Claim, str]] = set()
        """What was needed and not known: what was decided without it is worth nothing."""
        self.unknown_ids: dict[Position, Key] = {}
        """Likewise ids of sequences, each with the position of the event that would be given it."""
        self._known = known
        self._of: dict[Key, frozenset[Claim]] = {}
        self._holder: dict[Claim, str] = {}
        self._scanned: dict[Claim, list[str]] = {}
        self._places: set[tuple[str, str]] = set()
        """The types and places that became unique in this batch."""

    def save(self) -> tuple[Any, ...]:
        """What `restore` takes."""
        return dict(self._of), dict(self._holder), dict(self._scanned), set(self._places)

    def restore(self, saved: tuple[Any, ...]) -> None:
        self._of, self._holder, self._scanned, self._places = saved

    def check(self, key: Key, wanted: Mapping[Claim, Any]) -> None:
        """Raises Conflict when another resource has one of the values."""
        for claim, value in wanted.items():
            if (other := self._other(claim, key[1])) is not None:
                quoted = msgspec.json.encode(value).decode()[:QUOTED_CHARACTERS_MAX]
                why = f"{claim.place} is unique, and {quoted} is that of {key[0]}/{other}"
                raise Conflict(why, path=tuple(claim.place.split(".")), code="duplicate")

    def is_taken(self, type: str, id: str, position: Position) -> bool:
        """Whether the log has had a resource with the id that a sequence would give at a position."""
        if (type, id) not in self._known.ids:
            self.unknown_ids[position] = (type, id)
        return self._known.ids.get((type, id), False)

    def take(self, key: Key, wanted: Iterable[Claim]) -> None:
        """The resource has these values now, and no others."""
        for claim in self._of.get(key, ()):
            if self._holder.get(claim) == key[1]:
                del self._holder[claim]
        self._of[key] = frozenset(wanted)
        self._holder.update(dict.fromkeys(self._of[key], key[1]))

    def _other(self, claim: Claim, id: str) -> str | None:
        """Who has what this one wants."""
        holder = self._holder.get(claim)
        if holder is not None:
            return holder if holder != id else None
        if claim[:2] in self._places:
            found: Iterable[str] = self._scanned.get(claim, ())
        else:
            if (claim, id) not in self._known.asked:
                self.unknown.add((claim, id))
            found = self._known.claimants.get(claim, ())
        return next(
            (other for other in sorted(found) if other != id and (claim.type, other) not in self._of), None
        )

    def begin(self, kind: CompiledType, new: Iterable[Place], changed: Mapping[str, Any]) -> None:
        """Places become unique; `changed` are the resources of the type in this batch, None where deleted.

        Raises Conflict, with the first two that share a value, and Unscanned.
        """
        scan = self._known.scans.get(kind.name)
        if scan is None or not scan.covers(kind.unique):
            raise Unscanned(kind)
        own = {id: frozenset(claims_of(kind.name, kind.unique, value)) for id, value in changed.items()}
        names = {".".join(place) for place in new}
        scanned: dict[Claim, list[str]] = {}
        for id, claims in sorted({**scan.held, **own}.items()):
            for claim in (one for one in claims if one.place in names):
                scanned.setdefault(claim, []).append(id)
                if len(scanned[claim]) > 1:
                    first, second = scanned[claim]
                    why = f"{kind.name}/{first} and {kind.name}/{second} have the same {claim.place}: change one first"
                    raise Conflict(why, path=("isUnique",), code="duplicate")
        for id, claims in own.items():
            self.take((kind.name, id), claims)
        self._scanned |= scanned
        self._places |= {(kind.name, name) for name in names}

    def write(self, rows: Rows) -> None:
        """The rows that this batch adds to the table."""
        for (_, id), claims in self._of.items():
            add_rows(rows, id, claims)


def add_rows(rows: Rows, id: str, claims: Iterable[Claim]) -> None:
    """The rows of what one resource claims."""
    for claim in claims:
        rows.upsert(TABLE.name, (*claim, id), ())
