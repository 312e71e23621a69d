"""Puts the parts together and runs them: log, projections, writer, store, HTTP."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from eventstore.errors import Unavailable
from eventstore.membership import Membership
from eventstore.projection import Projection
from eventstore.server import definitions, lists, operations, resources, terms, validating
from eventstore.server.batch_validating import Validations
from eventstore.server.checkers import Checkers
from eventstore.server.connection import KEEP_ALIVE_SECONDS, Connections
from eventstore.server.feeds import Feeds
from eventstore.server.health import Health
from eventstore.server.metrics import Meter, Metrics
from eventstore.server.middleware import Front, Handler
from eventstore.server.opening import running, tune
from eventstore.server.packages import Packages
from eventstore.server.projecting import Projecting
from eventstore.server.settings import Settings
from eventstore.store import Store
from projections.engine import BUILT_IN, Engine

if TYPE_CHECKING:
    from eventstore.server.streaming import Streaming

HANDLERS: dict[str, Handler] = {
    "root": operations.root,
    "health": operations.health,
    "sql": operations.sql,
    "json-schema": operations.json_schema,
    "search": operations.search,
    "validate": validating.validate,
    "expand": terms.expand,
    "validate-code": terms.validate_code,
    "history": lists.history_,
    "changes": lists.changes,
    "version": resources.version,
    "activate": definitions.activate,
    "dump": definitions.dump,
    "dump-structure": definitions.dump_structure,
    "deactivate": definitions.deactivate,
}

HEADER_BYTES_MAX = 16 * 1024
log = logging.getLogger("quire")


@asynccontextmanager
async def serving(settings: Settings, projections: Sequence[Projection] = BUILT_IN) -> AsyncIterator[str]:
    """Serve until the block ends; gives the URL. What was accepted before the end is on the disk after it.

    Raises Unavailable when a port is in use or another process writes, Invalid for settings that cannot be.
    """
    settings.check()
    listener = _listen(settings)
    url = _url(listener)
    try:
        async with (
            running(settings, projections, settings.base_url or url) as (store, engine, members),
            _streaming(store, members, settings, settings.base_url or url) as stream,
            Validations(store, members) as validations,
            Checkers(settings.place) as checkers,
        ):
            front = _front(store, engine, members, settings, stream, validations, checkers)
            connections = Connections(front.plain, _others(front))
            server = await asyncio.get_running_loop().create_server(connections, sock=listener)
            try:
                _announce(store, url)
                yield url
            finally:
                store.feed.close()
                await store.log.interrupt()
                server.close()
                await connections.close()
    finally:
        listener.close()


@asynccontextmanager
async def _streaming(
    store: Store, members: Membership, settings: Settings, base_url: str
) -> AsyncIterator[Streaming | None]:
    if settings.nats.where == "off":
        yield None
        return
    from eventstore.server.streaming import streaming  # noqa: PLC0415 - adapters are imported when used

    async with streaming(store, members, settings.nats, settings.data, base_url) as stream:
        yield stream


def _front(
    store: Store,
    engine: Engine,
    members: Membership,
    settings: Settings,
    stream: Streaming | None,
    validations: Validations,
    checkers: Checkers,
) -> Front:
    feeds, meter, projecting = Feeds(store.feed, store.log.id), Meter(), Projecting(engine)
    metrics = Metrics(store, engine, members, feeds, meter, stream)
    handlers: dict[str, Handler] = {
        **HANDLERS,
        "import": partial(operations.import_, checkers),
        "type": partial(lists.type_, checkers),
        "resource": partial(resources.resource, checkers),
        "ready": Health(store, engine, members, stream).ready,
        "package-install": Packages(settings.package_registry).install,
        "rebuild": projecting.rebuild,
        "unpark": projecting.unpark,
        "batch-validate": validations.begin,
        "validation": validations.task,
        "feed": feeds.changes,
        "live": feeds.live,
        "metrics": metrics.answer,
    }
    return Front(store, settings, handlers, meter)


def _others(front: Front) -> web.Server:
    """Aiohttp's server, for the requests that are not plain."""
    return web.Server(
        front,
        access_log=None,
        logger=_protocol_log(),
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        max_field_size=HEADER_BYTES_MAX,
        max_line_size=HEADER_BYTES_MAX,
        auto_decompress=False,  # it would take what was cut off for all of it
    )


def _protocol_log() -> logging.Logger:
    """Aiohttp tells of every client that does not speak HTTP; that is the client's affair, not an error of ours."""
    quiet = logging.getLogger("quire.http.protocol")
    quiet.setLevel(logging.CRITICAL)
    return quiet


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    async with serving(settings) as url:
        tune()
        log.info("listening", extra={"url": url, "data": str(settings.place)})
        await stop.wait()
        log.info("stopping")


def _listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises Unavailable, naming the port, when it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"port {settings.port} on {settings.host} is in use; end what uses it, or choose another with --port"
            ) from error
        raise Unavailable(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - told, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(store: Store, url: str) -> None:
    lock = getattr(store.log, "lock", None)
    if lock is not None:
        lock.announce(url)
