"""Fixtures: a server over a real file, and a client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from harness.client import Client

from eventstore.server.app import serving
from eventstore.server.settings import NatsSettings, Settings

os.environ["QUIRE_NATS"] = "off"
"""For the processes that tests start: they run side by side, and the broker's port is one. Tests of the stream ask."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """How the server of this test runs: any free port, a directory of its own."""
    return Settings(port=0, data=tmp_path / "data", nats=NatsSettings("off"))


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of a server that runs in this process, over a real SQLite file."""
    async with (
        serving(settings) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Client(session, url)


@pytest.fixture
async def published_client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server with a broker of its own."""
    settings = Settings(port=0, data=tmp_path / "data", nats=NatsSettings("embedded", port=0))
    async with serving(settings) as url, aiohttp.ClientSession() as session:
        yield Client(session, url)
