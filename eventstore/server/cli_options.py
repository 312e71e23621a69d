"""What several commands take, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FINE, REFUSED, USAGE, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = """\b
Exit codes:
    0  all went well
    1  something was refused (import), faults were found (verify), or a projection fails (rebuild, unpark) or differs (replay)
    2  the command line makes no sense
    3  it cannot run: port in use, another process writes, no log there
  130  stopped by a signal before its end"""

Data = Annotated[Path, typer.Option("--data", envvar="QUIRE_DATA", help="The data directory.")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]

DATA = Path("quire-data")


def teach(what: str, *examples: str) -> str:
    """The help of a command: what it is for, and how it is called."""
    return "\n".join((what, "", "\b", "Examples:", *(f"  quire {example}" for example in examples)))
