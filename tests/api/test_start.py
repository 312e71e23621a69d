"""`docs/start.md` is the tutorial: every request in it is sent, in YAML and again in JSON."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import postgres
from harness.client import Client
from harness.guide import steps, unlike

from eventstore.server.settings import Settings

GUIDE = Path(__file__).parents[2] / "docs" / "start.md"
TUTORIAL_STEPS = 20


@pytest.mark.parametrize("format", ["yaml", "json"])
async def test_every_step_answers_as_shown(client: Client, format: str) -> None:
    told = steps(GUIDE.read_text("utf-8"))
    assert len(told) == TUTORIAL_STEPS
    for number, step in enumerate(told, 1):
        headers, body = dict(step.headers), step.body
        if format == "json":
            headers = dict.fromkeys(headers, "application/json")
            body = json.dumps(yaml.safe_load(body)) if body else None
        reply = await client.request(step.method, step.path, body, **_names(headers))
        assert reply.status == step.status, (number, reply.data)
        real: Any = None
        if reply.data:
            assert format in reply.headers["Content-Type"]
            real = reply.yaml if format == "yaml" else reply.json
        assert not unlike(step.answer, real), (number, unlike(step.answer, real))


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


async def test_the_database_itself_answers_while_the_server_runs(client: Client, settings: Settings) -> None:
    """Step 5 with psql or the sqlite3 shell, or where there is none with Python's own SQLite in another process."""
    await client.define()
    await client.post("/UserSetting", {"id": "user-1", "theme": "dark"})
    sql = "SELECT id, resource->>'theme' as theme FROM \"usersetting\""
    path = str(settings.data / "log.db")
    script = f"import sqlite3; print('|'.join(sqlite3.connect({path!r}).execute({sql!r}).fetchone()))"
    shell = shutil.which("sqlite3")
    command = [shell, path, sql] if shell else ["python3", "-c", script]
    if settings.db:
        command = postgres.shell(settings.db, sql)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "user-1|dark"


async def test_the_published_schema_agrees_with_the_server(client: Client) -> None:
    """A stock 2020-12 validator, given the whole document, gives the verdicts of steps 14, 15, 18 and 19."""
    from jsonschema import Draft202012Validator

    await client.define(isOpen=False)
    theme = {
        "id": "UserSetting.theme",
        "path": ["theme"],
        "type": {"id": "string", "resourceType": "Entity"},
        "enum": ["dark", "white"],
        "resource": {"id": "UserSetting", "resourceType": "Entity"},
    }
    assert (await client.post("/Attribute", theme)).status == 201
    document = (await client.get("/$json-schema")).json["schema"]
    Draft202012Validator.check_schema(document)
    by_name = Draft202012Validator({**document, "$ref": "#/definitions/UserSetting"})
    by_root = Draft202012Validator(document)
    for body, valid in [
        ({"id": "user-3", "theme": 2}, False),
        ({"id": "user-4", "theme": "unexisting"}, False),
        ({"theme": "dark", "menu": "collapsed"}, False),
        ({"theme": "dark", "_note": {}}, True),
    ]:
        resource = {"resourceType": "UserSetting", **body}
        assert by_name.is_valid(resource) == by_root.is_valid(resource) == valid
        assert ((await client.post("/UserSetting", body)).status == 201) == valid
    extension = (await client.get("/$json-schema?path=definitions.Extension")).json
    assert extension["path"] == ["definitions", "Extension"]
    assert all(_resolves(document, reference) for reference in _references(document))


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in _references(inner)]
    return [found for inner in value for found in _references(inner)] if isinstance(value, list) else []


def _resolves(document: Any, reference: str) -> bool:
    for part in reference.removeprefix("#/").split("/"):
        if part not in document:
            return False
        document = document[part]
    return True


async def test_a_part_of_a_schema_of_a_type_with_dots_in_its_name(client: Client) -> None:
    await client.define("acme.Device-x")
    for path in (
        "definitions.acme.Device-x",
        "definitions.acme.Device-x.properties.id",
        "definitions.Coding.type",
    ):
        assert (await client.get(f"/$json-schema?path={path}")).status == 200, path
    part = (await client.get("/$json-schema?path=definitions.acme.Device-x.properties.id")).json
    assert part == {
        "path": ["definitions", "acme.Device-x", "properties", "id"],
        "schema": {"type": "string"},
    }
