"""The reader and writer of packages: what they take, what they refuse, and that the same gives the same bytes."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

import pytest
from harness.packages import EXAMPLE, MANIFEST, NIGHT, SEAT, WARD, tgz, wards, with_member

from eventstore import package
from eventstore.errors import Invalid, Malformed, QuireError, TooLarge
from eventstore.package import Manifest, read_package, write_package
from eventstore.server.installing import ordered


def test_a_package_is_read() -> None:
    found = read_package(wards(**{"other/x.json": {"resourceType": "X", "id": "x"}, "note.txt": b"hello"}))
    assert found.manifest.name == "acme.wards"
    assert found.manifest.versions == ["4.0.1"]
    assert [(file.name, file.is_example) for file in found.files] == [
        ("StructureDefinition/a-night", False),
        ("StructureDefinition/acme-Ward", False),
        ("StructureDefinition/acme-Seat", False),
        ("StructureDefinition/acme-Head", False),
        ("SearchParameter/by-mode", False),
        ("acme-Ward/w1", True),
    ]
    assert json.loads(found.files[-1].data) == EXAMPLE
    assert found.left == []


def test_what_is_no_resource_is_told() -> None:
    found = read_package(
        tgz({"a.json": {"x": 1}, "b.json": b"{", "c.json": {"resourceType": "X"}, "d.json": []})
    )
    assert found.files == []
    told = {one.name: one.reason for one in found.left}
    assert told["package/a.json"] == "no resourceType"
    assert told["package/c.json"] == "no id"
    assert told["package/b.json"].startswith("not a resource: ")
    assert told["package/d.json"].startswith("not a resource: ")


def member(name: str, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, link
    return info


@pytest.mark.parametrize(
    "info",
    [
        member("../evil.json"),
        member("/etc/evil.json"),
        member("package/../../evil.json"),
        member("package\\..\\evil.json"),
        member("package/link.json", tarfile.SYMTYPE, "/etc/passwd"),
        member("package/hard.json", tarfile.LNKTYPE, "package/package.json"),
        member("package/device", tarfile.CHRTYPE),
        member("package/pipe.json", tarfile.FIFOTYPE),
    ],
    ids=lambda info: info.name,
)
def test_what_leads_elsewhere_is_refused(info: tarfile.TarInfo) -> None:
    with pytest.raises(Malformed, match="leads out of it|link or a device"):
        read_package(with_member(info))


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (b"", Malformed, "no .tgz"),
        (b"{}", Malformed, "no .tgz"),
        (gzip.compress(b"not a tar" * 100, mtime=0), Malformed, "no .tgz"),
        (wards()[:-40], Malformed, "no .tgz"),
        (tgz({"a.json": NIGHT}, None), Invalid, "no FHIR package"),
        (tgz({}, {"version": "1"}), Invalid, "name"),
        (tgz({"package.json": b"["}, None), Invalid, "cannot be read"),
    ],
)
def test_what_is_no_package_is_refused(data: bytes, kind: type[QuireError], why: str) -> None:
    with pytest.raises(kind, match=why):
        read_package(data)


@pytest.mark.parametrize(
    "said", [{"GNU.sparse.size": "x"}, {"GNU.sparse.map": ""}, {"GNU.sparse.realsize": "1e9"}]
)
def test_what_an_archive_says_that_cannot_be_read_is_refused(said: dict[str, str]) -> None:
    """Python's own reader of archives ends in a ValueError there."""
    info = member("package/x.json")
    info.pax_headers = said
    with pytest.raises(Malformed, match="no .tgz"):
        read_package(with_member(info))


def test_a_path_that_is_there_twice_is_refused() -> None:
    info = member("package/package.json")
    with pytest.raises(Malformed, match="twice"):
        read_package(with_member(info))


def test_every_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = wards()
    for name, most, why in (
        ("PACKED_BYTES_MAX", len(data) - 1, "packed bytes"),
        ("UNPACKED_BYTES_MAX", 5_000, "unpacks to more than 5000 bytes"),
        ("FILES_MAX", 6, "more than 6 files"),
        ("FILE_BYTES_MAX", 300, "at most 300 are taken of a file"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(package, name, most)
            with pytest.raises(TooLarge, match=why):
                read_package(data)
    assert len(read_package(data).files) == 6


def test_little_that_unpacks_to_much_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the much is a header of the archive's own."""
    monkeypatch.setattr(package, "UNPACKED_BYTES_MAX", 8 * 1024 * 1024)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("package/package.json")
        info.pax_headers = {"comment": "x" * (package.UNPACKED_BYTES_MAX + 1)}
        archive.addfile(info)
    bomb = gzip.compress(target.getvalue(), 1)
    assert len(bomb) < package.UNPACKED_BYTES_MAX / 64
    with pytest.raises(TooLarge, match="unpacks"):
        read_package(bomb)


@pytest.mark.parametrize("versions", [["5.0.0"], ["4.3.0", "5.0.0"]])
def test_another_version_is_refused_with_both_named(versions: list[str]) -> None:
    manifest = read_package(tgz({}, {**MANIFEST, "fhirVersions": versions})).manifest
    with pytest.raises(Invalid, match=rf"of FHIR {', '.join(versions)}, and this log is of FHIR 4.0.1"):
        manifest.check_version("4.0.1")
    manifest.check_version("5.0.0")


def test_the_same_is_written_as_the_same_bytes() -> None:
    manifest = Manifest("acme.wards", "1.0.0", fhir_versions=["4.0.1"])
    files = {
        "package/ward.json": json.dumps(WARD).encode(),
        "package/example/w1.json": json.dumps(EXAMPLE).encode(),
    }
    data = write_package(manifest, files)
    assert data == write_package(manifest, dict(reversed(files.items())))
    found = read_package(data)
    assert found.manifest == manifest
    assert {file.path: file.data for file in found.files} == files
    assert found.left == []


def test_each_folder_has_its_index() -> None:
    data = write_package(Manifest("a.b", "1"), {"package/ward.json": json.dumps(WARD).encode()})
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["package/package.json", "package/.index.json", "package/ward.json"]
        index: Any = json.load(archive.extractfile("package/.index.json"))  # type: ignore[arg-type]
    assert index == {
        "index-version": 2,
        "files": [
            {
                "filename": "ward.json",
                "resourceType": "StructureDefinition",
                "id": "acme-Ward",
                "url": WARD["url"],
                "kind": "logical",
                "type": "acme-Ward",
                "derivation": "specialization",
            }
        ],
    }


def test_definitions_come_in_the_order_in_which_they_are_needed() -> None:
    later = {**NIGHT, "id": "0-late", "url": "http://example.org/late", "baseDefinition": NIGHT["url"]}
    files = read_package(
        wards(
            **{
                "0-late.json": later,
                "attribute.json": {"resourceType": "Attribute", "id": "A.x"},
                "entity.json": {"resourceType": "Entity", "id": "Z"},
                "seat2.json": {**SEAT, "url": 7, "id": "odd"},
            }
        )
    ).files
    assert [file.id for file in ordered(files)] == [
        "Z", "acme-Head", "acme-Seat", "acme-Ward", "odd", "a-night", "0-late", "A.x", "by-mode", "w1",
    ]  # fmt: skip
