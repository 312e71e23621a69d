"""What the commands over packages do: through the server that runs on a data directory, or by themselves."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import msgspec
import typer

from eventstore.errors import QuireError, TooLarge, Unavailable
from eventstore.event import Context, encode_context
from eventstore.log.opening import Place
from eventstore.package import PACKED_BYTES_MAX, read_package
from eventstore.server.commands import Advance, bar, reading, say
from eventstore.server.exporting import whole_file
from eventstore.server.installing import Choice, Installed, install
from eventstore.server.opening import open_store
from eventstore.server.packages import Told
from eventstore.server.packing import Plan, pack
from eventstore.server.settings import Settings
from eventstore.server.transfer import told, url_of
from eventstore.types.datatypes import check_fhir_version

REASON = "quire package install"
CONNECT_SECONDS_MAX = 5.0

_line = msgspec.json.Decoder(Told).decode


class InstallOptions(msgspec.Struct, frozen=True):
    """Where to, and what of it."""

    place: Place
    url: str
    fhir_version: str
    choice: Choice


async def install_(path: Path, options: InstallOptions) -> bool:
    """Install a package; whether it was not refused."""
    if path.stat().st_size > PACKED_BYTES_MAX:
        raise TooLarge(
            f"{path} has {path.stat().st_size} bytes; at most {PACKED_BYTES_MAX} packed bytes are taken"
        )
    if options.fhir_version:
        check_fhir_version(options.fhir_version)
    packed = path.read_bytes()
    url = options.url or await url_of(options.place)
    with bar("resources", None) as progress:
        try:
            installed = await (
                _through(url.rstrip("/"), packed, options, progress)
                if url
                else _straight(packed, options, progress)
            )
        except Unavailable:
            raise
        except QuireError as error:
            for issue in error.issues:
                say(f"refused: {issue.message}")
            return False
    _tell(installed)
    return True


def _tell(installed: Installed) -> None:
    for what in ("skipped", "marked"):
        for one in getattr(installed, what):
            typer.echo(f"{what} {one.name}: {one.reason}", err=True)
    counts = ", ".join(f"{getattr(installed, name):,} {name}" for name in ("created", "updated", "unchanged"))
    lists = ", ".join(f"{len(getattr(installed, name)):,} {name}" for name in ("skipped", "marked"))
    replaced = f", {installed.deleted:,} replaced" if installed.deleted else ""
    where = f"transaction {installed.transaction}" if installed.transaction else "nothing changed"
    typer.echo(f"{installed.name}@{installed.version}: {counts}{replaced}, {lists}; {where}")


async def export_(place: Place, plan: Plan, out: Path | None) -> None:
    """Write a package, whole or not at all."""
    async with reading(place) as log:
        packed = await pack(log, plan)
    path = out or Path(f"{packed.manifest.name}-{packed.manifest.version}.tgz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path.resolve()) as file:
        file.write(packed.data)
    for one in packed.left:
        typer.echo(f"left out {one.name}: {one.reason}", err=True)
    counts = ", ".join(f"{count:,} {what}" for what, count in packed.counts.items())
    typer.echo(f"{path}: {counts}, as of position {packed.position:,}")


async def _straight(packed: bytes, options: InstallOptions, progress: Advance) -> Installed:
    """Into a log of our own."""
    package = read_package(packed)
    settings = Settings(data=options.place.data, db=options.place.db, fhir_version=options.fhir_version)
    async with open_store(settings) as store:
        context = encode_context(Context(reason=REASON))
        return await install(store, package, context, options.choice, progress)


async def _through(url: str, packed: bytes, options: InstallOptions, progress: Advance) -> Installed:
    """Through a server that runs."""
    choice = options.choice
    asked = {"examples": choice.examples, "replace-open": choice.replace_open, "progress": True}
    query = "&".join(f"{name}=true" for name, wanted in asked.items() if wanted)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
    headers = {"Content-Type": "application/gzip", "X-Quire-Reason": REASON}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.post(f"{url}/$fhir-package-install?{query}", data=packed) as response,
        ):
            if response.status != 200:
                kind = Unavailable if response.status in (429, 503) else QuireError
                raise kind(told(await response.read()))
            async for text in response.content:
                line = _line(text)
                if line.error:
                    raise (Unavailable if line.status in (429, 503) else QuireError)(line.error)
                if line.installed is not None:
                    return line.installed
                progress(line.done, line.total or None)
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
        raise Unavailable(f"{url} does not answer: {error or type(error).__name__}") from error
    raise Unavailable(f"{url} ended in the middle: all of the package is there, or nothing; run it again")
