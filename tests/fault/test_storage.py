"""A disk that is full, slow or fails, clients that vanish in the middle, and a server that stands still."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import scenarios
from harness.network import NatsServer
from harness.run import Begin

DISK_MIB = 48


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A device of its own with little room."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


async def test_the_outcome_of_a_commit_is_unknown(begin: Begin) -> None:
    async with begin("COMMIT raises") as run:
        await scenarios.commit_fails(run)


async def test_the_disk_is_slow(begin: Begin) -> None:
    async with begin("slow disk") as run:
        await scenarios.slow_disk(run)


async def test_the_disk_is_full(begin: Begin, small_disk: Path, broker: NatsServer) -> None:
    async with begin("disk full", disk=small_disk, broker=broker.url, stream_url=broker.url) as run:
        await scenarios.disk_full(run, 3, small_disk / "filler")


async def test_the_disk_of_the_embedded_broker_is_full(begin: Begin, small_disk: Path) -> None:
    async with begin("disk full, embedded broker on it", disk=small_disk) as run:
        await scenarios.disk_full(run, 3, small_disk / "filler")


async def test_the_server_stands_still(begin: Begin) -> None:
    async with begin("server stopped and continued") as run:
        await scenarios.held_up(run, 3)


async def test_clients_are_cut_off(begin: Begin) -> None:
    async with begin("clients cut off") as run:
        await scenarios.clients_cut(run)
