"""Bodies, for any JSON: both ways of reading agree, digits and text survive YAML, a spliced body is itself again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import yaml as pyyaml
from hypothesis import assume, given
from hypothesis import strategies as st

from eventstore import body
from eventstore.body import Document, exact, merge_patch, read, write
from eventstore.errors import Malformed
from eventstore.splicing import splice
from eventstore.yaml import from_json, to_json

AT = "2026-11-20T17:42:13.123Z"

characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
awkward = st.sampled_from([
    "", "no", "null", "~", "1e3", "010", "1990-01-01", "12:30", "=", "<<", "a: b", "a #b", "- a", "a\n", "\n", " a\n b ",
    "\u2028", "\x85", "\ufeff", "'", '"', "\\", "a\r\nb", "\t", "meta", "id", "resourceType", "versionId", "lastUpdated",
])  # fmt: skip
pieces = st.text("aé1 \n:#-'\"\\,\t[!/u0\U0001f600", max_size=12)
texts = st.one_of(st.text(characters, max_size=12), awkward, pieces)


def escape(character: str) -> str:
    r"""`a` as `\u0061`, a slash as `\/`."""
    units = character.encode("utf-16-be").hex()
    return (
        r"\/" if character == "/" else "".join(rf"\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    )


@st.composite
def spelt_texts(draw: st.DrawFn) -> str:
    """A JSON string, with escapes or without: those that must be, all that are not ASCII, or any of its characters."""
    text = draw(texts)
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    escaped = draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    return f'"{"".join(escape(one) if so else json.dumps(one)[1:-1] for one, so in zip(text, escaped, strict=True))}"'


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """A JSON number in any spelling that a double holds."""
    sign = draw(st.sampled_from(["", "-"]))
    whole = draw(st.integers(0, 9) | st.integers(0, 10**20))
    digits = st.builds(
        ".{:0{}}{}".format, st.integers(0, 10**19), st.integers(1, 20), st.sampled_from(["", "00"])
    )
    fraction = draw(st.just("") | digits)
    exponent = draw(st.just("") | st.sampled_from(["e", "E", "e+", "E-", "e-0"]).map("{}9".format))
    return f"{sign}{whole}{fraction}{exponent}"


def lists(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(children, max_size=5).map(lambda items: f"[{','.join(items)}]")


def mappings(keys: st.SearchStrategy[str], children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return mappings_of(st.tuples(keys, children))


def mappings_of(member: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[str]:
    members = st.lists(member, max_size=5, unique_by=lambda member: json.loads(member[0]))
    return members.map(lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}")


scalars = st.one_of(spelt_texts(), numbers(), st.sampled_from(["true", "false", "null", "0", "-0", "1.00"]))
nodes = st.recursive(scalars, lambda some: lists(some) | mappings(spelt_texts(), some), max_leaves=15)
documents = nodes.map(str.encode)

top_keys = st.sampled_from(['"id"', '"resourceType"', '"a"', '"b"', '"\\u00e9"'])
metas = mappings(st.sampled_from(['"versionId"', '"lastUpdated"', '"tag"', '"z"']), scalars)
members = st.tuples(st.just('"meta"'), metas) | st.tuples(top_keys, metas | scalars | nodes)
objects = mappings_of(members).map(str.encode)
"""As resources are: where there is a `meta`, it is an object."""

noises = st.sampled_from([*'{}[]",:0eE+-.\\ \n\t\0ul', "null", "\\ud800", "\\u0000", "1e400", '"a":'])
scribbles = st.text("ab: -?[]{},&*!|>'\"%#\n\t01.~\\\x85\ufeff", max_size=40)


def spelt(data: bytes) -> Any:
    """The value with its numbers as they are written."""
    return json.loads(data, parse_int=str, parse_float=str)


def with_care(document: Document) -> Document:
    """What the slow way makes of it."""
    return body._read_with_care(document.data, document.value, document.escaped)


@given(documents)
def test_read_keeps_the_document(data: bytes) -> None:
    document = read(data)
    assert document.data == data
    assert document.value == json.loads(data)
    assert with_care(document) == document


@given(documents, st.integers(0, 4))
def test_white_space_does_not_matter(data: bytes, indent: int) -> None:
    spaced = msgspec.json.format(data, indent=indent).replace(b"\n", b"\r\n\t")
    assert read(spaced) == read(data)


@given(st.data())
def test_read_accepts_what_json_accepts_and_no_more(data: st.DataObject) -> None:
    text = data.draw(documents).decode()
    index = data.draw(st.integers(0, len(text)))
    noise = data.draw(noises)
    mutated = text[:index] + noise + text[index + data.draw(st.integers(0, 2)) :]
    try:
        document = read(mutated.encode())
    except Malformed as error:
        if "is not JSON" in str(error):
            with pytest.raises(json.JSONDecodeError):
                json.loads(mutated)
    else:
        assert document.value == json.loads(mutated)
        assert with_care(document) == document


@given(objects, spelt_texts())
def test_a_key_that_stands_twice_is_always_refused(data: bytes, key: str) -> None:
    twice = b'[0,{%b:1,"b":%b,%b:1}]' % (key.encode(), data, json.dumps(json.loads(key)).encode())
    assume(json.loads(key) != "b")
    with pytest.raises(Malformed) as caught:
        read(twice)
    assert caught.value.issues[0].path == (1, json.loads(key))


@given(documents)
def test_exact_keeps_digits(data: bytes) -> None:
    once = write(exact(data))
    assert write(exact(once)) == once
    assert spelt(once) == spelt(data)


@given(documents)
def test_yaml_and_back_changes_nothing(data: bytes) -> None:
    back = read(to_json(from_json(data)))
    assert back.value == json.loads(data)
    assert write(exact(back.data)) == write(exact(data))


def same_texts(ours: Any, theirs: Any) -> bool:
    """Whether another reader saw text where there is text, and nowhere else (but for `1e3`, no number in YAML 1.1)."""
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same_texts(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same_texts, ours, theirs))
    if isinstance(ours, float):
        return ours == float(theirs)
    return type(ours) is type(theirs) and bool(ours == theirs)


@given(documents, st.sampled_from([pyyaml.CSafeLoader, pyyaml.SafeLoader]))
def test_other_readers_see_the_same_text(data: bytes, loader: Any) -> None:
    assert same_texts(json.loads(data), pyyaml.load(from_json(data), Loader=loader))


@given(st.binary(max_size=40) | scribbles.map(str.encode))
def test_any_yaml_is_read_or_refused(data: bytes) -> None:
    try:
        text = to_json(data)
    except Malformed:
        return
    assert to_json(from_json(text)) == write(exact(text))


@given(objects)
def test_a_spliced_body_is_itself_again(data: bytes) -> None:
    document = read(data)
    spliced = splice(document, "T", "x")
    stored = spliced.render(7, AT)
    again = read(stored)
    assert spliced.same_as(stored)
    assert spliced.same_as(spliced.render(1234, AT))
    assert splice(again, "T", "x") == spliced
    assert again.value == document.value
    assert json.loads(stored)["meta"]["versionId"] == "7"


@given(objects)
def test_splice_changes_nothing_else(data: bytes) -> None:
    sent = spelt(data)
    given_meta = sent.get("meta", {})
    stored = spelt(splice(read(data), "T", "x").render(7, AT))
    version = {"versionId": "7", "lastUpdated": AT}
    assert stored == {**sent, "resourceType": "T", "id": "x", "meta": {**given_meta, **version}}
    assert [key for key in stored if key in sent] == list(sent)
    assert list(stored["meta"])[:2] == list(version)


@given(objects, objects)
def test_same_as_tells_bodies_apart(one: bytes, other: bytes) -> None:
    left, right = splice(read(one), "T", "x"), splice(read(other), "T", "x")
    assert left.same_as(right.render(7, AT)) == (left == right)


@given(documents, documents)
def test_merge_patch_leaves_its_arguments_alone(target: bytes, patch: bytes) -> None:
    before, change = exact(target), exact(patch)
    merged = merge_patch(before, change)
    assert write(before) == write(exact(target))
    assert write(change) == write(exact(patch))
    assert write(merge_patch(merged, change)) == write(merged)
