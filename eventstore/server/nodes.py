"""The nodes of a log, as they say of themselves when they are asked from outside."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from eventstore.follower import Standing
from eventstore.log.base import EventLog, Node, Owned
from eventstore.log.lock import holder
from eventstore.log.opening import Place

READY_SECONDS_MAX = 3.0


class Served(msgspec.Struct, frozen=True):
    """A process that serves the log, or writes to it."""

    id: str
    url: str
    ready: bool
    problem: str
    """Why it is not ready."""


class Published(msgspec.Struct, frozen=True, rename="camel"):
    """How a publisher stands."""

    state: str
    stream: str
    generation: int
    position: int
    lag_events: int
    lag_seconds: float
    owner: str = ""
    """The node that publishes, or would."""
    output: str = ""
    """Why it does not publish."""
    remedy: str = ""


class Readiness(msgspec.Struct):
    """What `/ready` says; `output` says why a node is not ready."""

    output: str = ""
    node: str = ""
    projections: list[Standing] = []
    rebuilds: dict[str, int] = {}
    publisher: Published | None = None


class Found(msgspec.Struct, frozen=True):
    """Who serves a log."""

    nodes: list[Served] = []
    owners: Mapping[str, Owned] = {}
    said: Mapping[str, Readiness] = {}
    """What each node says, by its id."""

    def publishers(self) -> list[Published]:
        """Those that publish; where no node does, one that says why."""
        told = [one.publisher for one in self.said.values() if one.publisher is not None]
        return [one for one in told if one.state != "elsewhere"] or told[:1]

    def follower(self, name: str) -> Standing | None:
        """How the follower for a projection stands, by the node that follows."""
        told = [one for said in self.said.values() for one in said.projections if one.name == name]
        return next((one for one in told if one.state != "elsewhere"), None)

    def rebuilt_to(self, name: str) -> int | None:
        """Up to where a projection is being built anew."""
        return next((one.rebuilds[name] for one in self.said.values() if name in one.rebuilds), None)


async def find(log: EventLog, place: Place) -> Found:
    """Ask all who serve a log: on PostgreSQL those that say they live, on SQLite the one that has the lock file."""
    if not place.db:
        return await asyncio.to_thread(_holder, place)
    roll = await log.nodes.roll()
    said = await asyncio.gather(*(asyncio.to_thread(_asked, node) for node in roll.nodes))
    return Found(
        [_served(node.id, node.url, one) for node, one in zip(roll.nodes, said, strict=True)],
        roll.owners,
        {node.id: one for node, one in zip(roll.nodes, said, strict=True)},
    )


def _holder(place: Place) -> Found:
    found = holder(place.data)
    if found is None:
        return Found()
    said = _ready(found.url) if found.url else _does_not_listen()
    id = said.node or f"process {found.pid}"
    return Found([_served(id, found.url, said)], {}, {id: said})


def _served(id: str, url: str, said: Readiness) -> Served:
    return Served(id, url, ready=not said.output, problem=said.output)


def _asked(node: Node) -> Readiness:
    """What a node says. At an address that means something else on this machine, another one may answer."""
    said = _ready(node.url) if node.url else _does_not_listen()
    if said.node in ("", node.id):
        return said
    return Readiness(f"at its address node {said.node} answers; it was given for another machine")


def _does_not_listen() -> Readiness:
    return Readiness("it does not listen: a command, or a server that starts")


def _ready(url: str) -> Readiness:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=READY_SECONDS_MAX)
    try:
        connection.request("GET", "/ready")
        response = connection.getresponse()
        ready = msgspec.json.decode(response.read(), type=Readiness)
        if response.status != 200 and not ready.output:
            ready.output = f"it answers {response.status}"
        return ready
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        return Readiness(f"it does not answer: {error or type(error).__name__}")
    finally:
        connection.close()
