"""The overlay of claims: what each command of a batch sees of the values that the others have."""

from __future__ import annotations

import pytest

from eventstore.claims import Claim, Claims, Known, claims_of
from eventstore.errors import Conflict

PLACES = (("serial",), ("place", "bed"), ("patient",))


def claim(value: object) -> Claim:
    (found,) = claims_of("Pump", [("serial",)], {"serial": value})
    return found


def known(*asked: tuple[str, str], **claimants: set[str]) -> Known:
    """What the log says: who asked for which serial, and who has it."""
    found = Known()
    found.asked = {(claim(serial), id) for serial, id in asked}
    found.claimants = {claim(serial): ids for serial, ids in claimants.items()}
    return found


def want(claims: Claims, id: str, serial: str | None) -> None:
    wanted = {claim(serial): serial} if serial else {}
    claims.check(("Pump", id), wanted)
    claims.take(("Pump", id), wanted)


def test_what_a_resource_claims() -> None:
    resource = {"serial": "x", "place": {"bed": 1}, "patient": {"reference": "Patient/p"}}
    found = {one.place: value for one, value in claims_of("Pump", PLACES, resource).items()}
    assert found == {"serial": "x", "place.bed": 1, "patient": "Patient/p"}
    assert claims_of("Pump", PLACES, {"place": [], "patient": {"display": "Ann"}}) == {}
    assert claims_of("Pump", PLACES, None) == {}
    assert claim(1) == claim(1.0) != claim("1")


def test_what_was_not_asked_for_is_noted() -> None:
    claims = Claims(known(("x", "a")))
    want(claims, "a", "x")
    assert claims.unknown == set()
    want(claims, "b", "y")
    assert claims.unknown == {(claim("y"), "b")}


def test_the_batch_goes_before_the_log() -> None:
    claims = Claims(known(("x", "b"), ("x", "c"), x={"a"}))
    with pytest.raises(Conflict, match='"x" is that of Pump/a'):
        want(claims, "b", "x")
    want(claims, "a", None)
    want(claims, "b", "x")
    with pytest.raises(Conflict, match='"x" is that of Pump/b'):
        want(claims, "c", "x")


def test_a_transaction_that_is_undone_claims_nothing() -> None:
    claims = Claims(known(("x", "a"), ("x", "b")))
    saved = claims.save()
    want(claims, "a", "x")
    claims.restore(saved)
    want(claims, "b", "x")
