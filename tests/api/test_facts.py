"""Constraints that ask for stored resources and for the time, over HTTP: decided in the write, and by $validate."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from harness.client import Client, Reply
from harness.formats import element, structure

from eventstore.types.facts import MAX_REFERENCES


def ruled(name: str, expression: str, *more: dict[str, Any], severity: str = "error") -> dict[str, Any]:
    """A type with a constraint on its root, a mode and a head."""
    rule = {"key": "w-1", "severity": severity, "human": "It is as it is", "expression": expression}
    root = element(name, 0, "*", constraint=[rule])
    own = [element(f"{name}.mode", 0, "1", "code"), element(f"{name}.head", 0, "*", "Reference")]
    return structure(name, differential={"element": [root, *own, *more]})


def refused(reply: Reply) -> bool:
    """By the constraint, and by nothing else."""
    if reply.status in (200, 201):
        return False
    errors = msgspec.json.decode(reply.data)["errors"]
    assert (reply.status, errors) == (422, [{"path": [], "message": "It is as it is (w-1)"}])
    return True


def head(*ids: str) -> dict[str, Any]:
    return {"head": [{"reference": id if set("/:") & set(id) else f"Nurse/{id}"} for id in ids]}


@pytest.fixture
async def wards(client: Client) -> Client:
    """A Ward's head is a Nurse who is there and works at night."""
    await client.put("/StructureDefinition/Nurse", ruled("Nurse", "true"))
    rule = "head.exists() implies head.resolve().mode = 'night'"
    await client.put("/StructureDefinition/Ward", ruled("Ward", rule))
    await client.put("/Nurse/n", {"mode": "night"})
    await client.put("/Nurse/d", {"mode": "day"})
    return client


async def test_a_reference_to_what_is_stored(wards: Client) -> None:
    assert not refused(await wards.put("/Ward/a", head("n")))
    assert refused(await wards.put("/Ward/b", head("d")))
    assert refused(await wards.put("/Ward/b", head("x"))), "nothing is there: nothing is found"
    assert (await wards.get("/Ward/b")).status == 404
    assert "X-Quire-Warnings" not in (await wards.put("/Ward/a", {**head("n"), "mode": "x"})).headers


async def test_it_is_as_it_is_when_it_is_written(wards: Client) -> None:
    await wards.put("/Nurse/n", {"mode": "day"})
    assert refused(await wards.put("/Ward/a", head("n")))
    await wards.put("/Nurse/d", {"mode": "night"})
    assert not refused(await wards.put("/Ward/a", head("d")))
    await wards.delete("/Nurse/d")
    assert refused(await wards.put("/Ward/b", head("d")))
    assert (await wards.get("/Ward/a")).json["head"], "who stands is not looked at again"


async def test_a_patch_and_the_short_form_of_a_reference(wards: Client) -> None:
    await wards.put("/Ward/a", {"mode": "x"})
    assert refused(await wards.patch("/Ward/a?_type=merge-patch", head("d")))
    assert not refused(await wards.patch("/Ward/a?_type=merge-patch", head("n")))
    short = {"head": [{"resourceType": "Nurse", "id": "n"}]}
    assert not refused(await wards.put("/Ward/b", short))
    assert (await wards.get("/Ward/b")).json["head"] == [{"reference": "Nurse/n"}]


async def test_of_what_is_written_at_once_the_earlier_is_seen(wards: Client) -> None:
    """In one batch of the writer: by position."""
    writes = []
    for n in range(40):
        writes += [wards.put(f"/Nurse/x{n}", {"mode": "night"}), wards.put(f"/Ward/x{n}", head(f"x{n}"))]
    replies = await asyncio.gather(*writes)
    assert {reply.status for reply in replies[::2]} == {201}
    for nurse, ward in zip(replies[::2], replies[1::2], strict=True):
        assert refused(ward) or ward.version > nurse.version
    changes = [wards.put("/Nurse/n", {"mode": mode}) for mode in ("day", "night") * 10]
    uses = [wards.put(f"/Ward/y{n}", head("n")) for n in range(20)]
    mixed = [one for pair in zip(changes, uses, strict=True) for one in pair]
    replies = await asyncio.gather(*mixed)
    modes = {reply.version: reply.json["mode"] for reply in replies[::2] if reply.status == 200}
    for reply in replies[1::2]:
        if not refused(reply):
            last = max((at for at in modes if at < reply.version), default=0)
            assert modes.get(last, "night") == "night"


