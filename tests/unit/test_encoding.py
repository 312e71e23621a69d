"""Bodies with a Content-Encoding are unpacked whole, or refused."""

from __future__ import annotations

import gzip
import zlib

import pytest

from eventstore.errors import Malformed, TooLarge
from eventstore.server.encoding import GZIP_STREAMS_MAX, unpacked

BODY = b'{"ward":"ICU"}' * 1000


def bare(data: bytes) -> bytes:
    """Deflate without the head of zlib."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = [
    pytest.param("gzip", gzip.compress(BODY), id="gzip"),
    pytest.param("deflate", zlib.compress(BODY), id="zlib"),
    pytest.param("deflate", bare(BODY), id="bare"),
]


@pytest.mark.parametrize(("encoding", "packed"), [*PACKED, pytest.param("identity", BODY, id="identity")])
def test_all_of_a_body_comes_out(encoding: str, packed: bytes) -> None:
    assert unpacked(packed, encoding, len(BODY)) == BODY
    assert unpacked(b"", encoding, 0) == b""


@pytest.mark.parametrize(("encoding", "packed"), PACKED)
def test_what_was_cut_off_anywhere_is_refused(encoding: str, packed: bytes) -> None:
    for end in range(1, len(packed)):
        with pytest.raises(Malformed, match=f"Content-Encoding, {encoding}"):
            unpacked(packed[:end], encoding, len(BODY))


@pytest.mark.parametrize(("encoding", "packed"), PACKED)
def test_what_follows_the_end_is_refused(encoding: str, packed: bytes) -> None:
    with pytest.raises(Malformed, match="Content-Encoding"):
        unpacked(packed + b"x", encoding, 2 * len(BODY))
    with pytest.raises(Malformed, match="send one stream"):
        unpacked(packed * (GZIP_STREAMS_MAX + 1), encoding, (GZIP_STREAMS_MAX + 1) * len(BODY))


def test_gzip_may_be_several_streams() -> None:
    packed = gzip.compress(BODY)
    assert unpacked(packed * 3, "gzip", 3 * len(BODY)) == BODY * 3
    with pytest.raises(TooLarge):
        unpacked(packed * 3, "gzip", 3 * len(BODY) - 1)
    with pytest.raises(Malformed, match="send all of it"):
        unpacked(packed + packed[:-9], "gzip", 3 * len(BODY))


@pytest.mark.parametrize(("encoding", "packed"), PACKED)
def test_more_than_is_taken_is_refused(encoding: str, packed: bytes) -> None:
    with pytest.raises(TooLarge, match=f"at most {len(BODY) - 1} bytes"):
        unpacked(packed, encoding, len(BODY) - 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_not_packed_is_refused(encoding: str) -> None:
    with pytest.raises(Malformed, match="is not in its Content-Encoding"):
        unpacked(b"\xff" + BODY, encoding, len(BODY) + 1)
