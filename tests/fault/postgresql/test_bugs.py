"""The checkers are proven over two nodes as well: with a bug planted, the same runs fail, and by the right guarantee."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from harness import outages, scenarios, site
from harness.cluster import Networks
from harness.run import Begin, Broken
from harness.site import Site

FOUND_SECONDS_MAX = 600.0
KILLS = 12
NODES = 2


async def killed(begin: Begin, bug: str, seed: int, site: Site) -> None:
    async with begin(f"bug: {bug}", bug=bug, seed=seed, **site.options(NODES)) as run:
        await scenarios.killed_at_failpoints(run, KILLS)


async def networked(begin: Begin, bug: str, seed: int, site: Site) -> None:
    networks = Networks(site.cluster)
    await networks.open()
    options = site.options(NODES, broker=networks.url, limits=scenarios.LATE)
    try:
        async with begin(f"bug: {bug}", bug=bug, seed=seed, **options) as run:
            await scenarios.network_to_broker(run, networks, 3)
    finally:
        await networks.cut()


async def database_killed(begin: Begin, bug: str, seed: int, site: Site) -> None:
    async with begin(f"bug: {bug}", bug=bug, seed=seed, **site.options(NODES)) as run:
        with suppress(AssertionError):  # nodes that see positions missing which they knew of write no more
            await outages.database_killed(run, site, 5)


FINDS: dict[str, tuple[str, Callable[[Begin, str, int, Site], Awaitable[None]]]] = {
    "read before lock": ("Isolated", killed),
    "checkpoint before write": ("Replayable", killed),
    "fence off": ("Fenced", networked),
    "reply before commit": ("Durable", killed),
    "batch overlay off": ("Isolated", killed),
    "commit not synced": ("Durable", database_killed),
}
"""The guarantee that each bug breaks, and the runs that find it."""


async def broken(begin: Begin, bug: str, seed: int, directory: Path) -> set[str]:
    """The guarantees that a run with the bug finds broken; none when it finds nothing."""
    async with site.site(directory / str(seed)) as made:
        try:
            await FINDS[bug][1](begin, bug, seed, made)
        except Broken as found:
            return found.guarantees
    return set()


@pytest.mark.timeout(FOUND_SECONDS_MAX + 300)
@pytest.mark.parametrize("bug", FINDS)
async def test_a_planted_bug_is_found(begin: Begin, tmp_path: Path, seed: int, bug: str) -> None:
    begun = time.monotonic()
    found: set[str] = set()
    while not found:
        assert time.monotonic() - begun < FOUND_SECONDS_MAX, "not found"
        found = await broken(begin, bug, seed, tmp_path)
        seed += 1
    assert FINDS[bug][0] in found
