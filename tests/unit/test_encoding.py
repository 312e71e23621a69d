"""Bodies with a Content-Encoding are unpacked whole, or refused."""

from __future__ import annotations

import gzip
import zlib

import pytest

from eventstore.errors import Malformed, TooLarge
from eventstore.server.encoding import unpacked

BODY = b'{"ward":"ICU"}' * 1000


def bare(data: bytes) -> bytes:
    """Deflate without the head of zlib."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = [("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY)), ("deflate", bare(BODY))]


@pytest.mark.parametrize(("encoding", "packed"), [*PACKED, ("identity", BODY)])
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
    for more in (b"x", packed):
        with pytest.raises(Malformed, match="send one stream"):
            unpacked(packed + more, encoding, 2 * len(BODY))


@pytest.mark.parametrize(("encoding", "packed"), PACKED)
def test_more_than_is_taken_is_refused(encoding: str, packed: bytes) -> None:
    with pytest.raises(TooLarge, match=f"at most {len(BODY) - 1} bytes"):
        unpacked(packed, encoding, len(BODY) - 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_not_packed_is_refused(encoding: str) -> None:
    with pytest.raises(Malformed, match="is not in its Content-Encoding"):
        unpacked(b"\xff" + BODY, encoding, len(BODY) + 1)
