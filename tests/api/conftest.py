"""Every test of this directory that asks for a server runs over each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import postgres
from harness.client import Client, talking

from eventstore.log.opening import Place
from eventstore.server.settings import NatsSettings, Settings


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Client]:
    """One server for the tests of a module that do not mind what the others leave on it."""
    db = await postgres.schema(request.getfixturevalue("postgres_url")) if backend == "postgres" else ""
    place = Place(tmp_path_factory.mktemp("shared") / "data", db)
    async with talking(Settings(port=0, data=place.data, db=place.db, nats=NatsSettings("off"))) as client:
        yield client
