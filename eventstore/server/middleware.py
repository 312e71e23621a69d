"""Around every request: its id, its format, the errors, and the log line."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from aiohttp import web
from uuid_utils import uuid7

from eventstore.errors import Forbidden, Malformed, NotAcceptable, QuireError
from eventstore.server import outcomes
from eventstore.server.call import Answer, Call, InFlight, Streamed, answer
from eventstore.server.metrics import Meter
from eventstore.server.negotiation import answer_format, number, preferences, wants_stream
from eventstore.server.request import Request
from eventstore.server.response import Reply, WholeResponse
from eventstore.server.routes import Route, route
from eventstore.server.settings import SEND_SECONDS_MAX, Settings, is_loopback
from eventstore.store import Store
from eventstore.yaml import from_json

Handler = Callable[[Call], Awaitable[Answer | Streamed]]

LIVE = {"feed": "feed", "changes": "live"}
"""The routes that answer with server-sent events when asked, and their handlers."""

METRICS = ("/metrics", "/fhir/metrics")
"""Prometheus' text, whatever a scraper says that it accepts."""

KNOWN_HOSTS_MAX = 64

_log = logging.getLogger("quire.http")

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
_HOST = re.compile(r"[A-Za-z0-9.\-:\[\]_]{1,255}\Z")
CONTENT_TYPES = {
    "json": {"": "application/json", "/fhir": "application/fhir+json"},
    "yaml": {"": "text/yaml", "/fhir": "text/yaml"},
}


