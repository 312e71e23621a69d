"""Copies of logs, on each backend as its users make them."""

from __future__ import annotations

import shutil
from pathlib import Path

from eventstore.log.opening import Place
from harness import postgres


class Copy:
    """A log as it is now, while nobody writes, to be put back."""

    def __init__(self, place: Place, aside: Path) -> None:
        self.place = place
        self.aside = aside
        self.dump = postgres.dump(place.db) if place.db else b""
        if not place.db:
            shutil.copytree(place.data, aside)

    def restore(self) -> None:
        """Put it in the place of what is there now."""
        if self.place.db:
            postgres.restore(self.place.db, self.dump)
            return
        shutil.rmtree(self.place.data)
        shutil.copytree(self.aside, self.place.data)
