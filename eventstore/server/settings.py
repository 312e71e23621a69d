"""How a process runs. What the data is, is in the log."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from eventstore.body import RESOURCE_BYTES_MAX
from eventstore.errors import Invalid
from eventstore.log.opening import Place

BODY_BYTES_MAX = RESOURCE_BYTES_MAX
YAML_BYTES_MAX = 1024 * 1024
"""YAML takes far longer to read than JSON, and holds up everyone while it is read."""
BODIES_BYTES_MAX = 64 * 1024 * 1024
"""Of all requests that are under way; parsed they take many times as much."""
BODY_SECONDS_MAX = 30.0
SEND_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 3.0


NATS_SCHEMES = ("nats", "tls", "ws", "wss")


class NatsSettings(msgspec.Struct, frozen=True):
    """Where the stream is, how it is reached, and how it is made."""

    where: str = "embedded"
    """`embedded` for a nats-server of our own, `off`, or URLs of servers of one cluster with commas between."""
    port: int = 4222
    """Of the embedded one; 0 takes any that is free."""
    credentials: Path | None = None
    """A credentials file (JWT and seed); a user and password may also stand in the URL."""
    ca: Path | None = None
    """Certificates of the authorities to believe, instead of the system's."""
    certificate: Path | None = None
    key: Path | None = None
    """Of the client certificate, when it is not in the same file."""
    stream: str = "QUIRE"
    max_age_seconds: int = 0
    """After so long the stream forgets a message; 0 is never."""
    max_bytes: int = 0
    """The stream forgets its oldest messages beyond it; 0 is no limit."""
    replicas: int = 1
    """Of a new stream in a cluster."""

    @property
    def servers(self) -> list[str]:
        return [url.strip() for url in self.where.split(",") if url.strip()]

    def check(self) -> None:
        """Raises Invalid when this cannot be run."""
        if not 0 <= self.port <= 65535:
            raise Invalid(f"--nats-port {self.port}: a port is 0 to 65535")
        for option, given, least in (
            ("--stream-max-age", self.max_age_seconds, 0),
            ("--stream-max-bytes", self.max_bytes, 0),
            ("--stream-replicas", self.replicas, 1),
        ):
            if given < least:
                raise Invalid(f"{option} {given}: {least} at least")
        if self.key is not None and self.certificate is None:
            raise Invalid("--nats-key: it belongs to a certificate; give --nats-cert too")
        if self.where in ("off", "embedded"):
            return
        for url in self.servers or [""]:
            scheme, _, rest = url.partition("://")
            if scheme not in NATS_SCHEMES or not rest:
                raise Invalid(f"--nats {url!r}: embedded, off, or a URL such as nats://host:4222")


class Settings(msgspec.Struct, frozen=True):
    """The options of `quire serve`."""

    host: str = "127.0.0.1"
    port: int = 8080
    data: Path = Path("quire-data")
    db: str = ""
    """The URL of a PostgreSQL database that has the log; empty: SQLite in `data`."""
    fhir_version: str = ""
    """For a new log; empty takes what the log has, or 4.0.1."""
    fhir_post_id: Literal["honour", "ignore"] = "honour"
    """What becomes of the id in the body of a POST under /fhir."""
    base_url: str = ""
    """The URL under which clients reach the server; empty takes the Host header."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-Host and X-Forwarded-Proto are believed."""
    nats: NatsSettings = NatsSettings()
    package_registry: str = ""
    """The URL from which packages are fetched by name; empty fetches none."""
    insecure: bool = False
    """Listen on an address that others can reach, without access control."""

    @property
    def place(self) -> Place:
        """Where the log is."""
        return Place(self.data, self.db)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def check(self) -> None:
        """Raises Invalid when this cannot be run."""
        if not 0 <= self.port <= 65535:
            raise Invalid(f"--port {self.port}: a port is 0 to 65535")
        self.place.check()
        self.nats.check()
        if self.base_url and not _is_base(self.base_url):
            raise Invalid(f"--base-url {self.base_url[:200]!r}: a URL such as https://quire.example")
        for address in self.trusted_proxies:
            if not _is_address(address):
                raise Invalid(f"--trusted-proxy {address[:200]!r}: an address such as 127.0.0.1 or ::1")
        if self.package_registry and not self.package_registry.startswith(("http://", "https://")):
            raise Invalid(
                f"--package-registry {self.package_registry[:200]!r}: a URL such as https://packages.fhir.org"
            )
        if not self.insecure and not is_loopback(self.host):
            raise Invalid(
                f"--host {self.host} can be reached from other machines, and this version has no access control; "
                "use a loopback address, or --insecure when the network is closed"
            )


def _is_base(url: str) -> bool:
    """Whether paths can be put after it: a host, and neither a query nor a fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
