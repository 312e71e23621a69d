"""The README's first minute and the guide to types: each request is sent, each answer compared."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from harness.client import Client
from harness.guide import Step, steps, unlike
from harness.process import Published

HOME = Path(__file__).parents[2]
TYPES = (HOME / "docs" / "types.md").read_text("utf-8")
PACKAGES = (HOME / "docs" / "packages.md").read_text("utf-8")
FORMATS = (HOME / "docs" / "formats.md").read_text("utf-8")
VALUE_SETS = (HOME / "docs" / "valuesets.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUIRE = f"""#!/bin/sh
exec {sys.executable} -c 'from eventstore.server.cli import main; main()' "$@"
"""
PYTHON = f"""#!/bin/sh
exec {sys.executable} "$@"
"""


async def send(client: Client, step: Step, format: str = "yaml") -> None:
    """Send a guide's request, as YAML or in JSON, and compare the answer with the one it shows."""
    headers, body = dict(step.headers), step.body
    if format == "json":
        headers = dict.fromkeys(headers, "application/json")
        body = json.dumps(yaml.safe_load(body)) if body else None
    sent = {name.replace("-", "_"): value for name, value in headers.items()}
    reply = await client.request(step.method, step.path, body, **sent)
    assert reply.status == step.status, (step, reply.data)
    real: Any = None
    if reply.data:
        assert format in reply.headers["Content-Type"]
        real = reply.yaml if format == "yaml" else reply.json
    assert not unlike(step.answer, real), (step, unlike(step.answer, real))


async def shell(command: str, home: Path) -> str:
    """Run a command as a reader would, in the directory of the data."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, cwd=home, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, problem = await process.communicate()
    assert process.returncode == 0, (command, out, problem)
    return out.decode()


def looks_like(shown: str, real: str) -> bool:
    """Whether a text is as shown; `...` stands for anything on its line."""
    return re.fullmatch(re.escape(shown).replace(r"\.\.\.", "[^\n]*"), real) is not None


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Published]:
    """A server that is not started; its data is in `quire-data`, like a reader's."""
    made = Published(tmp_path / "quire-data")
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.kill()


async def test_the_first_minute(server: Published, tmp_path: Path) -> None:
    """With a server of its own that is really killed."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, script in (("quire", QUIRE), ("python", PYTHON)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    text = (HOME / "README.md").read_text("utf-8").partition("## The first minute")[2].partition("\n## ")[0]
    requests, blocks = iter(steps(text)), BLOCK.findall(text)
    starts = 0
    async with aiohttp.ClientSession() as session:
        client = Client(session, server.url)
        for (language, command), (_, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
            if language != "sh":
                continue
            if command == "make run\n":
                await server.start()
                starts += 1
            elif command.startswith("curl"):
                await send(client, next(requests))
            elif command.startswith("kill -9"):
                await shell(command, tmp_path)
                assert server.process is not None
                assert await server.process.wait() == -9
            else:
                assert looks_like(
                    shown, await shell(command.replace(":4222", f":{server.nats_port}"), tmp_path)
                )
    assert next(requests, None) is None
    assert starts == 2
    assert await server.stop() == 0


async def test_the_guide_to_packages(server: Published, tmp_path: Path) -> None:
    """Its commands with no server, its requests with one on the same data."""
    (tmp_path / "quire").write_text(QUIRE)
    (tmp_path / "quire").chmod(0o755)
    blocks, requests = BLOCK.findall(PACKAGES), steps(PACKAGES)
    for (language, command), (_, shown) in pairwise(blocks):
        if language == "sh" and not command.startswith("curl"):
            assert looks_like(shown, await shell(f"PATH=.:$PATH; {command}", tmp_path)), command
    await server.start()
    async with aiohttp.ClientSession() as session:
        for step in requests:
            sent: Any = step.body
            if step.body is not None and step.body.startswith("@"):
                sent = (tmp_path / step.body[1:]).read_bytes()
            await send(Client(session, server.url), step._replace(body=sent))
    assert await server.stop() == 0
    assert len(requests) == PACKAGES.count("\n```yaml answer=") == 2


@pytest.mark.parametrize("format", ["yaml", "json"])
@pytest.mark.parametrize("page", [TYPES, FORMATS, VALUE_SETS], ids=["types", "formats", "valuesets"])
async def test_the_guide_to_types(client: Client, page: str, format: str) -> None:
    told = steps(page)
    assert len(told) == page.count("\n```yaml answer=")
    for step in told:
        await send(client, step, format)


async def test_what_the_guide_says_is_refused(client: Client) -> None:
    assert (await client.define("Device", meta={"tag": [{"code": "shadows-core"}]})).status == 201
    assert (await client.define("Tray", isOpen=False)).status == 201
    tray: dict[str, Any] = {"resource": {"id": "Tray"}, "path": ["x"]}
    serial = {**tray, "id": "Tray.serial", "path": ["serial"], "type": {"id": "string"}}
    assert (await client.post("/Attribute", serial)).status == 201
    tip = await client.tip()
    tried = re.findall(r"^\| `(\{.*\})` \| (.*) \|$", TYPES.partition("## What is refused")[2], re.MULTILINE)
    assert len(tried) > 25
    for body, message in tried:
        entity = body in TYPES.partition("| Entity | message |")[2].partition("| Attribute |")[0]
        base = {"id": "Pump", "type": "resource"} if entity else {"id": "new", **tray}
        reply = await client.post("/Entity" if entity else "/Attribute", {**base, **yaml.safe_load(body)})
        assert reply.status in (409, 422), (body, reply.data)
        assert message in reply.messages, (body, reply.messages)
    assert await client.tip() == tip
