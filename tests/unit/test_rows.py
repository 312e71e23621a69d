"""Rows and what is around a projection's function: the pure part."""

from __future__ import annotations

import pytest
from harness.colours import COLOUR, PAINTED, Colours

from eventstore.event import Header, seal
from eventstore.projection import Change, Rows, beside
from projections.changes import ERROR_CHARACTERS_MAX, Refused, project, reason, sift
from projections.replay import Difference, _first


def painted(*colours: str) -> list[Change]:
    """A resource painted with each colour, at positions 1, 2 ..."""
    changes = []
    for position, colour in enumerate(colours, 1):
        header = Header(position, "Thing", f"t{position}", "created", "t", position, 0, "PUT", "")
        changes.append(Change(seal(header, b'{"colour":"%s"}' % colour.encode(), b"{}", b"", b""), None))
    return changes


def test_rows_for_the_tables_beside_have_no_views() -> None:
    rows = Rows()
    rows.upsert("a", (1,), (2,))
    rows.delete("b", (1,))
    rows.add("c", (1,), (3,))
    rows.view("Thing", exists=True)
    made = rows.beside()
    assert (made.upserts, made.deletes, made.sums) == (
        {beside("a"): {(1,): (2,)}}, {beside("b"): {(1,)}}, {beside("c"): {(1,): [3]}},
    )  # fmt: skip
    assert (made.views, rows.count()) == ({}, 3)


def test_what_is_new_is_not_there_before() -> None:
    rows = Rows()
    for key in ("made", "made and deleted", "made, deleted and made", "changed"):
        rows.upsert("a", (key,), (1,), new=True)
    rows.upsert("a", ("changed",), (2,))
    rows.delete("a", ("made and deleted",))
    rows.delete("a", ("made, deleted and made",))
    rows.upsert("a", ("made, deleted and made",), (2,), new=True)
    rows.delete("a", ("deleted and made",))
    rows.upsert("a", ("deleted and made",), (1,), new=True)
    rows.upsert("a", ("was there",), (1,))
    assert rows.new == {"a": {("made",), ("changed",)}}
    assert rows.beside().new == {beside("a"): rows.new["a"]}


def test_later_rows_are_the_last_word_but_for_sums() -> None:
    rows, later = Rows(), Rows()
    rows.upsert("a", (1,), ("old",))
    rows.upsert("a", (2,), ("old",))
    rows.delete("a", (3,))
    rows.add("s", (1,), (1,))
    rows.view("Thing", exists=True)
    later.upsert("a", (1,), ("new",))
    later.delete("a", (2,))
    later.upsert("a", (3,), ("new",))
    later.add("s", (1,), (10,))
    later.view("thing", exists=False)
    rows.overlay(later)
    assert rows.upserts == {"a": {(1,): ("new",), (3,): ("new",)}}
    assert rows.deletes == {"a": {(2,)}}
    assert rows.sums == {"s": {(1,): [1]}}
    assert list(rows.views.items()) == [("Thing", True), ("thing", False)]


def test_of_types_that_differ_in_case_the_last_word_comes_last() -> None:
    rows = Rows()
    for type, exists in (
        ("shift", True),
        ("shift", False),
        ("Shift", True),
        ("Shift", False),
        ("shift", True),
    ):
        rows.view(type, exists)
    assert list(rows.views.items()) == [("Shift", False), ("shift", True)]


@pytest.mark.parametrize("wrong", [[], [1], [9], [1, 9], [4, 5], list(range(1, 10))])
def test_sifts_out_what_cannot_be_handled(wrong: list[int]) -> None:
    changes = painted(*("puce" if n in wrong else "red" for n in range(1, 10)))
    good, parked = sift(Colours(wrong=("puce",)), changes)
    assert [one.position for one in parked] == wrong
    assert [one.event.position for one in good] == [n for n in range(1, 10) if n not in wrong]
    assert {one.error for one in parked} <= {"ValueError: puce is no colour"}


def test_whatever_a_projection_raises_is_its_own() -> None:
    with pytest.raises(Refused, match="ValueError: puce is no colour"):
        project(Colours(wrong=("puce",)), painted("red", "puce"))
    rows = project(Colours(), painted("red", "blue", "red"))
    assert rows.sums[COLOUR.name] == {("red",): [2, 2], ("blue",): [1, 1]}
    assert list(rows.upserts[PAINTED.name]) == [("Thing", f"t{n}") for n in (1, 2, 3)]


def test_an_error_can_be_stored_whatever_is_in_it() -> None:
    text = reason(ValueError("a\0b\udc80" + "x" * 10_000))
    assert text.startswith("ValueError: a b?x")
    assert len(text) == ERROR_CHARACTERS_MAX


A, B, C = ("T", "a", "red", 1), ("T", "b", "blue", 2), ("T", "c", "red", 3)
B2 = ("T", "b", "green", 2)


def different(key: str, wanted: tuple[object, ...] | None, found: tuple[object, ...] | None) -> Difference:
    return Difference(PAINTED.name, ("T", key), wanted and wanted[2:], found and found[2:], 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expected", "found", "last", "wanted"),
    [
        ([], [], None, None),
        ([A, B, C], [A, B, C], None, None),
        ([A, B, C], [A, B], ("T", "b"), None),
        ([A, B, C], [A, B], None, different("c", C, None)),
        ([A, B], [A, B, C], None, different("c", None, C)),
        ([A, C], [A, B, C], None, different("b", None, B)),
        ([A, B, C], [A, C], ("T", "c"), different("b", B, None)),
        ([A, B, C], [A, B2, C], None, different("b", B, B2)),
        ([], [A], None, different("a", None, A)),
        ([A], [], None, different("a", A, None)),
    ],
)  # fmt: skip
def test_the_first_difference_of_two_pages(
    expected: list[tuple[object, ...]],
    found: list[tuple[object, ...]],
    last: tuple[str, str] | None,
    wanted: Difference | None,
) -> None:
    assert _first(PAINTED, expected, found, last) == wanted  # type: ignore[arg-type]