async def test_what_it_leads_to(client: Client) -> None:
    """From one to the next; too far is not checked, and told of."""
    await client.put("/StructureDefinition/Nurse", ruled("Nurse", "true"))
    for n in range(8):
        await client.put(f"/Nurse/{n}", {"mode": f"m{n}", **head(str(n + 1))})
    for far, warnings in ((3, None), (4, None), (5, "1")):
        rule = "head" + ".resolve().head" * (far - 1) + f".resolve().mode = 'm{far - 1}'"
        await client.put("/StructureDefinition/Ward", ruled("Ward", rule))
        written = await client.put("/Ward/a", {**head("0"), "mode": f"far{far}"})
        assert (refused(written), written.headers.get("X-Quire-Warnings")) == (False, warnings), far
    outcome = (await client.post("/Ward/$validate", {"resourceType": "Ward", **head("0")})).json
    why = "w-1 is not checked: stored resources lead to others more than 4 times"
    assert why in [one["diagnostics"] for one in outcome["issue"]]
    far, near = await asyncio.gather(client.put("/Ward/b", head("0")), client.put("/Ward/c", head("6")))
    assert not refused(far)
    assert refused(near), "a limit that another write meets is not this one's"


async def test_too_many_are_not_looked_up(client: Client) -> None:
    await client.put("/StructureDefinition/Nurse", ruled("Nurse", "true"))
    await client.put("/StructureDefinition/Ward", ruled("Ward", "head.resolve().empty()"))
    many = head(*map(str, range(MAX_REFERENCES + 1)))
    assert (await client.put("/Ward/a", many)).headers["X-Quire-Warnings"] == "1"
    assert "X-Quire-Warnings" not in (await client.put("/Ward/b", {"head": many["head"][1:]})).headers


async def unchecked(client: Client, reference: str) -> str:
    """Why the constraint is not checked with this reference; empty where it is."""
    outcome = (await client.post("/Ward/$validate", {"resourceType": "Ward", **head(reference)})).json
    told = [one["diagnostics"].partition(": ") for one in outcome["issue"]]
    return next((why for what, _, why in told if what == "w-1 is not checked"), "")


async def test_other_references_are_told_of(wards: Client) -> None:
    why = (
        "looked up is what is contained, or is stored here and called `Type/id` or `Type/id/_history/version`"
    )
    for reference in (
        "http://example.org/Nurse/n",
        "http://example.org/fhir/Nurse/n/_history/1",
        f"{wards.url}1/Nurse/n",
        f"{wards.url}/a/Nurse/n",
        f"{wards.url}/fhir/fhir/Nurse/n",
        f"{wards.url}/Nurse/n#a",
        "Nurse/n/_history/a",
        "Nurse/n/_history/03",
        f"Nurse/n/_history/{'9' * 40}",
        f"urn:uuid:{'0' * 8}-0000-0000-0000-{'0' * 12}",
    ):
        assert await unchecked(wards, reference) == why, reference
    assert refused(await wards.put("/Ward/a", head("Nobody/n"))), "there is no such type: nothing is there"


@pytest.mark.parametrize("base", ["/", "/fhir/"])
async def test_a_url_of_our_own_is_what_it_points_to(wards: Client, base: str) -> None:
    own = wards.url + base
    assert not refused(await wards.put("/Ward/a", head(f"{own}Nurse/n")))
    assert refused(await wards.put("/Ward/b", head(f"{own}Nurse/d")))
    assert refused(await wards.put("/Ward/b", head(f"{own}Nurse/x")))
    assert (await wards.get("/Ward/a")).json["head"] == [{"reference": f"{own}Nurse/n"}], "it stays as it is"


async def test_a_version_is_as_it_was(wards: Client) -> None:
    by_night = (await wards.get("/Nurse/n")).version
    by_day = (await wards.put("/Nurse/n", {"mode": "day"})).version
    gone = (await wards.put("/Nurse/g", {"mode": "night"})).version
    await wards.delete("/Nurse/g")
    for base in ("", f"{wards.url}/", f"{wards.url}/fhir/"):
        then, now = f"{base}Nurse/n/_history/{by_night}", f"{base}Nurse/n/_history/{by_day}"
        assert not refused(await wards.put("/Ward/a", head(then)))
        assert refused(await wards.put("/Ward/b", head(now)))
        assert refused(await wards.put("/Ward/b", {"head": [*head(then)["head"], *head(now)["head"]]}))
        assert not refused(await wards.put("/Ward/a", head(f"{base}Nurse/g/_history/{gone}")))
        assert await unchecked(wards, then) == ""
    for name in (
        f"Nurse/n/_history/{gone}",
        f"Nurse/g/_history/{gone + 1}",
        "Nurse/n/_history/9999999999999999",
        f"Nobody/n/_history/{by_night}",
    ):
        assert await unchecked(wards, name) == f"{name} is not stored here"


