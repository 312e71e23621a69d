"""Three nats-servers killed, away, without their files, and streams that have lost something."""

from __future__ import annotations

from harness import outages, scenarios
from harness.cluster import Networks
from harness.run import Begin
from harness.site import Site

AWAY_SECONDS = 8.0
"""Longer than ACKNOWLEDGE_SECONDS_MAX and than any pause between two tries."""


async def test_the_leader_killed_again_and_again(begin: Begin, site: Site) -> None:
    async with begin("NATS leader killed", **site.options(2)) as run:
        await outages.leader_killed(run, site, 30)


async def test_the_cluster_away_for_long(begin: Begin, site: Site) -> None:
    async with begin("NATS cluster away", **site.options(2)) as run:
        await outages.cluster_away(run, site, AWAY_SECONDS)


async def test_the_network_to_the_cluster(begin: Begin, site: Site) -> None:
    networks = Networks(site.cluster)
    await networks.open()
    options = site.options(2, broker=networks.url, limits=scenarios.LATE)
    try:
        async with begin("network to NATS cluster", **options) as run:
            await scenarios.network_to_broker(run, networks, 9)
    finally:
        await networks.cut()


async def test_a_replica_is_lost(begin: Begin, site: Site) -> None:
    async with begin("files of one nats-server lost", **site.options(2)) as run:
        await outages.replica_lost(run, site)


async def test_the_tail_of_the_stream_is_lost(begin: Begin, site: Site) -> None:
    async with begin("tail of the stream lost", **site.options(2)) as run:
        await outages.tail_lost(run, site)


async def test_a_message_in_the_middle_is_lost(begin: Begin, site: Site) -> None:
    async with begin("middle of the stream lost", **site.options(2)) as run:
        await outages.middle_lost(run, site)


async def test_the_whole_stream_is_lost(begin: Begin, site: Site) -> None:
    async with begin("stream lost", **site.options(2)) as run:
        await outages.stream_lost(run, site)


async def test_odd_names_and_bodies_that_are_too_large(begin: Begin, site: Site) -> None:
    async with begin("poison events", **site.options(2)) as run:
        await outages.poisoned(run)
