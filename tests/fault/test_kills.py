"""The server killed under load, at named places and at any moment, over one data directory."""

from __future__ import annotations

from harness.run import Begin
from harness.scenarios import killed_at_failpoints

KILLS = 50


async def test_killed_at_every_failpoint(begin: Begin) -> None:
    async with begin("server killed at failpoints") as run:
        await killed_at_failpoints(run, KILLS)
