"""Values of the built-in data types: what each lets in and what it refuses, in every FHIR version."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from typing import Any

import pytest
from harness.definitions import Definitions, entity
from harness.soon import soon

from eventstore.body import read
from eventstore.types.datatypes import FHIR_VERSIONS, datatypes

GOOD: dict[str, list[Any]] = {
    "base64Binary": ["", "AAEC", "AA==", "AAA=", "AAEC\r\nAAEC", "+/+/"],
    "boolean": [True, False],
    "canonical": ["http://x.org/Y|1.0"],
    "code": ["a", "a b", "<="],
    "date": ["2020", "2020-02", "2020-02-29", "2000-02-29", "0001-01-01", "9999-12-31"],
    "dateTime": [
        "2020", "2020-12", "2020-12-31", "2020-12-31T23:59:59Z", "2016-12-31T23:59:60Z",
        "2020-01-01T00:00:00.123456789+14:00", "2020-01-01T00:00:00-13:59",
    ],
    "decimal": [0, -1.5, 1e3, 12345678901234567890],
    "id": ["a", "A-1.b", "x" * 64],
    "instant": ["2020-01-01T00:00:00Z", "2020-02-29T00:00:00.1+01:00"],
    "integer": [0, -(2**31), 2**31 - 1],
    "markdown": ["# x\n", ""],
    "oid": ["urn:oid:1.2.3", "urn:oid:2.0"],
    "positiveInt": [1, 2**31 - 1],
    "string": ["", " ", "é\n"],
    "time": ["00:00:00", "23:59:60", "12:00:00.5"],
    "unsignedInt": [0],
    "uri": ["", "http://x", "urn:x", "a"],
    "url": ["http://x"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "xhtml": ['<div xmlns="http://www.w3.org/1999/xhtml">x</div>'],
}  # fmt: skip

BAD: dict[str, list[Any]] = {
    "base64Binary": ["A", "AAA", "AA=", "A===", "AA==AA", "AA*=", "é", "AAAA=", "AAAA====", "AA=A", "====", "\u00a0AAAA", 5],
    "boolean": ["true", 0, 1],
    "canonical": ["a b"],
    "code": ["", " a", "a ", "a  b", "a\tb", "a\n"],
    "date": [
        "", "20", "2020-13", "2020-00", "2020-2", "2020-02-30", "2021-02-29", "1900-02-29", "2020-04-31",
        "2020-01-01Z", "2020-01-01T00:00:00Z", "0000-01-01", "2020-01-01\n", "\u0662020", 2020,
    ],
    "dateTime": [
        "2020-02-31", "2020-01-01Z", "2020-01-01T00:00Z", "2020-01-01T00:00:00", "2020-01-01T24:00:00Z",
        "2020-01-01T00:00:61Z", "2020-02-30T00:00:00Z", "2020-01-01T00:00:00+14:01", "2020-01-01 00:00:00Z",
        "2020-01-01T00:00:00.Z", "2020-01T00:00:00Z", "2020-01-01t00:00:00z",
    ],
    "decimal": ["1.0", True],
    "id": ["", "a_b", "x" * 65, "a/b", "a\n"],
    "instant": ["2020-01-01", "2020-02-30T00:00:00Z", "2020-01-01T00:00:00"],
    "integer": [1.5, 2**31, -(2**31) - 1, "1", True, 1.0],
    "markdown": [1],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1", "urn:oid:1.02"],
    "positiveInt": [0, -1, 2**31, 1.0],
    "string": [1, True, {}, []],
    "time": ["24:00:00", "12:00", "12:00:61", "12:00:00Z"],
    "unsignedInt": [-1],
    "uri": ["a b"],
    "url": [" "],
    "uuid": ["c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520"],
    "xhtml": [1],
}  # fmt: skip


@pytest.fixture(params=FHIR_VERSIONS)
def types(request: pytest.FixtureRequest) -> Definitions:
    """A type T with an element for each data type, named like it: `aDate`, `aCoding`. Nobody changes it."""
    return every_type(request.param)


@cache
def every_type(version: str) -> Definitions:
    definitions = Definitions(version)
    definitions.entity("T")
    for name, definition in datatypes(version).items():
        if definition.kind != "abstract":
            definitions.attribute("T", f"a{name}", name)
    definitions.attribute("T", "many", "string", isCollection=True)
    return definitions


@pytest.fixture
def r4() -> Definitions:
    """A closed type T of 4.0.1 with some elements."""
    definitions = Definitions()
    definitions.entity("T")
    definitions.attribute("T", "ref", "Reference")
    definitions.attribute("T", "bytes", "base64Binary")
    definitions.attribute("T", "text", "string")
    definitions.attribute("T", "many", "string", isCollection=True)
    definitions.attribute("T", "parts", isCollection=True)
    definitions.attribute("T", "any", isOpen=True)
    definitions.attribute("T", "n", "integer")
    definitions.attribute("T", "d", "decimal", isCollection=True)
    return definitions


CONTRIBUTOR = {"type": "author", "name": "A"}


def test_all_primitives_are_tried() -> None:
    named = {name for name, one in datatypes("4.0.1").items() if one.kind == "primitive"}
    assert named == GOOD.keys() == BAD.keys()


def test_good_values(types: Definitions) -> None:
    for name, values in GOOD.items():
        for value in values:
            assert types.wrong("T", {f"a{name}": value}) == {}, (name, value)


def test_bad_values_have_one_issue_each(types: Definitions) -> None:
    for name, values in BAD.items():
        for value in values:
            assert list(types.wrong("T", {f"a{name}": value})) == [(f"a{name}",)], (name, value)


def test_what_is_expected_is_said_in_words(types: Definitions) -> None:
    assert types.wrong("T", {"adate": "2020-13", "acode": "", "ainstant": "2020"}) == {
        ("adate",): "expected a date: YYYY, YYYY-MM or YYYY-MM-DD",
        ("acode",): "expected a code: no white space but single spaces inside",
        ("ainstant",): "expected an instant: YYYY-MM-DDThh:mm:ss with Z or an offset",
    }
    assert types.wrong("T", {"adate": "2021-02-29"}) == {("adate",): "2021-02 has 28 days"}


def test_integer64_is_a_string_and_of_5_0_0() -> None:
    assert "integer64" not in datatypes("4.3.0")
    definitions = Definitions("5.0.0")
    definitions.entity("T")
    definitions.attribute("T", "n", "integer64")
    for good in ("0", "-9223372036854775808", "9223372036854775807", "+1"):
        assert definitions.wrong("T", {"n": good}) == {}
    for bad in ("9223372036854775808", "01", "1.0", "", "9" * 5000, 5):
        assert list(definitions.wrong("T", {"n": bad})) == [("n",)]


def test_the_versions_differ_where_fhir_does() -> None:
    for version, more in (("4.0.1", False), ("4.3.0", False), ("5.0.0", True)):
        definitions = Definitions(version)
        definitions.entity("T")
        definitions.attribute("T", "q", "Quantity")
        definitions.attribute("T", "at", "time")
        assert (definitions.wrong("T", {"q": {"value": 1, "comparator": "ad"}}) == {}) is more
        assert (definitions.wrong("T", {"at": "12:00:00.1234567891"}) == {}) is not more
        assert (
            definitions.wrong("T", {"extension": [{"url": "u", "valueContributor": CONTRIBUTOR}]}) == {}
        ) is not more
        assert (definitions.wrong("T", {"extension": [{"url": "u", "valueInteger64": "1"}]}) == {}) is more


def test_complex_types(types: Definitions) -> None:
    extension = {"url": "http://x", "valueString": "y"}
    coding = {"id": "1", "extension": [extension], "system": "http://s", "code": "c", "userSelected": True}
    good = {
        "aCoding": coding,
        "aCodeableConcept": {"coding": [coding], "text": "t"},
        "aIdentifier": {
            "use": "usual",
            "type": {"text": "x"},
            "value": "v",
            "period": {"start": "2020"},
            "assigner": {"reference": "Organization/1"},
        },
        "aQuantity": {"value": 1.50, "comparator": "<", "unit": "mg", "_unit": {"id": "1"}, "fhir_x": 1},
        "aPeriod": {"start": "2020-01-01", "end": "2020-02-01T00:00:00Z"},
        "aMeta": {"tag": [coding], "profile": ["http://p"], "source": "s"},
        "aExtension": extension,
        "aReference": {"type": "Patient", "display": "d", "identifier": {"value": "v"}},
    }
    assert types.wrong("T", good) == {}
    assert types.wrong("T", {"aCoding": {"code": "c", "more": 1}}) == {("aCoding", "more"): "extra property"}
    assert types.wrong("T", {"aIdentifier": {"use": "x", "assigner": {"reference": "Patient/1"}}}) == {
        ("aIdentifier", "use"): "expected one of usual, official, temp, secondary, old",
        ("aIdentifier", "assigner", "reference"): "expected a reference to Organization",
    }
    assert types.wrong("T", {"aPeriod": {"start": "2020-02-30"}}) == {
        ("aPeriod", "start"): "2020-02 has 29 days"
    }


def test_an_extension_takes_every_open_type(types: Definitions) -> None:
    for key in ("valueAddress", "valueRange", "valueDosage", "valueMoney", "valueTiming"):
        assert types.wrong("T", {"extension": [{"url": "u", key: {}}]}) == {}
        assert types.wrong("T", {"extension": [{"url": "u", key: {"any": 1}}]}) == {
            ("extension", 0, key, "any"): "extra property"
        }
        assert list(types.wrong("T", {"extension": [{"url": "u", key: "x"}]})) == [("extension", 0, key)]
    assert types.wrong("T", {"extension": [{"url": "u", "valueTiming": {"event": []}}]}) == {}
    assert types.wrong("T", {"extension": [{"url": "u", "valueDate": "2020-02-30"}]}) == {
        ("extension", 0, "valueDate"): "2020-02 has 29 days"
    }
    assert list(types.wrong("T", {"extension": [{"url": "u", "valueThing": {}}]})) == [
        ("extension", 0, "valueThing")
    ]
    assert list(types.wrong("T", {"extension": [{"valueString": "x"}]})) == [("extension", 0, "url")]
    assert types.wrong("T", {"extension": [{"url": "u", "valueString": "x", "valueCode": "x"}]}) == {
        ("extension", 0, "valueCode"): "valueString is there already: one value[x] is allowed"
    }
    nested = {"url": "u", "extension": [{"url": "v", "extension": [{"url": "w", "valueInteger": 1.5}]}]}
    assert list(types.wrong("T", {"modifierExtension": [nested]})) == [
        ("modifierExtension", 0, "extension", 0, "extension", 0, "valueInteger")
    ]


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/1", "acme-Device/a.b-c", "a.B/1/_history/2", "Patient/1#part", "#", "#x", "http://x.org/fhir/Patient/1",
        "ldap://x/y", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "urn:oid:1.2.3",
        "urn:uuid:C757873D-EC9A-4326-A141-556F43239520",
    ],
)  # fmt: skip
def test_good_references(r4: Definitions, reference: str) -> None:
    assert r4.wrong("T", {"ref": {"reference": reference}}) == {}


@pytest.mark.parametrize(
    "reference",
    [
        "", "1", "Patient", "Patient/", "/1", "Patient/1/", "Patient/a_b", "Patient/1/_history", "Patient/1/_history/",
        "Patient/1/2", "Patient/" + "x" * 65, "Patient?identifier=1", "urn:uuid:1", "urn:oid:9", "urn:x:y", "http:/x",
        "Patient/1 ", "a b://x", "Patient/1\n", "-a/1", "a--b/1", 5, {"reference": "Patient/1"},
    ],
)  # fmt: skip
def test_bad_references(r4: Definitions, reference: Any) -> None:
    assert list(r4.wrong("T", {"ref": {"reference": reference}})) == [("ref", "reference")]


class TestShortReferences:
    def test_they_are_kept_as_fhir_writes_them(self, r4: Definitions) -> None:
        body = {"ref": {"display": "d", "resourceType": "Patient", "id": "1"}}
        kept = r4.normalised("T", body)
        assert kept == {"ref": {"reference": "Patient/1", "display": "d"}}
        assert r4.wrong("T", kept) == {}

    def test_wherever_a_reference_stands(self, r4: Definitions) -> None:
        short = {"resourceType": "Patient", "id": "1"}
        r4.attribute("T", "a.b", "Reference", isCollection=True)
        r4.attribute("T", "by", "Identifier")
        body = {
            "a": {"b": [dict(short), {"reference": "Patient/2"}]},
            "by": {"assigner": dict(short)},
            "extension": [{"url": "u", "valueReference": dict(short)}],
        }
        whole = {"reference": "Patient/1"}
        assert r4.normalised("T", body) == {
            "a": {"b": [whole, {"reference": "Patient/2"}]},
            "by": {"assigner": whole},
            "extension": [{"url": "u", "valueReference": whole}],
        }

    @pytest.mark.parametrize(
        "body",
        [
            {"ref": {"resourceType": "Patient"}},
            {"ref": {"resourceType": "Patient", "id": "1", "reference": "Patient/1"}},
            {"ref": {"resourceType": "Patient", "id": 1}},
            {"ref": {"id": "element-id", "reference": "Patient/1"}},
            {"any": {"resourceType": "Patient", "id": "1"}},
            {"ref": "Patient/1"},
            {"ref": [5, None]},
            {"text": {"resourceType": "Patient", "id": "1"}},
        ],
    )
    def test_nothing_else_is_touched(self, r4: Definitions, body: dict[str, Any]) -> None:
        before = repr(body)
        compiled = r4.registry.served("T")
        assert compiled is not None
        assert compiled.normalise(body) is False
        assert repr(body) == before

    def test_anything_may_come(self, r4: Definitions) -> None:
        compiled = r4.registry.served("T")
        assert compiled is not None
        values: list[Any] = [None, [], "x", 5]
        for value in values:
            assert compiled.normalise(value) is False

    def test_written_short_they_are_not_valid_as_they_are(self, r4: Definitions) -> None:
        assert r4.wrong("T", {"ref": {"resourceType": "Patient", "id": "1"}}) == {
            ("ref", "resourceType"): "extra property"
        }


class TestNulls:
    @pytest.mark.parametrize(
        "body",
        [
            {"many": ["a", None], "_many": [None, {"id": "1"}]},
            {"many": [None]},
            {"_many": [None, {"extension": []}]},
            {"any": {"x": [1, None], "_x": [None, {}]}},
        ],
    )
    def test_gaps_in_arrays_of_primitives_and_their_twins(
        self, r4: Definitions, body: dict[str, Any]
    ) -> None:
        assert r4.wrong("T", body) == {}

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            ({"text": None}, ("text",)),
            ({"_text": None}, ("_text",)),
            ({"any": {"x": None}}, ("any", "x")),
            ({"meta": {"tag": [{"code": None}]}}, ("meta", "tag", 0, "code")),
            ({"more": None}, ("more",)),
        ],
    )
    def test_elsewhere_the_key_is_to_be_left_out(
        self, r4: Definitions, body: dict[str, Any], path: Any
    ) -> None:
        assert r4.wrong("T", body) == {path: "null is not a value: leave the key out"}

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            ({"parts": [{}, None]}, ("parts", 1)),
            ({"any": {"x": [{}, None]}}, ("any", "x", 1)),
            ({"extension": [{"url": "u"}, None]}, ("extension", 1)),
        ],
    )
    def test_among_objects_the_item_is(self, r4: Definitions, body: dict[str, Any], path: Any) -> None:
        assert r4.wrong("T", body) == {path: "null is not a value: leave the item out"}

    def test_alone_in_an_array_of_objects(self, r4: Definitions) -> None:
        assert r4.wrong("T", {"parts": [None]}) == {("parts", 0): "expected type of object"}

    def test_the_rest_of_the_array_is_checked(self, r4: Definitions) -> None:
        assert r4.wrong("T", {"many": [None, 5]}) == {("many", 1): "expected type of string"}


class TestWideIntegers:
    def test_a_decimal_may_have_them(self, r4: Definitions) -> None:
        wide = 2**53 + 1
        assert r4.wrong("T", {"d": [wide]}) == {}
        quantity = {"url": "u", "valueQuantity": {"value": wide}}
        assert r4.wrong("T", {"extension": [quantity, {"url": "u", "valueDecimal": wide}]}) == {}

    def test_nothing_else(self, r4: Definitions) -> None:
        wide = 2**53 + 1
        why = "an integer beyond 2^53 is changed by many readers: send a string"
        assert r4.wrong("T", {"any": {"x": [wide]}, "_x": wide}) == {("any", "x", 0): why, ("_x",): why}
        assert r4.wrong("T", {"n": wide}) == {("n",): "must be at most 2147483647"}
        assert r4.wrong("T", {"text": wide}) == {("text",): "expected type of string"}


def test_the_id_and_the_meta_of_every_type(r4: Definitions) -> None:
    r4.entity("T", isOpen=True)
    assert list(r4.wrong("T", {"id": "a_b"})) == [("id",)]
    assert list(r4.wrong("T", {"id": 5})) == [("id",)]
    assert r4.wrong("T", {"resourceType": "T", "meta": {"tag": [{"code": "x"}]}}) == {}
    compiled = r4.registry.served("T")
    assert compiled is not None
    other = read(b'{"resourceType":"Other","id":"1"}')
    assert [(issue.path, issue.message) for issue in r4.registry.check(compiled, other)] == [
        (("resourceType",), "expected T")
    ]
    assert list(r4.wrong("T", {"meta": {"lastUpdated": "2020", "more": 1}})) == [
        ("meta", "lastUpdated"),
        ("meta", "more"),
    ]


def test_a_megabyte_of_base64_is_fast(r4: Definitions) -> None:
    text = b64encode(b"x" * 1_000_000).decode()
    with soon(1):
        assert r4.wrong("T", {"bytes": text}) == {}
        assert r4.wrong("T", {"bytes": text[:-1]}) == {("bytes",): "expected base64"}
        assert r4.wrong("T", {"bytes": " ".join([text[:76]] * 10_000)}) == {}


def test_types_of_every_version_can_be_used_at_once() -> None:
    for version in FHIR_VERSIONS:
        definitions = Definitions(version)
        definitions.entity("T")
        definitions.put(
            "Attribute", "T.a", {"resource": entity("T"), "path": ["a"], "type": {"reference": "Entity/code"}}
        )
        assert definitions.wrong("T", {"a": "x"}) == {}
