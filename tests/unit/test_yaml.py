"""YAML: read by the 1.2 core schema, refused with a place and a remedy, written so that nobody misreads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml as pyyaml
from harness.soon import soon

from eventstore.body import MAX_DEPTH_LEVELS, read
from eventstore.errors import Malformed
from eventstore.yaml import MAX_SIMPLE_KEY_CHARACTERS, from_json, to_json


def refusal(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        to_json(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("plain", "meaning"),
    [
        # null, booleans
        ("", "null"), ("~", "null"), ("null", "null"), ("Null", "null"), ("NULL", "null"), ("nULL", '"nULL"'),
        ("true", "true"), ("True", "true"), ("TRUE", "true"), ("tRUE", '"tRUE"'),
        ("false", "false"), ("False", "false"), ("FALSE", "false"),
        ("yes", '"yes"'), ("no", '"no"'), ("on", '"on"'), ("Off", '"Off"'), ("y", '"y"'), ("N", '"N"'),
        # integers
        ("0", "0"), ("1", "1"), ("-1", "-1"), ("+1", "1"), ("010", "10"), ("-007", "-7"), ("00", "0"), ("-0", "-0"),
        ("0o17", "15"), ("0x1F", "31"), ("0xffffffffffffffffff", "4722366482869645213695"),
        ("-0x1F", '"-0x1F"'), ("0o8", '"0o8"'), ("0xg", '"0xg"'), ("0b1", '"0b1"'), ("1_000", '"1_000"'),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        # floats, with their digits
        ("1.00", "1.00"), ("1e3", "1e3"), ("1E+05", "1E+05"), (".5", "0.5"), ("-.5", "-0.5"), ("+.5e1", "0.5e1"),
        ("1.", "1.0"), ("1.e5", "1.0e5"), ("-0.0", "-0.0"), ("007.50", "7.50"),
        (".", '"."'), ("+", '"+"'), ("-a", '"-a"'), ("e5", '"e5"'), ("1e", '"1e"'), (".e5", '".e5"'),
        ("1.2.3", '"1.2.3"'), ("\u0661", '"\u0661"'), ("+.nan", '"+.nan"'), (".inf_", '".inf_"'),
        # text
        ("1990-01-01", '"1990-01-01"'), ("2001-12-14t21:59:43Z", '"2001-12-14t21:59:43Z"'), ("12:30", '"12:30"'),
        ("12:30:45.5", '"12:30:45.5"'), ("=", '"="'), ("<<", '"<<"'), ("a b", '"a b"'), ("http://a/b#c", '"http://a/b#c"'),
        # quoted, and blocks
        ("'1'", '"1"'), ('"true"', '"true"'), ("''", '""'), ("'it''s'", '"it\'s"'), ('"\\x41\\u00e9\\n\\/"', '"A\u00e9\\n/"'),
        ('"\\N\\L\\P\\U0001f600\\uFEFF"', '"\x85\u2028\u2029\U0001f600\ufeff"'), ('"\\x01\\a"', '"\\u0001\\u0007"'),
        ("|\n  1\n   2\n", '"1\\n 2\\n"'), (">-\n  a\n  b\n", '"a b"'), ("|-\n  null\n", '"null"'), ("a\n  b", '"a b"'),
        # containers
        ("[]", "[]"), ("{}", "{}"), ("\n- 1\n- a", '[1,"a"]'), ("\n  b: 1\n  c:", '{"b":1,"c":null}'),
        ("{a, b: }", '{"a":null,"b":null}'), ("[a: b]", '[{"a":"b"}]'), ('{"a":1,"b":[true,]}', '{"a":1,"b":[true]}'),
    ],
)  # fmt: skip
def test_reads_the_core_schema(plain: str, meaning: str) -> None:
    assert to_json(f"k: {plain}\n".encode()).decode() == f'{{"k":{meaning}}}'
    read(to_json(f"k: {plain}\n".encode()))


def test_keys_are_their_text() -> None:
    data = b"1: a\ntrue: b\n~: c\n1.0: d\n0x1F: e\n<<: {}\n=: 2\n'1 ': 3\n? j\n: 4\n"
    assert to_json(data) == b'{"1":"a","true":"b","~":"c","1.0":"d","0x1F":"e","<<":{},"=":2,"1 ":3,"j":4}'
    assert to_json(b"? \n: a\n") == b'{"":"a"}'


@pytest.mark.parametrize(
    "data", [b"%YAML 1.2\n---\nno\n", b"%YAML 1.1\n--- no", b"# c\nno\n...\n# c", b"no\r\n"]
)
def test_reads_one_document(data: bytes) -> None:
    assert to_json(data) == b'"no"'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "holds no document"),
        (b"---\n", "document is empty"),
        (b"\xef\xbb\xbfa: 1", "byte order mark"),
        (b"a: b\nc: \xff", "Byte 8 of the body is not UTF-8 (line 2, column 4)"),
        (b"a:\n  b: &x 1", 'anchor ("x") at line 2, column 6'),
        (b"&x\na: 1", 'anchor ("x") at line 1, column 1'),
        (b"&x a: 1", 'anchor ("x") at line 1, column 1'),
        (b"- &x [1]", 'anchor ("x") at line 1, column 3'),
        (b"a: *x", 'alias ("x") at line 1, column 4'),
        (b"*x : a", 'alias ("x") at line 1, column 1'),
        (b"a: !!str 1", 'tag ("tag:yaml.org,2002:str") at line 1, column 4'),
        (b"a: ! 1", 'tag ("!") at line 1, column 4'),
        (b"a: !<x> 1", 'tag ("x") at line 1, column 4'),
        (b"!!map {a: 1}", 'tag ("tag:yaml.org,2002:map") at line 1, column 1'),
        (b"!!str a: 1", 'tag ("tag:yaml.org,2002:str") at line 1, column 1'),
        (b"!!python/object/apply:os.system [ls]", "tag ("),
        (b"a: 1\nb: 2\na: 3\n", 'The key "a" stands twice in one mapping, again at line 3, column 1'),
        (b"[{1: a, '1': b}]", 'The key "1" stands twice in one mapping, again at line 1, column 9'),
        (b"? [a]\n: b", "A key is a list or a mapping at line 1, column 3"),
        (b"{{a: b}: c}", "A key is a list or a mapping at line 1, column 2"),
        (b"a: 1\n---\nb: 1\n", "A second YAML document begins at line 2, column 1"),
        (b"%TAG ! tag:x,2000:\n---\na", "%TAG"),
        (b"%YAML 1.3\n---\na", "incompatible YAML document"),
        (b"%FOO\n---\na", "unknown directive"),
        (b"a: .inf", 'the number ".inf" at line 1, column 4'),
        (b"a: -.INF", 'the number "-.INF"'),
        (b"a: .NaN", 'the number ".NaN"'),
        (b"a: 0x" + b"f" * 9000, 'the number "0xfff'),
        (b'a: "x\\0"', "NUL in the text at line 1, column 4"),
        (b'"\\0": 1', "NUL in the text at line 1, column 1"),
        (b'a: "\\ud800"', "line 1, column 7: found invalid Unicode character escape code"),
        (b"a: x\x00", "the character U+0000 at line 1, column 5"),
        (b"a: x\n\x1b: y", "the character U+001B at line 2, column 1"),
        ("# c\u2028a: 1".encode(), "the character U+2028 at line 1, column 4"),
        ("a: \x85".encode(), "the character U+0085 at line 1, column 4"),
        ("a: x\ufeff".encode(), "the character U+FEFF at line 1, column 5"),
        (b"a:\n\t- 1", "line 2, column 1: found character that cannot start any token"),
        (b"a: b: c", "line 1, column 5: mapping values are not allowed"),
        (b"a: [1", "line 2, column 1: did not find expected ',' or ']'"),
        (b"a: @b", "line 1, column 4: found character that cannot start any token"),
    ],
)
def test_refuses_and_says_where(data: bytes, message: str) -> None:
    assert message in refusal(data)


def test_depth_has_a_limit() -> None:
    levels = MAX_DEPTH_LEVELS
    assert to_json(b"- " * levels + b"1") == b"[" * levels + b"1" + b"]" * levels
    assert "deeper than 128 levels at line 1, column 257" in refusal(b"- " * (levels + 1) + b"1")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10**6, b"{a: " * 10**6, b"- " * 10**6, b"? " * 10**6, b"[\n" * 10**6, b"&a " * 10**6, b"!" * 10**6,
        b"*" + b"a" * 10**6, b"---\n" * 10**6, b"a:" * 10**6, b"1" * 10**6 + b": : ", b"0x" + b"f" * 10**6,
        b"a: &a [x, x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (n, n) for n in range(10_000)),
        b'"' + b"a" * 10**6, b"{" + b"x," * 10**5 + b"}", b"a: |\n" + b"  \n" * 10**5 + b"\x01",
    ],
)  # fmt: skip
def test_hostile_documents_are_refused_at_once(data: bytes) -> None:
    with soon(1):
        assert len(refusal(data)) < 250


BLOCKS = """\
resourceType: acme-Device
id: '7'
meta:
  versionId: '2'
