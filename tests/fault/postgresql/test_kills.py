"""Nodes over one PostgreSQL killed under load, at named places and at any moment; and PostgreSQL itself."""

from __future__ import annotations

from harness import outages, scenarios
from harness.device import Device
from harness.run import Begin
from harness.site import Site

KILLS = 22


async def test_nodes_killed_at_every_failpoint(begin: Begin, site: Site) -> None:
    async with begin("2 nodes killed at failpoints", **site.options(2)) as run:
        await scenarios.killed_at_failpoints(run, KILLS)


async def test_postgresql_killed_and_restarted(begin: Begin, site: Site) -> None:
    async with begin("PostgreSQL killed", **site.options(2)) as run:
        await outages.database_killed(run, site, 8)


async def test_the_outcome_of_a_commit_is_unknown(begin: Begin, site: Site) -> None:
    async with begin("COMMIT raises", **site.options(2)) as run:
        await scenarios.commit_fails(run)


async def test_clients_are_cut_off(begin: Begin, site: Site) -> None:
    async with begin("clients cut off", **site.options(2)) as run:
        await scenarios.clients_cut(run)


async def test_the_power_of_postgresql_fails(begin: Begin, device: Device, powered_site: Site) -> None:
    async with begin("power of PostgreSQL fails", **powered_site.options(2)) as run:
        await outages.power_fails(run, powered_site, device, 5)


async def test_the_disk_of_postgresql_is_full(begin: Begin, device: Device, powered_site: Site) -> None:
    async with begin("disk of PostgreSQL full", **powered_site.options(2)) as run:
        await outages.disk_full(run, powered_site, device, 3)
