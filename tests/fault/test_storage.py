"""A disk that is full, slow or fails, clients that vanish in the middle, and a server that stands still."""

from __future__ import annotations

from harness import scenarios
from harness.device import Device
from harness.network import NatsServer
from harness.run import Begin


async def test_the_outcome_of_a_commit_is_unknown(begin: Begin) -> None:
    async with begin("COMMIT raises") as run:
        await scenarios.commit_fails(run)


async def test_the_disk_is_slow(begin: Begin) -> None:
    async with begin("slow disk") as run:
        await scenarios.slow_disk(run)


async def test_the_disk_is_full(begin: Begin, device: Device, broker: NatsServer) -> None:
    async with begin("disk full", disk=device.path, broker=broker.url, stream_url=broker.url) as run:
        await scenarios.disk_full(run, device, 3)


async def test_the_disk_of_the_embedded_broker_is_full(begin: Begin, device: Device) -> None:
    async with begin("disk full, embedded broker on it", disk=device.path) as run:
        await scenarios.disk_full(run, device, 3)


async def test_the_power_fails(begin: Begin, device: Device) -> None:
    async with begin("power fails", disk=device.path) as run:
        await scenarios.power_fails(run, device, 8)


async def test_the_server_stands_still(begin: Begin) -> None:
    async with begin("server stopped and continued") as run:
        await scenarios.held_up(run, 3)


async def test_clients_are_cut_off(begin: Begin) -> None:
    async with begin("clients cut off") as run:
        await scenarios.clients_cut(run)
