"""Bodies: what is read, what is refused and why, and how a version is spliced in."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from eventstore import body
from eventstore.body import Digits, Document, exact, merge_patch, read, write
from eventstore.errors import Malformed, Path
from eventstore.splicing import Body, splice

AT = "2026-11-20T17:42:13.123Z"


def refusal(data: bytes) -> tuple[str, Path]:
    with pytest.raises(Malformed) as caught:
        read(data)
    (issue,) = caught.value.issues
    issue.message.encode()  # a message can always be sent
    return issue.message, issue.path


def test_reads_value_and_bytes_without_white_space() -> None:
    document = read(b' {\n "a" : [ 1 , 2.50 , true ] ,\t"b" : " x  y " }\r\n')
    assert document == Document({"a": [1, 2.5, True], "b": " x  y "}, b'{"a":[1,2.50,true],"b":" x  y "}')


@pytest.mark.parametrize(
    "data",
    [
        rb"1.00", rb"1e3", rb"-0", rb"-0.0", rb"1E+05", rb"0e0", rb"1e308", rb"1e-308", rb"2.2250738585072014e-308",
        rb'"\/"', rb'"\u00e9"', rb'"\ud83d\ude00"', rb'"\u0001\u007f"', '"\u2028\x7f\U0001f600"'.encode(),
        b'{"":""}', b"[]", b"{}", b"true", b"9007199254740992", b'"\\\\u0000"', b'"\\\\ud800"',
    ],
)  # fmt: skip
def test_keeps_every_number_and_string_as_sent(data: bytes) -> None:
    document = read(data)
    assert document.data == data
    assert document.nulls == document.wide_integers == ()


def test_says_where_nulls_stand() -> None:
    assert read(b'{"a":[null,{"b":null}],"c":"null"}').nulls == (("a", 0), ("a", 1, "b"))
    assert read(b"null").nulls == ((),)
    assert read(b'{"nullFlavor":"null"}').nulls == ()


def test_says_where_integers_are_too_wide_for_a_double() -> None:
    data = b'[9007199254740992,9007199254740993,{"a":-9007199254740993},9007199254740993.0,"9007199254740993",1e300]'
    assert read(data).wide_integers == ((1,), (2, "a"))
    longest = b"1" + b"0" * 308
    assert read(longest) == Document(10**308, longest, (), ((),))


@pytest.mark.parametrize(
    ("data", "message", "path"),
    [
        (b"", "is empty", ()),
        (b" \n\t", "is empty", ()),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark", ()),
        (b"\xff\xfe{\x00}\x00", "Byte 0 of the body is not UTF-8 (line 1, column 1)", ()),
        (b'{"a":\n "\xc3\xa9\xff"}', "Byte 10 of the body is not UTF-8 (line 2, column 4)", ()),
        (b'{"\xff":1}', "Byte 2 of the body is not UTF-8", ()),
        (b'"\xed\xa0\x80"', "Byte 1 of the body is not UTF-8", ()),
        (b'{"a":1} x', "Extra data at line 1, column 9", ()),
        (b"{'a':1}", "Expecting property name enclosed in double quotes at line 1, column 2", ()),
        (b'{"a":1,\n}', "Expecting property name enclosed in double quotes at line 2, column 1", ()),
        (b'["a\nb"]', "Invalid control character at line 1, column 4", ()),
        (b'["a', "Unterminated string starting at line 1, column 2", ()),
        (b"tru", "Expecting value at line 1, column 1", ()),
        (b"01", "Extra data at line 1, column 2", ()),
        (b"[NaN]", "holds NaN", ()),
        (b"[-Infinity]", "holds -Infinity", ()),
        (b'{"a":1,"a":1}', 'The key "a" stands twice', ("a",)),
        (b'{"x":[0,{"b":1,"a":1,"c":1,"a":2}]}', 'The key "a" stands twice', ("x", 1, "a")),
        (b'{"a":{"b":1,"b":1},"a":2}', 'The key "a" stands twice', ("a",)),
        (b'{"a":1,"\\u0061":1}', 'The key "a" stands twice', ("a",)),
        (b'{"a":["\\ud800"]}', r'"\ud800", half a character', ("a", 0)),
        (b'["x\\udc00y"]', r'"\udc00", half a character', (0,)),
        (b'["\\ud800\\ud800"]', r'"\ud800", half a character', (0,)),
        (b'{"a":{"\\ud800":{"b":1,"b":2}}}', r'"\ud800", half a character', ("a",)),
        (b'{"a":"x\\u0000"}', r"holds a NUL (\u0000)", ("a",)),
        (b'{"a":{"\\u0000":1}}', r"holds a NUL (\u0000)", ("a",)),
        (b'{"a":1e400}', "The number 1e400 is out of range", ("a",)),
        (b"[-1E+309]", "The number -1E+309 is out of range", (0,)),
        (b"1e-309", "The number 1e-309 is out of range", ()),
        (b"5e-324", "The number 5e-324 is out of range", ()),
        (b"0e309", "The number 0e309 is out of range", ()),
        (b"0." + b"0" * 400 + b"1", "is out of range", ()),
        (b"9" * 309, "is out of range", ()),
        (b"[" + b"1" * 5000 + b"]", "has over 1024 characters", (0,)),
        (b"0." + b"1" * 2000, "has over 1024 characters", ()),
    ],
)
def test_refuses_and_says_why_and_where(data: bytes, message: str, path: Path) -> None:
    said, where = refusal(data)
    assert message in said
    assert where == path


def test_shortens_what_it_shows() -> None:
    message, path = refusal(b'{"%b":1,"%b":1}' % (b"k" * 9000, b"k" * 9000))
    assert len(message) < 120
    assert path == ("k" * 9000,)


def nested(levels: int) -> bytes:
    pairs = b'{"a":[' * (levels // 2)
    return pairs + b"[]" * (levels % 2) + b"]}" * (levels // 2)


@pytest.mark.parametrize("inside", [b"%b", b'[%b,"\\/"]', b"[%b" + b",[]" * 200 + b"]"])
def test_depth_has_a_limit(inside: bytes) -> None:
    levels = body.MAX_DEPTH_LEVELS - inside.startswith(b"[")
    assert read(inside % nested(levels)).value
    assert "deeper than 128 levels" in refusal(inside % nested(levels + 1))[0]


@pytest.mark.parametrize("data", [b"[" * 10**6, b'{"a":' * 10**6, b"[" * 10**5 + b"]" * 10**5, nested(900)])
def test_bottomless_bodies_are_refused_at_once(data: bytes) -> None:
    assert "deeper than 128 levels" in refusal(data)[0]


def test_nulls_cannot_fill_the_memory() -> None:
    nulls = b"null," * (body.MAX_NOTED_PLACES - 1) + b"null"
    assert len(read(b"[%b]" % nulls).nulls) == body.MAX_NOTED_PLACES
    assert "over 10000 nulls" in refusal(b"[%b,null]" % nulls)[0]


def test_digits_survive_copies() -> None:
    digits = Digits("1.00")
    assert digits == 1.0
    for other in (copy.copy(digits), copy.deepcopy(digits), pickle.loads(pickle.dumps(digits))):
        assert other.text == "1.00"


def test_exact_and_write_keep_digits() -> None:
    data = b'{"a":[1.00,1e3,-0.0,-0,1E+05,12345678901234567890123],"b":{},"c":[],"d":null,"e":"\xc3\xa9","f":true}'
    value = exact(data)
    assert write(value) == data
    assert [type(number) for number in value["a"]] == [Digits, Digits, Digits, Digits, Digits, int]
    assert write(exact(b"1" + b"0" * 308)) == b"1" + b"0" * 308


def test_write_refuses_what_json_does_not_have() -> None:
    with pytest.raises(TypeError, match="object has no form in JSON"):
        write([object()])


def spliced(data: bytes, type: str = "T", id: str = "x") -> tuple[bytes, Any]:
    document = read(data)
    return splice(document, type, id).render(5, AT), document.value


META = b'"meta":{"versionId":"5","lastUpdated":"2026-11-20T17:42:13.123Z"'


@pytest.mark.parametrize(
    ("sent", "stored", "value"),
    [
        (b"{}", b'{"resourceType":"T","id":"x",%b}}', {}),
        (b'{"a":1.00}', b'{"resourceType":"T","id":"x",%b},"a":1.00}', {"a": 1.0}),
        (b'{"id":"x","a":1}', b'{"resourceType":"T","id":"x",%b},"a":1}', {"a": 1}),
        (b'{"a":1,"id":"x"}', b'{"resourceType":"T","a":1,"id":"x",%b}}', {"a": 1}),
        (b'{"a":1,"resourceType":"T","b":2}', b'{"a":1,"resourceType":"T","id":"x",%b},"b":2}', {"a": 1, "b": 2}),
        (b'{"id":"y","resourceType":"U"}', b'{"id":"x",%b},"resourceType":"T"}', {}),
        (b'{"meta":{}}', b'{"resourceType":"T","id":"x",%b}}', {}),
        (b'{"meta":{},"id":"x","resourceType":"T"}', b'{%b},"id":"x","resourceType":"T"}', {}),
        (b'{"a":1,"meta":{"versionId":"1"},"b":"\\/"}', b'{"resourceType":"T","id":"x","a":1,%b},"b":"\\/"}',
         {"a": 1, "b": "/"}),
        (b'{"resourceType":"T","id":"x","meta":{"z":1.0,"lastUpdated":"l","tag":[{"code":"c"}],"versionId":"2"}}',
         b'{"resourceType":"T","id":"x",%b,"z":1.0,"tag":[{"code":"c"}]}}', {"meta": {"z": 1.0, "tag": [{"code": "c"}]}}),
        (b'{"a":{"meta":{"versionId":"1"},"id":"q"}}',
         b'{"resourceType":"T","id":"x",%b},"a":{"meta":{"versionId":"1"},"id":"q"}}',
         {"a": {"meta": {"versionId": "1"}, "id": "q"}}),
        (b'{"resourceType":"T"}', b'{"resourceType":"T","id":"x",%b}}', {}),
        (b'{"resourceType":"T","id":"x","a":1}', b'{"resourceType":"T","id":"x",%b},"a":1}', {"a": 1}),
        (b'{"resourceType":"T","id":"xy","a":1}', b'{"resourceType":"T","id":"x",%b},"a":1}', {"a": 1}),
        (b'{"resourceType":"T","id":"x","a\\/b":1}', b'{"resourceType":"T","id":"x",%b},"a/b":1}', {"a/b": 1}),
        (b'{"resourceType":"T","id":"x","m\\u0065ta":{"z":1}}', b'{"resourceType":"T","id":"x",%b,"z":1}}',
         {"meta": {"z": 1}}),
        (b'{"a":1,"meta":{"tag":[{"code":"c"}]},"b":2}',
         b'{"resourceType":"T","id":"x","a":1,%b,"tag":[{"code":"c"}]},"b":2}', {"a": 1, "meta": {"tag": [{"code": "c"}]}, "b": 2}),
        (b'{"meta":{"z":1}}', b'{"resourceType":"T","id":"x",%b,"z":1}}', {"meta": {"z": 1}}),
        (b'{"id":"x","meta":{"z":1.00},"a":1}', b'{"resourceType":"T","id":"x",%b,"z":1.00},"a":1}', {"meta": {"z": 1.0}, "a": 1}),
        (b'{"a":{"meta":{"z":1}},"meta":{"z":1}}', b'{"resourceType":"T","id":"x","a":{"meta":{"z":1}},%b,"z":1}}',
         {"a": {"meta": {"z": 1}}, "meta": {"z": 1}}),
        (b'{"a":"\\"meta\\":{","meta":{"z":1}}', b'{"resourceType":"T","id":"x","a":"\\"meta\\":{",%b,"z":1}}',
         {"a": '"meta":{', "meta": {"z": 1}}),
        (b'{"\xc3\xa9\\n\\"":1}', b'{"resourceType":"T","id":"x",%b},"\xc3\xa9\\n\\"":1}', {'é\n"': 1}),
    ],
)  # fmt: skip
def test_splice(sent: bytes, stored: bytes, value: dict[str, Any]) -> None:
    rendered, became = spliced(sent)
    assert rendered == stored % META
    assert became == {"resourceType": "T", "id": "x", **value}


@pytest.mark.parametrize(
    "data",
    [
        b'{"meta":{"versionId":"1"},"a":1}',
        b'{"resourceType":"T","id":"x","meta":{}}',
        b'{"resourceType":"T","id":"x","meta":{"z":1}}',
        b'{"resourceType":"T","id":"x","meta":{"versionId":"1","z":1}}',
        b'{"resourceType":"T","id":"x","m\\u0065ta":{"versionId":"1"},"a":1}',
        b'{"\\u0069d":"x","a":1}',
        b'{"resourceType":"T","a":1}',
    ],
)
def test_splice_can_be_done_again(data: bytes) -> None:
    document = read(data)
    assert splice(document, "T", "x") == splice(document, "T", "x")


@pytest.mark.parametrize("meta", [b"1", b"null", b'"m"', b"[{}]"])
def test_splice_leaves_a_meta_that_is_no_object_to_validation(meta: bytes) -> None:
    document = read(b'{"meta":%b}' % meta)
    splice(document, "T", "x")
    assert document.value["meta"] == read(meta).value


def test_splice_of_what_is_stored_gives_the_same_body() -> None:
    first = splice(read(b'{"b":1.50,"meta":{"tag":[]},"a":"\\u00e9"}'), "T", "x")
    assert splice(read(first.render(7, AT)), "T", "x") == first


PART = Body(b'{"id":"x","meta":{', b',"tag":[]},"a":1}')


def test_same_as() -> None:
    assert PART.same_as(PART.render(1, AT))
    assert PART.same_as(PART.render(12345678901, AT))
    assert not Body(PART.head, b"}}").same_as(PART.render(1, AT))
    assert not Body(PART.head, b"}" + PART.tail).same_as(PART.render(1, AT))


@pytest.mark.parametrize(
    "middle",
    [
        b"",
        b'"versionId":"1"',
        b'"versionId":"0","lastUpdated":"%b"' % AT.encode(),
        b'"versionId":1,"lastUpdated":"%b"' % AT.encode(),
        b'"lastUpdated":"%b","versionId":"1"' % AT.encode(),
        b'"versionId":"1","lastUpdated":"%b"}' % AT.encode(),
        b'"versionId":"1","lastUpdated":"%b","tag":[]' % AT.encode(),
        b'"versionId":"1","lastUpdated":"%b"\n' % AT.encode(),
        b'"versionId":"1","lastUpdated":"2026"',
        b'"versionId":"1\\u0000","lastUpdated":"%b"' % AT.encode(),
    ],
)
def test_same_as_is_not_fooled(middle: bytes) -> None:
    assert not PART.same_as(PART.head + middle + PART.tail)


def test_same_as_wants_head_and_tail_side_by_side() -> None:
    assert not Body(b"abc", b"bcd").same_as(b"abcd")
    assert not PART.same_as(b"")


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # the examples of RFC 7396, appendix A
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"b"}', '["c"]', '["c"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
        ('{"a":1.00,"b":[2.0,3.50]}', '{"c":1e3}', '{"a":1.00,"b":[2.0,3.50],"c":1e3}'),
    ],
)
def test_merge_patch(target: str, patch: str, result: str) -> None:
    before, change = exact(target.encode()), exact(patch.encode())
    assert write(merge_patch(before, change)) == result.encode()
    assert write(before) == target.encode()
    assert write(change) == patch.encode()


@pytest.mark.parametrize("many", [body.MAX_ESCAPES, body.MAX_ESCAPES + 1])
def test_texts_with_many_different_escapes_are_read_alike(many: int) -> None:
    """Those that are looked at one by one, and those that are too many; and what only looks like an escape."""
    text = "".join(rf"\u{0x4E00 + n:04x}" for n in range(many)) + r"\\ud83d"
    data = rf'{{"a":"{text}"}}'.encode()
    assert read(data).data == data
    assert read(data).value["a"].startswith("\u4e00\u4e01")
    assert read(data).value["a"].endswith(r"\ud83d")
    assert refusal(rf'{{"a":"{text}","\u0061":1}}'.encode())[1] == ("a",)
