"""The stream beside the log: which broker holds it, how it is reached, and who publishes to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from eventstore.delivery.connect import Connect, connecting
from eventstore.delivery.jetstream import StreamSettings
from eventstore.delivery.nats import Publisher, Status
from eventstore.errors import Invalid
from eventstore.membership import Membership
from eventstore.server.broker import Broker, embedded
from eventstore.server.settings import NatsSettings
from eventstore.store import Store

STREAM = "stream "
"""What the names of leases to publish begin with."""
COMPARE_SECONDS_MAX = 10.0
"""How long the start waits to know whether the stream is ahead of the log."""


class Streaming:
    """The publisher of a server, and the broker when it is ours."""

    def __init__(self, publisher: Publisher, broker: Broker | None) -> None:
        self._publisher = publisher
        self.broker = broker

    async def status(self) -> Status:
        """How the publisher stands. Raises Unavailable when the log cannot be read."""
        return await self._publisher.status()


@asynccontextmanager
async def streaming(
    store: Store, members: Membership, settings: NatsSettings, data: Path, base_url: str
) -> AsyncIterator[Streaming]:
    """Keep the stream up with the log until the block ends, whenever no other node does.

    The block begins when log and stream were compared, so that nothing is appended to a log that is behind its stream;
    a broker that is away is not waited for. Raises Unavailable when the embedded nats-server cannot run, Invalid for
    settings that cannot be.
    """
    stream = stream_settings(settings)
    async with AsyncExitStack() as stack:
        broker: Broker | None = None
        if settings.where == "embedded":
            broker = await stack.enter_async_context(embedded(data, settings.port))
            connect = connecting(broker.url, **broker.publisher_options)
            options: dict[str, Any] = {"connect": connect, "stuck": broker.renew}
        else:
            options = {"connect": _connecting(settings)}
        lease = members.lease(lease_name(settings, members.id))
        await members.beat()
        publisher = Publisher(
            store.log, store.arrived, lease=lease, stream=stream, base_url=base_url,
            recent=store.feed.recent, hold=store.hold, **options,
        )  # fmt: skip
        publisher.start()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(COMPARE_SECONDS_MAX):
                    await publisher.compared()
            yield Streaming(publisher, broker)
        finally:
            await publisher.stop()


def lease_name(settings: NatsSettings, node: str) -> str:
    """What a node owns while it publishes: the stream, by its name and its broker's addresses. An embedded one is its own."""
    if settings.where == "embedded":
        return f"{STREAM}{settings.stream} of {node}"
    servers = sorted(url.rpartition("@")[2].rpartition("://")[2] for url in settings.servers)
    return f"{STREAM}{settings.stream} at {','.join(servers)}"


@asynccontextmanager
async def reaching(settings: NatsSettings, data: Path) -> AsyncIterator[Connect]:
    """How a command reaches the stream: the broker that runs over the data directory, one started for it, or yours.

    Raises Unavailable when the embedded nats-server cannot run, Invalid for credentials that cannot be read.
    """
    if settings.where != "embedded":
        yield _connecting(settings)
        return
    broker = Broker(data, settings.port)
    if await broker.find():
        yield connecting(broker.url, **broker.publisher_options)
        return
    async with embedded(data, port=0) as own:
        yield connecting(own.url, **own.publisher_options)


def stream_settings(settings: NatsSettings) -> StreamSettings:
    """Raises Invalid when no stream can be made so."""
    stream = StreamSettings(settings.stream, settings.max_age_seconds, settings.max_bytes, settings.replicas)
    stream.check()
    return stream


def _connecting(settings: NatsSettings) -> Connect:
    """To servers that are not ours, with the credentials given. Raises Invalid for files that cannot be read."""
    options: dict[str, Any] = {}
    if settings.credentials is not None:
        _readable("--nats-creds", settings.credentials)
        options["user_credentials"] = str(settings.credentials)
    if settings.ca is not None or settings.certificate is not None:
        options["tls"] = _tls(settings)
    return connecting(settings.servers, **options)


def _tls(settings: NatsSettings) -> ssl.SSLContext:
    if settings.ca is not None:
        _readable("--nats-ca", settings.ca)
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (ssl.SSLError, OSError) as error:
        raise Invalid(f"--nats-ca, --nats-cert, --nats-key: {error}") from error
    return context


def _readable(option: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise Invalid(f"{option} {path}: {error.strerror}") from error
