"""Bad values, one after another on one server: each has its status and message, and leaves no event."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from harness.client import Client
from harness.refusing import define_two, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEEP = "[" * 200 + "]" * 200
YAML = {"Content_Type": "text/yaml"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def defined(shared_client: Client) -> Client:
    await define_two(shared_client)
    return shared_client


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("", "empty"),
        ("{", "JSON"),
        ('{"a":1}x', "JSON"),
        ('{"a":01}', "JSON"),
        ('{"a":1,"a":2}', "twice"),
        ('{"a":{"b":{"c":1,"d":2,"c":3}}}', "twice"),
        ('{"a":1e400}', "1e400"),
        ('{"a":-1E+999}', "-1E+999"),
        ('{"a":"\\ud800"}', "half a character"),
        ('{"a":"x\\u0000y"}', "NUL"),
        ('{"a\\u0000":1}', "NUL"),
        ('{"a":"x\x01y"}', "JSON"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        (f'{{"a":{DEEP}}}', "128"),
        ("[" * 100_000, "128"),
        ("[]", "object"),
        ('"text"', "object"),
        ("null", "object"),
        ('{"a":NaN}', "JSON"),
    ],
)
async def test_malformed_json(defined: Client, body: Any, word: str) -> None:
    for base in ("", "/fhir"):
        await refused(defined, 400, word, "POST", f"{base}/UserSetting", body)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("a: &x 1\nb: *x", "anchor"),
        ("a: *x", "alias"),
        ("a: !!str 1", "tag"),
        ("a: !ruby/object:X {}", "tag"),
        ("a: 1\na: 2", "twice"),
        ("a: [1", "YAML"),
        ("a: 1\n---\nb: 2", "document"),
        ("a: .inf", ".inf"),
        ("a: .nan", ".nan"),
        ("a: 1e400", "1e400"),
        ("a: " + "[" * 5000, "128"),
        ("a: " + "{b: " * 5000, "128"),
        ("? [a, b]\n: 1", "key"),
        ('a: "\\0"', "NUL"),
        (b"a: \xff", "UTF-8"),
        ("", "empty"),
        ("# nothing", "no document"),
    ],
)
async def test_malformed_yaml(defined: Client, body: Any, word: str) -> None:
    await refused(defined, 400, word, "POST", "/UserSetting", body, **YAML)


async def test_an_alias_bomb_is_refused_at_once(defined: Client) -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    await refused(defined, 400, "anchor", "POST", "/UserSetting", bomb, **YAML)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png"]
)
async def test_another_content_type(defined: Client, kind: str) -> None:
    await refused(defined, 415, "application/json", "POST", "/UserSetting", '{"a":1}', Content_Type=kind)


async def test_another_charset(defined: Client) -> None:
    kind = "application/json; charset=utf-16"
    await refused(defined, 415, "UTF-8", "POST", "/UserSetting", '{"a":1}', Content_Type=kind)


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "application/fhir+xml", "image/*"])
async def test_an_answer_that_cannot_be_had(defined: Client, accept: str) -> None:
    await refused(defined, 406, "application/json", "GET", "/UserSetting", Accept=accept)
    await refused(defined, 406, "json", "POST", "/UserSetting?_format=xml", {"a": 1})


@pytest.mark.parametrize("accept", ["text/plain;version=0.0.4", "application/openmetrics-text", "text/yaml"])
async def test_metrics_are_text_whatever_a_scraper_accepts(defined: Client, accept: str) -> None:
    for path in ("/metrics", "/fhir/metrics", "/metrics/"):
        reply = await defined.get(path, Accept=accept)
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("id", ["a" * 65, "a_b", "é", "a b", "", "a/b", "a:b", 5, True, ["x"], {"x": 1}])
async def test_an_id_that_cannot_be(defined: Client, id: Any) -> None:
    for base in ("", "/fhir"):
        body = {"resourceType": "UserSetting", "id": id}
        await refused(defined, 422, "id", "POST", f"{base}/UserSetting", body)


async def test_an_id_that_cannot_be_is_shown_as_it_was_sent(defined: Client) -> None:
    for body, shown in (('{"id":null}', "not null"), ('{"id":5}', "not 5"), ('{"id":"a b"}', 'not "a b"')):
        await refused(defined, 422, shown, "POST", "/UserSetting", body)


@pytest.mark.parametrize("id", ["a" * 65, "a_b", "%C3%A9", "a%20b", "a%00b", "a%2Fb"])
async def test_an_id_in_the_url_that_cannot_be(defined: Client, id: str) -> None:
    await refused(defined, 400, "id", "PUT", f"/UserSetting/{id}", {"a": 1})
    await refused(defined, 400, "id", "GET", f"/fhir/UserSetting/{id}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1a",
        "a_b",
        "-a",
        "a-",
        "a--b",
        "a.",
        ".a",
        "a b",
        "é",
        "a" * 56,
        "a/b",
        'a"b',
        "a'b",
        "_history",
        "$sql",
    ],
)
async def test_a_type_name_that_cannot_be(defined: Client, name: str) -> None:
    before = await defined.tip()
    reply = await defined.post("/Entity", {"id": name, "type": "resource"})
    assert reply.status == 422
    assert await defined.tip() == before


@pytest.mark.parametrize(
    "name",
    [
        "quire",
        "QuireThing",
        "sqlite_x"[:6],
        "SQLiteStuff",
        "pgTable",
        "fhir",
        "Health",
        "ready",
    ],
)
async def test_a_reserved_type_name(defined: Client, name: str) -> None:
    await refused(defined, 422, "reserved", "POST", "/Entity", {"id": name, "type": "resource"})


@pytest.mark.parametrize("name", ["string", "Coding", "Entity", "Attribute", "Reference"])
async def test_a_built_in_type_is_not_defined_again(defined: Client, name: str) -> None:
    await refused(defined, 422, "built", "POST", "/Entity", {"id": name, "type": "resource"})


@pytest.mark.parametrize(
    "literal", ["9007199254740993", "-9007199254740993", "123456789012345678901234567890"]
)
async def test_an_integer_beyond_two_to_the_53(defined: Client, literal: str) -> None:
    await refused(defined, 422, "2^53", "POST", "/UserSetting", f'{{"n":{literal}}}')
    await refused(defined, 422, "", "POST", "/Strict", f'{{"count":{literal}}}')
    accepted = await defined.post("/Strict", f'{{"amount":{literal}}}')
    assert accepted.status == 201
    assert f'"amount":{literal}'.encode() in accepted.data


@pytest.mark.parametrize(
    "born", ["2020-02-31", "2020-13-01", "20200101", "2020-1-1", "yesterday", "", "2020-01-01Z", 2020]
)
async def test_a_date_that_is_none(defined: Client, born: Any) -> None:
    reply = await refused(defined, 422, "", "POST", "/Strict", {"born": born})
    assert {tuple(error["path"]) for error in reply.json["errors"]} == {("born",)}


@pytest.mark.parametrize("count", ["-1", "ten", "1.5", "", "1e3", "0x10", "١"])
async def test_a_count_that_is_none(defined: Client, count: str) -> None:
    for path in ("/UserSetting", "/UserSetting/_history", "/_history", "/fhir/UserSetting"):
        await refused(defined, 400, "_count", "GET", f"{path}?_count={count}")


async def test_a_count_beyond_every_limit_is_the_limit(defined: Client) -> None:
    for count in ("9" * 19, "9" * 5000, "0" * 5000 + "7"):
        assert (await defined.get(f"/UserSetting?_count={count}")).status == 200
    await refused(defined, 400, "future", "GET", f"/UserSetting/$changes?version={'9' * 30}")


@pytest.mark.parametrize("after", ["%00", "a%2Fb", "a%20b", "a" * 65])
async def test_a_page_that_begins_after_what_is_no_id(defined: Client, after: str) -> None:
    await refused(defined, 400, "_after", "GET", f"/UserSetting?_after={after}")


async def test_a_switch_that_is_neither_on_nor_off(defined: Client) -> None:
    await refused(defined, 400, "activeOnly", "GET", "/ValueSet/x/$expand?activeOnly=perhaps")
    lines = {"Content_Type": "application/x-ndjson"}
    await refused(defined, 400, "define-open", "POST", "/$import?define-open=1", b"{}", **lines)
    for name in ("examples", "replace-open", "progress"):
        package = {"Content_Type": "application/gzip"}
        await refused(defined, 400, name, "POST", f"/$fhir-package-install?{name}=yes", b"", **package)


async def test_what_is_built_in_is_only_read(defined: Client) -> None:
    for method in ("DELETE", "PATCH"):
        reply = await refused(defined, 405, "built in", method, "/Entity/Quantity", {"isOpen": True})
        assert reply.headers["Allow"] == "GET, HEAD"
    assert (await defined.get("/Entity/Quantity")).status == 200


@pytest.mark.parametrize(
    "since",
    ["yesterday", "2020-02-31", "2020-13", "12:00", "2026-11-20T25:00:00Z", "", "2026-11-20T10:00:00+99:99"],
)
async def test_a_since_that_is_none(defined: Client, since: str) -> None:
    await refused(defined, 400, "_since", "GET", f"/UserSetting/_history?_since={since}")


@pytest.mark.parametrize("version", ["x", "-1", "1.5", ""])
async def test_a_version_that_is_none(defined: Client, version: str) -> None:
    await refused(defined, 400, "version", "GET", f"/UserSetting/$changes?version={version}")


async def test_a_version_in_the_future(defined: Client) -> None:
    await refused(defined, 400, "future", "GET", "/UserSetting/$changes?version=999999")


@pytest.mark.parametrize("tag", ["abc", 'W/"x"', "0", '"1', "-5", "1.0"])
async def test_an_if_match_that_is_no_version(defined: Client, tag: str) -> None:
    await defined.put("/UserSetting/a", {"x": 1})
    await refused(defined, 400, "version", "PUT", "/UserSetting/a", {"x": 2}, If_Match=tag)
