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
from eventstore.log.opening import Place
from eventstore.server import cli_package, cli_projections, cli_stream, cli_transfer, cli_types
from eventstore.server.cli_options import (
    CANNOT_RUN,
    DATA,
    DEFAULTS,
    EXIT_CODES,
    FINE,
    INTERRUPTED,
    REFUSED,
    USAGE,
    Data,
    Db,
    FhirVersion,
    Insecure,
    Json,
    Nats,
    NatsCa,
    NatsCert,
    NatsCreds,
    NatsKey,
    NatsPort,
    PackageRegistry,
    Stream,
    StreamMaxAge,
    StreamMaxBytes,
    StreamReplicas,
    TrustedProxy,
    server_url,
    teach,
)
from eventstore.server.settings import NatsSettings

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
    db: Db = "",
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
    trusted_proxy: TrustedProxy = None,
    nats: Nats = DEFAULTS.where,
    nats_port: NatsPort = DEFAULTS.port,
    nats_creds: NatsCreds = None,
    nats_ca: NatsCa = None,
    nats_cert: NatsCert = None,
    nats_key: NatsKey = None,
    stream: Stream = DEFAULTS.stream,
    stream_max_age: StreamMaxAge = DEFAULTS.max_age_seconds,
    stream_max_bytes: StreamMaxBytes = DEFAULTS.max_bytes,
    stream_replicas: StreamReplicas = DEFAULTS.replicas,
    package_registry: PackageRegistry = "",
    insecure: Insecure = False,
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
        db=db,
        fhir_version=fhir_version,
        fhir_post_id=fhir_post_id.value,
        base_url=base_url,
        nats=NatsSettings(
            where=nats,
            port=nats_port,
            credentials=nats_creds,
            ca=nats_ca,
            certificate=nats_cert,
            key=nats_key,
            stream=stream,
            max_age_seconds=stream_max_age,
            max_bytes=stream_max_bytes,
            replicas=stream_replicas,
        ),
        trusted_proxies=tuple(trusted_proxy or ()),
        package_registry=package_registry,
        insecure=insecure,
    )
    logs.configure(log_level, as_json=(log_format or _log_format()) is LogFormat.json)
    commands.run(commands.serve(settings))
    return FINE


def _log_format() -> LogFormat:
    return LogFormat.text if sys.stderr.isatty() else LogFormat.json


app.add_typer(cli_transfer.app)


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
    db: Db = "",
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
    found = commands.run(commands.verify(Place(data, db), tips, save_tip, as_json=json))
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
def status(data: Data = DATA, db: Db = "", json: Json = False) -> int:
    from eventstore.server import commands

    commands.run(commands.status(Place(data, db), as_json=json))
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
    db: Db = "",
    url: Annotated[
        str,
        typer.Option(
            envvar="QUIRE_URL",
            callback=server_url,
            help="The server; without it, the one that runs on the data directory.",
        ),
    ] = "",
    since: Annotated[str, typer.Option(help="A cursor, a position, or now.")] = "0",
    json: Json = False,
) -> int:
    from eventstore.server import commands

    commands.run(commands.tail(Place(data, db), url, since, as_json=json))
    return FINE


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Begin a new epoch on a log that was restored from an older copy: it goes on after the highest position that "
        "anyone has seen, so that no position is used twice. The stream is asked for it; --seen is for what a client "
        "or a saved tip knows besides. All servers of the log must be stopped.",
        "epoch",
        "epoch --seen 120455 --nats off",
    ),
)
def epoch(
    seen: Annotated[
        int, typer.Option(help="The highest position seen: of a cursor, an ETag or a saved tip.")
    ] = 0,
    data: Data = DATA,
    db: Db = "",
    reason: Annotated[str, typer.Option(help="Kept with the record.")] = "",
    nats: Nats = DEFAULTS.where,
    nats_creds: NatsCreds = None,
    nats_ca: NatsCa = None,
    nats_cert: NatsCert = None,
    nats_key: NatsKey = None,
) -> int:
    from eventstore.server import commands

    settings = NatsSettings(
        where=nats, credentials=nats_creds, ca=nats_ca, certificate=nats_cert, key=nats_key
    )
    commands.run(commands.epoch(Place(data, db), seen, reason, settings))
    return FINE


app.add_typer(cli_package.app, name="package")
app.add_typer(cli_stream.app, name="stream")
app.add_typer(cli_projections.app)
app.add_typer(cli_types.app, name="types")

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
