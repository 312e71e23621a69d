"""Nodes over one PostgreSQL killed under load, at named places and at any moment; and PostgreSQL itself."""

from __future__ import annotations

from harness import scenarios
from harness.run import Begin
from harness.site import Site

KILLS = 22


async def test_killed_at_every_failpoint(begin: Begin, site: Site) -> None:
    async with begin("2 nodes killed at failpoints", **site.options(2)) as run:
        await scenarios.killed_at_failpoints(run, KILLS)
