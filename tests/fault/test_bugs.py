"""The checkers are proven: with a bug planted, the same runs fail, and fail by the right guarantee."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness import scenarios
from harness.device import Device, needs_root
from harness.network import NatsServer, Network
from harness.run import Begin, Broken

FOUND_SECONDS_MAX = 600.0
KILLS = 16
DEVICE_MEBIBYTES = 64


async def killed(begin: Begin, bug: str, seed: int, _directory: Path) -> None:
    async with begin(f"bug: {bug}", bug=bug, seed=seed) as run:
        await scenarios.killed_at_failpoints(run, KILLS)


async def networked(begin: Begin, bug: str, seed: int, directory: Path) -> None:
    broker = NatsServer(directory / f"nats-{seed}")
    await broker.start()
    network = Network(broker.port)
    await network.open()
    options = {"broker": network.url, "stream_url": broker.url, "limits": scenarios.LATE}
    try:
        async with begin(f"bug: {bug}", bug=bug, seed=seed, **options) as run:
            await scenarios.network_to_broker(run, network, 3)
    finally:
        await network.cut()
        await broker.kill()


async def powered(begin: Begin, bug: str, seed: int, directory: Path) -> None:
    needs_root()
    device = Device(directory / f"device-{seed}", DEVICE_MEBIBYTES)
    device.mount()
    try:
        async with begin(f"bug: {bug}", bug=bug, seed=seed, disk=device.path) as run:
            await scenarios.power_fails(run, device, 2)
    finally:
        device.unmount()


FINDS: dict[str, tuple[str, Callable[[Begin, str, int, Path], Awaitable[None]]]] = {
    "read before lock": ("Isolated", killed),
    "checkpoint before write": ("Replayable", killed),
    "fence off": ("Fenced", networked),
    "reply before commit": ("Durable", killed),
    "batch overlay off": ("Isolated", killed),
    "commit not synced": ("Durable", powered),
}
"""The guarantee that each bug breaks, and the runs that find it."""


async def broken(begin: Begin, bug: str, seed: int, directory: Path) -> set[str]:
    """The guarantees that a run with the bug finds broken; none when it finds nothing."""
    _, runs = FINDS[bug]
    try:
        await runs(begin, bug, seed, directory)
    except Broken as found:
        return found.guarantees
    return set()


@pytest.mark.parametrize("bug", FINDS)
async def test_a_planted_bug_is_found(begin: Begin, tmp_path: Path, seed: int, bug: str) -> None:
    begun = time.monotonic()
    found: set[str] = set()
    while not found:
        assert time.monotonic() - begun < FOUND_SECONDS_MAX, "not found"
        found = await broken(begin, bug, seed, tmp_path)
        seed += 1
    assert FINDS[bug][0] in found
