"""Runs a command of `quire` in a process of its own, to its end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from harness.process import QUIRE


class Told:
    """How a command ended and what it printed."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.error = done.stderr.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return self.out.decode()


def quire(*arguments: str | Path, stdin: bytes = b"", **env: str) -> Told:
    command = [*QUIRE, *map(str, arguments)]
    done = subprocess.run(
        command, input=stdin, capture_output=True, env={**os.environ, **env}, timeout=60, check=False
    )
    told = Told(done)
    assert "Traceback" not in told.error
    return told
