"""Packages over HTTP: installed whole or not at all, twice without a change, from a body, a form or a registry."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from harness.client import Client, Reply
from harness.formats import element, structure
from harness.packages import EXAMPLE, HEAD, MANIFEST, SEAT, WARD, tgz, wards

from eventstore.server.app import serving
from eventstore.server.settings import Settings

INSTALL = "/$fhir-package-install"


async def install(client: Client, packed: bytes, query: str = "", base: str = "") -> Reply:
    return await client.post(base + INSTALL + query, packed, Content_Type="application/gzip")


def told(reply: Reply) -> dict[str, Any]:
    """The Parameters by name; what is left out as pairs."""
    assert reply.status == 200, reply.data
    found: dict[str, Any] = {"skipped": [], "marked": []}
    for one in reply.json["parameter"]:
        if "part" in one:
            found[one["name"]].append(tuple(part["valueString"] for part in one["part"]))
        else:
            found[one["name"]] = next(value for key, value in one.items() if key.startswith("value"))
    return found


@pytest.mark.parametrize("base", ["", "/fhir"])
async def test_a_package_is_installed_in_one_transaction_and_twice_changes_nothing(
    client: Client, base: str
) -> None:
    first = told(await install(client, wards(), "?examples=true", base))
    assert first == {
        "package": "acme.wards@1.0.0",
        "transaction": "1",
        "created": 5,
        "updated": 0,
        "unchanged": 0,
        "deleted": 0,
        "skipped": [("SearchParameter/by-mode", "there is no type SearchParameter")],
        "marked": [],
    }
    events = (await client.get("/_changes")).json["events"]
    assert {event["transaction"] for event in events} == {1}
    assert [event["subject"] for event in events] == [
        "StructureDefinition/acme-Head",
        "StructureDefinition/acme-Seat",
        "StructureDefinition/acme-Ward",
        "StructureDefinition/a-night",
        "acme-Ward/w1",
    ]
    refused = await client.put("/acme-Ward/w2", {"mode": "day", "head": {"name": 1}})
    assert refused.status == 422
    again = told(await install(client, wards(), "?examples=true", base))
    assert (again["transaction"], again["created"], again["unchanged"]) == ("0", 0, 5)
    assert await client.tip() == 5


async def test_examples_are_there_by_choice(client: Client) -> None:
    assert told(await install(client, wards()))["created"] == 4
    assert (await client.get("/acme-Ward/w1")).status == 404
    more = told(await install(client, wards(), "?examples=true"))
    assert (more["created"], more["unchanged"], more["transaction"]) == (1, 4, "5")
    assert (await client.get("/acme-Ward/w1")).json["mode"] == EXAMPLE["mode"]


async def test_what_changed_is_updated_and_what_is_not_valid_left_out(client: Client) -> None:
    await install(client, wards())
    bad = {**EXAMPLE, "id": "bad", "mode": 7}
    changed = wards(**{"ward.json": {**WARD, "title": "A ward"}, "example/bad.json": bad})
    found = told(await install(client, changed, "?examples=true"))
    assert (found["created"], found["updated"], found["unchanged"]) == (1, 1, 3)
    assert ("acme-Ward/bad", "acme-Ward.mode: expected type of string") in found["skipped"]
    assert (await client.get("/acme-Ward/bad")).status == 404


async def test_definitions_are_taken_all_or_none(client: Client) -> None:
    lost = {**WARD, "id": "acme-Lost", "type": "acme-Lost", "url": "http://example.org/acme-Lost"}
    lost["differential"] = {"element": [{"id": "acme-Lost", "path": "acme-Lost"}, *(
        {"id": f"acme-Lost.{name}", "path": f"acme-Lost.{name}", "min": 0, "max": "1", "type": [{"code": "Nowhere"}]}
        for name in ("a", "b")
    )]}  # fmt: skip
    refused = await install(client, wards(**{"lost.json": lost}))
    assert refused.status == 422
    messages = [one["message"] for one in refused.json["errors"]]
    assert messages == ["StructureDefinition/acme-Lost: Nowhere is no type that is known here"] * 2
    assert await client.tip() == 0
    assert (await client.get("/acme-Ward")).status == 404


async def test_a_package_of_another_version_is_refused(client: Client) -> None:
    refused = await install(client, tgz({"ward.json": WARD}, {**MANIFEST, "fhirVersions": ["5.0.0"]}))
    assert refused.status == 422
    assert "acme.wards@1.0.0 is of FHIR 5.0.0, and this log is of FHIR 4.0.1" in refused.data.decode()


async def test_an_open_type_is_replaced_when_told(client: Client) -> None:
    await client.define("acme-Ward")
    attribute = {
        "id": "acme-Ward.x",
        "resource": {"id": "acme-Ward"},
        "path": ["x"],
        "type": {"id": "string"},
    }
    assert (await client.post("/Attribute", attribute)).status == 201
    assert (await client.put("/acme-Ward/old", {"anything": 1})).status == 201
    tip = await client.tip()
    refused = await install(client, wards())
    assert refused.status == 409
    assert "Entity/acme-Ward; with --replace-open" in refused.json["errors"][0]["message"]
    assert await client.tip() == tip
    found = told(await install(client, wards(), "?replace-open=true"))
    assert (found["created"], found["deleted"], found["transaction"]) == (4, 2, str(tip + 1))
    assert (await client.get("/Entity/acme-Ward")).status == 410
    assert (await client.get("/acme-Ward/old")).json["anything"] == 1
    assert (await client.put("/acme-Ward/new", {"anything": 1})).status == 422
    assert told(await install(client, wards(), "?replace-open=true"))["unchanged"] == 4


async def test_a_closed_type_is_not_replaced(client: Client) -> None:
    await client.define("acme-Ward", isOpen=False)
    refused = await install(client, wards(), "?replace-open=true")
    assert refused.status == 409
    assert "acme-Ward is defined by Entity/acme-Ward" in refused.data.decode()


async def test_a_type_that_a_package_retires_must_be_empty(client: Client) -> None:
    await install(client, wards(), "?examples=true")
    abstract = tgz({"ward.json": {**WARD, "abstract": True}})
    refused = await install(client, abstract)
    assert refused.status == 409
    assert "acme-Ward has resources" in refused.data.decode()
    await client.delete("/acme-Ward/w1")
    assert told(await install(client, abstract))["updated"] == 1
    assert (await client.get("/acme-Ward")).status == 404


async def test_what_is_not_checked_is_marked_and_alone_refused(client: Client) -> None:
    odd = json.loads(json.dumps(WARD))
    broken = {"key": "w-9", "severity": "error", "human": "broken", "expression": "mode ="}
    odd["differential"]["element"][1]["constraint"] = [broken]
    found = told(await install(client, tgz({"head.json": HEAD, "ward.json": odd, "seat.json": SEAT})))
    ((name, why),) = found["marked"]
    assert name == "StructureDefinition/acme-Ward"
    assert why.startswith("not checked: w-9: ")
    alone = await client.post(
        "/StructureDefinition",
        {
            **odd,
            "id": "acme-Other",
            "type": "acme-Other",
            "url": "http://example.org/StructureDefinition/acme-Other",
        },
    )
    assert alone.status == 422
    assert "w-9 is not FHIRPath" in alone.data.decode()


async def test_a_value_set_that_is_not_valid_is_left_out(client: Client) -> None:
    wrong = {"resourceType": "ValueSet", "id": "wrong", "status": "nonsense"}
    found = told(
        await install(
            client, tgz({"head.json": HEAD, "ward.json": WARD, "seat.json": SEAT, "wrong.json": wrong})
        )
    )
    assert [name for name, _ in found["skipped"]] == ["ValueSet/wrong"]
    assert found["created"] == 3


STAFFED = {
    "key": "w-1",
    "severity": "error",
    "human": "Its head works at night",
    "expression": "head.exists() implies head.resolve().mode = 'night'",
}
CLINIC_ELEMENTS = [
    element("Clinic", 0, "*", constraint=[STAFFED]),
    element("Clinic.mode", 0, "1", "code"),
    element("Clinic.head", 0, "1", "Reference"),
]
CLINIC = {
    "resourceType": "StructureDefinition",
    "id": "Clinic",
    **structure("Clinic", differential={"element": CLINIC_ELEMENTS}),
}


def clinics(heads: dict[str, str], **more: dict[str, Any]) -> bytes:
    """A package of a type whose head has to work at night, with the heads of some by their ids."""
    examples = {
        f"example/{id}.json": {"resourceType": "Clinic", "id": id, "head": {"reference": head}}
        for id, head in heads.items()
    }
    return tgz({"clinic.json": CLINIC, **examples, **more})


async def test_its_resources_see_one_another_and_what_is_stored(client: Client) -> None:
    await client.define("Nurse")
    first = await client.put("/Nurse/n", {"mode": "night"})
    await client.put("/Nurse/n", {"mode": "day"})
    await client.put("/Nurse/m", {"mode": "night"})
    heads = {
        "a": "Nurse/m",
        "b": f"{client.url}/fhir/Nurse/m",
        "c": f"Nurse/n/_history/{first.version}",
        "d": "Clinic/own",
        "e": "http://elsewhere.example/Nurse/n",
        "v": "Nurse/n",
        "w": "Nurse/nobody",
        "x": "Clinic/v",
    }
    own = {"resourceType": "Clinic", "id": "own", "mode": "night"}
    found = told(await install(client, clinics(heads, **{"example/own.json": own}), "?examples=true"))
    assert found["skipped"] == [(f"Clinic/{id}", "Its head works at night (w-1)") for id in ("v", "w", "x")]
    assert found["created"] == 7
    assert [(await client.get(f"/Clinic/{id}")).status for id in "abcdevwx"] == [200] * 5 + [404] * 3


async def test_many_that_it_refers_to_are_looked_up(client: Client) -> None:
    await client.define("Nurse")
    nurses = [
        {"resourceType": "Nurse", "id": f"n{n}", "mode": "night" if n % 2 else "day"} for n in range(400)
    ]
    lines = b"\n".join(map(msgspec.json.encode, nurses))
    await client.post("/$import", lines, Content_Type="application/x-ndjson")
    heads = {f"c{n}": f"Nurse/n{n}" for n in range(400)}
    found = told(await install(client, clinics(heads), "?examples=true"))
    assert (found["created"], len(found["skipped"])) == (201, 200)


async def test_a_form_and_parameters_carry_one_too(client: Client) -> None:
    form = aiohttp.FormData()
    form.add_field("note", "hello")
    form.add_field("file", wards(), filename="acme.tgz", content_type="application/gzip")
    async with client.session.post(client.url + INSTALL, data=form) as response:
        assert response.status == 200, await response.text()
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "file", "valueBase64Binary": base64.b64encode(wards()).decode()},
            {"name": "examples", "valueBoolean": True},
        ],
    }
    found = told(await client.post(f"/fhir{INSTALL}", parameters))
    assert (found["created"], found["unchanged"]) == (1, 4)


@pytest.mark.parametrize(
    ("body", "headers", "status", "why"),
    [
        (b"no archive", {"Content_Type": "application/gzip"}, 400, "no .tgz"),
        (b"", {"Content_Type": "application/octet-stream"}, 400, "no .tgz"),
        (b"x", {"Content_Type": "text/html"}, 415, "application/gzip or multipart/form-data"),
        (b"--x\r\n\r\nx", {"Content_Type": "multipart/form-data; boundary=x"}, 400, "form"),
        (b"x", {"Content_Type": "multipart/form-data"}, 400, "form"),
        ({"resourceType": "Patient"}, {}, 422, "Parameters are wanted"),
        ({"resourceType": "Parameters"}, {}, 422, "there is neither"),
        ({"resourceType": "Parameters", "parameter": 1}, {}, 422, "there is neither"),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "file", "valueBase64Binary": "*"}]},
            {},
            400,
            "no base64",
        ),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "file", "valueBase64Binary": "\u00e9"}]},
            {},
            400,
            "no base64",
        ),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "package", "valueString": "a.b@1"}]},
            {},
            501,
            "--package-registry URL (QUIRE_PACKAGE_REGISTRY)",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(
    client: Client, body: Any, headers: dict[str, str], status: int, why: str
) -> None:
    refused = await client.post(INSTALL, body, **headers)
    assert refused.status == status, refused.data
    assert why in refused.data.decode()
    assert await client.tip() == 0


async def test_how_far_it_is_is_told_line_by_line(client: Client) -> None:
    reply = await install(client, wards(), "?progress=true")
    lines = [json.loads(line) for line in reply.data.splitlines()]
    assert lines[-1]["installed"]["created"] == 4
    reply = await install(client, tgz({"ward.json": WARD}), "?progress=true")
    assert json.loads(reply.data.splitlines()[-1])["installed"]["unchanged"] == 1
    other = tgz({"ward.json": WARD}, {**MANIFEST, "fhirVersions": ["5.0.0"]})
    last = json.loads((await install(client, other, "?progress=true")).data.splitlines()[-1])
    assert last["status"] == 422
    assert "of FHIR 5.0.0" in last["error"]


@pytest.fixture
async def registry() -> AsyncIterator[str]:
    """A registry of both kinds, with one package."""

    async def answer(request: web.Request) -> web.Response:
        own = f"http://{request.host}"
        match request.path:
            case "/acme.wards/1.0.0" | "/files/wards.tgz" | "/acme.other/1.0.0":
                return web.Response(body=wards(), content_type="application/tar+gzip")
            case "/npm.wards/1.0.0":
                return web.json_response({"dist": {"tarball": f"{own}/files/wards.tgz"}})
            case "/npm.evil/1.0.0":
                return web.json_response({"dist": {"tarball": "http://169.254.169.254/x"}})
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_registry_is_asked_when_it_is_configured(settings: Settings, registry: str) -> None:
    settings = msgspec.structs.replace(settings, package_registry=f"{registry}/")
    async with serving(settings) as url, aiohttp.ClientSession() as session:
        client = Client(session, url)

        async def named(name: str) -> Reply:
            parameter = [{"name": "package", "valueString": name}]
            return await client.post(INSTALL, {"resourceType": "Parameters", "parameter": parameter})

        assert told(await named("acme.wards@1.0.0"))["created"] == 4
        assert told(await named(f"{registry}/files/wards.tgz"))["unchanged"] == 4
        for name, status, why in (
            ("acme.none@1.0.0", 404, "there is no"),
            ("acme.other@1.0.0", 422, "the registry sent acme.wards@1.0.0"),
            ("npm.wards@1.0.0", 422, "the registry sent acme.wards@1.0.0"),
            ("npm.evil@1.0.0", 422, "from which alone packages are fetched"),
            ("http://169.254.169.254/x", 422, "from which alone packages are fetched"),
            ("file:///etc/passwd", 422, "from which alone packages are fetched"),
            ("../x", 422, "name@version"),
        ):
            refused = await named(name)
            assert (refused.status, why in refused.data.decode()) == (status, True), refused.data


async def test_a_registry_that_is_away_is_told(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, package_registry="http://127.0.0.1:9")
    async with serving(settings) as url, aiohttp.ClientSession() as session:
        parameter = [{"name": "package", "valueString": "a.b@1"}]
        reply = await Client(session, url).post(
            INSTALL, {"resourceType": "Parameters", "parameter": parameter}
        )
        assert reply.status == 503
        assert "does not answer" in reply.data.decode()
