"""What is read as a plain request is what aiohttp's own parser reads; what is not plain is left to that."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from eventstore.server.request import PLAIN_BODY_BYTES_MAX, PLAIN_HEAD_BYTES_MAX, Request, Unusual, parse

GET = b"GET /T/a.b?_count=2&x=%20y HTTP/1.1\r\nHost: h:80\r\nAccept:  */* \r\n\r\n"
POST = b'POST /fhir/T HTTP/1.1\r\nhost: h\r\nCONTENT-TYPE: text/yaml\r\nContent-Length: 7\r\n\r\n{"a":1}'

PIECES = (
    b"GET ", b"PUT ", b"BREW ", b"/", b"/T", b"//", b"/T?a=b", b"*", b"http://h/T", b"/%41", b"/a b", b" HTTP/1.1",
    b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"Host: h", b"Host:", b" Host: h", b"Content-Length: 3",
    b"Content-Length: 03", b"Content-Length: +3", b"Content-Length: 3, 3", b"Transfer-Encoding: chunked",
    b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue",
    b"X : y", b"X: \x00", b"X: \xe9", b"X: a\tb", b": y", b"X", b"abc", b"0\r\n\r\n",
)  # fmt: skip


def _by_aiohttp(data: bytes) -> Request:
    """The one request that the bytes are by aiohttp."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        messages, upgraded, rest = parser.feed_data(data)
        ((message, payload),) = messages
        assert not upgraded
        assert not rest
        body = payload.read_nowait() if payload.total_bytes else b""
        assert payload.is_eof()
        headers = {name.lower(): value for name, value in message.headers.items()}
        assert len(headers) == len(message.headers)
        assert not message.should_close
        url = message.url
        return Request(message.method, str(url), url.raw_path, url.raw_query_string, headers, body)
    finally:
        loop.close()


def _fields(request: Request) -> list[object]:
    names = [name for name in Request.__slots__ if name not in ("remote", "wire")]
    return [getattr(request, name) for name in names]


@pytest.mark.parametrize("data", [GET, POST])
def test_a_plain_request_is_read_as_aiohttp_reads_it(data: bytes) -> None:
    read = parse(data)
    assert read is not None
    assert _fields(read) == _fields(_by_aiohttp(data))


def test_until_the_body_has_come_there_is_none() -> None:
    head = POST.index(b"{")
    for length in range(head, len(POST)):
        assert parse(POST[:length]) is None
    large = POST.replace(b": 7\r", b": %d\r" % PLAIN_BODY_BYTES_MAX)
    assert parse(large) is None


@pytest.mark.parametrize(
    "data",
    [
        GET[:-2],
        GET + GET,
        POST + b" ",
        GET.replace(b"GET", b"OPTIONS"),
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b"/T/", b"/%54/"),
        GET.replace(b"/T/", b"//T/"),
        GET.replace(b"/T/", b"/T /"),
        GET.replace(b"/T/", b"/\xe9/"),
        GET.replace(b"/T/a.b", b"/$sql"),
        GET.replace(b"/T/a.b", b"/fhir/$import"),
        GET.replace(b"Host", b"Hos t"),
        GET.replace(b"Host", b"X-Host"),
        GET.replace(b"Accept:  */*", b"Accept: text/event-stream"),
        GET.replace(b"Accept:  */*", b"Host: other"),
        GET.replace(b"Accept", b"Accept "),
        GET.replace(b"Accept:", b"Transfer-Encoding:"),
        GET.replace(b"Accept:", b"content-encoding:"),
        GET.replace(b"Accept:", b"Upgrade:"),
        GET.replace(b"Accept:  */*", b"Connection: close"),
        GET.replace(b"Accept:  */*", b"connection: keep-alive, upgrade"),
        GET.replace(b"\r\nAccept", b"\nAccept"),
        GET.replace(b"\r\nAccept", b"\r\n Accept"),
        GET.replace(b"Accept:", b"X: " + b"x" * PLAIN_HEAD_BYTES_MAX + b"\r\nAccept:"),
        POST.replace(b": 7", b": -7"),
        POST.replace(b": 7", b": 7, 7"),
        POST.replace(b": 7", b": +7"),
        POST.replace(b": 7", b": 1e1"),
        POST.replace(b": 7", b": "),
        POST.replace(b": 7\r\n", b": 7\r\nContent-Length: 7\r\n"),
        POST.replace(b": 7\r\n", b": 7\r\nExpect: 100-continue\r\n"),
        POST.replace(b": 7\r", b": %d\r" % (PLAIN_BODY_BYTES_MAX + 1)),
    ],
)
def test_what_is_not_plain_is_left_alone(data: bytes) -> None:
    with pytest.raises(Unusual):
        parse(data)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join) | st.binary(max_size=200))
def test_nothing_is_read_that_aiohttp_reads_otherwise(data: bytes) -> None:
    _alike(data)


@given(st.sampled_from((GET, POST)), st.integers(0, 120), st.integers(0, 3), st.sampled_from(PIECES))
def test_nor_when_a_plain_request_is_damaged(data: bytes, at: int, gone: int, piece: bytes) -> None:
    _alike(data[:at] + piece + data[at + gone :])


def _alike(data: bytes) -> None:
    try:
        read = parse(data)
    except Unusual:
        return
    if read is not None:
        assert _fields(read) == _fields(_by_aiohttp(data))
