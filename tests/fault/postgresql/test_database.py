"""Two writers on one log: commits that are slow or cut, foreign sessions, clocks, and a database that is behind."""

from __future__ import annotations

from pathlib import Path

from harness import outages
from harness.database import url_at
from harness.lossy import lossy
from harness.network import Network
from harness.run import Begin
from harness.site import Site

CUTS = 200


async def test_slow_commits_before_a_reader_that_asks_all_the_time(begin: Begin, site: Site) -> None:
    async with begin("slow commits", **site.options(2, polled=True)) as run:
        await outages.slow_commits(run)


async def test_old_sessions_hold_nothing_up(begin: Begin, site: Site) -> None:
    async with begin("foreign sessions", **site.options(2)) as run:
        await outages.old_sessions(run, site)


async def test_commits_are_cut(begin: Begin, site: Site, tmp_path: Path) -> None:
    async with (
        lossy(site.database.url, tmp_path) as proxy,
        begin(f"{CUTS} commits cut", **site.options(2, proxy=proxy.url)) as run,
    ):
        await outages.commits_cut(run, proxy, CUTS)


async def test_the_clock_jumps(begin: Begin, site: Site) -> None:
    url = f"{site.database.url}?search_path=public,pg_catalog"
    async with begin("clock jumps", **site.options(2, proxy=url)) as run:
        await outages.clock_jumps(run, site)


async def test_a_standby_that_is_behind_is_promoted(begin: Begin, site: Site) -> None:
    primary = site.database
    between = Network(primary.port)
    await between.open()
    standby = await primary.standby(primary.directory.with_name("standby"), between.port)
    try:
        both = url_at(primary.port, standby.port)
        async with begin("standby behind promoted", **site.options(2, proxy=both)) as run:
            await outages.failed_over(run, primary, standby, between)
    finally:
        await standby.kill()


async def test_an_older_copy_is_restored(begin: Begin, site: Site) -> None:
    async with begin("older copy restored", **site.options(2)) as run:
        await outages.restored(run, site)