async def test_validate_knows_what_is_stored(wards: Client) -> None:
    for id, valid in (("n", True), ("d", False), ("x", False)):
        outcome = (await wards.post("/Ward/$validate", {"resourceType": "Ward", **head(id)})).json
        assert (outcome["id"] == "allok") is valid


async def test_what_is_looked_up_is_held_to_a_profile(wards: Client) -> None:
    """And that to what it looks up itself."""
    staffed = ruled("Ward", "head.resolve().mode = 'night'")
    staffed["differential"]["element"] = staffed["differential"]["element"][:1]
    about = {"id": "staffed", "derivation": "constraint", "url": "http://p/staffed"}
    base = {"baseDefinition": "http://example.org/Ward"}
    assert (await wards.put("/StructureDefinition/staffed", {**staffed, **about, **base})).status == 201
    await wards.put(
        "/StructureDefinition/Ring", ruled("Ring", "head.resolve().conformsTo('http://p/staffed')")
    )
    await wards.put("/Ward/a", head("n"))
    await wards.put("/Ward/b", {})
    assert not refused(await wards.put("/Ring/a", head("Ward/a")))
    assert refused(await wards.put("/Ring/b", head("Ward/b")))
    await wards.put("/Nurse/n", {"mode": "day"})
    assert refused(await wards.put("/Ring/b", head("Ward/a")))


async def test_all_that_is_stored_is_validated_with_what_it_refers_to(wards: Client) -> None:
    await wards.put("/Ward/a", head("n"))
    await wards.put("/Ward/b", {})
    await wards.put("/Nurse/n", {"mode": "day"})
    found = (await wards.post("/Ward/$batch-validate", None)).json["parameter"]
    counts = {one["name"]: one["valueInteger"] for one in found if one["name"] in ("valid", "invalid")}
    assert counts == {"valid": 1, "invalid": 1}


async def test_the_clock_is_that_of_the_event(client: Client) -> None:
    rule = "due <= today() and at <= now() and (mode.exists() implies now() < @2000-01-01T00:00:00Z)"
    due, at = element("Task2.due", 0, "1", "date"), element("Task2.at", 0, "1", "instant")
    await client.put("/StructureDefinition/Task2", ruled("Task2", rule, due, at))
    past = {"due": "2020-01-01", "at": "2020-01-01T00:00:00Z"}
    written = await client.put("/Task2/a", past)
    assert not refused(written)
    assert "X-Quire-Warnings" not in written.headers
    own = written.json["meta"]["lastUpdated"]
    assert not refused(await client.put("/Task2/a", {"due": own[:10], "at": own}))
    assert refused(await client.put("/Task2/b", {**past, "due": "2999-01-01"}))
    assert refused(await client.put("/Task2/b", {**past, "at": "2999-01-01T00:00:00Z"}))
    assert refused(await client.put("/Task2/b", {**past, "mode": "late"}))
    outcome = (await client.post("/Task2/$validate", {"resourceType": "Task2", **past})).json
    assert outcome["id"] == "allok"
    outcome = (await client.post("/Task2/$validate", {"resourceType": "Task2", **past, "mode": "late"})).json
    assert outcome["id"] == "validationfail"


async def test_what_is_imported_sees_what_came_before(wards: Client) -> None:
    lines = [
        {"resourceType": "Nurse", "id": "i", "mode": "night"},
        {"resourceType": "Ward", "id": "i", **head("i")},
        {"resourceType": "Ward", "id": "j", **head("k")},
        {"resourceType": "Nurse", "id": "k", "mode": "night"},
    ]
    body = b"\n".join(msgspec.json.encode(line) for line in lines)
    await wards.post("/$import", body, Content_Type="application/x-ndjson")
    assert (await wards.get("/Ward/i")).status == 200
    assert (await wards.get("/Ward/j")).status == 404
