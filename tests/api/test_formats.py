"""Types by StructureDefinition and FHIRSchema over HTTP: served, checked, retired; profiles; $validate; warnings."""

from __future__ import annotations

from typing import Any

import msgspec
from harness.client import Client
from harness.formats import element, schema, structure

PROFILE = "http://example.org/night"


def night(**fields: Any) -> dict[str, Any]:
    """A profile of Ward: its mode is night, and it has a desk."""
    differential = {
        "element": [
            element("Ward", 0, "*"),
            element("Ward.mode", 1, "1", fixedCode="night"),
            element("Ward.beds", 0, "2"),
        ]
    }
    profile = structure("Ward", derivation="constraint", differential=differential)
    base = "http://example.org/Ward"
    return {**profile, "id": "night", "url": PROFILE, "baseDefinition": base, **fields}


WARD = structure("Ward", element("Ward.mode", 1, "1", "code"), element("Ward.beds", 0, "*", "positiveInt"))


def errors(reply: Any) -> dict[tuple[Any, ...], str]:
    return {tuple(one["path"]): one["message"] for one in msgspec.json.decode(reply.data)["errors"]}


async def test_a_type_is_there_as_soon_as_it_is_defined(client: Client) -> None:
    assert (await client.get("/Ward")).status == 404
    assert (await client.put("/StructureDefinition/Ward", WARD)).status == 201
    assert (await client.post("/Ward", {"id": "a", "mode": "day", "beds": [3]})).status == 201
    refused = await client.post("/Ward", {"beds": [0], "more": 1})
    assert refused.status == 422
    assert errors(refused) == {
        ("beds", 0): "must be at least 1",
        ("more",): "extra property",
        ("mode",): "is required",
    }
    assert (await client.get("/Ward/a")).json["mode"] == "day"
    assert (await client.get("/$json-schema?path=definitions.Ward.properties.beds")).status == 200


async def test_a_fhirschema_makes_one_too(client: Client) -> None:
    ward = schema("Ward", {"mode": {"type": "code", "scalar": True}}, required=["mode"])
    assert (await client.put("/FHIRSchema/Ward", ward)).status == 201
    assert errors(await client.put("/Ward/a", {})) == {("mode",): "is required"}
    assert (await client.put("/Ward/a", {"mode": "day"})).status == 201


async def test_a_type_has_one_definition(client: Client) -> None:
    assert (await client.put("/StructureDefinition/Ward", WARD)).status == 201
    for url, value in (
        ("/FHIRSchema/Ward", schema("Ward", {"mode": {"type": "code"}})),
        ("/Entity/Ward", {"type": "resource"}),
    ):
        refused = await client.put(url, value)
        assert refused.status == 409
        assert errors(refused) == {
            ("id",): "Ward is defined by StructureDefinition/Ward: delete that first, or change it"
        }


async def test_a_type_with_resources_stays(client: Client) -> None:
    await client.put("/StructureDefinition/Ward", WARD)
    await client.put("/Ward/a", {"mode": "day"})
    assert (await client.delete("/StructureDefinition/Ward")).status == 409
    assert (await client.put("/StructureDefinition/Ward", {**WARD, "abstract": True})).status == 409
    assert (await client.put("/StructureDefinition/Ward", {**WARD, "title": "A ward"})).status == 200
    await client.delete("/Ward/a")
    assert (await client.delete("/StructureDefinition/Ward")).status == 204
    assert (await client.get("/Ward")).status == 404


async def test_a_profile_holds_where_a_resource_names_it(client: Client) -> None:
    await client.put("/StructureDefinition/Ward", WARD)
    asked = {"mode": "day", "beds": [1, 2, 3], "meta": {"profile": [PROFILE]}}
    unknown = await client.put("/Ward/a", asked)
    assert unknown.status == 201
    assert unknown.headers["X-Quire-Warnings"] == "1"
    assert (await client.put("/StructureDefinition/night", night())).status == 201
    assert errors(await client.put("/Ward/b", asked)) == {
        ("mode",): "expected night",
        ("beds",): "must have at most 2 items",
    }
    good = await client.put("/Ward/b", {"mode": "night", "meta": {"profile": [PROFILE]}})
    assert good.status == 201
    assert "X-Quire-Warnings" not in good.headers


