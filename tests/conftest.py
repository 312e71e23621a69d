"""Fixtures: a server over a real file, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from harness.client import Client

from eventstore.server.app import serving
from eventstore.server.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """How the server of this test runs: any free port, a directory of its own."""
    return Settings(port=0, data=tmp_path / "data")


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of a server that runs in this process, over a real SQLite file."""
    async with (
        serving(settings) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Client(session, url)
