"""The broker killed, stopped, held up and away, and a network to it that delivers late."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from harness import scenarios
from harness.network import NatsServer, Network
from harness.run import Begin

KILLS = 20
AWAY_SECONDS = 8.0
"""Longer than ACKNOWLEDGE_SECONDS_MAX and than any pause between two tries."""


@pytest.fixture
async def network(broker: NatsServer) -> AsyncIterator[Network]:
    between = Network(broker.port)
    await between.open()
    yield between
    await between.cut()


async def test_the_embedded_broker_killed_again_and_again(begin: Begin) -> None:
    async with begin("nats-server killed") as run:
        await scenarios.broker_killed(run, KILLS)


async def test_the_broker_away_for_long(begin: Begin, broker: NatsServer) -> None:
    async with begin("nats-server away", broker=broker.url, stream_url=broker.url) as run:
        await scenarios.broker_away(run, broker, AWAY_SECONDS)


async def test_the_broker_held_up(begin: Begin, broker: NatsServer) -> None:
    options = {"broker": broker.url, "stream_url": broker.url, "limits": scenarios.LATE}
    async with begin("nats-server stopped and continued", **options) as run:
        await scenarios.broker_held_up(run, broker, 3)


async def test_the_network_to_the_broker(begin: Begin, broker: NatsServer, network: Network) -> None:
    options = {"broker": network.url, "stream_url": broker.url, "limits": scenarios.LATE}
    async with begin("network to nats-server", **options) as run:
        await scenarios.network_to_broker(run, network, 9)
