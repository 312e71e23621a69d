"""The command line: what `quire serve`, `import`, `export`, `verify` and `status` take, and their exit codes."""

# ruff: noqa: PLC0415 - `quire --help` is quick: what a command needs is imported when it runs

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventstore import __version__
from eventstore.errors import Invalid, Malformed, QuireError
from eventstore.server import cli_projections
from eventstore.server.cli_options import (
    CANNOT_RUN,
    DATA,
    EXIT_CODES,
    FINE,
    INTERRUPTED,
    REFUSED,
    USAGE,
    Data,
    Json,
    teach,
)

if TYPE_CHECKING:
    from eventstore.event import Tip

app = typer.Typer(
    help="Quire: an event-sourced store for custom FHIR resources. Every change is one event in one log.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(StrEnum):
    json = "json"
    text = "text"


class PostId(StrEnum):
    honour = "honour"
    ignore = "ignore"


class FileFormat(StrEnum):
    ndjson = "ndjson"
    json = "json"
    yaml = "yaml"


FhirVersion = Annotated[
    str,
    typer.Option(
        envvar="QUIRE_FHIR_VERSION",
        help="For a new log: 4.0.1 (when nothing is said), 4.3.0 or 5.0.0. A log keeps its version.",
    ),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only resources of this type; repeatable, or several with commas between."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"quire {__version__}")
        raise typer.Exit(FINE)


@app.callback()
def _quire(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    return


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Serve the log of a data directory over HTTP until SIGTERM or Ctrl-C; makes the log when there is none.",
        "serve",
        "serve --port 9090 --data /var/lib/quire",
    ),
)
def serve(
    host: Annotated[str, typer.Option(envvar="QUIRE_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="QUIRE_PORT", help="0 takes any that is free.")] = 8080,
    data: Data = DATA,
    fhir_version: FhirVersion = "",
    fhir_post_id: Annotated[
        PostId,
        typer.Option(
            envvar="QUIRE_FHIR_POST_ID", help="What becomes of the id in a body posted under /fhir."
        ),
    ] = PostId.honour,
    base_url: Annotated[
        str, typer.Option(envvar="QUIRE_BASE_URL", help="URL for links behind a proxy; else the Host header.")
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            envvar="QUIRE_TRUSTED_PROXY", help="Address whose X-Forwarded-* is believed; repeatable."
        ),
    ] = None,
    nats: Annotated[
        str,
        typer.Option(
            envvar="QUIRE_NATS",
            help="Experimental: publish every event to NATS JetStream; embedded starts a nats-server, a URL uses yours.",
        ),
    ] = "off",
    nats_port: Annotated[
        int, typer.Option(envvar="QUIRE_NATS_PORT", help="Of the embedded one; 0 takes any that is free.")
    ] = 4222,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            envvar="QUIRE_INSECURE",
            help="Listen where others can reach it; there is no access control yet.",
        ),
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(envvar="QUIRE_LOG_LEVEL")] = LogLevel.info,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(envvar="QUIRE_LOG_FORMAT", help="Without it: text on a terminal, else json."),
    ] = None,
) -> int:
    from eventstore.server import commands, logs
    from eventstore.server.settings import Settings

    settings = Settings(
        host=host,
        port=port,
        data=data,
        fhir_version=fhir_version,
        fhir_post_id=fhir_post_id.value,
        base_url=base_url,
        nats=nats,
        nats_port=nats_port,
        trusted_proxies=tuple(trusted_proxy or ()),
        insecure=insecure,
    )
    logs.configure(log_level, as_json=(log_format or _log_format()) is LogFormat.json)
    commands.run(commands.serve(settings))
    return FINE


