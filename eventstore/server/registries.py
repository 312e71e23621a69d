"""Fetches a package from a registry: FHIR's (`URL/name/version` is the package) or npm's (it says where the package is)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import aiohttp
import msgspec

from eventstore.errors import Invalid, NotFound, NotSupported, TooLarge, Unavailable
from eventstore.package import PACKED_BYTES_MAX

FETCH_SECONDS_MAX = 120.0
READ_BYTES = 64 * 1024

_NAMED = re.compile(r"([a-z0-9][a-z0-9._-]{0,127})@([A-Za-z0-9][A-Za-z0-9.+-]{0,63})")


class _Dist(msgspec.Struct):
    tarball: str


class _Listed(msgspec.Struct):
    """What npm says of a version."""

    dist: _Dist


async def fetch(registry: str, name: str) -> bytes:
    """The packed package `name@version`, or that of a URL at the registry.

    Raises NotSupported when no registry is configured, Invalid for a name that is none and a URL elsewhere, NotFound
    when the registry does not have it, TooLarge over PACKED_BYTES_MAX, Unavailable when it does not answer.
    """
    if not registry:
        raise NotSupported(
            f"{name[:200]} would be fetched from a registry, and none is configured: start the server with "
            "--package-registry URL (QUIRE_PACKAGE_REGISTRY), or send the package itself"
        )
    url = _url(registry.rstrip("/"), name)
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS_MAX)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            kind, data = await _get(session, url)
            if "json" in kind:
                kind, data = await _get(session, _tarball(registry, data))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"{url} does not answer: {error or type(error).__name__}") from error
    return data


def _url(registry: str, name: str) -> str:
    if "://" in name:
        return _at(registry, name)
    match = _NAMED.fullmatch(name)
    if match is None:
        raise Invalid(f"{name[:200]!r} is no package: name@version, as in hl7.fhir.us.core@6.1.0")
    return f"{registry}/{match[1]}/{match[2]}"


def _at(registry: str, url: str) -> str:
    """The URL, when it is of the registry."""
    wanted, own = urlsplit(url), urlsplit(registry)
    if (wanted.scheme, wanted.netloc) != (own.scheme, own.netloc):
        raise Invalid(f"{url[:200]} is not at {registry}, from which alone packages are fetched")
    return url


def _tarball(registry: str, data: bytes) -> str:
    try:
        return _at(registry, msgspec.json.decode(data, type=_Listed).dist.tarball)
    except msgspec.MsgspecError:
        raise Unavailable(f"{registry} answered JSON that names no package") from None


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[str, bytes]:
    """Media type and bytes."""
    async with session.get(url, max_redirects=3) as response:
        if response.status == 404:
            raise NotFound(f"there is no {url}")
        if response.status != 200:
            raise Unavailable(f"{url} answered {response.status}")
        parts, size = [], 0
        async for part in response.content.iter_chunked(READ_BYTES):
            size += len(part)
            if size > PACKED_BYTES_MAX:
                raise TooLarge(f"{url} is over {PACKED_BYTES_MAX} packed bytes")
            parts.append(part)
        return response.content_type, b"".join(parts)
