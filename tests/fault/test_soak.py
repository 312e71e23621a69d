"""Every fault in any order, round after round, each with a seed of its own: half a minute, or `HOURS=1 make soak`."""

from __future__ import annotations

import os
import time

import pytest
from harness import scenarios
from harness.run import Begin

SOAK_SECONDS = float(os.environ.get("HOURS") or 0) * 3600
ROUND_SECONDS = 30.0


@pytest.mark.timeout(SOAK_SECONDS + 600)
async def test_soak(begin: Begin, seed: int) -> None:
    end = time.monotonic() + SOAK_SECONDS
    while True:
        async with begin("anything", seed=seed) as run:
            await scenarios.anything(run, ROUND_SECONDS)
        seed += 1
        if time.monotonic() > end:
            return
