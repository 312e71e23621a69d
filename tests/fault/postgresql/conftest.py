"""A place for a run over PostgreSQL and three nats-servers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness import site as sites
from harness.device import Device, needs_root
from harness.site import Site

DEVICE_MEBIBYTES = 320


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with sites.site(tmp_path) as made:
        yield made


@pytest.fixture
def device() -> Iterator[Device]:
    """A device of its own with little room, where PostgreSQL's user can reach it."""
    needs_root()
    with tempfile.TemporaryDirectory(prefix="quire-disk-") as name:
        Path(name).chmod(0o755)
        made = Device(Path(name), DEVICE_MEBIBYTES)
        made.mount()
        yield made
        made.unmount()


@pytest.fixture
async def powered_site(tmp_path: Path, device: Device) -> AsyncIterator[Site]:
    """One whose PostgreSQL is on that device."""
    async with sites.site(tmp_path, device.path) as made:
        yield made
