"""Subjects: no text can be mistaken for another, end its token or become a wildcard."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.delivery import subject
from eventstore.errors import Malformed

TEXT = st.text(min_size=1, max_size=80)
IDS = st.text("ABCxyz019.-", min_size=1, max_size=64)


@given(TEXT)
def test_a_token_has_only_plain_bytes_and_decodes_to_its_text(text: str) -> None:
    token = subject.encode(text)
    assert re.fullmatch(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+", token)
    assert subject.decode(token) == text


@given(TEXT, TEXT)
def test_two_texts_have_two_tokens(one: str, other: str) -> None:
    assert (one == other) == (subject.encode(one) == subject.encode(other))


@given(IDS, IDS, st.sampled_from(["created", "updated", "deleted", "erased"]))
def test_a_subject_has_four_tokens_and_parses_back(type: str, id: str, action: str) -> None:
    made = subject.subject(type, id, action)
    assert made.startswith("quire.")
    assert made.count(".") == 3
    assert subject.parse(made) == (type, id, action)


@given(st.text("=ABab019_-.%é", max_size=12))
def test_what_encode_does_not_write_is_refused(token: str) -> None:
    try:
        text = subject.decode(token)
    except Malformed:
        return
    assert subject.encode(text) == token


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("UserSetting", "UserSetting"),
        ("acme.Device-x", "acme=2EDevice-x"),
        ("1.2.840.113619", "1=2E2=2E840=2E113619"),
        ("a=b", "a=3Db"),
        ("*", "=2A"),
        (">", "=3E"),
        ("a b\r\n", "a=20b=0D=0A"),
        ("é", "=C3=A9"),
        ("." * 64, "=2E" * 64),
    ],
)
def test_the_encoding_is_as_documented(text: str, token: str) -> None:
    assert subject.encode(text) == token


@pytest.mark.parametrize("token", ["", "=2e", "=41", "=", "=2", "a.b", "a*", "=FF", "é", "a\n"])
def test_these_are_no_tokens(token: str) -> None:
    with pytest.raises(Malformed):
        subject.decode(token)


@pytest.mark.parametrize(
    "text", ["quire.hole", "quire.a.b", "other.a.b.created", "quire.a.b.c.d", "quire..b.created"]
)
def test_these_are_no_subjects_of_events(text: str) -> None:
    with pytest.raises(Malformed):
        subject.parse(text)


def test_filters() -> None:
    assert subject.filter_of() == subject.EVENTS == "quire.*.*.*"
    assert subject.filter_of("UserSetting") == "quire.UserSetting.*.*"
    assert subject.filter_of("acme.Device-x", "a.b") == "quire.acme=2EDevice-x.a=2Eb.*"
    assert subject.filter_of(action="deleted") == "quire.*.*.deleted"
    assert subject.filter_of(type=">", id="*") == "quire.=3E.=2A.*"


def test_nothing_is_no_part_of_a_subject() -> None:
    with pytest.raises(Malformed, match="empty"):
        subject.filter_of(type="")


@given(IDS, IDS, st.sampled_from(["created", "updated", "deleted", "erased"]))
def test_no_event_has_the_subject_of_a_placeholder_or_of_an_old_stream(
    type: str, id: str, action: str
) -> None:
    made = subject.subject(type, id, action)
    assert made != subject.HOLE
    assert not made.startswith(subject.old(1)[:-1])
