"""ValueSets and CodeSystems over HTTP: `$expand`, `$validate-code`, and required bindings on the way of a write."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from harness.client import Client, Reply
from harness.formats import element, structure

from eventstore.audit import verify
from eventstore.log.base import Span
from eventstore.server.app import serving
from eventstore.server.opening import open_store
from eventstore.server.settings import Settings

URL = "http://example.org/ValueSet/colors"
SYSTEM = "http://example.org/colors"

COLORS: dict[str, Any] = {
    "resourceType": "CodeSystem",
    "id": "colors",
    "url": SYSTEM,
    "status": "active",
    "content": "complete",
    "concept": [
        {"code": "red", "display": "Red", "concept": [{"code": "pink", "display": "Pink"}]},
        {"code": "blue", "display": "Blue", "designation": [{"value": "Azure"}]},
        {"code": "beige", "display": "Beige", "property": [{"code": "inactive", "valueBoolean": True}]},
    ],
}
ALL: dict[str, Any] = {
    "resourceType": "ValueSet",
    "id": "colors",
    "url": URL,
    "version": "1",
    "status": "draft",
    "compose": {"include": [{"system": SYSTEM}]},
}
CAR = structure(
    "Car", element("Car.color", 0, "1", "code", binding={"strength": "required", "valueSet": URL})
)
BASES = ("", "/fhir")


@pytest.fixture
async def colored(client: Client) -> Client:
    """A server that has the colors."""
    assert (await client.put("/CodeSystem/colors", COLORS)).status == 201
    assert (await client.put("/ValueSet/colors", ALL)).status == 201
    return client


def parameters(**values: Any) -> dict[str, Any]:
    """A Parameters resource: a value by its kind."""
    told = []
    for name, value in values.items():
        kind = "resource" if name == "valueSet" else f"value{name[0].upper()}{name[1:]}"
        told.append({"name": name, {"url": "valueUri", "code": "valueCode"}.get(name, kind): value})
    return {"resourceType": "Parameters", "parameter": told}


def codes(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.data
    return [one["code"] for one in reply.json["expansion"].get("contains", [])]


def told(reply: Reply) -> dict[str, Any]:
    """The parameters of an answer."""
    assert reply.status == 200, reply.data
    assert reply.json["resourceType"] == "Parameters"
    return {
        one["name"]: next(value for key, value in one.items() if key != "name")
        for one in reply.json["parameter"]
    }


@pytest.mark.parametrize("base", BASES)
class TestExpand:
    async def test_by_url_by_id_and_by_what_is_sent(self, colored: Client, base: str) -> None:
        expected = ["red", "pink", "blue", "beige"]
        by_url = await colored.get(f"{base}/ValueSet/$expand?url={URL}")
        assert codes(by_url) == expected
        value = by_url.json
        assert [value[key] for key in ("url", "version", "status")] == [URL, "1", "draft"]
        assert value["expansion"]["total"] == 4
        assert value["expansion"]["contains"][3] == {
            "system": SYSTEM,
            "inactive": True,
            "code": "beige",
            "display": "Beige",
        }
        assert codes(await colored.get(f"{base}/ValueSet/colors/$expand")) == expected
        assert codes(await colored.post(f"{base}/ValueSet/$expand", parameters(url=URL))) == expected
        other = {
            "resourceType": "ValueSet",
            "status": "active",
            "compose": {"include": [{"valueSet": [URL]}]},
        }
        assert codes(await colored.post(f"{base}/ValueSet/$expand", other)) == expected
        assert codes(await colored.post(f"{base}/ValueSet/$expand", parameters(valueSet=other))) == expected
        assert codes(await colored.get(f"{base}/ValueSet/$expand?url={URL}&valueSetVersion=1")) == expected

    async def test_a_page_of_it(self, colored: Client, base: str) -> None:
        url = f"{base}/ValueSet/$expand?url={URL}"
        page = await colored.get(f"{url}&offset=1&count=2")
        assert codes(page) == ["pink", "blue"]
        assert (page.json["expansion"]["total"], page.json["expansion"]["offset"]) == (4, 1)
        found = await colored.get(f"{url}&filter=B")
        assert codes(found) == ["blue", "beige"]
        assert found.json["expansion"]["parameter"] == [{"name": "filter", "valueString": "B"}]
        assert codes(await colored.get(f"{url}&filter=b&activeOnly=true")) == ["blue"]
        nothing = await colored.get(f"{url}&filter=green")
        assert nothing.json["expansion"]["total"] == 0
        assert "contains" not in nothing.json["expansion"]
        assert codes(await colored.get(f"{url}&count=0")) == []
        assert (await colored.get(f"{url}&count=few")).status == 400

    async def test_what_cannot_be(self, colored: Client, base: str) -> None:
        assert (await colored.get(f"{base}/ValueSet/$expand")).status == 400
        assert (await colored.get(f"{base}/ValueSet/$expand?url=http://no")).status == 404
        assert (await colored.get(f"{base}/ValueSet/$expand?url={URL}&valueSetVersion=2")).status == 404
        assert (await colored.get(f"{base}/ValueSet/none/$expand")).status == 404
        assert (await colored.post(f"{base}/ValueSet/$expand", {"resourceType": "Patient"})).status == 400
        bad = {"resourceType": "ValueSet", "compose": {}}
        assert (await colored.post(f"{base}/ValueSet/$expand", bad)).status == 422
        await colored.put(
            "/ValueSet/big", {"status": "active", "compose": {"include": [{"system": "http://loinc.org"}]}}
        )
        refused = await colored.get(f"{base}/ValueSet/big/$expand")
        assert refused.status == 422
        assert refused.messages == ["cannot be expanded: the code system http://loinc.org is not known here"]
        await colored.delete("/ValueSet/big")
        assert (await colored.get(f"{base}/ValueSet/big/$expand")).status == 410
        assert (await colored.get(f"{base}/CodeSystem/$expand")).status == 404
        ignored = await colored.get(f"{base}/ValueSet/colors/$expand?colour=1")
        assert ignored.headers["X-Quire-Ignored"] == "colour"

    async def test_value_sets_that_are_built_in(self, client: Client, base: str) -> None:
        await client.define("acme-Pump")
        url = "http://hl7.org/fhir/ValueSet/resource-types"
        assert codes(await client.get(f"{base}/ValueSet/$expand?url={url}&filter=pump")) == ["acme-Pump"]
        refused = await client.get(f"{base}/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/mimetypes")
        assert refused.status == 422


@pytest.mark.parametrize("base", BASES)
class TestValidateCode:
    async def test_in_a_value_set(self, colored: Client, base: str) -> None:
        url = f"{base}/ValueSet/$validate-code?url={URL}"
        assert told(await colored.get(f"{url}&system={SYSTEM}&code=pink")) == {
            "result": True,
            "display": "Pink",
            "code": "pink",
            "system": SYSTEM,
        }
        no = told(await colored.get(f"{url}&system={SYSTEM}&code=green"))
        assert (no["result"], no["message"]) == (False, f"{SYSTEM}#green is not in the value set {URL}")
        assert told(await colored.get(f"{base}/ValueSet/colors/$validate-code?code=red"))["result"] is True
        assert told(await colored.get(f"{url}&system=http://other&code=red"))["result"] is False

    async def test_what_it_is_called(self, colored: Client, base: str) -> None:
        url = f"{base}/ValueSet/$validate-code?url={URL}&code=blue"
        assert told(await colored.get(f"{url}&display=BLUE"))["result"] is True
        assert told(await colored.get(f"{url}&display=Azure"))["result"] is True
        wrong = told(await colored.get(f"{url}&display=Red"))
        assert (wrong["result"], wrong["message"], wrong["display"]) == (
            False,
            "blue is 'Blue', not 'Red'",
            "Blue",
        )

    async def test_codings_and_concepts(self, colored: Client, base: str) -> None:
        url = f"{base}/ValueSet/$validate-code"
        coding = {"system": SYSTEM, "code": "red"}
        concept = {"coding": [{"system": "http://other", "code": "x"}, coding]}
        for asked, expected in (
            (parameters(url=URL, coding=coding), True),
            (parameters(url=URL, coding={**coding, "code": "no"}), False),
            (parameters(url=URL, codeableConcept=concept), True),
            (parameters(url=URL, codeableConcept={"coding": concept["coding"][:1]}), False),
            (parameters(valueSet=ALL, coding=coding), True),
        ):
            assert told(await colored.post(url, asked))["result"] is expected
        assert (await colored.post(url, parameters(url=URL))).status == 400
        assert (await colored.post(url, parameters(coding=coding))).status == 400
        for wrong in ({"system": ["x"]}, {"system": {}}, {"system": 5}, {"display": {"a": 1}}):
            for asked in (
                parameters(url=URL, coding={**coding, **wrong}),
                parameters(url=URL, code="red", **wrong),
            ):
                refused = await colored.post(url, asked)
                assert refused.status == 400, refused.data
                assert refused.messages == [f"the {next(iter(wrong))} of a code is text"]

    async def test_in_a_code_system(self, colored: Client, base: str) -> None:
        url = f"{base}/CodeSystem/$validate-code"
        yes = told(await colored.get(f"{url}?url={SYSTEM}&code=pink"))
        assert (yes["result"], yes["display"], yes["system"]) == (True, "Pink", SYSTEM)
        assert told(await colored.get(f"{base}/CodeSystem/colors/$validate-code?code=no"))["result"] is False
        asked = parameters(coding={"system": SYSTEM, "code": "blue", "display": "Red"})
        assert told(await colored.post(url, asked))["result"] is False
        concept = {"coding": [{"system": "http://other", "code": "x"}, {"system": SYSTEM, "code": "red"}]}
        assert (
            told(await colored.post(url, parameters(url=SYSTEM, codeableConcept=concept)))["result"] is True
        )
        concept["coding"].pop()
        assert (
            told(await colored.post(url, parameters(url=SYSTEM, codeableConcept=concept)))["result"] is False
        )
        ignored = await colored.get(f"{url}?url={SYSTEM}&code=red&systemVersion=2")
        assert ignored.headers["X-Quire-Ignored"] == "systemVersion"
        assert (await colored.get(f"{url}?url=http://no&code=a")).status == 404
        assert (await colored.get(f"{url}?code=a")).status == 400
        assert (await colored.get(f"{url}?url={SYSTEM}&version=7&code=red")).status == 404
        assert (await colored.get(f"{base}/CodeSystem/none/$validate-code?code=a")).status == 404

    async def test_when_nobody_can_say(self, colored: Client, base: str) -> None:
        await colored.put("/CodeSystem/colors", {**COLORS, "content": "fragment"})
        for of in (f"CodeSystem/$validate-code?url={SYSTEM}", f"ValueSet/$validate-code?url={URL}"):
            assert (await colored.get(f"{base}/{of}&code=green")).status == 422
        assert told(await colored.get(f"{base}/CodeSystem/colors/$validate-code?code=red"))["result"] is True

    async def test_value_sets_that_are_known_by_syntax(self, client: Client, base: str) -> None:
        url = f"{base}/ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/mimetypes"
        assert told(await client.get(f"{url}&code=text/plain"))["result"] is True
        assert told(await client.get(f"{url}&code=plain"))["result"] is False


class TestBindings:
    async def test_the_next_write_is_checked_against_what_changed(self, client: Client) -> None:
        defined = await client.put("/StructureDefinition/Car", CAR, Prefer="return=OperationOutcome")
        missing = f"the value set {URL} is not known here: codes of {URL} are not checked"
        assert (defined.status, defined.messages[-1]) == (201, missing)
        unknown = await client.put("/Car/a", {"color": "green"})
        assert (unknown.status, unknown.headers["X-Quire-Warnings"]) == (201, "1")
        await client.put("/CodeSystem/colors", COLORS)
        assert (await client.put("/ValueSet/colors", ALL)).status == 201
        refused = await client.put("/fhir/Car/b", {"resourceType": "Car", "id": "b", "color": "green"})
        assert refused.status == 422
        assert refused.json["issue"][0] == {
            "severity": "error",
            "code": "code-invalid",
            "diagnostics": f"is not in the value set {URL}",
            "expression": ["Car.color"],
        }
        good = await client.put("/Car/b", {"color": "pink"})
        assert (good.status, "X-Quire-Warnings" in good.headers) == (201, False)
        more = {**COLORS, "concept": [*COLORS["concept"], {"code": "green"}]}
        assert (await client.put("/CodeSystem/colors", more)).status == 200
        assert (await client.put("/Car/c", {"color": "green"})).status == 201
        assert (await client.delete("/ValueSet/colors")).status == 204
        unknown = await client.put("/Car/d", {"color": "black"})
        assert (unknown.status, unknown.headers["X-Quire-Warnings"]) == (201, "1")

    async def test_a_patch_is_checked_too(self, colored: Client) -> None:
        await colored.put("/StructureDefinition/Car", CAR)
        await colored.put("/Car/a", {"color": "red"})
        assert (await colored.patch("/Car/a", {"color": "green"})).status == 422
        assert (await colored.patch("/Car/a", {"color": "blue"})).status == 200

    async def test_after_a_restart(self, settings: Settings) -> None:
        async with serving(settings) as url, aiohttp.ClientSession() as session:
            client = Client(session, url)
            for one in (COLORS, ALL, {"resourceType": "StructureDefinition", "id": "Car", **CAR}):
                assert (await client.put(f"/{one['resourceType']}/{one['id']}", one)).status == 201
        async with serving(settings) as url, aiohttp.ClientSession() as session:
            client = Client(session, url)
            assert (await client.put("/Car/a", {"color": "green"})).status == 422
            assert (await client.put("/Car/a", {"color": "red"})).status == 201
            changed = (
                await client.put("/CodeSystem/colors", {**COLORS, "concept": [{"code": "green"}]})
            ).version
            assert (await client.put("/Car/b", {"color": "green"})).status == 201
            assert (await client.delete("/ValueSet/colors")).status == 204
            assert (await client.put("/Car/c", {"color": "black"})).status == 201
        async with open_store(settings) as store:
            cars = await store.log.events(Span(0, store.position, "Car", limit=10))
            assert [one.definition for one in cars] == [3, changed, changed + 2]
            assert (await verify(store.log)).faults.listed == []

    async def test_fhirs_own_resources_may_name_custom_types(self, client: Client) -> None:
        url = "http://hl7.org/fhir/ValueSet/resource-types"
        base = element(
            "acme-Search.base", 1, "*", "code", binding={"strength": "required", "valueSet": f"{url}|4.0.1"}
        )
        await client.put("/StructureDefinition/acme-Search", structure("acme-Search", base))
        assert (await client.put("/acme-Search/a", {"base": ["Patient", "acme-Pump"]})).status == 422
        await client.define("acme-Pump")
        assert (await client.put("/acme-Search/a", {"base": ["Patient", "acme-Pump"]})).status == 201

    async def test_a_second_of_one_url_and_version(self, colored: Client) -> None:
        refused = await colored.put("/ValueSet/other", {**ALL, "id": "other"})
        assert refused.status == 409
        assert refused.messages == ["ValueSet/colors has that URL and version"]
        assert (await colored.put("/ValueSet/other", {**ALL, "id": "other", "version": "2"})).status == 201


@pytest.mark.parametrize("backend", ["postgres"])
async def test_every_node_counts_with_it_at_once(settings: Settings, client: Client) -> None:
    async with serving(settings) as url, aiohttp.ClientSession() as session:
        other = Client(session, url)
        await client.put("/CodeSystem/colors", COLORS)
        await client.put("/ValueSet/colors", ALL)
        await client.put("/StructureDefinition/Car", CAR)
        assert (await other.put("/Car/a", {"color": "green"})).status == 422
        more = {**COLORS, "concept": [{"code": "green"}]}
        await other.put("/CodeSystem/colors", more)
        assert (await client.put("/Car/a", {"color": "green"})).status == 201
        assert (await client.put("/Car/b", {"color": "red"})).status == 422
        await client.put("/CodeSystem/colors", COLORS)
        assert (await other.put("/Car/b", {"color": "green"})).status == 422
