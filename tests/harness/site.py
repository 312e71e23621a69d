"""What a run over PostgreSQL and several nodes stands on: the database, and three nats-servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.cluster import NatsCluster
from harness.database import Postgres, database


class Site:
    """Both, started."""

    def __init__(self, database: Postgres, cluster: NatsCluster) -> None:
        self.database = database
        self.cluster = cluster

    def options(self, nodes: int, **more: Any) -> dict[str, Any]:
        """What `Run` takes."""
        return {
            "db": self.database.url, "nodes": nodes,
            "broker": self.cluster.url, "stream_url": self.cluster.url, **more,
        }  # fmt: skip


@asynccontextmanager
async def site(directory: Path, disk: Path | None = None) -> AsyncIterator[Site]:
    """An empty one, killed at the end. `disk` is where PostgreSQL has its files, when that is not anywhere."""
    directory.mkdir(parents=True, exist_ok=True)
    async with database(disk) as made:
        cluster = NatsCluster(directory / "cluster")
        try:
            await cluster.start()
            yield Site(made, cluster)
        finally:
            await cluster.kill()
