"""The commands over packages: `quire package install` and `quire package export`."""

# ruff: noqa: PLC0415 - `quire --help` is quick: what a command needs is imported when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.log.opening import Place
from eventstore.server.cli_options import (
    DATA,
    EXIT_CODES,
    FINE,
    REFUSED,
    Data,
    Db,
    FhirVersion,
    Url,
    teach,
)

app = typer.Typer(
    help="FHIR packages: definitions, value sets, search parameters and examples in one .tgz.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Install a package in one transaction, through the server when one runs: all of its types and profiles, or nothing. "
        "What is there already and the same stays as it is, so a second time changes nothing. What cannot be stored "
        "is told and left out.",
        "package install acme-1.0.0.tgz",
        "package install hl7.fhir.r5.core-5.0.0.tgz --fhir-version 5.0.0",
    ),
)
def install(
    file: Annotated[Path, typer.Argument(metavar="FILE.tgz", exists=True, dir_okay=False)],
    examples: Annotated[bool, typer.Option("--examples", help="Its examples too.")] = False,
    replace_open: Annotated[
        bool,
        typer.Option(
            "--replace-open",
            help="Take the place of open Entities of the same name, and of their Attributes.",
        ),
    ] = False,
    data: Data = DATA,
    db: Db = "",
    url: Url = "",
    fhir_version: FhirVersion = "",
) -> int:
    from eventstore.server import package_commands
    from eventstore.server.commands import run
    from eventstore.server.installing import Choice

    choice = Choice(examples, replace_open)
    options = package_commands.InstallOptions(Place(data, db), url, fhir_version, choice)
    return FINE if run(package_commands.install_(file, options)) else REFUSED


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Write a package of the types whose names begin with a prefix: their definitions and what these need, value "
        "sets, search parameters, the newest resources as examples, and an ImplementationGuide that says why. Beside a "
        "server that may run. The same log gives the same bytes, and an empty Quire takes it.",
        "package export --prefix acme",
        "package export --prefix acme --name acme.wards --version 1.0.0 --out wards.tgz --examples 10",
    ),
)
def export(
    prefix: Annotated[str, typer.Option(help="What the names begin with: acme for acme-Ward and acme.Ward.")],
    out: Annotated[Path | None, typer.Option(help="The file; else NAME-VERSION.tgz.")] = None,
    name: Annotated[str, typer.Option(help="The package's name; else PREFIX.types.")] = "",
    version: Annotated[str, typer.Option(help="The package's version.")] = "0.1.0",
    canonical: Annotated[str, typer.Option(help="The package's canonical URL; else urn:quire:NAME.")] = "",
    rationale: Annotated[
        str,
        typer.Option(
            help="Why there are such types, as markdown; else what the definitions say of themselves."
        ),
    ] = "",
    examples: Annotated[int, typer.Option(help="How many of each type, the newest.")] = 3,
    data: Data = DATA,
    db: Db = "",
) -> int:
    from eventstore.server import package_commands
    from eventstore.server.commands import run
    from eventstore.server.packing import Plan

    plan = Plan(prefix, name, version, canonical, rationale, examples)
    run(package_commands.export_(Place(data, db), plan, out))
    return FINE
