"""The commands over the stream: `quire stream check` and `quire stream rebuild`."""

# ruff: noqa: PLC0415 - `quire --help` is quick: what a command needs is imported when it runs

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.log.opening import Place
from eventstore.server.cli_options import (
    DATA,
    DEFAULTS,
    EXIT_CODES,
    FINE,
    REFUSED,
    Data,
    Db,
    Json,
    Nats,
    NatsCa,
    NatsCert,
    NatsCreds,
    NatsKey,
    Stream,
    teach,
)
from eventstore.server.settings import NatsSettings

app = typer.Typer(
    help="The JetStream copy of the log: compare it, make it anew.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Compare every message of the stream with the event at its position; name the first that differs. Works "
        "beside a running server, and without one.",
        "stream check",
        "stream check --nats nats://broker:4222 --nats-creds reader.creds",
    ),
)
def check(
    data: Data = DATA,
    db: Db = "",
    nats: Nats = DEFAULTS.where,
    nats_creds: NatsCreds = None,
    nats_ca: NatsCa = None,
    nats_cert: NatsCert = None,
    nats_key: NatsKey = None,
    stream: Stream = DEFAULTS.stream,
    json: Json = False,
) -> int:
    from eventstore.server import stream_commands
    from eventstore.server.commands import run

    settings = NatsSettings(nats, 0, nats_creds, nats_ca, nats_cert, nats_key, stream)
    report = run(stream_commands.check(Place(data, db), settings, as_json=json))
    return FINE if report.whole else REFUSED


@app.command(
    epilog=EXIT_CODES,
    help=teach(
        "Publish the log again as the stream's next generation, when the stream is not whole. The one before stays "
        "beside it under other subjects until --remove-old. May be ended at any point and run again.",
        "stream rebuild",
        "stream rebuild --remove-old",
    ),
)
def rebuild(
    data: Data = DATA,
    db: Db = "",
    nats: Nats = DEFAULTS.where,
    nats_creds: NatsCreds = None,
    nats_ca: NatsCa = None,
    nats_cert: NatsCert = None,
    nats_key: NatsKey = None,
    stream: Stream = DEFAULTS.stream,
    force: Annotated[bool, typer.Option("--force", help="Also when the stream is whole.")] = False,
    remove_old: Annotated[
        bool, typer.Option("--remove-old", help="Delete the streams of earlier generations at the end.")
    ] = False,
    base_url: Annotated[
        str,
        typer.Option(
            envvar="QUIRE_BASE_URL",
            help="Where clients read bodies that the broker does not take; else the running server's URL.",
        ),
    ] = "",
    json: Json = False,
) -> int:
    from eventstore.server import stream_commands
    from eventstore.server.commands import run

    settings = NatsSettings(nats, 0, nats_creds, nats_ca, nats_cert, nats_key, stream)
    run(
        stream_commands.rebuild(
            Place(data, db), settings, base_url, force=force, remove_old=remove_old, as_json=json
        )
    )
    return FINE
