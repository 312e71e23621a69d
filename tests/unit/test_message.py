"""Messages: CloudEvents headers that nothing can break out of, and bodies that fit or are referred to."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.delivery import message, subject
from eventstore.delivery.message import Composer, Message, difference, headers, safe
from eventstore.event import Context, Event, Header, encode_context, seal
from eventstore.log.base import Hole

LOG = "0b8e3c7a-52d1-4f6e-9a57-3d1c8f2e6b40"
BODY = b'{"resourceType":"UserSetting","id":"a"}'


def event(
    position: int = 7,
    type: str = "UserSetting",
    id: str = "a",
    action: str = "updated",
    data: bytes | None = BODY,
    context: Context = Context(),
) -> Event:
    at = "2026-11-20T17:42:13.123Z"
    header = Header(position, type, id, action, at, position, 0, "PUT", f"{type}/{id}")
    return seal(header, data, encode_context(context), b"s" * 16, b"h" * 32)


def compose(one: Event, bytes_max: int = 1024 * 1024, base_url: str = "https://h.example/q") -> Message:
    return Composer(LOG, "QUIRE", bytes_max, base_url).message(one)


def test_an_event_is_a_cloudevent_in_binary_mode() -> None:
    one = event(context=Context(correlation="order 66"))
    made = compose(one)
    assert made.subject == "quire.UserSetting.a.updated"
    assert made.payload is one.data
    assert made.head.startswith(b"NATS/1.0\r\n")
    assert made.head.endswith(b"\r\n\r\n")
    assert headers(made.head) == {
        "Nats-Expected-Last-Sequence": "6",
        "Nats-Expected-Stream": "QUIRE",
        "Quire-Position": "7",
        "ce-specversion": "1.0",
        "ce-source": f"urn:uuid:{LOG}",
        "ce-id": f"{LOG}:7",
        "ce-type": "quire.UserSetting.updated",
        "ce-subject": "UserSetting/a",
        "ce-time": "2026-11-20T17:42:13.123Z",
        "ce-sequence": "00000000000000000007",
        "Quire-Hash": one.hash.hex(),
        "Quire-Correlation": "order%2066",
        "ce-datacontenttype": "application/fhir+json",
    }


def test_no_message_id_is_ever_sent() -> None:
    assert b"Nats-Msg-Id" not in compose(event()).head


def test_a_delete_has_no_body() -> None:
    made = compose(event(action="deleted", data=None))
    assert made.payload == b""
    assert "ce-datacontenttype" not in headers(made.head)
    assert "Quire-Erased" not in headers(made.head)


def test_an_erased_event_is_header_only_and_says_so() -> None:
    whole = event(context=Context(correlation="c"))
    erased = msgspec.structs.replace(whole, data=None, context=b"", salt=b"")
    made = compose(erased)
    assert made.payload == b""
    assert headers(made.head)["Quire-Erased"] == "true"
    assert headers(made.head)["Quire-Hash"] == whole.hash.hex()
    assert "Quire-Correlation" not in headers(made.head)


def test_a_body_that_just_fits_is_sent_and_one_byte_more_is_a_reference() -> None:
    one = event()
    whole = compose(one)
    size = len(whole.head) + len(whole.payload)
    assert compose(one, size) == whole
    referred = compose(one, size - 1)
    assert referred.payload == b""
    told = headers(referred.head)
    assert told["ce-dataref"] == "https://h.example/q/UserSetting/a/_history/7"
    assert told["Quire-Body-Bytes"] == str(len(BODY))
    assert told["Quire-Body-Digest"] == f"sha-256={sha256(BODY).hexdigest()}"
    assert "ce-datacontenttype" not in told


def test_a_placeholder_names_its_hole() -> None:
    made = Composer(LOG, "QUIRE", 1024).placeholder(12, Hole(10, 500))
    assert (made.subject, made.payload) == ("quire.hole", b"")
    assert headers(made.head) == {
        "Nats-Expected-Last-Sequence": "11",
        "Nats-Expected-Stream": "QUIRE",
        "Quire-Position": "12",
        "Quire-Hole": "10-500",
    }


@given(st.text(max_size=400))
def test_a_correlation_id_cannot_leave_its_line_and_comes_back(correlation: str) -> None:
    made = compose(event(context=Context(correlation=correlation.encode("utf-8", "ignore").decode())))
    lines = made.head.decode("ascii").split("\r\n")
    assert len(lines) == len(compose(event()).head.split(b"\r\n")) + bool(
        headers(made.head).get("Quire-Correlation")
    )
    value = headers(made.head).get("Quire-Correlation", "")
    assert len(value) <= message.VALUE_BYTES_MAX
    assert unquote(value, errors="ignore") in correlation or len(value) >= message.VALUE_BYTES_MAX - 2


@given(st.text())
def test_a_safe_value_is_printable_ascii(value: str) -> None:
    made = safe(value)
    assert all("!" <= character <= "~" and character != '"' for character in made)
    assert len(made) <= message.VALUE_BYTES_MAX


@pytest.mark.parametrize("value", ["x" * 2000, "é" * 2000, "x" * 1022 + "é", "x" * 1023 + "é"])
def test_a_long_value_is_cut_and_never_within_an_escape(value: str) -> None:
    made = safe(value)
    assert len(made) in range(message.VALUE_BYTES_MAX - 2, message.VALUE_BYTES_MAX + 1)
    assert value.startswith(unquote(made, errors="ignore"))


def test_what_a_stored_message_can_differ_in() -> None:
    one = event()
    made = compose(one)
    told = headers(made.head)
    assert difference(one, made.subject, told, made.payload) == ""
    assert difference(one, made.subject, told, None) == ""
    assert "not published by Quire" in difference(one, made.subject, {}, made.payload)
    assert "not published by Quire" in difference(
        one, made.subject, {**told, "Quire-Position": "8"}, made.payload
    )
    assert "hash" in difference(one, made.subject, {**told, "Quire-Hash": "00"}, made.payload)
    assert "subject" in difference(one, "quire.UserSetting.b.updated", told, made.payload)
    assert "body" in difference(one, made.subject, told, b"{}")
    erased = msgspec.structs.replace(one, data=None)
    assert "erased" in difference(erased, made.subject, told, made.payload)
    assert difference(erased, made.subject, headers(compose(erased).head), b"") == ""


def test_a_reference_is_compared_by_its_digest() -> None:
    one = event()
    made = compose(one, 500)
    told = headers(made.head)
    assert "ce-dataref" in told
    assert difference(one, made.subject, told, b"") == ""
    assert "reference" in difference(one, made.subject, {**told, "Quire-Body-Digest": "sha-256=00"}, b"")
    assert "reference" in difference(one, made.subject, told, b"x")


def test_the_subject_is_the_encoded_one_and_the_headers_are_as_they_are() -> None:
    made = compose(event(type="acme.Device-x", id="a.b"))
    assert made.subject == subject.subject("acme.Device-x", "a.b", "updated")
    assert headers(made.head)["ce-subject"] == "acme.Device-x/a.b"
    assert headers(made.head)["ce-type"] == "quire.acme.Device-x.updated"
