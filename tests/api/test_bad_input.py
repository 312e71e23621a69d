"""Bad input: each has its status and message, and leaves no event."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.client import Client
from harness.refusing import define_two, refused

from eventstore.server.settings import Settings

YAML = {"Content_Type": "text/yaml"}


@pytest.fixture
async def defined(client: Client) -> Client:
    await define_two(client)
    return client


async def test_an_id_that_is_not_that_of_the_url_is_told_by_validate(defined: Client) -> None:
    told = await defined.post("/UserSetting/a/$validate", {"id": "b"})
    assert told.messages == ["the id in the body is 'b', in the URL 'a'"]
    assert told.json["id"] == "validationfail"
    for url, body in (("/UserSetting/a", {"id": "a"}), ("/UserSetting/a", {}), ("/UserSetting", {"id": "b"})):
        assert (await defined.post(f"{url}/$validate", body)).json["id"] == "allok"


async def test_a_core_name_needs_the_tag(client: Client) -> None:
    entity = {"id": "Patient", "type": "resource", "isOpen": True}
    await refused(client, 422, "shadows-core", "POST", "/Entity", entity)
    assert (
        await client.post("/Entity", {**entity, "meta": {"tag": [{"code": "shadows-core"}]}})
    ).status == 201
    assert (await client.post("/Patient", {"name": [{"family": "Ada"}]})).status == 201


async def test_names_that_differ_in_case(defined: Client) -> None:
    await refused(defined, 409, "UserSetting", "POST", "/Entity", {"id": "userSetting", "type": "resource"})
    await refused(defined, 404, "UserSetting", "POST", "/usersetting", {"a": 1})
    await refused(defined, 404, "UserSetting", "GET", "/usersetting/x")


async def test_a_body_that_disagrees_with_the_url(defined: Client) -> None:
    for base in ("", "/fhir"):
        other = {"resourceType": "Strict", "id": "a"}
        await refused(defined, 400, "resourceType", "PUT", f"{base}/UserSetting/a", other)
        await refused(defined, 400, "resourceType", "POST", f"{base}/UserSetting", other)
        wrong = {"resourceType": "UserSetting", "id": "b"}
        await refused(defined, 400, "id", "PUT", f"{base}/UserSetting/a", wrong)
    await refused(defined, 400, "resourceType", "PUT", "/fhir/UserSetting/a", {"id": "a"})
    await refused(defined, 400, "id", "PUT", "/fhir/UserSetting/a", {"resourceType": "UserSetting"})
    assert (await defined.put("/UserSetting/a", {"x": 1})).status == 201


async def test_null(defined: Client) -> None:
    reply = await refused(defined, 422, "null", "POST", "/UserSetting", '{"a":{"b":null}}')
    assert reply.json["errors"][0]["path"] == ["a", "b"]
    await refused(defined, 422, "null", "POST", "/UserSetting", '{"a":[{"x":1},null]}')
    assert (await defined.post("/UserSetting", '{"a":["x",null],"_a":[null,{"id":"y"}]}')).status == 201


async def test_a_body_too_large(defined: Client) -> None:
    body = json.dumps({"text": "x" * 10_000_000}).encode()
    await refused(defined, 413, "8388608 bytes", "POST", "/UserSetting", io.BytesIO(body))
    await refused(defined, 413, "8388608 bytes", "POST", "/UserSetting", _chunks(body))
    await refused(defined, 413, "1048576 bytes", "POST", "/UserSetting", _chunks(body[:2_000_000]), **YAML)


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    """A body sent in chunks, without Content-Length."""
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


async def test_unknown_things(defined: Client) -> None:
    await refused(defined, 404, "Nothing", "GET", "/Nothing")
    await refused(defined, 404, "Nothing", "GET", "/Nothing/a")
    await refused(defined, 404, "Nothing", "POST", "/Nothing", {"a": 1})
    await refused(defined, 404, "Nothing", "DELETE", "/Nothing/a")
    await refused(defined, 404, "Nothing", "GET", "/Nothing/_history")
    await refused(defined, 404, "Nothing", "GET", "/Nothing/$changes")
    await refused(defined, 404, "Nothing", "GET", "/$json-schema?path=definitions.Nothing")
    await refused(defined, 404, "a", "GET", "/UserSetting/a")
    await refused(defined, 404, "a", "GET", "/UserSetting/a/_history")
    await refused(defined, 404, "a", "PATCH", "/UserSetting/a", {"x": 1})
    await refused(defined, 404, "nothing at", "GET", "/UserSetting/a/b/c/d")
    await refused(defined, 404, "operation", "GET", "/UserSetting/$frobnicate")
    await refused(defined, 405, "POST", "POST", "/UserSetting/a", {"x": 1})
    await refused(defined, 405, "it takes GET, HEAD", "PUT", "/UserSetting/_history", {"x": 1})


async def test_what_is_not_built_yet_says_so(defined: Client) -> None:
    await refused(defined, 501, "conditional", "POST", "/UserSetting", {"a": 1}, If_None_Exist="theme=dark")
    await refused(defined, 501, "conditional", "PUT", "/UserSetting?theme=dark", {"a": 1})
    await refused(defined, 501, "conditional", "DELETE", "/UserSetting?theme=dark")
    await refused(defined, 501, "bundles", "POST", "/", {"resourceType": "Bundle", "type": "batch"})
    await defined.put("/UserSetting/a", {"x": 1})
    await refused(defined, 501, "FHIRPath", "PATCH", "/UserSetting/a", {"resourceType": "Parameters"})


async def test_patches_that_are_none(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"x": 1, "list": [1]})
    patch = "/UserSetting/a"
    await refused(defined, 400, "_type", "PATCH", f"{patch}?_type=nonsense", {"x": 1})
    await refused(defined, 400, "array", "PATCH", f"{patch}?_type=json-patch", {"x": 1})
    await refused(defined, 400, "object", "PATCH", f"{patch}?_type=merge-patch", [1])
    await refused(defined, 400, "JSON Patch", "PATCH", patch, [{"op": "frob", "path": "/x"}])
    await refused(defined, 400, "JSON Patch", "PATCH", patch, [{"op": "add"}])
    await refused(defined, 400, "JSON Patch", "PATCH", patch, [7])
    await refused(defined, 422, "JSON Patch", "PATCH", patch, [{"op": "remove", "path": "/none"}])
    await refused(defined, 422, "JSON Patch", "PATCH", patch, [{"op": "add", "path": "/list/9", "value": 1}])
    await refused(defined, 422, "test", "PATCH", patch, [{"op": "test", "path": "/x", "value": 2}])
    await refused(defined, 422, "id", "PATCH", patch, {"id": "b"})
    await refused(defined, 422, "resourceType", "PATCH", patch, {"resourceType": "Strict"})
    await refused(defined, 422, "object", "PATCH", patch, [{"op": "replace", "path": "", "value": 5}])


async def test_a_patch_that_grows_without_end(defined: Client) -> None:
    await defined.put("/UserSetting/a", {"list": ["x" * 1000]})
    double = [{"op": "copy", "from": "/list", "path": "/list/-"}] * 60
    await refused(defined, 413, "copies more than", "PATCH", "/UserSetting/a", double)
    many = [{"op": "add", "path": "/list/-", "value": 1}] * 1001
    await refused(defined, 413, "1000", "PATCH", "/UserSetting/a", many)
    deep: Any = 1
    for _ in range(120):
        deep = [deep]
    assert (await defined.put("/UserSetting/deep", {"a": deep})).status == 201
    nested = [
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "move", "from": "/b", "path": "/a" + "/0" * 110},
    ]
    await refused(defined, 400, "128", "PATCH", "/UserSetting/deep", nested)


async def test_unknown_parameters_are_named_or_refused(defined: Client) -> None:
    listed = await defined.get("/fhir/UserSetting?theme=dark")
    (entry,) = listed.json["entry"]
    assert entry["search"]["mode"] == "outcome"
    assert "theme" in entry["resource"]["issue"][0]["diagnostics"]
    strict = {"Prefer": "handling=strict"}
    await refused(defined, 400, "theme", "GET", "/fhir/UserSetting?theme=dark", **strict)
    await refused(defined, 400, "theme", "POST", "/$sql?theme=dark", "SELECT 1", **strict)
    await refused(defined, 400, "theme", "GET", "/$json-schema?theme=dark", **strict)
    lines = {"Content_Type": "application/x-ndjson", **strict}
    await refused(defined, 400, "theme", "POST", "/$import?theme=dark", b"{}", **lines)
    assert (await defined.get("/_changes?sinse=5")).headers["X-Quire-Ignored"] == "sinse"


async def test_too_many_values(defined: Client) -> None:
    await refused(
        defined,
        413,
        "250000 values",
        "POST",
        "/UserSetting",
        io.BytesIO(b'{"a":[' + b"{}," * 250_000 + b"{}]}"),
    )
    text = io.BytesIO(b'{"a":"' + b"," * 300_000 + b'"}')
    assert (await defined.post("/UserSetting", text)).status == 201


async def test_content_encodings(defined: Client) -> None:
    plain = b'{"a":1}'
    packed = await defined.post("/UserSetting", gzip.compress(plain), Content_Encoding="gzip")
    assert (packed.status, packed.json["a"]) == (201, 1)
    for encoding in ("compress", "br", "gzip, gzip"):
        await refused(
            defined, 415, "Content-Encoding", "POST", "/UserSetting", plain, Content_Encoding=encoding
        )
    await refused(
        defined, 400, "Content-Encoding", "POST", "/UserSetting", b"not gzip at all", Content_Encoding="gzip"
    )
    bomb = gzip.compress(b'{"a":"' + b"x" * 50_000_000 + b'"}')
    await refused(defined, 413, "8388608 bytes", "POST", "/UserSetting", bomb, Content_Encoding="gzip")


async def test_a_packed_body_that_was_cut_off_is_not_taken_for_all_of_it(defined: Client) -> None:
    packer = zlib.compressobj(wbits=31)
    half = packer.compress(b"a: 1\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(b"b: 2\n") + packer.flush()
    yaml = {"Content_Type": "text/yaml", "Content_Encoding": "gzip"}
    for cut in (half, half + rest[:-1]):
        await refused(defined, 400, "send all of it", "PUT", "/UserSetting/a", cut, **yaml)
    line = {"Content_Type": "application/x-ndjson", "Content_Encoding": "gzip"}
    await refused(defined, 400, "send all of it", "POST", "/$import", half, **line)
    assert (await defined.put("/UserSetting/a", half + rest, **yaml)).json["b"] == 2


async def test_pages_of_other_sites_cannot_reach_a_loopback_server(defined: Client) -> None:
    await refused(defined, 403, "Origin", "POST", "/UserSetting", {"a": 1}, Origin="http://evil.example")
    await refused(defined, 403, "Host", "GET", "/UserSetting", Host="evil.example")
    await refused(defined, 415, "x-ndjson", "POST", "/$import", "{}", Content_Type="text/plain")
    for origin in ("null", "http://[", "https://evil.example:8080"):
        await refused(defined, 403, "Origin", "POST", "/UserSetting", {"a": 1}, Origin=origin)
    for host in ("[::1", "]", "a b"):
        reply = await defined.get("/health", Host=host)
        assert reply.status in (400, 403), host
    for host in ("LOCALHOST:1", "[::1]:8080", "127.0.0.1"):
        assert (await defined.get("/health", Host=host)).status == 200, host
    allowed = await defined.post("/UserSetting", {"a": 1}, Origin="http://localhost:3000")
    assert allowed.status == 201


async def test_requests_without_a_path_are_answered(defined: Client, settings: Settings) -> None:
    host, port = defined.url.removeprefix("http://").split(":")
    for line in (b"OPTIONS * HTTP/1.1", b"GET http://127.0.0.1 HTTP/1.1", b"GET /health HTTP/1.0"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(line + b"\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        status = int((await reader.readline()).split()[1])
        assert status < 500, line
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_expects_a_go_ahead_gets_it(defined: Client) -> None:
    host, port = defined.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /UserSetting HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 7\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(b'{"a":1}')
        assert b"201 Created" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_ids_of_null_and_depth_by_patch(defined: Client) -> None:
    await refused(defined, 422, "id", "POST", "/UserSetting", '{"id":null}')
    await refused(defined, 422, "id", "PUT", "/UserSetting/x", '{"id":null}')
    await defined.put("/UserSetting/a", {"x": 1})
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    adds = [{"op": "add", "path": "/x", "value": deep}]
    adds += [{"op": "add", "path": "/x" + "/0" * (100 * n), "value": deep} for n in range(1, 12)]
    await refused(defined, 400, "deep", "PATCH", "/UserSetting/a", adds)


async def test_a_patch_that_changes_nothing_keeps_every_byte(defined: Client) -> None:
    created = await defined.put("/UserSetting/a", '{"s":"\\u00e9\\/"}')
    same = await defined.patch("/UserSetting/a", {})
    assert (same.status, same.data) == (200, created.data)
