"""`quire package install` and `export`, in processes of their own, over each backend, with the server up and with it down."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import NewPlace
from harness.command import quire
from harness.formats import element, schema, structure
from harness.packages import EXAMPLE, HEAD, MANIFEST, SEAT, WARD, tgz, wards
from harness.process import Server

from eventstore.log.opening import Place
from eventstore.package import read_package

At = tuple[str | Path, ...]
"""The options that say where a log is."""


@pytest.fixture(params=["down", "up"])
async def at(request: pytest.FixtureRequest, place: Place) -> AsyncIterator[At]:
    """Where a log is to be, on which no server runs, or one does."""
    if request.param == "down":
        yield options(place)
        return
    server = Server(place.data)
    server.options = ("--db", place.db)
    await server.start()
    yield options(place)
    await server.stop()


@pytest.fixture
async def empty(new_place: NewPlace) -> At:
    """Where another log is to be, on the same backend."""
    return options(await new_place())


def options(place: Place) -> At:
    return ("--data", place.data, "--db", place.db)


def file(path: Path, packed: bytes) -> Path:
    path.write_bytes(packed)
    return path


def bodies(at: At) -> dict[str, Any]:
    """Every resource by type and id, less what the log adds."""
    found = {}
    for line in quire("export", *at).out.splitlines():
        value = json.loads(line)
        del value["meta"]["versionId"], value["meta"]["lastUpdated"]
        found[f"{value['resourceType']}/{value['id']}"] = value
    return found


def test_a_package_is_installed_and_twice_changes_nothing(at: At, tmp_path: Path) -> None:
    package = file(tmp_path / "acme.tgz", wards())
    told = quire("package", "install", package, "--examples", *at)
    assert (told.code, told.text) == (
        0,
        "acme.wards@1.0.0: 5 created, 0 updated, 0 unchanged, 1 skipped, 0 marked; transaction 1\n",
    )
    assert told.error == "skipped SearchParameter/by-mode: there is no type SearchParameter\n"
    again = quire("package", "install", package, "--examples", *at)
    assert (again.code, again.text) == (
        0,
        "acme.wards@1.0.0: 0 created, 0 updated, 5 unchanged, 1 skipped, 0 marked; nothing changed\n",
    )
    assert bodies(at)["acme-Ward/w1"]["mode"] == EXAMPLE["mode"]


def test_what_is_refused_is_told_and_nothing_is_there(at: At, tmp_path: Path) -> None:
    lost = {**WARD, "baseDefinition": "http://example.org/nobody"}
    package = file(tmp_path / "acme.tgz", tgz({"ward.json": lost, "head.json": HEAD, "seat.json": SEAT}))
    told = quire("package", "install", package, *at)
    assert (told.code, told.text) == (1, "")
    assert "refused: StructureDefinition/acme-Ward: http://example.org/nobody is not known here" in told.error
    assert bodies(at) == {}
    other = file(tmp_path / "other.tgz", tgz({}, {**MANIFEST, "fhirVersions": ["5.0.0"]}))
    told = quire("package", "install", other, *at)
    assert told.code == 1
    assert "of FHIR 5.0.0, and this log is of FHIR 4.0.1" in told.error
    for nonsense in (file(tmp_path / "x.tgz", b"nonsense"), tmp_path / "none.tgz"):
        assert quire("package", "install", nonsense, *at).code in (1, 2)


def test_an_open_type_is_replaced_when_told(at: At, tmp_path: Path) -> None:
    ward = {"resourceType": "acme-Ward", "id": "old", "anything": 1}
    quire("import", "--define-open", *at, "-", stdin=json.dumps(ward).encode())
    package = file(tmp_path / "acme.tgz", wards())
    refused = quire("package", "install", package, *at)
    assert refused.code == 1
    assert "--replace-open" in refused.error
    told = quire("package", "install", package, "--replace-open", *at)
    assert (told.code, "1 replaced" in told.text) == (0, True)
    assert "Entity/acme-Ward" not in bodies(at)


VALUE_SET = {
    "resourceType": "ValueSet",
    "id": "acme-modes",
    "status": "active",
    "url": "http://example.org/modes",
    "compose": {
        "include": [{"system": "http://example.org/codes"}, {"valueSet": ["http://example.org/more"]}]
    },
}
BINDING = {"strength": "extensible", "valueSet": "http://example.org/modes|1"}
RESOURCES: list[dict[str, Any]] = [
    *(
        {
            "resourceType": "Entity",
            "id": id,
            "type": "resource",
            "isOpen": True,
            "meta": {"tag": [{"code": "shadows-core"}]},
        }
        for id in ("SearchParameter",)
    ),
    {"resourceType": "Entity", "id": "Dose", "type": "type"},
    {"resourceType": "Entity", "id": "Room", "type": "resource", "isOpen": True},
    {"resourceType": "Entity", "id": "Other", "type": "resource", "isOpen": True},
    {"resourceType": "Entity", "id": "acme-Pump", "type": "resource", "description": "An infusion pump"},
    {
        "resourceType": "Attribute",
        "id": "pump-dose",
        "resource": {"id": "acme-Pump", "resourceType": "Entity"},
        "path": ["dose"],
        "type": {"id": "Dose", "resourceType": "Entity"},
    },
    {
        "resourceType": "Attribute",
        "id": "pump-room",
        "resource": {"id": "acme-Pump", "resourceType": "Entity"},
        "path": ["room"],
        "refers": ["Room"],
    },
    {
        "resourceType": "Attribute",
        "id": "dose-amount",
        "resource": {"id": "Dose", "resourceType": "Entity"},
        "path": ["amount"],
        "type": {"id": "decimal", "resourceType": "Entity"},
    },
    {
        "resourceType": "StructureDefinition",
        "id": "acme-Bed",
        **structure("acme-Bed", element("acme-Bed.mode", 0, "1", "code", binding=BINDING)),
    },
    {
        "resourceType": "StructureDefinition",
        "id": "narrow",
        **structure("acme-Bed", element("acme-Bed.mode", 1, "1")),
        "url": "http://example.org/narrow",
        "derivation": "constraint",
        "baseDefinition": "http://example.org/acme-Bed",
    },
    {"resourceType": "FHIRSchema", "id": "acme.Shift", **schema("acme.Shift", {"day": {"type": "date"}})},
    VALUE_SET,
    {"resourceType": "ValueSet", "id": "more", "status": "active", "url": "http://example.org/more"},
    {"resourceType": "ValueSet", "id": "unused", "status": "active", "url": "http://example.org/unused"},
    {
        "resourceType": "CodeSystem",
        "id": "codes",
        "status": "active",
        "content": "complete",
        "url": "http://example.org/codes",
    },
    {"resourceType": "SearchParameter", "id": "bed-mode", "base": ["acme-Bed"], "code": "mode"},
    {"resourceType": "SearchParameter", "id": "other", "base": ["Patient"], "code": "other"},
    *({"resourceType": "acme-Pump", "id": f"p{n}", "dose": {"amount": n + 0.5}} for n in range(5)),
    {"resourceType": "acme-Bed", "id": "b1", "mode": "up"},
    {"resourceType": "Room", "id": "r1"},
]


def test_what_is_exported_installs_into_an_empty_quire_unchanged(at: At, empty: At, tmp_path: Path) -> None:
    source = "\n".join(map(json.dumps, RESOURCES)).encode().replace(b"4.5", b"4.50")
    came = quire("import", *at, "-", stdin=source)
    assert (came.code, came.error) == (0, "")
    arguments = ("--prefix", "acme", "--version", "1.2.0", "--canonical", "http://example.org")
    first = tmp_path / "first" / "acme.tgz"
    told = quire("package", "export", *arguments, "--out", first, *at)
    assert (told.code, told.error) == (0, "")
    package = read_package(first.read_bytes())
    assert (package.manifest.name, package.manifest.fhir_versions) == ("acme.types", ["4.0.1"])
    names = {file.name for file in package.files}
    assert {file.name for file in package.files if file.is_example} == {
        "acme-Pump/p2", "acme-Pump/p3", "acme-Pump/p4", "acme-Bed/b1",
    }  # fmt: skip
    expected = {f"{one['resourceType']}/{one['id']}" for one in RESOURCES} - {
        "Entity/Other", "ValueSet/unused", "SearchParameter/other", "acme-Pump/p0", "acme-Pump/p1", "Room/r1",
    }  # fmt: skip
    assert names == {*expected, "ImplementationGuide/acme.types"}
    guide = next(json.loads(file.data) for file in package.files if file.type == "ImplementationGuide")
    assert "- acme-Pump: An infusion pump\n" in guide["description"]
    assert len(guide["definition"]["resource"]) == len(expected)

    told = quire("package", "install", first, "--examples", *empty)
    assert told.code == 0
    assert told.error == "skipped ImplementationGuide/acme.types: there is no type ImplementationGuide\n"
    before, after = bodies(at), bodies(empty)
    assert after == {name: before[name] for name in expected}
    assert b"4.50" in quire("export", *empty).out
    again = quire("package", "install", first, "--examples", *empty)
    assert "nothing changed" in again.text
    back = quire("package", "install", first, "--examples", *at)
    assert "nothing changed" in back.text

    second = tmp_path / "second.tgz"
    assert quire("package", "export", *arguments, "--out", second, *empty).code == 0
    assert second.read_bytes() == first.read_bytes()


def test_value_sets_that_attributes_name_in_whatever_way(tmp_path: Path) -> None:
    """By URL, by reference or by id, which a CodeSystem may have too; of a URL every version."""

    def named(type: str, id: str, **fields: Any) -> dict[str, Any]:
        return {
            "resourceType": type,
            "id": id,
            "status": "active",
            "url": f"http://example.org/{type}/{id}",
            **fields,
        }

    def attribute(name: str, value_set: dict[str, str]) -> dict[str, Any]:
        about = {"resource": {"id": "acme-X"}, "path": [name], "type": {"id": "code"}}
        return {"resourceType": "Attribute", "id": f"acme-X.{name}", **about, "valueSet": value_set}

    include = {"include": [{"system": "http://example.org/CodeSystem/b"}]}
    lines = [
        named("ValueSet", "a", version="1"),
        named("ValueSet", "a2", url="http://example.org/ValueSet/a", version="2"),
        named("ValueSet", "b", compose=include),
        named("ValueSet", "c"),
        *(named("CodeSystem", id, content="complete") for id in "abc"),
        {"resourceType": "Entity", "id": "acme-X", "type": "resource"},
        attribute("a", {"uri": "http://example.org/ValueSet/a|1"}),
        attribute("b", {"reference": "ValueSet/b"}),
        attribute("c", {"id": "c"}),
    ]
    data, out = tmp_path / "data", tmp_path / "x.tgz"
    quire("import", "--data", data, "-", stdin="\n".join(map(json.dumps, lines)).encode())
    told = quire("package", "export", "--prefix", "acme", "--data", data, "--out", out)
    assert (told.code, told.error) == (0, "")
    found = {
        file.name for file in read_package(out.read_bytes()).files if file.type in ("ValueSet", "CodeSystem")
    }
    assert found == {"ValueSet/a", "ValueSet/a2", "ValueSet/b", "ValueSet/c", "CodeSystem/b"}


def test_a_rationale_stays_where_guides_are_stored(tmp_path: Path) -> None:
    data = tmp_path / "data"
    types = [
        {"resourceType": "Entity", "id": "acme-X", "type": "resource"},
        {
            "resourceType": "Entity",
            "id": "ImplementationGuide",
            "type": "resource",
            "isOpen": True,
            "meta": {"tag": [{"code": "shadows-core"}]},
        },
    ]
    quire("import", "--data", data, "-", stdin="\n".join(map(json.dumps, types)).encode())
    first, second = tmp_path / "first.tgz", tmp_path / "second.tgz"
    arguments = ("--prefix", "acme-", "--data", data)
    quire("package", "export", *arguments, "--out", first, "--rationale", "FHIR has no X.")
    assert "1 created" in quire("package", "install", first, "--data", data).text
    assert quire("package", "export", *arguments, "--out", second).code == 0
    assert second.read_bytes() == first.read_bytes()


def test_what_an_export_cannot_make_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    one = {"resourceType": "Entity", "id": "acme-X", "type": "resource", "isOpen": True}
    old = {"resourceType": "acme-X", "id": "old", "free": 1}
    lines = "\n".join(map(json.dumps, (one, old, {**one, "isOpen": False}))).encode()
    quire("import", "--data", data, "-", stdin=lines)
    told = quire("package", "export", "--prefix", "acme", "--data", data, "--out", tmp_path / "x.tgz")
    assert (told.code, told.error) == (0, "left out acme-X/old: extra property\n")
    for arguments, why in (
        (("--prefix", "none"), "no type's name begins with none"),
        (("--prefix", "../x"), "--prefix"),
        (("--prefix", "acme", "--name", "Acme"), "--name"),
        (("--prefix", "acme", "--version", "a b"), "--version"),
        (("--prefix", "acme", "--examples", "-1"), "--examples"),
    ):
        told = quire("package", "export", *arguments, "--data", data)
        assert (told.code, why in told.error) == (2, True), told.error


def test_a_fhir_version_that_is_not_supported_is_a_mistake_and_makes_no_log(tmp_path: Path) -> None:
    package, empty = file(tmp_path / "acme.tgz", wards()), tmp_path / "empty"
    told = quire("package", "install", package, "--fhir-version", "9", "--data", empty)
    assert told.code == 2
    assert told.error == "quire: FHIR 9 is not supported: use one of 4.0.1, 4.3.0, 5.0.0\n"
    assert not empty.exists()