def _log_format() -> LogFormat:
    return LogFormat.text if sys.stderr.isatty() else LogFormat.json


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
    url: Annotated[str, typer.Option(help="A server to send to, instead of the data directory.")] = "",
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

    options = commands.ImportOptions(data, url, fhir_version, define_open, _listed(type), refused)
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
    type: Types = None,
    format: Annotated[
        FileFormat,
        typer.Option(
            help="In a folder: ndjson is a file for each type, json and yaml one for each resource."
        ),
    ] = FileFormat.ndjson,
) -> int:
    from eventstore.server import commands

    commands.run(commands.export(data, to, format.value, _listed(type)))
    return FINE


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Check every event, the chain over them and what reads answer from; name what was changed, by position.",
        "verify",
        "verify --save-tip /elsewhere/quire.tip",
        "verify --against /elsewhere/quire.tip",
    ),
)
def verify(
    data: Data = DATA,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TIP|FILE",
            help="A tip that was saved, or a file with such: tells when the log was cut or replaced; repeatable.",
        ),
    ] = None,
    save_tip: Annotated[
        Path | None, typer.Option(help="Write the tip to this file when there are no faults.")
    ] = None,
    json: Json = False,
) -> int:
    from eventstore.server import commands

    tips = [tip for text in against or () for tip in _tips(text)]
    found = commands.run(commands.verify(data, tips, save_tip, as_json=json))
    return REFUSED if found.fault_count else FINE


def _tips(text: str) -> list[Tip]:
    """The tip that the text is, or those in the file that it names."""
    from eventstore.audit import read_tip

    try:
        return [read_tip(text)]
    except Malformed:
        if not Path(text).is_file():
            raise Invalid(f"--against {text[:200]} is neither a tip (position:hash) nor a file") from None
    return [read_tip(line) for line in Path(text).read_text("utf-8", "replace").splitlines() if line.strip()]


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Show what is in a data directory, and whether a server runs on it.", "status", "status --json"
    ),
)
def status(data: Data = DATA, json: Json = False) -> int:
    from eventstore.server import commands

    commands.run(commands.status(data, as_json=json))
    return FINE


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Follow the changes of a running server, from the beginning or from a cursor, until Ctrl-C.",
        "tail",
        "tail --since now",
        "tail --since 1204.9f86d081 --json",
    ),
)
def tail(
    data: Data = DATA,
    url: Annotated[
        str,
        typer.Option(
            envvar="QUIRE_URL", help="The server; without it, the one that runs on the data directory."
        ),
    ] = "",
    since: Annotated[str, typer.Option(help="A cursor, a position, or now.")] = "0",
    json: Json = False,
) -> int:
    from eventstore.server import commands

    commands.run(commands.tail(data, url, since, as_json=json))
    return FINE


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Begin a new epoch on a log that was restored from an older copy: it goes on after the highest position that "
        "anyone has seen, so that no position is used twice. The server must be stopped.",
        "epoch --seen 120455",
    ),
)
def epoch(
    seen: Annotated[
        int, typer.Option(help="The highest position seen: of a cursor, an ETag or a saved tip.")
    ],
    data: Data = DATA,
    reason: Annotated[str, typer.Option(help="Kept with the record.")] = "",
) -> int:
    from eventstore.server import commands

    commands.run(commands.epoch(data, seen, reason))
    return FINE


def _listed(types: list[str] | None) -> set[str]:
    return {name.strip() for text in types or () for name in text.split(",") if name.strip()}


app.add_typer(cli_projections.app)

_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """What the command `quire` calls."""
    sys.exit(_main())


def _main() -> int:
    """Run the command; every error is one line on stderr."""
    try:
        return int(app(prog_name="quire", standalone_mode=False) or FINE)
    except _UsageError as error:
        return _usage(error)
    except (Invalid, Malformed) as error:
        return _failed(error, USAGE)
    except OSError as error:
        return _failed(
            f"{error.filename}: {error.strerror}" if error.filename else error.strerror, CANNOT_RUN
        )
    except QuireError as error:
        return _failed(error, CANNOT_RUN)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _failed(f"{type(error).__name__}: {error}", CANNOT_RUN)


def _failed(why: object, code: int) -> int:
    typer.echo(f"quire: {why}", err=True)
    return code


def _usage(error: Any) -> int:
    """Say what is wrong with the command line; the help itself when there was nothing in it."""
    text = error.format_message()
    if "\n" in text:
        typer.echo(text, err=True)
        return USAGE
    command = error.ctx.command_path if error.ctx is not None else "quire"
    return _failed(f"{text} (see {command} --help)", USAGE)
