"""What an import reads: every kind of source, its bytes as they were sent, ids for what has none, and bad input."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from eventstore.server import sources
from eventstore.server.settings import BODY_BYTES_MAX
from eventstore.server.sources import Found, Item, Skipped, Trouble, items

ONE = b'{"resourceType":"Thing","id":"a","n":1.00}'
TWO = b'{"resourceType":"Thing","id":"b","n":1e3}'


def found(*paths: Path) -> list[Found]:
    return list(items([str(path) for path in paths]))


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def named(one: Found) -> tuple[str, str]:
    """Kind and place, for comparing orders."""
    return type(one).__name__, one.name


@pytest.mark.parametrize("name", ["x.ndjson", "x.jsonl", "X.NDJSON"])
def test_reads_lines(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ONE + b"\n\n  \n" + TWO + b"\r\n")
    assert found(path) == [Item(f"{name}:1", "Thing", "a", ONE), Item(f"{name}:4", "Thing", "b", TWO)]


def test_reads_lines_without_an_end_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ndjson", b"\xef\xbb\xbf" + ONE)
    assert found(path) == [Item("x.ndjson:1", "Thing", "a", ONE)]


def test_reads_zipped_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ndjson.gz", gzip.compress(ONE + b"\n" + TWO))
    assert [one.data for one in found(path) if isinstance(one, Item)] == [ONE, TWO]


def test_reads_standard_input() -> None:
    program = "from eventstore.server.sources import items; print([one.name for one in items(['-'])])"
    told = subprocess.run(
        [sys.executable, "-c", program], input=ONE + b"\n" + TWO, capture_output=True, check=True
    )
    assert told.stdout == b"['-:1', '-:2']\n"


def test_reads_one_resource_on_one_line(tmp_path: Path) -> None:
    text = b'{\n  "resourceType": "Thing",\n  "id": "a",\n  "n": [1.00, 1E+3, 123456789012345678901234567890],\n  "t": "a\\nb  c"\n}\n'
    (one,) = found(write(tmp_path / "x.json", text))
    assert isinstance(one, Item)
    assert one.data == (
        b'{"resourceType":"Thing","id":"a","n":[1.00,1E+3,123456789012345678901234567890],"t":"a\\nb  c"}'
    )


def test_reads_an_array(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", b" [" + ONE + b",\n" + TWO.replace(b",", b",\n") + b"]")
    assert found(path) == [Item("x.json[0]", "Thing", "a", ONE), Item("x.json[1]", "Thing", "b", TWO)]


@pytest.mark.parametrize("kind", ["collection", "searchset", "transaction", "batch"])
def test_reads_the_resources_of_a_bundle(tmp_path: Path, kind: str) -> None:
    entries = [
        b'{"fullUrl":"http://x/a","resource":' + ONE + b"}",
        b'{"request":{"method":"DELETE","url":"Thing/x"}}',
        b'{"resource":{"resourceType":"OperationOutcome"},"search":{"mode":"outcome"}}',
        b'{"resource":' + TWO + b',"search":{"mode":"match"}}',
    ]
    bundle = b'{"resourceType":"Bundle","type":"%b","entry":[%b]}' % (kind.encode(), b",".join(entries))
    assert found(write(tmp_path / "x.json", bundle)) == [
        Skipped("x.json[1]", "an entry without a resource"),
        Item("x.json[0]", "Thing", "a", ONE),
        Item("x.json[3]", "Thing", "b", TWO),
    ]


def test_a_document_is_a_resource_and_a_history_is_none(tmp_path: Path) -> None:
    document = b'{"resourceType":"Bundle","type":"document","id":"d","entry":[{"resource":' + ONE + b"}]}"
    assert found(write(tmp_path / "x.json", document)) == [Item("x.json", "Bundle", "d", document)]
    (one,) = found(write(tmp_path / "y.json", document.replace(b"document", b"history")))
    assert isinstance(one, Trouble)
    assert "holds versions" in one.reason


def test_reads_yaml_documents(tmp_path: Path) -> None:
    text = b"# two\n---\nresourceType: Thing\nid: a\nn: 1.00\n--- \nresourceType: Thing\nid: b\ntext: |\n  a\n  ---\n"
    assert found(write(tmp_path / "x.yaml", text)) == [
        Item("x.yaml[0]", "Thing", "a", ONE),
        Item("x.yaml[1]", "Thing", "b", b'{"resourceType":"Thing","id":"b","text":"a\\n---\\n"}'),
    ]


def test_reads_a_yaml_list_and_tells_of_bad_yaml(tmp_path: Path) -> None:
    write(tmp_path / "d" / "a.yml", b"- resourceType: Thing\n  id: a\n  n: 1.00\n")
    write(tmp_path / "d" / "b.yml", b"a: &x 1\n")
    one, two = found(tmp_path / "d")
    assert one == Item("d/a.yml[0]", "Thing", "a", ONE)
    assert isinstance(two, Trouble)
    assert "anchor" in two.reason


def test_reads_a_folder_definitions_first(tmp_path: Path) -> None:
    for name in (
        "Zoo.ndjson",
        "Attribute/b.json",
        "Entity.ndjson",
        "a/deep/x.json",
        ".git/y.json",
        "note.txt",
    ):
        write(tmp_path / "d" / name, ONE)
    assert [one.name for one in found(tmp_path / "d")] == [
        "d/Entity.ndjson:1", "d/Attribute/b.json", "d/Zoo.ndjson:1", "d/a/deep/x.json",
    ]  # fmt: skip


def test_reads_a_package(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "p.tgz",
        {
            "package/package.json": b'{"name":"x"}',
            "package/.index.json": b'{"files":[]}',
            "package/b.json": TWO,
            "package/openapi/schema.json": b'{"type":"object"}',
            "package/readme.md": b"hello",
            "package/a.json": ONE,
            "package/bad.json": b'{"resourceType":',
            "package/lines.ndjson": ONE + b"\n" + TWO,
        },
    )
    told = found(path)
    assert [named(one) for one in told] == [
        ("Skipped", "p.tgz/package/package.json"),
        ("Skipped", "p.tgz/package/.index.json"),
        ("Item", "p.tgz/package/b.json"),
        ("Skipped", "p.tgz/package/openapi/schema.json"),
        ("Item", "p.tgz/package/a.json"),
        ("Trouble", "p.tgz/package/bad.json"),
        ("Item", "p.tgz/package/lines.ndjson:1"),
        ("Item", "p.tgz/package/lines.ndjson:2"),
    ]
    assert told[3] == Skipped("p.tgz/package/openapi/schema.json", "no resourceType")


def test_leaves_links_and_devices_in_an_archive_alone(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("../../x.json")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert found(tmp_path / "p.tgz") == []


# What has no id gets one.


def test_derives_the_same_id_for_the_same_thing_in_the_same_place(tmp_path: Path) -> None:
    lines = (
        b'{"resourceType":"Thing","n":1}\n{"resourceType":"Thing","n":2}\n{"resourceType":"Thing","n":2}\n'
    )
    first = found(write(tmp_path / "here" / "x.ndjson", lines))
    again = found(write(tmp_path / "there" / "x.ndjson", lines))
    other = found(write(tmp_path / "here" / "y.ndjson", lines))
    ids = [one.id for one in first if isinstance(one, Item)]
    assert first == again
    assert len(set(ids)) == 3
    assert ids == sorted(ids)
    assert not set(ids) & {one.id for one in other if isinstance(one, Item)}
    assert all(re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", id) for id in ids)


def test_another_thing_in_the_same_place_does_not_take_its_id(tmp_path: Path) -> None:
    (one,) = found(write(tmp_path / "a" / "x.ndjson", b'{"resourceType":"Thing","n":1}'))
    (two,) = found(write(tmp_path / "b" / "x.ndjson", b'{"resourceType":"Thing","n":2}'))
    assert isinstance(one, Item)
    assert isinstance(two, Item)
    assert one.id != two.id


@pytest.mark.parametrize(
    ("text", "spliced"),
    [
        (b'{"resourceType":"Thing","n":1.00}', b'{"resourceType":"Thing","id":"%b","n":1.00}'),
        (b'{"n":1.00,"resourceType":"Thing"}', b'{"id":"%b","n":1.00,"resourceType":"Thing"}'),
        (b'{"resourceType":"Thing"}', b'{"id":"%b","resourceType":"Thing"}'),
        (b' { "resourceType" : "Thing" , "n":1}', b' { "resourceType" : "Thing" ,"id":"%b", "n":1}'),
        (b'{"resourceType":"T\\u0068ing","n":1}', b'{"id":"%b","resourceType":"T\\u0068ing","n":1}'),
    ],
)
def test_puts_the_id_in_and_leaves_the_rest(tmp_path: Path, text: bytes, spliced: bytes) -> None:
    (one,) = found(write(tmp_path / "x.ndjson", text))
    assert isinstance(one, Item)
    assert one.data == spliced % one.id.encode()
    assert json.loads(one.data) == {**json.loads(text), "id": one.id}


@pytest.mark.parametrize("id", [b"null", b"5", b'""'])
def test_leaves_an_id_that_is_wrong_to_be_refused(tmp_path: Path, id: bytes) -> None:
    text = b'{"resourceType":"Thing","id":%b}' % id
    (one,) = found(write(tmp_path / "x.ndjson", text))
    assert isinstance(one, Item)
    assert one.data == text


# What cannot be read is told, and does not stop the rest.


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "The body is not JSON"),
        (b"nonsense", "The body is not JSON"),
        (b'{"resourceType":"T"} x', "The body is not JSON"),
        (b"[1]", "a resource is an object"),
        (b'"text"', "a resource is an object"),
        (b"{}", "no resourceType"),
        (b'{"resourceType":5}', "no resourceType"),
        (b'{"resourceType":"\xff"}', "not UTF-8"),
        (b'{"a":' * 5000, "nested deeper"),
    ],
)
def test_tells_what_is_wrong_with_a_line(tmp_path: Path, line: bytes, words: str) -> None:
    trouble, item = found(write(tmp_path / "x.ndjson", line + b"\n" + ONE))
    assert isinstance(trouble, Trouble)
    assert trouble.name == "x.ndjson:1"
    assert words in trouble.reason
    assert item == Item("x.ndjson:2", "Thing", "a", ONE)


def test_refuses_a_line_that_is_too_long_without_holding_it(tmp_path: Path) -> None:
    long = b'{"resourceType":"Thing","t":"' + b"x" * (BODY_BYTES_MAX + 5000) + b'"}'
    trouble, item = found(write(tmp_path / "x.ndjson", long + b"\n" + ONE))
    assert trouble == Trouble("x.ndjson:1", f"a line is over the limit of {BODY_BYTES_MAX} bytes")
    assert item == Item("x.ndjson:2", "Thing", "a", ONE)


def test_refuses_a_resource_that_is_too_large(tmp_path: Path) -> None:
    big = b'{"resourceType":"Thing","t":"' + b"x" * BODY_BYTES_MAX + b'"}'
    trouble, item = found(write(tmp_path / "x.json", b"[%b,%b]" % (big, ONE)))
    assert isinstance(trouble, Trouble)
    assert "over the limit" in trouble.reason
    assert isinstance(item, Item)


def test_refuses_what_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MEMBER_BYTES_MAX", 1000)
    path = archive(tmp_path / "p.tgz", {"bomb.json": b" " * 1001, "a.json": ONE})
    trouble, item = found(path)
    assert trouble == Trouble(
        "p.tgz/bomb.json", "a file of 1001 bytes is over the limit of 1000 bytes; NDJSON may be of any size"
    )
    assert isinstance(item, Item)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.tgz", b"not an archive"),
        ("x.tgz", gzip.compress(b"not a tar" * 100)),
        ("x.tgz", gzip.compress(os.urandom(5000))[:-50]),
        ("x.ndjson.gz", b"not zipped"),
        ("x.ndjson.gz", gzip.compress(ONE)[:-9]),
    ],
    ids=["no-archive", "zipped-no-archive", "zip-cut", "not-zipped", "lines-cut"],
)
def test_a_broken_file_does_not_stop_the_next(tmp_path: Path, name: str, data: bytes) -> None:
    told = found(write(tmp_path / name, data), write(tmp_path / "good.ndjson", ONE))
    assert named(told[-1]) == ("Item", "good.ndjson:1")
    assert any(isinstance(one, Trouble) and one.name == name for one in told)


def test_an_archive_that_is_cut_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    whole = archive(tmp_path / "p.tgz", {"a.json": ONE, "noise.json": os.urandom(50_000).hex().encode()})
    write(tmp_path / "cut.tgz", whole.read_bytes()[:20_000])
    told = found(tmp_path / "cut.tgz")
    assert named(told[0]) == ("Item", "cut.tgz/a.json")
    assert isinstance(told[-1], Trouble)


def test_tells_of_what_is_not_there_and_of_what_it_does_not_know(tmp_path: Path) -> None:
    missing, unknown = found(tmp_path / "no.ndjson", write(tmp_path / "x.xml", b"<a/>"))
    assert missing == Trouble("no.ndjson", "cannot be read: No such file or directory")
    assert isinstance(unknown, Trouble)
    assert "its name should end in one of .ndjson" in unknown.reason
