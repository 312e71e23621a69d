"""FHIRPath's grammar: what binds how tightly, what is no FHIRPath and at which column, and the limits."""

from __future__ import annotations

import pytest
from harness.fhirpath import evaluate

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.expression import compile_expression
from eventstore.types.fhirpath.syntax import (
    MAX_DEPTH_LEVELS,
    MAX_EXPRESSION_CHARACTERS,
    Name,
    TypeTest,
    parse,
)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1 + 2 * 3", "1 + (2 * 3)"),
        ("1 - 2 - 3", "(1 - 2) - 3"),
        ("-1 + 2", "(-1) + 2"),
        ("-a.b", "-(a.b)"),
        ("a | b = c", "(a | b) = c"),
        ("a = b and c", "(a = b) and c"),
        ("a and b or c", "(a and b) or c"),
        ("a or b and c", "a or (b and c)"),
        ("a or b implies c", "(a or b) implies c"),
        ("a implies b implies c", "(a implies b) implies c"),
        ("a xor b or c", "(a xor b) or c"),
        ("a in b = c", "a in (b = c)"),
        ("a in b and c", "(a in b) and c"),
        ("a is b = c", "(a is b) = c"),
        ("a < b = c", "(a < b) = c"),
        ("a & b & c", "a & (b & c)"),
        ("a + b is c", "(a + b) is c"),
        ("a.b[0].c", "((a.b)[0]).c"),
        ("a // a comment\n + b", "a + b"),
        ("a /* a comment */ + b", "a + b"),
        ("a.is(b-C.d)", "a.is(b-C.d)"),
        ("`a b`.c", "`a b`.c"),
        ("`a`", "a"),
        ('"a"', "'a'"),
    ],
)
def test_what_binds_how_tightly(text: str, same: str) -> None:
    assert parse(text) == parse(same)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected a name, a value or ( at column 1, found the end"),
        ("a and", "expected a name, a value or ( at column 6, found the end"),
        ("a.b c", "expected an operator or the end at column 5, found 'c'"),
        ("a..b", "expected a name, a value or ( at column 3, found '.b'"),
        ("(a", "expected ) at column 3, found the end"),
        ("a[1", "expected ] at column 4, found the end"),
        ("{1}", "expected } at column 2, found '1}'"),
        ("a(1 2)", "expected , at column 5, found '2)'"),
        ("a # b", "expected FHIRPath at column 3, found '# b'"),
        ("'a", "expected FHIRPath at column 1"),
        ("a /* b", "expected FHIRPath at column 3"),
        (r"a = 'b\q'", "expected an escape that there is at column 7"),
        (r"'\u12'", "expected an escape that there is at column 2"),
        (r"a = '\uD83D'", "a surrogate stands in a pair only at column 5"),
        ("9" * 5_000, "an integer is 9223372036854775807 at most: write a decimal at column 1"),
        ("@2020-13", "expected a date or a time at column 1"),
        ("@2020-02-30", "expected a date or a time at column 1"),
        ("@T25:00", "expected a date or a time at column 1"),
        ("$foo", "expected one of $this, $index, $total at column 1"),
        ("%", "expected the name of a variable at column 2"),
        ("a is", "expected the name of a type at column 5"),
        ("and", "expected a name, a value or ( at column 1"),
    ],
)
def test_what_is_no_fhirpath(text: str, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        compile_expression(text)
    assert why in str(caught.value)


@pytest.mark.parametrize("call", ["where()", "exists(a, b)", "first(1)", "iif(true)", "replace('a')"])
def test_too_few_or_too_many_arguments(call: str) -> None:
    with pytest.raises(Invalid, match="arguments, found"):
        compile_expression(f"a.{call}")


def test_escapes() -> None:
    assert evaluate(r"""'\'\"\`\\\/\n\r\t\f\u00e9'""") == ["'\"`\\/\n\r\t\fé"]
    assert evaluate(r"'\uD83D\uDE00'") == ["\N{GRINNING FACE}"]
    assert evaluate(r"%`vs-a`") == ["http://hl7.org/fhir/ValueSet/a"]


def test_a_hyphen_before_a_capital_letter_belongs_to_the_name() -> None:
    assert evaluate("3-2") == [1]
    assert evaluate("count-1", '{"count":3}') == [2]
    assert parse("a is acme-Device") == TypeTest("is", Name("a"), "acme-Device")


def test_a_moment_ends_where_a_function_begins() -> None:
    assert evaluate("@2020.toString()") == ["2020"]
    assert evaluate("@2020-01-01T10:00:00Z = @2020-01-01T12:00:00+02:00") == [True]


class TestLimits:
    def test_brackets(self) -> None:
        assert evaluate("(" * 90 + "1" + ")" * 90) == [1]
        with pytest.raises(Invalid, match=f"{MAX_DEPTH_LEVELS} levels deep"):
            compile_expression("(" * 200 + "1" + ")" * 200)

    def test_a_long_row_is_not_deep(self) -> None:
        for operator in ("or", "and", "xor", "|", "&"):
            compile_expression(f" {operator} ".join(["status"] * 800))
        assert evaluate(" or ".join(["status = 'a'"] * 500 + ["true"]), '{"status":"b"}') == [True]
        assert evaluate(" | ".join(map(str, range(300)))) == list(range(300))
        assert evaluate(" & ".join(f"'{n}'" for n in range(200))) == ["".join(map(str, range(200)))]

    def test_other_rows_are(self) -> None:
        with pytest.raises(Invalid, match="levels deep"):
            compile_expression("+".join(["1"] * 200))

    def test_characters(self) -> None:
        with pytest.raises(Invalid, match=f"{MAX_EXPRESSION_CHARACTERS} characters"):
            compile_expression("a" * (MAX_EXPRESSION_CHARACTERS + 1))


class TestWhatCannotBeRun:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("a.foo()", "foo() is not a function that is known here"),
            ("a.subsumes(b)", "subsumes() needs a terminology server"),
            ("a.exists() and elementDefinition().exists()", "needs the definition of the element"),
            (r"a.matches('(a)\\1')", "back-references are not allowed"),
            ("a.replaceMatches('(a+)+', 'b')", "patterns with one repetition"),
            ("a.replaceMatches('a{1,99999999999}', 'b')", "linear time and bounded memory"),
        ],
    )
    def test_it_says_why(self, text: str, why: str) -> None:
        expression = compile_expression(text)
        assert why in expression.unchecked
        with pytest.raises(NotSupported):
            evaluate(text)
