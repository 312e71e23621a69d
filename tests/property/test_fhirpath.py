"""Our FHIRPath and fhirpathpy find the same, over expressions of what both do right; where we differ is listed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from harness.fhirpath import TYPES
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.errors import Invalid
from eventstore.types.fhirpath.expression import compile_expression
from eventstore.types.fhirpath.narrative import html_fault, parsed_fault
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirpath.values import Node, unwrapped

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fhirpathpy import evaluate as second_opinion

RESOURCE: dict[str, Any] = {
    "resourceType": "Thing",
    "active": True,
    "status": "on",
    "count": 3,
    "note": ["a", "b", "a"],
    "name": [
        {"family": "A", "given": ["x", "y"], "rank": 1},
        {"family": "B", "given": ["y"]},
        {"given": ["z", "x"], "rank": 2},
    ],
}

texts = st.sampled_from(["'a'", "'on'", "'xyz'", "''", "status", "name.family.first()", "note.last()", "{}"])
numbers = st.sampled_from(["0", "1", "2", "7", "count", "name.count()", "name.rank.first()", "name[7].rank"])
FILTERS = ("$this = 'x'", "$this != 'a'", "$index > 0", "$this = 'a' or $index = 1", "true", "false", "{}")
PARTS = (
    "first()",
    "last()",
    "tail()",
    "distinct()",
    "skip(1)",
    "take(2)",
    "where($this.exists())",
    "select($this)",
)


def _applied(inner: st.SearchStrategy[str], *forms: str) -> st.SearchStrategy[str]:
    return st.builds(lambda form, one, other: form.format(one, other), st.sampled_from(forms), inner, inner)


plain = st.sampled_from(["note", "name.given", "name.family", "name.rank", "missing", "status"])
joined = _applied(plain, "({} | {})", "{}.intersect({})", "{}.exclude({})", "{}.combine({})", "{}.union({})")
many = st.recursive(
    plain | joined,
    lambda inner: st.one_of(
        st.builds("{}.{}".format, inner, st.sampled_from(PARTS)),
        st.builds("{}.where({})".format, inner, st.sampled_from(FILTERS)),
    ),
    max_leaves=3,
)
arithmetic = st.recursive(
    numbers | _applied(numbers, "({} div {})", "({} mod {})"),
    lambda inner: _applied(inner, "({} + {})", "({} - {})", "({} * {})"),
    max_leaves=4,
)
words = st.recursive(
    texts,
    lambda inner: st.one_of(
        _applied(inner, "({} & {})", "({} + {})"),
        st.builds("('a' & {}).replace('a', 'bc')".format, inner),
        st.builds(
            "{}.{}".format, inner, st.sampled_from(["upper()", "lower()", "substring(1)", "substring(0, 1)"])
        ),
    ),
    max_leaves=3,
)
questions = st.recursive(
    st.one_of(
        st.sampled_from(["true", "false", "{}", "active", "active.not()"]),
        _applied(arithmetic, "({} = {})", "({} < {})", "({} >= {})", "({} != {})"),
        _applied(words, "({} = {})", "('a' & {}).startsWith({})", "('a' & {}).endsWith({})", "({} < {})"),
        _applied(many, "{}.exists()", "{}.empty()", "{}.isDistinct()"),
        _applied(plain, "{}.subsetOf({})", "{}.supersetOf({})"),
        st.builds("{}.{}({})".format, many, st.sampled_from(["exists", "all"]), st.sampled_from(FILTERS)),
        st.builds("({} in {})".format, st.sampled_from(["'x'", "'a'", "1"]), many),
    ),
    lambda inner: st.one_of(
        _applied(inner, "({} and {})", "({} or {})", "({} xor {})", "({} implies {})"),
        st.builds("{}.not()".format, inner),
        st.builds("iif({}, {}, {})".format, inner, inner, inner),
    ),
    max_leaves=4,
)
expressions = st.one_of(questions, arithmetic, words, many, st.builds("{}.count()".format, many))


def ours(expression: str) -> list[Any]:
    found = compile_expression(expression).evaluate(Node(RESOURCE, "Thing"), Environment(TYPES))
    return [unwrapped(item) for item in found]


@settings(max_examples=150)
@given(expressions)
def test_both_find_the_same(expression: str) -> None:
    theirs = second_opinion(RESOURCE, expression)
    assert [(type(one) is bool, one) for one in ours(expression)] == [
        (type(one) is bool, one) for one in theirs
    ]


EACH_ITEM = "6.1.1: if both operands are collections with multiple items, each item must be equal, in order"
ANY_ORDER = "6.1.2: comparison is not order-dependent"
ONE_IS_TRUE = "4.5: a collection with one item where a boolean is expected is true"
NOTHING = "5.6: if the input collection or an argument is empty, the result is empty"
SAME_UNIT = "6.1.1: quantities are compared in units that they share"
NO_ORDER = "6.2: both are of the same type, of those that have an order"
TRUNCATED = "6.6.6: mod is what is left by a truncated division"
UNION = "6.5.1: union eliminates duplicates, by equals"
EXCLUDE = "5.3.9: only the elements that do not appear in the other collection"
BEGINS = "5.6: if the prefix is the empty string, the result is true"
GRAMMAR = "Appendix A: the grammar"

KNOWN: list[tuple[str, Any, Any, str]] = [
    ("(1 | 2) = (1 | 3)", [False], [True], EACH_ITEM),
    ("(1 | 2) ~ (2 | 1)", [True], [False], ANY_ORDER),
    ("note.all('x')", [True], [False], ONE_IS_TRUE),
    ("status and true", [True], Exception, ONE_IS_TRUE),
    ("'a'.replace('a', {})", [], TypeError, NOTHING),
    ("1 'kg' = 1000 'g'", [True], [False], SAME_UNIT),
    ("''.replace('a', 'b')", [""], [], NOTHING),
    ("7 mod (1 - 3)", [1], [-1], TRUNCATED),
    ("name.rank | 1", [1, 2], [1, 2, 1], UNION),
    ("note.where(true).exclude(note)", [], ["a", "b", "a"], EXCLUDE),
    ("''.startsWith('')", [True], [False], BEGINS),
    ("true > false", Invalid, [True], NO_ORDER),
    ("status.a b c", Invalid, [], GRAMMAR),
    ("status..a", Invalid, [], GRAMMAR),
]
"""Where we differ: the expression, what we find, what fhirpathpy finds, and what the specification says."""


@pytest.mark.parametrize(("expression", "mine", "theirs", "why"), KNOWN)
def test_known_differences(expression: str, mine: Any, theirs: Any, why: str) -> None:
    assert _outcome(ours, expression) == mine, why
    assert _outcome(partial(second_opinion, RESOURCE), expression) == theirs


def _outcome(evaluate: Callable[[str], list[Any]], expression: str) -> Any:
    """What is found, or the error's class."""
    try:
        return evaluate(expression)
    except Exception as error:
        return type(error)


DIV = '<div xmlns="http://www.w3.org/1999/xhtml" class="c"><p title="a: &gt;">x</p><br/><td>&nbsp;</td></div>'
SPOILS = (
    "", " ", "x", "<", ">", "&", '"', "=", "/", "'", "<p>", "</p>", "<br>", "<p/>", "<b a='1'>", "<script>", ' title="b"',
    ' href="x:y"', ' title="javascript:x"', ' title="&nbsp;javascript:x"', "&nbsp;", "&lt;", "&bad;", "&#32;", "]]>",
    "<!-- x -->", "<![CDATA[x]]>", "<?x y?>", "<!DOCTYPE x>", "\x01", "\ufffe", "\u00a0", "<img/>", "<p\n>", "</div>",
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(DIV)), st.sampled_from(SPOILS), st.integers(0, 9)), max_size=3))
@settings(max_examples=300)
def test_a_narrative_is_judged_as_by_the_parser_alone(spoils: list[tuple[int, str, int]]) -> None:
    text = DIV
    for at, spoil, fewer in spoils:
        text = text[:at] + spoil + text[at + fewer :]
    assert html_fault(text) == parsed_fault(text)
