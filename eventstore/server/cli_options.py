"""What several commands take, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.server.settings import NatsSettings

FINE, REFUSED, USAGE, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = """\b
Exit codes:
    0  all went well
    1  something was refused, faults or differences were found, or a projection failed
    2  the command line makes no sense
    3  it cannot run: port in use, another process writes, no log there
  130  stopped by a signal before its end"""

Data = Annotated[Path, typer.Option("--data", envvar="QUIRE_DATA", help="The data directory.")]
Db = Annotated[
    str,
    typer.Option(
        "--db",
        envvar="QUIRE_DB",
        help="URL of a PostgreSQL database with the log; without it the log is SQLite in the data directory.",
    ),
]
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
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]

DATA = Path("quire-data")


def teach(what: str, *examples: str) -> str:
    """The help of a command: what it is for, and how it is called."""
    return "\n".join((what, "", "\b", "Examples:", *(f"  quire {example}" for example in examples)))


def server_url(text: str) -> str:
    """The callback of `--url`. Raises BadParameter for what is no URL of a server."""
    if text and not text.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{text[:200]}: a URL such as http://127.0.0.1:8080 is wanted")
    return text


Url = Annotated[
    str, typer.Option(callback=server_url, help="A server to send to, instead of the data directory.")
]
TrustedProxy = Annotated[
    list[str] | None,
    typer.Option(envvar="QUIRE_TRUSTED_PROXY", help="Address whose X-Forwarded-* is believed; repeatable."),
]
Nats = Annotated[
    str,
    typer.Option(
        envvar="QUIRE_NATS",
        help="Where the stream is: embedded starts a nats-server in the data directory, a URL uses yours, off none.",
    ),
]
NatsCreds = Annotated[
    Path | None,
    typer.Option(envvar="QUIRE_NATS_CREDS", help="Credentials file for --nats URL."),
]
NatsCa = Annotated[
    Path | None,
    typer.Option(envvar="QUIRE_NATS_CA", help="Certificates to believe, instead of the system's."),
]
NatsCert = Annotated[
    Path | None, typer.Option(envvar="QUIRE_NATS_CERT", help="Client certificate for --nats URL.")
]
NatsKey = Annotated[
    Path | None, typer.Option(envvar="QUIRE_NATS_KEY", help="Its key, when it is in another file.")
]
Stream = Annotated[str, typer.Option(envvar="QUIRE_STREAM", help="Name of the JetStream stream.")]
NatsPort = Annotated[
    int, typer.Option(envvar="QUIRE_NATS_PORT", help="Of the embedded one; 0 takes any that is free.")
]
StreamMaxAge = Annotated[
    int, typer.Option(envvar="QUIRE_STREAM_MAX_AGE", help="Seconds after which it forgets; 0 is never.")
]
StreamMaxBytes = Annotated[
    int, typer.Option(envvar="QUIRE_STREAM_MAX_BYTES", help="Beyond it forgets the oldest; 0 is no limit.")
]
StreamReplicas = Annotated[
    int, typer.Option(envvar="QUIRE_STREAM_REPLICAS", help="Of a new stream in a cluster.")
]
PackageRegistry = Annotated[
    str,
    typer.Option(
        envvar="QUIRE_PACKAGE_REGISTRY",
        help="URL of the registry that $fhir-package-install fetches from; without it none.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        envvar="QUIRE_INSECURE",
        help="Listen where others can reach it; there is no access control yet.",
    ),
]

DEFAULTS = NatsSettings()
