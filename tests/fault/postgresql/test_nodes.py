"""Nodes that stand still while they hold something, ends that vanish, and many clients at once."""

from __future__ import annotations

import os

import pytest
from harness import outages
from harness.run import Begin
from harness.site import Site

CLIENTS = 64
MINUTES = float(os.environ.get("MINUTES") or 0.5)
WRITES_PER_SECOND = float(os.environ.get("RATE") or 1000)


async def test_a_node_is_stopped_while_it_holds_the_log(begin: Begin, site: Site) -> None:
    async with begin("node stopped with the log", **site.options(2)) as run:
        await outages.stopped_with_the_log(run, 6)


async def test_postgresql_vanishes(begin: Begin, site: Site) -> None:
    async with begin("PostgreSQL vanished", **site.options(1)) as run:
        await outages.vanished(run, 3)


async def test_the_publishing_node_is_stopped(begin: Begin, site: Site) -> None:
    async with begin("publishing node stopped", **site.options(2)) as run:
        await outages.publisher_stopped(run, 30)


@pytest.mark.timeout(60 * MINUTES + 300)
async def test_a_storm_on_one_resource(begin: Begin, site: Site) -> None:
    async with begin(f"{CLIENTS} clients on one resource", **site.options(2, clients=2)) as run:
        await outages.storm(run, site, CLIENTS, MINUTES)


@pytest.mark.timeout(900)
async def test_a_steady_load_with_everything_killed(begin: Begin, site: Site) -> None:
    async with begin("open loop, everything killed", **site.options(3, clients=4)) as run:
        await outages.steady(run, site, WRITES_PER_SECOND)
