"""Create, read, update, patch, delete, list, history and changes as docs/reference/http.md has them."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from harness.client import Client, Reply


@pytest.fixture
async def defined(client: Client) -> Client:
    await client.define()
    return client


async def test_create_answers_where_and_which(defined: Client) -> None:
    reply = await defined.post("/fhir/UserSetting", {"resourceType": "UserSetting", "theme": "dark"})
    id, version = reply.json["id"], reply.json["meta"]["versionId"]
    assert reply.status == 201
    assert reply.headers["Location"] == f"{defined.url}/fhir/UserSetting/{id}/_history/{version}"
    assert reply.headers["ETag"] == f'W/"{version}"'
    assert reply.headers["X-Log-Position"] == version
    assert reply.headers["Last-Modified"].endswith("GMT")
    assert reply.headers["Content-Type"].startswith("application/fhir+json")
    assert (await defined.get(urlsplit(reply.headers["Location"]).path)).json == reply.json


async def test_ids_of_the_server_are_time_ordered(defined: Client) -> None:
    ids = [(await defined.post("/UserSetting", {"n": n})).json["id"] for n in range(5)]
    assert ids == sorted(ids)
    assert all(len(id) == 36 and id[14] == "7" for id in ids)


async def test_the_body_keeps_what_was_sent(defined: Client) -> None:
    sent = '{"z": 1.00, "b": {"y": 1e3, "x": [0.10, -0.0, 1E+2]}, "a": "\\u00e9\\/é", "meta": {"source": "urn:x", "versionId": "9"}}'
    created = await defined.put("/UserSetting/one", sent)
    text = created.data.decode()
    assert '"z":1.00,"b":{"y":1e3,"x":[0.10,-0.0,1E+2]},"a":"\\u00e9\\/é"' in text
    assert created.json["meta"] == {
        "versionId": str(created.version),
        "lastUpdated": created.json["meta"]["lastUpdated"],
        "source": "urn:x",
    }
    patched = await defined.patch("/UserSetting/one", {"added": 1})
    assert '"z":1.00,"b":{"y":1e3,"x":[0.10,-0.0,1E+2]}' in patched.data.decode()
    assert (await defined.get("/UserSetting/one")).data == patched.data


async def test_put_creates_updates_and_revives(defined: Client) -> None:
    assert (await defined.put("/UserSetting/a", {"n": 1})).status == 201
    assert (await defined.put("/UserSetting/a", {"n": 2})).status == 200
    assert (await defined.delete("/UserSetting/a")).status == 204
    assert (await defined.put("/UserSetting/a", {"n": 3})).status == 201
    assert (await defined.delete("/UserSetting/a")).status == 204
    assert (await defined.post("/UserSetting", {"id": "a", "n": 4})).status == 201
    history = (await defined.get("/fhir/UserSetting/a/_history")).json
    assert [entry["response"]["status"] for entry in history["entry"]] == [
        "201",
        "204",
        "201",
        "204",
        "200",
        "201",
    ]


async def test_put_by_the_body_is_for_the_root_base(defined: Client) -> None:
    assert (await defined.put("/UserSetting", {"id": "a"})).status == 201
    assert (await defined.put("/UserSetting", {"n": 1})).status == 400
    assert (await defined.put("/fhir/UserSetting", {"resourceType": "UserSetting", "id": "a"})).status == 501


async def test_if_match(defined: Client) -> None:
    first = (await defined.put("/UserSetting/a", {"n": 1})).version
    for form in ('W/"{}"', '"{}"', "{}", "*", '"99999", W/"{}"'):
        reply = await defined.put("/UserSetting/a", {"n": form}, If_Match=form.format(first))
        assert reply.status == 200, form
        stale = await defined.put("/UserSetting/a", {"n": "stale"}, If_Match=f'W/"{first}"')
        assert (stale.status, stale.version) == (412, reply.version)
        first = reply.version
    assert (await defined.put("/UserSetting/none", {"n": 1}, If_Match="*")).status == 412
    assert (await defined.put("/UserSetting/none", {"n": 1}, If_Match='W/"1"')).status == 412
    assert (await defined.patch("/UserSetting/a", {"n": 9}, If_Match='W/"1"')).status == 412
    assert (await defined.delete("/UserSetting/a", If_Match='W/"1"')).status == 412
    assert (await defined.delete("/UserSetting/a", If_Match=f'W/"{first}"')).status == 204


async def test_if_none_match_on_put_creates_only(defined: Client) -> None:
    created = await defined.put("/UserSetting/a", {"n": 1}, If_None_Match="*")
    refused = await defined.put("/UserSetting/a", {"n": 2}, If_None_Match="*")
    assert (created.status, refused.status, refused.version) == (201, 412, created.version)


async def test_read(defined: Client) -> None:
    created = await defined.put("/UserSetting/a", {"n": 1})
    read = await defined.get("/UserSetting/a")
    assert (read.status, read.data, read.version) == (200, created.data, created.version)
    assert (await defined.get("/UserSetting/a", If_None_Match=read.headers["ETag"])).status == 304
    assert (await defined.get("/UserSetting/a", If_None_Match='W/"1"')).status == 200
    head = await defined.request("HEAD", "/UserSetting/a")
    assert (head.status, head.data, head.version) == (200, b"", created.version)
    deleted = await defined.delete("/UserSetting/a")
    gone = await defined.get("/UserSetting/a")
    assert (gone.status, gone.json["issue"][0]["code"], gone.version) == (410, "deleted", deleted.version)


async def test_read_a_version(defined: Client) -> None:
    created = await defined.put("/UserSetting/a", {"n": 1})
    other = await defined.put("/UserSetting/b", {"n": 1})
    deleted = await defined.delete("/UserSetting/a")
    assert (await defined.get(f"/UserSetting/a/_history/{created.version}")).data == created.data
    assert (await defined.get(f"/UserSetting/a/_history/{other.version}")).status == 404
    assert (await defined.get(f"/UserSetting/a/_history/{deleted.version}")).status == 410
    assert (await defined.get("/UserSetting/a/_history/999")).status == 404
    assert (await defined.get("/UserSetting/a/_history/nonsense")).status == 404


async def test_delete_twice(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"n": 1})
    first = await defined.delete("/UserSetting/a")
    again = await defined.delete("/UserSetting/a")
    never = await defined.delete("/UserSetting/never")
    assert first.status == again.status == never.status == 204
    assert first.version == await defined.tip()
    assert "ETag" not in again.headers
    assert "ETag" not in never.headers


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("", "application/json-patch+json", [{"op": "replace", "path": "/n", "value": 2}]),
        ("", "application/merge-patch+json", {"n": 2}),
        ("?_type=json-merge-patch", "application/json", {"n": 2}),
        ("?_method=merge-patch", "application/json", {"n": 2}),
        ("?_type=json-patch", "application/json", [{"op": "replace", "path": "/n", "value": 2}]),
        ("", "application/json", [{"op": "replace", "path": "/n", "value": 2}]),
        ("", "application/fhir+json", {"n": 2}),
        ("", "text/yaml", "n: 2"),
    ],
)
async def test_patch(defined: Client, path: str, kind: str, body: object) -> None:
    await defined.put("/UserSetting/a", {"n": 1, "kept": "x"})
    text = body if isinstance(body, str) else json.dumps(body)
    reply = await defined.patch(f"/UserSetting/a{path}", text, Content_Type=kind)
    assert (reply.status, reply.json["n"], reply.json["kept"]) == (200, 2, "x")
    assert reply.version == await defined.tip()


async def test_a_patch_that_changes_nothing_makes_no_event(defined: Client) -> None:
    created = await defined.put("/UserSetting/a", {"n": 1, "x": 1.50})
    same = await defined.patch("/UserSetting/a", {"n": 1})
    tested = await defined.patch("/UserSetting/a", [{"op": "test", "path": "/x", "value": 1.5}])
    assert (same.status, tested.status) == (200, 200)
    assert (same.version, same.data) == (created.version, created.data)
    assert await defined.tip() == created.version


async def test_a_merge_patch_takes_keys_away(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"n": 1, "o": {"p": 1, "q": 2}})
    reply = await defined.patch("/UserSetting/a", {"n": None, "o": {"p": None}})
    assert "n" not in reply.json
    assert reply.json["o"] == {"q": 2}


async def test_a_patch_of_what_is_gone(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"n": 1})
    await defined.delete("/UserSetting/a")
    assert (await defined.patch("/UserSetting/a", {"n": 1})).status == 410


async def test_prefer(defined: Client) -> None:
    minimal = await defined.put("/UserSetting/a", {"n": 1}, Prefer="return=minimal")
    assert (minimal.status, minimal.data) == (201, b"")
    told = await defined.put(
        "/fhir/UserSetting/a", {"resourceType": "UserSetting", "id": "a"}, Prefer="return=OperationOutcome"
    )
    assert told.json["issue"][0]["severity"] == "information"


async def pages(client: Client, path: str) -> list[Reply]:
    found = []
    next: str | None = path
    while next:
        found.append(await client.get(next))
        links = {link["relation"]: link["url"] for link in found[-1].json["link"]}
        next = links["next"].removeprefix(client.url) if "next" in links else None
    return found


async def test_list_pages_are_stable_while_others_write(defined: Client) -> None:
    ids = [f"r{n:03d}" for n in range(50)]
    await asyncio.gather(*(defined.put(f"/UserSetting/{id}", {"n": 0}) for id in ids))
    seen: list[str] = []
    next: str | None = "/fhir/UserSetting?_count=7"
    while next:
        page = (await defined.get(next)).json
        seen += [entry["resource"]["id"] for entry in page["entry"]]
        await asyncio.gather(*(defined.put(f"/UserSetting/{id}", {"n": 1}) for id in ids))
        links = {link["relation"]: link["url"] for link in page["link"]}
        next = links["next"].removeprefix(defined.url) if "next" in links else None
    assert seen == ids


async def test_list_totals_are_exact(defined: Client) -> None:
    for n in range(5):
        await defined.put(f"/UserSetting/r{n}", {"n": n})
    await defined.delete("/UserSetting/r0")
    await defined.delete("/UserSetting/r0")
    await defined.put("/UserSetting/r1", {"n": 9})
    listed = await defined.get("/fhir/UserSetting?_count=2")
    assert (listed.json["total"], len(listed.json["entry"])) == (4, 2)
    none = await defined.get("/fhir/UserSetting?_count=0")
    assert (none.json["total"], "entry" in none.json) == (4, False)
    assert int(listed.headers["X-Log-Position"]) == await defined.tip()


async def test_history_never_repeats_or_leaves_out_while_others_write(defined: Client) -> None:
    for n in range(20):
        await defined.put("/UserSetting/a", {"n": n})
    wanted = [
        str(entry["resource"]["meta"]["versionId"])
        for entry in (await defined.get("/UserSetting/a/_history")).json["entry"]
    ]
    seen: list[str] = []
    next: str | None = "/fhir/UserSetting/_history?_count=3"
    while next:
        page = (await defined.get(next)).json
        seen += [entry["resource"]["meta"]["versionId"] for entry in page["entry"]]
        await defined.put("/UserSetting/b", {"n": 1})
        links = {link["relation"]: link["url"] for link in page["link"]}
        next = links["next"].removeprefix(defined.url) if "next" in links else None
    assert seen == wanted


async def test_history_of_the_whole_log_and_of_a_type(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"n": 1})
    await defined.patch("/UserSetting/a", {"n": 2})
    whole = (await defined.get("/fhir/_history")).json
    assert [entry["request"] for entry in whole["entry"]] == [
        {"method": "PUT", "url": "UserSetting/a"},
        {"method": "PUT", "url": "UserSetting/a"},
        {"method": "POST", "url": "Entity"},
    ]
    assert whole["total"] == 3
    assert (await defined.get("/fhir/UserSetting/_history")).json["total"] == 2
    assert (await defined.get("/fhir/Entity/_history")).json["total"] == 1


async def test_history_since(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"n": 1})
    later = (await defined.put("/UserSetting/a", {"n": 2})).json["meta"]["lastUpdated"]
    found = (await defined.get(f"/fhir/UserSetting/_history?_since={later}")).json
    assert all(entry["resource"]["meta"]["lastUpdated"] >= later for entry in found["entry"])
    assert found["total"] == len(found["entry"]) >= 1
    assert (await defined.get("/fhir/UserSetting/_history?_since=2099")).json["total"] == 0


async def test_history_of_what_never_was(defined: Client) -> None:
    assert (await defined.get("/UserSetting/never/_history")).status == 404
    assert (await defined.get("/fhir/UserSetting/_history")).json["total"] == 0


async def test_changes(defined: Client) -> None:
    head = (await defined.get("/UserSetting/$changes")).json["version"]
    assert (await defined.get(f"/UserSetting/$changes?version={head}")).status == 304
    await defined.put("/UserSetting/a", {"n": 1})
    await defined.put("/UserSetting/b", {"n": 1})
    await defined.delete("/UserSetting/a")
    changes = (await defined.get(f"/UserSetting/$changes?version={head}")).json
    assert [(one["event"], one["resource"]["id"]) for one in changes["changes"]] == [
        ("created", "a"),
        ("created", "b"),
        ("deleted", "a"),
    ]
    assert changes["version"] == head + 3
    only_b = (await defined.get(f"/UserSetting/b/$changes?version={head}")).json
    assert [one["resource"]["id"] for one in only_b["changes"]] == ["b"]
    first = (await defined.get(f"/$changes?version={head}&_count=1")).json
    assert (first["version"], len(first["changes"])) == (head + 1, 1)


async def test_min_position(defined: Client) -> None:
    tip = await defined.tip()
    assert (await defined.get("/UserSetting", X_Min_Position=str(tip))).status == 200
    waiting = asyncio.create_task(defined.get("/UserSetting/a", X_Min_Position=str(tip + 1)))
    await defined.put("/UserSetting/a", {"n": 1})
    assert (await waiting).status == 200
    late = await defined.get("/UserSetting/a", X_Min_Position="999999")
    assert (late.status, late.headers["X-Log-Position"]) == (504, str(tip + 1))


async def test_yaml_and_json_say_the_same(defined: Client) -> None:
    body = "theme: dark\nborn: 1990-01-01\nno: no\nid: y\nn: 010\nprice: 1.50\n"
    created = await defined.put("/UserSetting/y", body, Content_Type="text/yaml", Accept="text/yaml")
    assert created.headers["Content-Type"].startswith("text/yaml")
    read = await defined.get("/UserSetting/y")
    assert read.json["born"] == "1990-01-01"
    assert read.json["no"] == "no"
    assert read.json["n"] == 10
    assert b'"price":1.50' in read.data
    again = await defined.get("/UserSetting/y?_format=yaml")
    assert again.data == created.data
    assert again.yaml == read.json
    listed = await defined.get("/fhir/UserSetting?_format=text/yaml")
    assert listed.yaml["total"] == 1


async def test_an_entity_with_resources_is_not_deleted(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"n": 1})
    assert (await defined.delete("/Entity/UserSetting")).status == 409
    abstract = await defined.patch("/Entity/UserSetting", {"type": "abstract"})
    assert abstract.status == 409
    await defined.delete("/UserSetting/a")
    assert (await defined.delete("/Entity/UserSetting")).status == 204
    assert (await defined.post("/UserSetting", {"n": 1})).status == 404
    assert (await defined.get("/UserSetting")).status == 404
    await defined.define()
    assert (await defined.get("/UserSetting")).json["total"] == 0
    assert (await defined.put("/UserSetting/a", {"n": 2})).status == 201


async def test_every_answer_has_a_request_id(defined: Client) -> None:
    given = await defined.get("/UserSetting", X_Request_Id="mine-17")
    assert given.headers["X-Request-Id"] == "mine-17"
    assert len((await defined.get("/UserSetting")).headers["X-Request-Id"]) == 36


async def test_health_and_ready(client: Client) -> None:
    assert (await client.get("/health")).json["status"] == "pass"
    ready = await client.get("/ready")
    assert (ready.status, ready.json["status"]) == (200, "pass")


async def test_built_in_types_are_served_read_only(client: Client) -> None:
    assert (await client.get("/Entity/string")).json["id"] == "string"
    assert (await client.get("/Entity/Attribute")).status == 200
    assert (await client.get("/Entity")).json["total"] == 0
    before = await client.tip()
    assert (await client.put("/Entity/string", {"type": "primitive"})).status == 422
    assert await client.tip() == before


async def test_short_references_are_kept_as_references(client: Client) -> None:
    await client.define()
    attribute = {
        "id": "UserSetting.owner",
        "path": ["owner"],
        "refers": ["Person"],
        "resource": {"id": "UserSetting", "resourceType": "Entity"},
    }
    assert (await client.post("/Attribute", attribute)).status == 201
    body = {"owner": {"resourceType": "Person", "id": "p1", "display": "Ada"}, "price": 1.5}
    created = await client.put("/UserSetting/a", body)
    assert created.json["owner"] == {"reference": "Person/p1", "display": "Ada"}
    strict = await client.put("/fhir/UserSetting/a", {"resourceType": "UserSetting", "id": "a", **body})
    assert strict.status == 422
    wrong = await client.put("/UserSetting/a", {"owner": {"reference": "Robot/r2"}})
    assert (wrong.status, wrong.json["errors"][0]["path"][0]) == (422, "owner")
