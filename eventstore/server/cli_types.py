"""The commands over types: `quire types status`."""

# ruff: noqa: PLC0415 - `quire --help` is quick: what a command needs is imported when it runs

from __future__ import annotations

import typer

from eventstore.log.opening import Place
from eventstore.server.cli_options import DATA, EXIT_CODES, FINE, Data, Db, Json, teach

app = typer.Typer(
    help="The types that are defined.", epilog=EXIT_CODES, no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def types() -> None:
    """One command is called by its name too."""


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Show the types that are defined, in which format and version, what they take of what a type may, and what of "
        "their definitions is not checked. Beside a server that may run.",
        "types status",
        "types status --json",
    ),
)
def status(data: Data = DATA, db: Db = "", json: Json = False) -> int:
    from eventstore.server import commands

    commands.run(commands.types_status(Place(data, db), as_json=json))
    return FINE