async def test_validate_says_what_a_write_would(client: Client) -> None:
    await client.put("/StructureDefinition/Ward", WARD)
    await client.put("/StructureDefinition/night", night())
    reply = await client.post("/Ward/$validate", {"mode": "day"})
    assert (reply.status, reply.json["id"]) == (200, "allok")
    reply = await client.post(f"/Ward/$validate?profile={PROFILE}", {"mode": "day"})
    assert (reply.status, reply.json["id"]) == (200, "validationfail")
    assert errors(reply) == {("mode",): "expected night"}
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "resource", "resource": {"resourceType": "Ward", "mode": "night"}},
            {"name": "profile", "valueCanonical": PROFILE},
        ],
    }
    assert (await client.post("/fhir/Ward/$validate", parameters)).json["id"] == "allok"
    assert (await client.post("/Ward/$validate?profile=http://no", {"mode": "day"})).json[
        "id"
    ] == "validationfail"
    assert (await client.get("/Ward")).json["total"] == 0


async def test_warnings_are_told_in_full_when_asked_for(client: Client) -> None:
    based = {
        **WARD,
        "kind": "resource",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/DomainResource",
    }
    await client.put("/StructureDefinition/Ward", based)
    reply = await client.request("PUT", "/Ward/a", '{"mode":"day"}', Prefer="return=OperationOutcome")
    assert reply.headers["X-Quire-Warnings"] == "1"
    assert [one["message"] for one in reply.json["warnings"]] == [
        "a narrative (text) should be there (dom-6)"
    ]


async def test_a_definition_of_another_version_is_refused(client: Client) -> None:
    refused = await client.put("/StructureDefinition/Ward", {**WARD, "fhirVersion": "5.0.0"})
    assert refused.status == 422
    assert errors(refused) == {
        ("fhirVersion",): "the definition is of FHIR 5.0.0, and this log is of FHIR 4.0.1"
    }


async def test_what_is_contained_is_checked_as_what_it_is(client: Client) -> None:
    await client.put("/StructureDefinition/Ward", WARD)
    bag = structure("Bag", element("Bag.what", 1, "1", "Resource"))
    assert (await client.put("/StructureDefinition/Bag", bag)).status == 201
    assert (await client.put("/Bag/a", {"what": {"resourceType": "Ward", "mode": "day"}})).status == 201
    refused = await client.put("/Bag/a", {"what": {"resourceType": "Ward", "beds": ["x"]}})
    assert errors(refused) == {
        ("what", "beds", 0): "expected type of integer",
        ("what", "mode"): "is required",
    }
    refused = await client.put("/Bag/a", {"what": {"resourceType": "Nope"}})
    assert errors(refused) == {("what", "resourceType"): "there is no type Nope"}


def ruled(expression: str, severity: str = "error") -> dict[str, Any]:
    """Ward with a constraint on its root."""
    rule = {"key": "w-1", "severity": severity, "human": "It is as it is", "expression": expression}
    root = element("Ward", 0, "*", constraint=[rule])
    elements = [root, element("Ward.mode", 1, "1", "code"), element("Ward.head", 0, "1", "Reference")]
    return structure("Ward", differential={"element": elements})


async def test_a_constraint_refuses_or_warns(client: Client) -> None:
    assert (await client.put("/StructureDefinition/Ward", ruled("mode = 'day'"))).status == 201
    assert (await client.put("/Ward/a", {"mode": "day"})).status == 201
    assert errors(await client.put("/Ward/b", {"mode": "night"})) == {(): "It is as it is (w-1)"}
    await client.put("/StructureDefinition/Ward", ruled("mode = 'day'", "warning"))
    written = await client.put("/Ward/b", {"mode": "night"})
    assert (written.status, written.headers["X-Quire-Warnings"]) == (201, "1")


async def test_a_constraint_that_is_not_fhirpath_is_refused_with_its_column(client: Client) -> None:
    refused = await client.put("/StructureDefinition/Ward", ruled("mode = = 'day'"))
    assert refused.status == 422
    (message,) = errors(refused).values()
    assert "the constraint w-1 is not FHIRPath" in message
    assert "column 8" in message
    assert (await client.get("/Ward")).status == 404


async def test_a_constraint_that_cannot_be_checked_says_so(client: Client) -> None:
    await client.put("/StructureDefinition/Ward", ruled("head.exists() implies head.resolve() is Ward"))
    assert "X-Quire-Warnings" not in (await client.put("/Ward/a", {"mode": "day"})).headers
    body = {
        "resourceType": "Ward",
        "id": "b",
        "mode": "day",
        "head": {"reference": "http://x.example/Ward/a"},
    }
    outcome = (await client.post("/Ward/$validate", body)).json
    told = [(one["severity"], one["code"], one["diagnostics"]) for one in outcome["issue"]]
    why = "w-1 is not checked: looked up is what is contained, or is stored here and called `Type/id` or `Type/id/_history/version`"
    assert ("warning", "not-found", why) in told
