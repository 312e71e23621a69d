"""`POST /$fhir-package-install`: a package that is sent, or that is fetched from the registry that is configured."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import msgspec

from eventstore.errors import Invalid, Malformed, QuireError, UnsupportedMedia
from eventstore.package import PACKED_BYTES_MAX, Left, Package, read_package
from eventstore.server import outcomes
from eventstore.server.call import Answer, Call, Streamed, answer
from eventstore.server.installing import Choice, Installed, install
from eventstore.server.negotiation import flag, media_type
from eventstore.server.parameters import given
from eventstore.server.registries import fetch

PACKED_TYPES = ("application/gzip", "application/x-gzip", "application/tar+gzip", "application/octet-stream")
FORM_TYPE = "multipart/form-data"
LINES_TYPE = "application/x-ndjson"
TELL_SECONDS = 0.2
"""How often it tells how far it is."""

_log = logging.getLogger("quire.packages")


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line about an installation: how far it is, what came of it, or why nothing did."""

    done: int = 0
    total: int = 0
    installed: Installed | None = None
    error: str = ""
    status: int = 0
    """The HTTP status that stands for the error."""


class _Asked(msgspec.Struct, frozen=True):
    """A package and how it is to be installed."""

    packed: bytes
    choice: Choice
    name: str = ""
    """The `name@version` that it has to be; empty for any."""


class Packages:
    """Installs packages. `registry` is the URL of the one to fetch from; empty for none."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._running: set[asyncio.Task[Installed]] = set()
        """Installations whose client may be gone: each is done wholly or not at all."""

    async def install(self, call: Call) -> Answer | Streamed:
        """Install a package; answers Parameters, or with `progress=true` lines that end with what came of it."""
        call.only("POST")
        is_told = flag(call.query, "progress")
        asked = await self._asked(call)
        package = await asyncio.to_thread(_read, asked)
        context = call.context()

        async def run(progress: Callable[[int, int | None], None]) -> Installed:
            return await install(call.store, package, context, asked.choice, progress)

        if is_told:
            return Streamed(LINES_TYPE, self._lines(run))
        return answer(parameters(await run(lambda _done, _total: None)))

    async def _lines(
        self, run: Callable[[Callable[[int, int | None], None]], Coroutine[Any, Any, Installed]]
    ) -> AsyncIterator[bytes]:
        """How far it is, each time as JSON on a line; at the end what came of it. Who goes away does not end it."""
        line = Told()

        def note(done: int, total: int | None) -> None:
            nonlocal line
            line = Told(done, total or 0)

        task = asyncio.create_task(run(note))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        while not (await asyncio.wait((task,), timeout=TELL_SECONDS))[0]:
            yield msgspec.json.encode(line) + b"\n"
        yield msgspec.json.encode(_outcome(task)) + b"\n"

    async def _asked(self, call: Call) -> _Asked:
        kind = media_type(call.header("content-type") or "")
        call.unknown("examples", "replace-open", "progress")
        choice = Choice(flag(call.query, "examples"), flag(call.query, "replace-open"))
        if kind in PACKED_TYPES:
            return _Asked(await call.body(PACKED_BYTES_MAX), choice)
        if kind == FORM_TYPE:
            return _Asked(await call.upload(PACKED_BYTES_MAX), choice)
        try:
            value = (await call.document()).value
        except UnsupportedMedia:
            raise UnsupportedMedia(
                f"Content-Type {kind or 'is missing'}: send the package as application/gzip or multipart/form-data, "
                "or Parameters that name it as application/json"
            ) from None
        parameters = given(value)
        if parameters is None:
            raise Invalid("Parameters are wanted, with a package or a file")
        return await self._named(dict(parameters), choice)

    async def _named(self, parameters: dict[str, Any], choice: Choice) -> _Asked:
        """What Parameters ask for."""
        asked = {"examples": choice.examples, "replace-open": choice.replace_open, **parameters}
        choice = Choice(flag(asked, "examples"), flag(asked, "replace-open"))
        match parameters:
            case {"file": str(text)}:
                try:
                    return _Asked(base64.b64decode(text, validate=True), choice)
                except ValueError:
                    raise Malformed("file is no base64") from None
            case {"package": str(name)}:
                packed = await fetch(self._registry, name)
                return _Asked(packed, choice, "" if "://" in name else name)
        raise Invalid("Parameters have a package (name@version) or a file (base64), and there is neither")


def _read(asked: _Asked) -> Package:
    package = read_package(asked.packed)
    name = f"{package.manifest.name}@{package.manifest.version}"
    if asked.name and asked.name != name:
        raise Invalid(f"{asked.name} was asked for, and the registry sent {name}")
    return package


def parameters(installed: Installed) -> dict[str, Any]:
    """What came of it, as a Parameters resource."""
    counts = ("created", "updated", "unchanged", "deleted")
    told: list[dict[str, Any]] = [
        {"name": "package", "valueString": f"{installed.name}@{installed.version}"},
        {"name": "transaction", "valueString": str(installed.transaction)},
        *({"name": name, "valueInteger": getattr(installed, name)} for name in counts),
        *_left("skipped", installed.skipped),
        *_left("marked", installed.marked),
    ]
    return {"resourceType": "Parameters", "parameter": told}


def _left(name: str, left: Iterable[Left]) -> Iterable[dict[str, Any]]:
    for one in left:
        parts = [{"name": "name", "valueString": one.name}, {"name": "reason", "valueString": one.reason}]
        yield {"name": name, "part": parts}


def _outcome(task: asyncio.Task[Installed]) -> Told:
    error = task.exception()
    if error is None:
        return Told(installed=task.result())
    if not isinstance(error, QuireError):
        _log.error("a package was not installed", exc_info=error)
        return Told(error="an error of the server's own", status=500)
    return Told(error=str(error), status=outcomes.status(error))
