"""The nodes of a log that one process at a time has open: kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from eventstore.event import Position
from eventstore.log.base import Node, Owned, Roll


class NodesHere:
    """See `Nodes`. They are all in this process, so nobody else appends or leaves."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[Node, float]] = {}
        self._owned: dict[str, tuple[Owned, float]] = {}

    async def beat(self, node: Node, wanted: Mapping[str, Position], lease_seconds: float) -> Roll:
        self._forget()
        until = _now() + lease_seconds
        self._nodes[node.id] = (node, until)
        for name in [name for name, one in self._owned.items() if one[0].node == node.id]:
            if name not in wanted:
                del self._owned[name]
        for name, position in wanted.items():
            if name not in self._owned or self._owned[name][0].node == node.id:
                self._owned[name] = (Owned(node.id, position), until)
        return await self.roll()

    async def leave(self, node: str) -> None:
        self._nodes.pop(node, None)
        self._owned = {name: one for name, one in self._owned.items() if one[0].node != node}

    async def roll(self) -> Roll:
        self._forget()
        nodes = sorted((node for node, _ in self._nodes.values()), key=lambda node: node.id)
        return Roll(nodes, {name: owned for name, (owned, _) in self._owned.items()})

    def on_append(self, heard: Callable[[Position], None]) -> None:
        return

    def on_leave(self, heard: Callable[[], None]) -> None:
        return

    def _forget(self) -> None:
        """Whose time is over."""
        self._nodes = {id: one for id, one in self._nodes.items() if one[1] > _now()}
        self._owned = {name: one for name, one in self._owned.items() if one[1] > _now()}


def _now() -> float:
    return asyncio.get_running_loop().time()
