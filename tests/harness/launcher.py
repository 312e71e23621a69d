"""Runs `quire` as a user would, with failpoints, a planted bug, smaller limits and what HTTP does not offer yet.

python -m harness.launcher serve --data DIR

QUIRE_FAILPOINTS   where it fails, see `harness.failpoints`
QUIRE_BUG          the bug that is planted, see `harness.bugs`
QUIRE_LIMITS       constants to be replaced, JSON: {"eventstore.log.sqlite.CHECKPOINT_AFTER_BYTES": 65536}
"""

from __future__ import annotations

import json
import os
from functools import partial
from importlib import import_module
from typing import Any

from eventstore.server import app, cli
from harness import bugs, failpoints, transactions
from harness.tally import Tally
from projections.engine import BUILT_IN


def replace(name: str, value: Any) -> None:
    """Give a constant of a module or a class another value. Raises AttributeError when there is none."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:-1]:
            owner = getattr(owner, part)
        getattr(owner, parts[-1])
        setattr(owner, parts[-1], value)
        return
    raise AttributeError(name)


def main() -> None:
    """Arm what the environment says, and become `quire`."""
    for name, value in json.loads(os.environ.get("QUIRE_LIMITS", "{}")).items():
        replace(name, value)
    if bug := os.environ.get("QUIRE_BUG"):
        bugs.BUGS[bug]()
    failpoints.install(failpoints.Failpoints(failpoints.parse(os.environ.get("QUIRE_FAILPOINTS", ""))))
    transactions.install()
    app.serving = partial(app.serving, projections=(*BUILT_IN, Tally()))
    cli.main()


if __name__ == "__main__":
    main()
