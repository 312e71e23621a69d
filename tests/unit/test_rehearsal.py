"""A transaction decided before its turn: what comes of it is what a batch would have made, wherever it lands."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from harness.formats import element, structure
from harness.packages import EXAMPLE, HEAD, NIGHT, SEAT, WARD

from eventstore.batch import Batch, Outdated
from eventstore.body import read
from eventstore.claims import Known
from eventstore.command import Accepted, Command, Key
from eventstore.decide import Previous
from eventstore.errors import Conflict, Invalid
from eventstore.event import Tip
from eventstore.log.base import Snapshot
from eventstore.referring import Referred
from eventstore.rehearsal import Rehearsal, Rehearsed, Wanted
from eventstore.types.registry import Registry

NOW = "2026-11-20T17:42:13.123Z"
ALL = [HEAD, SEAT, WARD, NIGHT, EXAMPLE]


def wanted(*values: dict[str, Any]) -> list[Wanted]:
    return [Wanted(one["resourceType"], one["id"], json.dumps(one).encode()) for one in values]


def rehearsed(
    registry: Registry,
    tip: int,
    *values: dict[str, Any],
    previous: dict[Key, Previous] | None = None,
    stored: dict[Key, bytes | None] | None = None,
) -> Rehearsed:
    """Decided; what is not among the stored is nowhere."""
    rehearsal = Rehearsal(wanted(*values), registry, tip, previous or {}, b"{}", lambda _done: None)
    rehearsal.define()
    known = dict(stored or {})
    while missing := rehearsal.decide(known):
        known |= dict.fromkeys(missing)
    return rehearsal.ready()


def batch(registry: Registry, tip: int, previous: dict[Key, Previous] | None = None) -> Batch:
    snapshot = Snapshot(Tip(tip, NOW, b"h" * 32), registry.position, previous or {}, {"acme-Ward": 1})
    return Batch(snapshot, registry, NOW, lambda: b"s" * 16, Known(), Referred())


def one_by_one(tip: int) -> tuple[Registry, Batch]:
    """What a batch makes of the same as writes of their own; HEAD and SEAT need one another, so HEAD comes twice."""
    made = batch(Registry.empty("4.0.1"), tip)
    early = {**HEAD, "differential": {"element": HEAD["differential"]["element"][:2]}}
    for value in (early, SEAT, HEAD, WARD, NIGHT):
        made.transact(
            [Command("PUT", value["resourceType"], value["id"], b"{}", read(json.dumps(value).encode()))]
        )
    return made.registry, made


def test_it_lands_wherever_the_log_is_then() -> None:
    empty = Registry.empty("4.0.1")
    ready = rehearsed(empty, 10, *ALL)
    assert ready.left == []
    for tip in (10, 11, 500):
        made = batch(empty, tip)
        accepted = made.transact((), ready.prepared)
        assert [one.position for one in accepted] == [tip + n for n in range(1, 6)]
        assert {event.transaction for event in made.events} == {tip + 1}
        assert made.registry.position == tip + 4
        assert {
            name: made.registry.types[name].position for name in ("acme-Head", "acme-Ward", NIGHT["url"])
        } == {
            "acme-Head": tip + 2,
            "acme-Ward": tip + 3,
            NIGHT["url"]: tip + 4,
        }
        folded = empty
        for event in made.events[:4]:
            folded = folded.apply(event.position, event.type, event.id, json.loads(event.data or b""))
        assert {name: one.position for name, one in folded.types.items()} == {
            name: one.position for name, one in made.registry.types.items()
        }
        assert all(after.position == before.position + 1 for before, after in pairwise(made.events))


def test_the_types_are_those_that_writes_of_their_own_make() -> None:
    registry, _ = one_by_one(0)
    ready = rehearsed(Registry.empty("4.0.1"), 0, *ALL).prepared.registry
    assert {name: one.schema for name, one in ready.types.items()} == {
        name: one.schema for name, one in registry.types.items()
    }


def test_it_is_outdated_when_definitions_have_changed() -> None:
    empty = Registry.empty("4.0.1")
    ready = rehearsed(empty, 0, *ALL)
    moved = empty.apply(1, "Entity", "Other", {"resourceType": "Entity", "id": "Other", "type": "resource"})
    made = batch(moved, 1)
    with pytest.raises(Outdated):
        made.transact((), ready.prepared)
    assert (made.events, made.registry) == ([], moved)


def test_nothing_comes_of_what_is_there() -> None:
    empty = Registry.empty("4.0.1")
    first = batch(empty, 0)
    first.transact((), rehearsed(empty, 0, *ALL).prepared)
    there = {
        (event.type, event.id): Previous(event.position, event.action, NOW, event.data)
        for event in first.events
    }
    again = rehearsed(first.registry, 5, *ALL, previous=there)
    assert again.changed == []
    second = batch(first.registry, 5, there)
    accepted: list[Accepted] = second.transact((), again.prepared)
    assert {one.action for one in accepted} == {"unchanged"}
    assert (second.events, second.registry) == ([], first.registry)


def test_a_type_that_goes_must_be_empty() -> None:
    empty = Registry.empty("4.0.1")
    first = batch(empty, 0)
    first.transact((), rehearsed(empty, 0, *ALL).prepared)
    gone = rehearsed(first.registry, 5, {**WARD, "abstract": True})
    assert gone.prepared.retired == ("acme-Ward",)
    made = batch(first.registry, 5)
    with pytest.raises(Conflict, match="acme-Ward has resources"):
        made.transact((), gone.prepared)
    assert (made.events, made.registry) == ([], first.registry)


def test_everything_that_is_wrong_with_definitions_is_told_at_once() -> None:
    bad = [{**one, "baseDefinition": "http://example.org/none"} for one in (WARD, HEAD)]
    with pytest.raises(Invalid) as refused:
        rehearsed(Registry.empty("4.0.1"), 0, *bad, SEAT)
    assert [issue.message for issue in refused.value.issues] == [
        f"StructureDefinition/{id}: http://example.org/none is not known here: define it first"
        for id in ("acme-Ward", "acme-Head")
    ]


def test_what_is_not_valid_is_left_out() -> None:
    ready = rehearsed(Registry.empty("4.0.1"), 0, *ALL, {**EXAMPLE, "id": "w2", "mode": 1})
    assert [(one.name, str(error)) for one, error in ready.left] == [
        ("acme-Ward/w2", "expected type of string")
    ]
    assert len(ready.prepared.commands) == 5


def shift(id: str, mode: str = "day", *heads: str) -> dict[str, Any]:
    """A resource whose heads, if it has some, have to be there and work at night."""
    own = [{"reference": head if "/" in head else f"Shift/{head}"} for head in heads]
    return {"resourceType": "Shift", "id": id, "mode": mode, **({"head": own} if own else {})}


RULE = {
    "key": "s-1",
    "severity": "error",
    "human": "Its heads work at night",
    "expression": "head.exists() implies head.all(resolve().mode = 'night')",
}
SHIFT_ELEMENTS = [
    element("Shift", 0, "*", constraint=[RULE]),
    element("Shift.mode", 0, "1", "code"),
    element("Shift.head", 0, "*", "Reference"),
]
SHIFT = {
    "resourceType": "StructureDefinition",
    "id": "Shift",
    **structure("Shift", differential={"element": SHIFT_ELEMENTS}),
}


def ids(ready: Rehearsed) -> tuple[list[str], list[str]]:
    """Of the resources that are written, in order, and of those that are left out."""
    commands = [one.id for one in ready.prepared.commands if one.type == "Shift"]
    return commands, [one.id for one, _ in ready.left]


EMPTY = Registry.empty("4.0.1")
STORED: dict[Key, bytes | None] = {("Shift", "s"): json.dumps(shift("s", "night")).encode()}


def test_they_see_one_another_in_any_order_and_what_is_stored() -> None:
    own = [shift("a", "day", "z"), shift("b", "day", "x"), shift("c", "day", "s"), shift("z", "night")]
    assert ids(rehearsed(EMPTY, 0, SHIFT, *own, stored=STORED)) == (["a", "c", "z"], ["b"])
    later = [shift("a", "day", "s"), shift("s", "day")]
    assert ids(rehearsed(EMPTY, 0, SHIFT, *later, stored=STORED)) == (["s"], ["a"])
    itself = [shift("s", "day", "s"), shift("n", "night", "n")]
    assert ids(rehearsed(EMPTY, 0, SHIFT, *itself, stored=STORED)) == (["s"], ["n"])


def test_who_refers_to_what_is_left_out_is_decided_again() -> None:
    bad = {**shift("z", "night"), "more": 1}
    own = [shift("a", "night", "z"), shift("b", "day", "a"), shift("c", "night"), shift("d", "day", "c"), bad]
    assert ids(rehearsed(EMPTY, 0, SHIFT, *own)) == (["c", "d"], ["a", "b", "z"])
    stored: dict[Key, bytes | None] = {("Shift", "z"): json.dumps(shift("z", "night")).encode()}
    assert ids(rehearsed(EMPTY, 0, SHIFT, *own, stored=stored)) == (["a", "b", "c", "d"], ["z"])


def test_beyond_a_limit_it_is_not_checked() -> None:
    own = [shift("a", "day", "x"), shift("b", "day", "https://quire.example/Shift/x")]
    rehearsal = Rehearsal(wanted(SHIFT, *own), EMPTY, 0, {}, b"{}", lambda _done: None)
    rehearsal.define()
    assert rehearsal.decide({}) == {("Shift", "x")}
    assert rehearsal.decide({}, "no more is read") == set()
    told = [one.warnings[0].message for one in rehearsal.ready().prepared.commands[1:]]
    assert told[0] == "s-1 is not checked: no more is read"
    assert told[1].startswith("s-1 is not checked: looked up is what")


def test_what_is_prepared_claims_what_is_unique() -> None:
    unique = {
        "resourceType": "Attribute",
        "id": "Thing.n",
        "resource": {"id": "Thing"},
        "path": ["n"],
        "type": {"id": "integer"},
        "isUnique": True,
    }
    thing = {"resourceType": "Entity", "id": "Thing", "type": "resource", "isOpen": True}
    registry = (
        Registry.empty("4.0.1").apply(1, "Entity", "Thing", thing).apply(2, "Attribute", "Thing.n", unique)
    )
    done = rehearsed(registry, 2, *({"resourceType": "Thing", "id": id, "n": 1} for id in "ab"))
    with pytest.raises(Conflict, match="n is unique, and 1 is that of Thing/a"):
        batch(registry, 2).transact(done.prepared.commands, done.prepared)
