"""The commands over projections: `quire rebuild`, `quire replay` and `quire unpark`."""

# ruff: noqa: PLC0415 - `quire --help` is quick: what a command needs is imported when it runs

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.log.opening import Place
from eventstore.server.cli_options import DATA, EXIT_CODES, FINE, REFUSED, Data, Db, Json, teach

app = typer.Typer()

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Projections; without a name all.")
]


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Build the tables of projections anew from the log, beside those that stand, and switch when they are there. "
        "Through the server when one runs, and writes go on; what fails leaves everything as it was.",
        "rebuild",
        "rebuild current",
    ),
)
def rebuild(names: Names = None, data: Data = DATA, db: Db = "") -> int:
    from eventstore.server import projection_commands
    from eventstore.server.commands import run

    return FINE if run(projection_commands.rebuild(Place(data, db), names or [])) else REFUSED


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Compute projections again from the log and compare them with the tables that stand, beside a server that may "
        "run; name the first difference.",
        "replay",
        "replay current --json",
    ),
)
def replay(names: Names = None, data: Data = DATA, db: Db = "", json: Json = False) -> int:
    from eventstore.server import projection_commands
    from eventstore.server.commands import run

    return FINE if run(projection_commands.replay(Place(data, db), names or [], as_json=json)) else REFUSED


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Hand parked events to their projections again, after what was in the way was mended. Through the server when "
        "one runs.",
        "unpark",
        "unpark NAME",
    ),
)
def unpark(names: Names = None, data: Data = DATA, db: Db = "") -> int:
    from eventstore.server import projection_commands
    from eventstore.server.commands import run

    return FINE if run(projection_commands.unpark(Place(data, db), names or [])) else REFUSED
