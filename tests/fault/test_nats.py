"""Every change on NATS, once and in order, from `quire serve --nats embedded`, a real process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import nats
import pytest
from harness.client import Client
from harness.process import Server, free_port
from nats.js.errors import APIError, NoStreamResponseError


class Published(Server):
    """A server with a broker of its own."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.nats_port = free_port()
        self.options = ("--nats", "embedded", "--nats-port", str(self.nats_port))


async def test_a_consumer_sees_every_event_once_in_order_across_a_kill(tmp_path: Path) -> None:
    server = Published(tmp_path / "data")
    await server.start()
    async with aiohttp.ClientSession() as session:
        client = Client(session, server.url)
        await client.define()
        await client.define("acme.Device-x")
        versions = [(await client.put(f"/UserSetting/r{n}", {"n": n})).version for n in range(20)]
        versions.append((await client.put("/acme.Device-x/a.b", {"n": 1})).version)
        await server.kill()
        await server.start()
        versions.append((await client.delete("/UserSetting/r3")).version)

    listener = await nats.connect(f"nats://127.0.0.1:{server.nats_port}")
    js = listener.jetstream()
    subscription = await js.subscribe("quire.*.*.*", ordered_consumer=True)
    seen = []
    async with asyncio.timeout(20):
        while not seen or seen[-1].metadata.sequence.stream < versions[-1]:
            seen.append(await subscription.next_msg(timeout=15))
    assert [message.metadata.sequence.stream for message in seen] == list(range(1, versions[-1] + 1))
    subjects = [message.subject for message in seen]
    assert subjects[1] == "quire.Entity.acme=2EDevice-x.created"
    assert subjects[-2:] == ["quire.acme=2EDevice-x.a=2Eb.created", "quire.UserSetting.r3.deleted"]
    with pytest.raises((APIError, NoStreamResponseError, TimeoutError, nats.errors.Error)):
        await js.publish("quire.x", b"stray", timeout=1)
    await listener.close()
    assert await server.stop() == 0
