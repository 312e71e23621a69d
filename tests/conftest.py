"""Fixtures: a place for a log on each backend, a server over it, and a client."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from harness import postgres
from harness.client import Client, talking

from eventstore.log.opening import Place
from eventstore.server.settings import NatsSettings, Settings

NewPlace = Callable[[], Awaitable[Place]]

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Where that was set, every process and every worker would compile all that it imports anew: most of its time."""

os.environ["QUIRE_NATS"] = "off"
"""For the processes that tests start: they run side by side, and the broker's port is one. Tests of the stream ask."""


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL for this session, started by the first test that wants it."""
    with postgres.server() as url:
        yield url


@pytest.fixture
def backend() -> str:
    """The storage under a test; a module that tests on both gives this fixture parameters (`harness.both`)."""
    return "sqlite"


@pytest.fixture
def new_place(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> NewPlace:
    """Makes places for logs, with nothing in them."""
    url = request.getfixturevalue("postgres_url") if backend == "postgres" else ""
    numbers = count(1)

    async def make() -> Place:
        return Place(tmp_path / f"data{next(numbers)}", await postgres.schema(url) if url else "")

    return make


@pytest.fixture
async def place(new_place: NewPlace, tmp_path: Path) -> Place:
    """A place for one log, with nothing in it."""
    return Place(tmp_path / "data", (await new_place()).db)


@pytest.fixture
def settings(place: Place) -> Settings:
    """How the server of this test runs: any free port, a directory of its own."""
    return Settings(port=0, data=place.data, db=place.db, nats=NatsSettings("off"))


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of a server that runs in this process, over a real log."""
    async with talking(settings) as made:
        yield made


@pytest.fixture
async def published_client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server with a broker of its own."""
    settings = Settings(port=0, data=tmp_path / "data", nats=NatsSettings("embedded", port=0))
    async with talking(settings) as made:
        yield made