'n': 1.00
e: 1e3
z: -0
t: true
nil: null
none: []
nothing: {}
name:
  - family: Doe
    given:
      - J
      - K (K.)
  - - 1
    - - 2
  - {}
url: http://a.org/b#c
div: |
  <p>
    x

  </p>
tail: |-
  a
  b
"""


def test_writes_blocks_that_people_can_read() -> None:
    data = (
        b'{"resourceType":"acme-Device","id":"7","meta":{"versionId":"2"},"n":1.00,"e":1e3,"z":-0,"t":true,"nil":null,'
        b'"none":[],"nothing":{},"name":[{"family":"Doe","given":["J","K (K.)"]},[1,[2]],{}],'
        b'"url":"http://a.org/b#c","div":"<p>\\n  x\\n\\n</p>\\n","tail":"a\\nb"}'
    )
    assert from_json(data).decode() == BLOCKS
    assert to_json(from_json(data)) == data


AMBIGUOUS = [
    "yes", "Yes", "YES", "no", "on", "Off", "y", "N", "true", "False", "null", "NULL", "~", "", "=", "<<", "!", "&a", "*a",
    "1", "-1", "+1", "010", "0x1F", "0o7", "0b1", "1_000", "1.0", ".5", "1.", "1e3", "1.5e+3", ".inf", "-.INF", ".nan",
    "12:30", "12:30:45", "1:2.5", "1990-01-01", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43", "685_230.15",
    " a", "a ", "a: b", "a:", ": a", "a #b", "#a", "- a", "-", "--", "---", "...", "? a", "?", "|", ">", "|-", "%a", "@a", "`a`",
    "[a]", "{a}", "[", "a, b", ",", "'a'", '"a"', "it's", 'say "x"', "a\\b", "a\tb", "\ta", "a\nb", "a\n", "\na", "a\n\n", "\n",
    "a\r\nb", "a\n b\n", " a\nb", "a\n  \nb", "a \nb", "a\n\tb", "# a\nb", "---\na", "a\x85b", "a\u2028b\u2029", "\ufeffa", "a\ufeff",
    "\x01", "\x1b", "\x7f", "\x9f", "\xa0", "a\xadb", "\u200d", "\U0001f600", "\U000e0001", "\U0010ffff", "\ufffe", "\ue000",
    "e\u0301", "é", "naïve text", "日本語", "a" * 5000, "a b " * 500, "x\n" * 500, "a:" * 600, "!!str a", "null\n", "1\n2",
]  # fmt: skip


@pytest.mark.parametrize("text", AMBIGUOUS, ids=lambda text: ascii(text)[:20])
@pytest.mark.parametrize("loader", [pyyaml.CSafeLoader, pyyaml.SafeLoader])
def test_text_stays_text_for_every_reader(text: str, loader: Any) -> None:
    value = {text: text, "list": [text, {text: [text]}], "last": text}
    for whole in (value, [text, value], text):
        written = from_json(json.dumps(whole).encode())
        assert pyyaml.load(written, Loader=loader) == whole
        assert read(to_json(written)).value == whole


@pytest.mark.parametrize("length", range(MAX_SIMPLE_KEY_CHARACTERS - 4, MAX_SIMPLE_KEY_CHARACTERS + 3))
@pytest.mark.parametrize("start", ["k", "1"])
def test_long_keys(start: str, length: int) -> None:
    key = start + "k" * (length - 1)
    data = b'[{"%b":{"%b":[{"a":1}]},"b":2}]' % (key.encode(), key.encode())
    assert to_json(from_json(data)) == data
    assert pyyaml.load(from_json(data), Loader=pyyaml.SafeLoader) == read(data).value


def test_numbers_are_numbers_for_every_reader() -> None:
    assert pyyaml.safe_load(from_json(b"[1.00,-0,0,-12.5,1.5e+3,12345678901234567890]")) == [
        1.0, 0, 0, -12.5, 1500.0, 12345678901234567890,
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"1.00", b"null", b"[]", b"{}", b'""', b'"a\\nb\\n"', b'"no"', b"[[],{}]"])
def test_any_document_may_stand_alone(data: bytes) -> None:
    assert to_json(from_json(data)) == data


def test_the_deepest_body_survives() -> None:
    data = b'{"a":[' * 64 + b"]}" * 64
    assert to_json(from_json(data)) == data
