"""A client over HTTP that notes every answer, and fails the test when one under /fhir is not legal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import yaml

from eventstore.server.app import serving
from eventstore.server.settings import Settings
from harness.legal import faults


class Reply:
    """One answer, read to its end."""

    def __init__(self, response: aiohttp.ClientResponse, data: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.data = data

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def yaml(self) -> Any:
        return yaml.safe_load(self.data)

    @property
    def version(self) -> int:
        """The position in the ETag."""
        return int(self.headers["ETag"][3:-1])

    @property
    def messages(self) -> list[str]:
        """The diagnostics of an OperationOutcome."""
        return [issue["diagnostics"] for issue in self.json["issue"]]


class Client:
    """Requests to one server; `url` is its root."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a JSON body (or bytes as they are); header names have `_` for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and isinstance(body, dict | list):
            body = json.dumps(body)
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url + path, data=body, headers=sent) as response:
            reply = Reply(response, await response.read())
        _check(method, path, reply)
        return reply

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.request("GET", path, **headers)

    async def post(self, path: str, body: Any, **headers: str) -> Reply:
        return await self.request("POST", path, body, **headers)

    async def put(self, path: str, body: Any, **headers: str) -> Reply:
        return await self.request("PUT", path, body, **headers)

    async def patch(self, path: str, body: Any, **headers: str) -> Reply:
        return await self.request("PATCH", path, body, **headers)

    async def delete(self, path: str, **headers: str) -> Reply:
        return await self.request("DELETE", path, **headers)

    async def tip(self) -> int:
        """The position of the last event."""
        return int((await self.get("/$changes")).json["version"])

    async def define(self, id: str = "UserSetting", **more: Any) -> Reply:
        """Make an open type."""
        reply = await self.post("/Entity", {"id": id, "type": "resource", "isOpen": True, **more})
        assert reply.status == 201, reply.data
        return reply


@asynccontextmanager
async def talking(settings: Settings) -> AsyncIterator[Client]:
    """A server in this process, over a real log, and a client of it."""
    async with (
        serving(settings) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Client(session, url)


def _check(method: str, path: str, reply: Reply) -> None:
    if not path.startswith("/fhir") or not reply.data:
        return
    kind = reply.headers.get("Content-Type", "")
    value = reply.json if "json" in kind else reply.yaml if "yaml" in kind else None
    if isinstance(value, dict):
        found = faults(value)
        assert not found, f"{method} {path} answered what is not legal FHIR: {found}\n{reply.data[:2000]!r}"
