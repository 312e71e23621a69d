"""Fixtures: a browser, and a server in a process of its own that can be killed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from harness.browser import Browser, chromium, executable
from harness.client import Client
from harness.process import Server


def pytest_sessionstart() -> None:
    """Say at once what is missing."""
    if shutil.which("curl") is None:
        raise pytest.UsageError(
            "these tests need curl, and there is none on the PATH: `apt-get install -y curl`"
        )
    try:
        executable()
    except FileNotFoundError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(tmp_path / "profile") as started:
        yield started


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server that runs, over a log without types."""
    made = Server(tmp_path / "data")
    await made.start()
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.kill()


@pytest.fixture
async def remote(server: Server) -> AsyncIterator[Client]:
    """A client of that server."""
    async with aiohttp.ClientSession() as session:
        yield Client(session, server.url)
