"""The commands with `--db`: each works on a log in PostgreSQL as it does on a directory."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from harness.command import quire
from harness.places import Copy

from eventstore.log.opening import Place

RESOURCES = [
    {"resourceType": "Entity", "id": "Thing", "type": "resource", "isOpen": True},
    *({"resourceType": "Thing", "id": f"t{n}", "n": n} for n in range(20)),
]


@pytest.fixture
def backend() -> str:
    return "postgres"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "things.ndjson"
    path.write_text("".join(json.dumps(one) + "\n" for one in RESOURCES))
    return path


async def test_import_export_verify_status_and_epoch(place: Place, file: Path, tmp_path: Path) -> None:
    await asyncio.to_thread(_commands, place, file, tmp_path)


def _commands(place: Place, file: Path, tmp_path: Path) -> None:
    assert "no log in" in quire("status", "--db", place.db).error
    told = quire("import", file, "--db", place.db, "--data", place.data)
    assert told.code == 0, told.error
    assert "21 created" in told.text
    assert "21 unchanged" in quire("import", file, QUIRE_DB=place.db, QUIRE_DATA=str(place.data)).text
    exported = quire("export", "--type", "Thing", QUIRE_DB=place.db)
    assert [json.loads(line)["n"] for line in exported.out.splitlines()] == [
        one["n"] for one in sorted(RESOURCES[1:], key=lambda one: str(one["id"]))
    ]
    status = quire("status", "--db", place.db, "--json").json
    assert (status["directory"], status["nodes"]) == (place.db.replace("postgres:@", "postgres@"), [])
    assert status["fileBytes"] > 0
    assert {one["type"]: one["live"] for one in status["types"]} == {"Entity": 1, "Thing": 20}
    verified = quire("verify", "--db", place.db, "--save-tip", tmp_path / "tip", "--json")
    assert (verified.code, verified.json["faults"]) == (0, [])
    copy = Copy(place, tmp_path / "aside")
    file.write_text(json.dumps({"resourceType": "Thing", "id": "late"}))
    assert quire("import", file, "--db", place.db).code == 0
    copy.restore()
    told = quire("epoch", "--db", place.db, "--seen", "22", "--nats", "off")
    assert "begins at 23" in told.text
    assert quire("verify", "--db", place.db, "--against", tmp_path / "tip").code == 0
    assert not place.data.exists()


async def test_a_log_is_copied_there_and_back(place: Place, file: Path, tmp_path: Path) -> None:
    await asyncio.to_thread(_copies, place, file, tmp_path)


def _copies(place: Place, file: Path, tmp_path: Path) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    assert quire("import", file, "--data", first).code == 0
    assert quire("epoch", "--data", first, "--seen", "30", "--nats", "off").code == 0
    told = quire("copy", "--from", first, "--to", place.db)
    assert told.code == 0, told.error
    assert "22 events copied" in told.error
    assert "no faults" in told.text
    file.write_text(json.dumps({"resourceType": "Thing", "id": "late"}))
    assert quire("import", file, "--data", first).code == 0
    assert "1 events copied" in quire("copy", "--from", first, "--to", place.db).error
    assert quire("copy", "--from", place.db, "--to", last).code == 0
    tips = [quire("status", "--json", "--data", data).json["tip"] for data in (first, last)]
    assert tips == [quire("status", "--json", "--db", place.db).json["tip"]] * 2
    assert tips[0].startswith("32:")
    other = tmp_path / "other"
    assert quire("import", file, "--define-open", "--data", other).code == 0
    told = quire("copy", "--from", first, "--to", other)
    assert told.code == 2
    assert "a log of its own" in told.error


@pytest.mark.parametrize(
    ("url", "code", "what"),
    [
        ("mysql://me:secret@host/x", 2, "postgresql://user@host/database"),
        ("postgresql://me:secret@127.0.0.1:1/x", 3, "cannot be reached"),
    ],
)
def test_a_database_that_cannot_be_is_told_in_a_line(url: str, code: int, what: str, tmp_path: Path) -> None:
    for command in (("status",), ("serve", "--port", "0", "--data", str(tmp_path))):
        told = quire(*command, "--db", url)
        assert told.code == code
        assert what in told.error
        assert "secret" not in told.error


def test_tail_asks_for_the_server(tmp_path: Path) -> None:
    told = quire("tail", "--db", "postgresql://host/x")
    assert told.code == 3
    assert "--url" in told.error
