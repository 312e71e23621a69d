"""Unpacks the body of a request: whole, or refused. What was cut off must never pass for all of it. Pure."""

from __future__ import annotations

import zlib

from eventstore.errors import Malformed, TooLarge

ENCODINGS = ("identity", "gzip", "deflate")
GZIP_WINDOW, ZLIB_WINDOW, BARE_WINDOW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS

GZIP_STREAMS_MAX = 16
"""Of one body, one behind the other (RFC 1952, 2.2)."""


def unpacked(data: bytes, encoding: str, most: int) -> bytes:
    """The body without its Content-Encoding, one of ENCODINGS; `most` bytes of it.

    Raises Malformed for what is not in that encoding, not all of it, or more than it; TooLarge when it is too big.
    """
    if encoding == "identity" or not data:
        return data
    body, rest = b"", data
    for _ in range(GZIP_STREAMS_MAX if encoding == "gzip" else 1):
        more, rest = _stream(rest, encoding, most - len(body))
        body += more
        if not rest:
            return body
    raise Malformed(f"the body goes on after the end of its Content-Encoding, {encoding}: send one stream")


def _stream(data: bytes, encoding: str, most: int) -> tuple[bytes, bytes]:
    """What the first stream of the bytes holds, and the bytes after it."""
    unpacking = zlib.decompressobj(GZIP_WINDOW if encoding == "gzip" else _window(data))
    try:
        body = unpacking.decompress(data, most + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not in its Content-Encoding, {encoding}: {error}") from None
    if len(body) > most:
        raise TooLarge(f"a body of more bytes, unpacked, than are taken: at most {most} bytes are left of it")
    if not unpacking.eof:
        raise Malformed(f"the body ends before its Content-Encoding, {encoding}, does: send all of it")
    return body, unpacking.unused_data


def _window(data: bytes) -> int:
    """Of deflate: with the head of zlib (RFC 1950), as it should be, or bare, as some send it."""
    has_head = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0
    return ZLIB_WINDOW if has_head else BARE_WINDOW
