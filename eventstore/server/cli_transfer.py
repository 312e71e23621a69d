"""The commands that bring resources in and write them out: `quire import` and `quire export`."""

# ruff: noqa: PLC0415 - `quire --help` is quick: what a command needs is imported when it runs

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eventstore.log.opening import Place
from eventstore.server.cli_options import (
    CANNOT_RUN,
    DATA,
    EXIT_CODES,
    FINE,
    INTERRUPTED,
    REFUSED,
    Data,
    Db,
    FhirVersion,
    Types,
    Url,
    teach,
)

app = typer.Typer()


class FileFormat(StrEnum):
    ndjson = "ndjson"
    json = "json"
    yaml = "yaml"


@app.command(
    "import",
    epilog=EXIT_CODES,
    help=teach(
        "Bring resources in, through the server when one runs. What is there already and the same stays as it is, so "
        "a run that was stopped goes on when it is run again. One that is refused is told, and the others go on.",
        "import patients.ndjson",
        "import --define-open hl7.fhir.r5.core.tgz --type ValueSet,CodeSystem",
        "import --refused refused.ndjson folder/",
        "export --data old | quire import --data new -",
    ),
)
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="NDJSON (also .gz), JSON (a resource, an array or a Bundle), YAML, folders and .tgz of these; "
            "- is NDJSON on standard input."
        ),
    ],
    data: Data = DATA,
    db: Db = "",
    url: Url = "",
    type: Types = None,
    define_open: Annotated[
        bool, typer.Option("--define-open", help="Make the types that are not there yet, open to anything.")
    ] = False,
    refused: Annotated[
        Path | None, typer.Option(help="Write what was refused to this file too, as NDJSON.")
    ] = None,
    fhir_version: FhirVersion = "",
) -> int:
    from eventstore.server import commands

    options = commands.ImportOptions(Place(data, db), url, fhir_version, define_open, _listed(type), refused)
    tally = commands.run(commands.import_(sources, options))
    if tally.stopped:
        return INTERRUPTED if tally.interrupted else CANNOT_RUN
    return REFUSED if tally.refused else FINE


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Write resources out as they are stored, all of one position, beside a server that may run.",
        "export > all.ndjson",
        "export --type UserSetting,Device --to folder/",
        "export --format yaml --to folder/",
    ),
)
def export(
    to: Annotated[
        str, typer.Option(help="A file; a folder, new or empty, when it ends in /; - is standard output.")
    ] = "-",
    data: Data = DATA,
    db: Db = "",
    type: Types = None,
    format: Annotated[
        FileFormat | None,
        typer.Option(
            help="Without it as the file's name ends, else ndjson. In a folder: ndjson is a file for each type, json and "
            "yaml one for each resource."
        ),
    ] = None,
) -> int:
    from eventstore.server import commands, exporting

    written = format.value if format is not None else exporting.format_of(to)
    commands.run(commands.export(Place(data, db), to, written, _listed(type)))
    return FINE


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Copy a log, up to its end or a point in time, to a place that has none: positions, hashes and epochs stay as they "
        "are. A copy that was stopped, or is behind, goes on when the command is run again; it is verified at the end. A "
        "server may run on the source, but not on the copy.",
        "copy --from quire-data --to postgresql://quire@db.example/quire",
        "copy --from postgresql://quire@db.example/quire --to backup",
        "copy --from backup --to restored --until 2026-11-20T17:42:13Z",
    ),
)
def copy(
    source: Annotated[str, typer.Option("--from", metavar="DIR|URL", help="A data directory or a database.")],
    to: Annotated[str, typer.Option(metavar="DIR|URL", help="A data directory or a database.")],
    until: Annotated[
        str,
        typer.Option(
            metavar="POSITION|TIME",
            help="The last position to copy, or a time with its zone before which all is copied; else the end.",
        ),
    ] = "",
) -> int:
    from eventstore.server import commands

    found = commands.run(commands.copy(Place.of(source), Place.of(to), until))
    return REFUSED if found.fault_count else FINE


def _listed(types: list[str] | None) -> set[str]:
    return {name.strip() for text in types or () for name in text.split(",") if name.strip()}