class Front:
    """Turns requests into calls and answers into what is sent. No error leaves it."""

    def __init__(
        self, store: Store, settings: Settings, handlers: Mapping[str, Handler], meter: Meter
    ) -> None:
        self._meter = meter
        self._in_flight = InFlight()
        self._loopback = settings.loopback
        self._own_host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._bases: dict[tuple[str, str, bool, str], str] = {}
        self._store = store
        self._settings = settings
        self._handlers = handlers
        self._ignore_ids = settings.fhir_post_id == "ignore"

    async def __call__(self, wire: web.BaseRequest) -> web.StreamResponse:
        """Answer what aiohttp read."""
        call, told = await self._told(Request.of(wire))
        return await _stream(call, wire, told) if isinstance(told, Streamed) else WholeResponse(*told)

    async def plain(self, request: Request) -> Reply:
        """Answer a request that came whole, and is none of a stream."""
        _, told = await self._told(request)
        if isinstance(told, Streamed):
            raise TypeError(f"{request.target} streams")
        return told

    async def _told(self, request: Request) -> tuple[Call, Reply | Streamed]:
        """What to send; whatever goes wrong, there is an answer."""
        started = time.perf_counter()
        given = request.headers.get("x-request-id")
        request_id = given if given is not None and _REQUEST_ID.match(given) else str(uuid7())
        base = "/fhir" if f"{request.path}/".startswith("/fhir/") else ""
        call = Call(request, Route("", base), self._store, request_id, self._in_flight)
        told: Reply | Streamed
        try:
            answer = await self._answer(call)
            told = answer if isinstance(answer, Streamed) else _reply(call, answer)
        except QuireError as error:
            told = self._refusal(call, error)
        except Exception:
            _log.exception("the request failed", extra={"request": request_id, "path": request.path})
            told = self._refusal(
                call, QuireError("an error of the server's own; its log has this request's id")
            )
        finally:
            call.release()
        self._note(call, 200 if isinstance(told, Streamed) else told[0], time.perf_counter() - started)
        return call, told

    def _note(self, call: Call, status: int, seconds: float) -> None:
        """Count the request; log it when it went wrong on our side, or when all are logged."""
        request = call.request
        self._meter.count(call.route.name, request.method, status, seconds)
        level = logging.WARNING if status >= 500 or status == 429 else logging.DEBUG
        if _log.isEnabledFor(level):
            about = {"request": call.request_id, "method": request.method, "path": request.target}
            _log.log(level, "request", extra={**about, "status": status, "seconds": round(seconds, 6)})

    async def _answer(self, call: Call) -> Answer | Streamed:
        request = call.request
        accept = request.headers.get("accept", "")
        has_its_own = wants_stream(accept) or request.path.rstrip("/") in METRICS
        call.format = "json" if has_its_own else answer_format(accept, call.query.get("_format"))
        call.route = route(request.path)
        call.base_url = self._base_url(request) + call.route.base
        call.prefer = preferences(request.headers.get("prefer"))
        call.id_ignored = self._ignore_ids and call.strict
        minimum = request.headers.get("x-min-position")
        if minimum is not None:
            await self._store.reached(number({"X-Min-Position": minimum}, "X-Min-Position", 0, 2**53))
        if wants_stream(accept) and call.route.name in LIVE:
            return await self._handlers[LIVE[call.route.name]](call)
        if wants_stream(accept):
            raise NotAcceptable("server-sent events are at _changes and $changes only")
        return await self._handlers[call.route.name](call)

    def _refusal(self, call: Call, error: QuireError) -> Reply:
        told = outcomes.outcome(error.issues, call.route.base, call.route.type)
        return _reply(call, answer(told, outcomes.status(error), outcomes.headers(error)))

    def _base_url(self, request: Request) -> str:
        """The URL under which the client reached us: as configured, or from headers that can be believed.

        Raises Malformed for a Host that cannot be, Forbidden for one that is not ours: on a loopback address a
        page of some other site may have been led here.
        """
        asked = (*self._reached_by(request), request.headers.get("origin", ""))
        base = self._bases.get(asked)
        if base is None:
            base = self._checked_base(*asked)
            if len(self._bases) < KNOWN_HOSTS_MAX:
                self._bases[asked] = base
        return base

    def _checked_base(self, scheme: str, host: str, trusted: bool, origin: str) -> str:
        if not _HOST.match(host) or scheme not in ("http", "https"):
            raise Malformed("the Host header makes no sense", code="value")
        base = self._settings.base_url.rstrip("/") or f"{scheme}://{host}"
        if self._loopback:
            self._refuse_strangers("" if trusted else f"http://{host}", origin, base)
        return base

    def _refuse_strangers(self, host: str, origin: str, base: str) -> None:
        """Raise Forbidden unless Host and Origin, where there are any, are of this machine or as configured."""
        own = _authority(self._settings.base_url or ("" if host else base))
        for name, url in (("Host", host), ("Origin", origin)):
            if url and not is_loopback(_authority(url)[0]) and (_authority(url) != own or not own[0]):
                raise Forbidden(f"{name} {url[:80]} is not this server's; name it with --base-url if it is")

    def _reached_by(self, request: Request) -> tuple[str, str, bool]:
        """Scheme and host, and whether a trusted proxy says so."""
        headers, trusted = request.headers, self._settings.trusted_proxies
        host = headers.get("host") or f"{self._own_host}:{self._settings.port}"
        if not trusted or request.remote not in trusted or "x-forwarded-host" not in headers:
            return "http", host, False
        host = headers["x-forwarded-host"].split(",")[0].strip()
        scheme = headers.get("x-forwarded-proto", "http").split(",")[0].strip()
        return scheme, host, True


def _authority(url: str) -> tuple[str, int]:
    """Host in lower case and port of a URL; an empty host for what is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return "", 0


async def _stream(call: Call, wire: web.BaseRequest, told: Streamed) -> web.StreamResponse:
    """Send chunks until they end, or the client has taken none for SEND_SECONDS_MAX."""
    headers = {
        "X-Request-Id": call.request_id,
        "Content-Type": f"{told.content_type}; charset=utf-8",
        "Cache-Control": "no-store, no-transform",
        "X-Accel-Buffering": "no",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(wire)
    try:
        async for chunk in told.chunks:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await response.write(chunk)
        await response.write_eof()
    except Exception as error:  # whatever it was, the answer has begun: cut it off, the client has its cursor
        if not isinstance(error, TimeoutError | ConnectionError):
            _log.exception("a stream failed", extra={"request": call.request_id})
        if wire.transport is not None:
            wire.transport.abort()
    finally:
        await told.chunks.aclose()  # type: ignore[attr-defined]
    return response


def _reply(call: Call, told: Answer) -> Reply:
    headers = {"X-Request-Id": call.request_id, **told.headers}
    body = told.body
    if body is not None:
        if call.format == "yaml" and not told.content_type:
            body = from_json(body)
        kind = told.content_type or CONTENT_TYPES[call.format][call.route.base if told.fhir else ""]
        headers["Content-Type"] = f"{kind}; charset=utf-8"
    return told.status, headers, body
