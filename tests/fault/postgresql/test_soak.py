"""Everything that can happen to PostgreSQL, nats-servers and nodes, in any order, round after round."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from harness import outages, site
from harness.lossy import lossy
from harness.run import Begin

SOAK_SECONDS = float(os.environ.get("HOURS") or 0) * 3600
NODES = int(os.environ.get("NODES") or 3)
ROUND_SECONDS = 60.0


@pytest.mark.timeout(SOAK_SECONDS + 600)
async def test_soak(begin: Begin, seed: int, tmp_path: Path) -> None:
    end = time.monotonic() + SOAK_SECONDS
    while True:
        directory = tmp_path / str(seed)
        async with site.site(directory) as made, lossy(made.database.url, directory) as proxy:
            options = made.options(NODES, proxy=proxy.url, seed=seed)
            async with begin(f"anything, {NODES} nodes", **options) as run:
                await outages.anything(run, made, proxy, ROUND_SECONDS)
        seed += 1
        if time.monotonic() > end:
            return
