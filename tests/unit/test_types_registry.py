"""The registry: snapshots, names, what counts as a change, retiring and coming back, and replay."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions, document, entity
from harness.formats import schema, structure
from harness.soon import soon

from eventstore.errors import Conflict, Invalid
from eventstore.types.builtin import MAX_TYPE_NAME_CHARACTERS
from eventstore.types.registry import DEFINITION_TYPES, Registry

BUILT_IN = [
    "Attribute",
    "Basic",
    "CodeSystem",
    "Entity",
    "FHIRSchema",
    "Prefix",
    "StructureDefinition",
    "ValueSet",
]


@pytest.fixture
def types() -> Definitions:
    """Two resource types, and a complex one that the first is made of."""
    definitions = Definitions()
    definitions.entity("A")
    definitions.entity("B")
    definitions.put("Entity", "Part", {"type": "type"})
    definitions.attribute("A", "part", "Part")
    return definitions


def position(definitions: Definitions, name: str) -> int:
    compiled = definitions.registry.served(name)
    assert compiled is not None
    return compiled.position


class TestEmpty:
    def test_what_is_there_before_any_definition(self) -> None:
        registry = Registry.empty("4.0.1")
        assert registry.names() == BUILT_IN
        assert sorted({*DEFINITION_TYPES, "Basic"}) == BUILT_IN
        assert registry.position == 0
        assert all(registry.served(name).position == 0 for name in registry.names())  # type: ignore[union-attr]
        assert registry.served("string") is None
        assert registry.served("Patient") is None

    def test_a_version_that_is_not_supported(self) -> None:
        with pytest.raises(Invalid, match=r"FHIR 3.0.2 is not supported: use one of 4.0.1, 4.3.0, 5.0.0"):
            Registry.empty("3.0.2")

    def test_built_in_types_are_served_as_entities(self) -> None:
        registry = Registry.empty("4.0.1")
        assert registry.builtin("string") == {"resourceType": "Entity", "id": "string", "type": "primitive"}
        assert registry.builtin("Coding") == {
            "resourceType": "Entity",
            "id": "Coding",
            "type": "type",
            "isOpen": False,
        }
        assert registry.builtin("Attribute") == {
            "resourceType": "Entity",
            "id": "Attribute",
            "type": "resource",
            "isOpen": False,
        }
        assert registry.builtin("integer64") is None
        assert registry.builtin("*") is None
        assert registry.builtin("Patient") is None


class TestNames:
    @pytest.mark.parametrize("name", ["T", "UserSetting", "acme-Device", "acme.v2.Device", "a1", "x" * 55])
    def test_good(self, name: str) -> None:
        definitions = Definitions()
        definitions.entity(name)
        assert definitions.registry.names() == sorted([*BUILT_IN, name])

    @pytest.mark.parametrize(
        "name",
        [
            "1a", "-a", "a-", "a--b", "a.-b", "a_b", "__proto__", "a b", "", "é", "T\n",
            "x" * (MAX_TYPE_NAME_CHARACTERS + 1),
            "fhir", "Health", "METRICS", "metadata", "console", "sql", "quireThing", "SQLiteX", "pgTable", "PG",
            "StructureDefinition", "FHIRSchema", "Prefix", "Basic",
        ],
    )  # fmt: skip
    def test_bad(self, name: str) -> None:
        definitions = Definitions()
        with pytest.raises(Invalid) as refused:
            definitions.entity(name)
        assert refused.value.issues[0].path == ("id",)

    @pytest.mark.parametrize(
        "name", ["string", "Coding", "Address", "Extension", "Entity", "Attribute", "Element"]
    )
    def test_what_is_built_in_stays(self, name: str) -> None:
        tag = {"tag": [{"code": "shadows-core"}]}
        with pytest.raises(Invalid, match=f"{name} is built in and cannot be redefined"):
            Definitions().entity(name, meta=tag)

    @pytest.mark.parametrize(
        ("version", "name"),
        [
            ("4.0.1", "Patient"),
            ("4.3.0", "Citation"),
            ("5.0.0", "Transport"),
            ("4.0.1", "Media"),
        ],
    )
    def test_a_name_of_fhirs_needs_the_tag(self, version: str, name: str) -> None:
        definitions = Definitions(version)
        with pytest.raises(
            Invalid, match=f"{name} is a FHIR {version} type: .*meta.tag with code shadows-core"
        ):
            definitions.entity(name, meta={"tag": [{"code": "other"}]})
        definitions.entity(name, meta={"tag": [{"system": "s"}, {"code": "shadows-core"}]})
        assert definitions.registry.served(name) is not None

    def test_a_name_of_another_version_does_not(self) -> None:
        Definitions("5.0.0").entity("Media")
        Definitions("4.0.1").entity("Citation")
        Definitions("4.0.1").entity("SubscriptionStatus")

    @pytest.mark.parametrize(
        ("name", "other"), [("usersetting", "UserSetting"), ("ENTITY", "Entity"), ("Date", "date")]
    )
    def test_they_are_unique_without_case(self, name: str, other: str) -> None:
        definitions = Definitions()
        definitions.entity("UserSetting")
        with pytest.raises(Conflict, match=f"{name} differs from {other} only in case") as refused:
            definitions.entity(name)
        assert refused.value.issues[0].code == "duplicate"

    def test_a_name_that_is_free_again_may_come_in_another_case(self) -> None:
        definitions = Definitions()
        definitions.entity("Usersetting")
        definitions.put("Entity", "Usersetting", None)
        definitions.entity("UserSetting")

    def test_similar(self, types: Definitions) -> None:
        assert types.registry.similar("a") == "A"
        assert types.registry.similar("A") is None
        assert types.registry.similar("part") is None


def test_the_definition_of_a_profile_is_called_by_its_id(types: Definitions) -> None:
    types.put("StructureDefinition", "Ward", structure("Ward"))
    profile = structure(
        "Ward", url="http://p/night", derivation="constraint", baseDefinition="http://example.org/Ward"
    )
    types.put("StructureDefinition", "night", profile)
    assert types.registry.defined_by("http://p/night") == "StructureDefinition/night"
    assert types.registry.defined_by("Patient") == ""
    other = {**schema("Ward", {}), "url": "http://p/night", "derivation": "constraint"}
    with pytest.raises(
        Conflict, match="http://p/night is defined by StructureDefinition/night: delete that first"
    ):
        types.put("FHIRSchema", "other", other)


class TestSnapshots:
    def test_the_old_one_stays_as_it_was(self, types: Definitions) -> None:
        before = types.registry
        types.attribute("B", "x", "string")
        types.put("Entity", "A", None)
        assert before.names() == sorted(["A", "B", *BUILT_IN])
        old = before.served("B")
        assert old is not None
        assert len(before.check(old, document({"resourceType": "B", "id": "1", "x": 1}))) == 1
        assert types.wrong("B", {"x": "y"}) == {}
        assert types.registry.position == len(types.events)

    def test_only_what_is_touched_is_made_anew(self, types: Definitions) -> None:
        before = types.registry
        types.attribute("B", "x", "string")
        assert types.registry.served("A") is before.served("A")
        assert types.registry.served("Entity") is before.served("Entity")
        assert types.registry.served("B") is not before.served("B")

    def test_two_types_that_are_not_served(self, types: Definitions) -> None:
        types.put("Entity", "Base", {"type": "abstract"})
        assert types.registry.served("Part") is None
        assert types.registry.served("Base") is None
        assert types.registry.names() == sorted(["A", "B", *BUILT_IN])


class TestPosition:
    def test_it_is_of_the_latest_change(self, types: Definitions) -> None:
        assert (position(types, "A"), position(types, "B")) == (4, 2)
        types.attribute("B", "x", "string")
        assert (position(types, "A"), position(types, "B")) == (4, 5)
        types.attribute("B", "x", "integer")
        types.put("Attribute", "B.x", None)
        assert position(types, "B") == 7

    def test_what_changes_nothing_leaves_it(self, types: Definitions) -> None:
        types.entity("B", description="new")
        types.attribute("A", "part", "Part", order=3, isRequired=False)
        assert (position(types, "A"), position(types, "B")) == (4, 2)
        assert types.registry.position == 6

    def test_what_python_takes_for_the_same_is_a_change(self, types: Definitions) -> None:
        types.entity("B", isOpen=True, schema={"properties": {"x": {"const": 1}}})
        types.entity("B", isOpen=True, schema={"properties": {"x": {"const": True}}})
        assert position(types, "B") == 6
        assert types.wrong("B", {"x": 1}) == {("x",): "expected true"}

    def test_a_change_of_a_part_counts(self, types: Definitions) -> None:
        types.put("Entity", "Inner", {"type": "type"})
        types.attribute("Part", "inner", "Inner")
        assert (position(types, "A"), position(types, "B")) == (6, 2)
        types.attribute("Inner", "x", "string")
        assert (position(types, "A"), position(types, "B")) == (7, 2)
        assert types.wrong("A", {"part": {"inner": {"x": 1}}}) == {
            ("part", "inner", "x"): "expected type of string"
        }

    def test_an_attribute_that_moves_changes_both(self, types: Definitions) -> None:
        types.attribute("A", "x", "string")
        types.put("Attribute", "A.x", {"resource": entity("B"), "path": ["x"], "type": entity("string")})
        assert (position(types, "A"), position(types, "B")) == (6, 6)
        assert types.wrong("A", {"x": "y"}) == {("x",): "extra property"}
        assert types.wrong("B", {"x": "y"}) == {}


class TestRetiring:
    def test_a_type_comes_back_with_its_attributes(self, types: Definitions) -> None:
        types.attribute("B", "x", "string")
        types.put("Entity", "B", None)
        assert types.registry.served("B") is None
        with pytest.raises(Invalid, match="there is no Entity B"):
            types.attribute("B", "y", "string")
        types.entity("B")
        assert types.wrong("B", {"x": 1}) == {("x",): "expected type of string"}
        assert position(types, "B") == 7

    def test_an_attribute_can_be_deleted_while_its_type_is_gone(self, types: Definitions) -> None:
        types.attribute("B", "x", "string")
        types.put("Entity", "B", None)
        types.put("Attribute", "B.x", None)
        types.entity("B")
        assert types.wrong("B", {"x": "y"}) == {("x",): "extra property"}

    def test_an_attribute_whose_parent_is_dropped_keeps_it_implied(self, types: Definitions) -> None:
        types.attribute("B", "a", isOpen=True)
        types.attribute("B", "a.b", "string")
        types.put("Attribute", "B.a", None)
        assert types.wrong("B", {"a": {"b": "x", "c": 1}}) == {("a", "c"): "extra property"}

    def test_a_type_that_others_are_made_of_stays(self, types: Definitions) -> None:
        with pytest.raises(Conflict, match=r"Attribute A.part of A is of type Part: change that first"):
            types.put("Entity", "Part", None)
        with pytest.raises(Conflict):
            types.put("Entity", "Part", {"type": "resource"})
        types.put("Entity", "A", None)
        types.put("Entity", "Part", None)
        with pytest.raises(
            Invalid, match=r"Attribute A.part counts again: Part is no type that is known here"
        ):
            types.entity("A")

    def test_a_type_made_of_itself_can_go_and_come_back(self, types: Definitions) -> None:
        types.put("Attribute", "A.part", None)
        types.attribute("Part", "parts", "Part", isCollection=True)
        with pytest.raises(Conflict):
            types.put("Entity", "Part", {"type": "resource"})
        types.put("Entity", "Part", None)
        types.put("Entity", "Part", {"type": "type"})
        types.attribute("A", "part", "Part")
        assert list(types.wrong("A", {"part": {"parts": [{"x": 1}]}})) == [("part", "parts", 0, "x")]

    def test_types_that_refer_to_one_another_can_go_and_come_back(self, types: Definitions) -> None:
        types.attribute("A", "b", refers=["B"])
        types.attribute("B", "a", refers=["A"])
        for name in ("A", "B"):
            types.put("Entity", name, None)
        for name in ("A", "B"):
            types.entity(name)
        assert list(types.wrong("A", {"b": {"reference": "A/1"}})) == [("b", "reference")]

    def test_what_does_not_exist_can_be_deleted(self, types: Definitions) -> None:
        types.put("Entity", "Nope", None)
        types.put("Attribute", "Nope", None)
        assert types.registry.names() == sorted(["A", "B", *BUILT_IN])

    def test_stops_serving(self, types: Definitions) -> None:
        stops = types.registry.stops_serving
        assert stops("Entity", "A", None) == "A"
        assert stops("Entity", "A", {"type": "abstract"}) == "A"
        assert stops("Entity", "A", {"type": "resource"}) is None
        assert stops("Entity", "Part", None) is None
        assert stops("Entity", "Nope", None) is None
        assert stops("Entity", "Attribute", None) is None
        assert stops("Attribute", "A", None) is None


class TestApply:
    @pytest.mark.parametrize("value", [{}, {"type": 5}, {"type": "resource", "isOpen": None}, {"x": 1}])
    def test_nonsense_is_invalid_whoever_sends_it(self, types: Definitions, value: dict[str, Any]) -> None:
        with pytest.raises(Invalid):
            types.registry.apply(9, "Entity", "X", value)
        with pytest.raises(Invalid):
            types.registry.apply(9, "Attribute", "X", value)

    def test_as_stored_they_fold_to_the_same(self, types: Definitions) -> None:
        types.attribute("A", "x.y", "string", enum=["a"])
        types.put("Attribute", "A.part", None)
        types.put("Entity", "B", None)
        types.entity("B", isOpen=True)
        again = Registry.empty("4.0.1")
        for at, type, id, value in types.events:
            stored = (
                None
                if value is None
                else {**value, "meta": {"versionId": str(at), "lastUpdated": "2020-01-01T00:00:00Z"}}
            )
            again = again.apply(at, type, id, stored)
        assert again.schema_at([]) == types.registry.schema_at([])
        assert {n: t.position for n, t in again.types.items()} == {
            n: t.position for n, t in types.registry.types.items()
        }
        assert again.position == types.registry.position

    def test_replay_is_cheap(self) -> None:
        registry = Registry.empty("4.0.1")
        with soon(2):
            for number in range(100):
                name = f"T{number}"
                about = {"resourceType": "Entity", "id": name, "type": "resource"}
                registry = registry.apply(number * 11 + 1, "Entity", name, about)
                for index in range(10):
                    value = {
                        "resource": entity(name),
                        "path": [f"a{index}"],
                        "type": entity("string"),
                        "enum": ["x"],
                    }
                    registry = registry.apply(number * 11 + 2 + index, "Attribute", f"{name}.a{index}", value)


def test_a_valid_body_is_checked_in_microseconds(types: Definitions) -> None:
    for name, type in (
        ("s", "string"),
        ("d", "date"),
        ("at", "dateTime"),
        ("n", "integer"),
        ("ref", "Reference"),
    ):
        types.attribute("B", name, type)
    compiled = types.registry.served("B")
    assert compiled is not None
    body = document({
        "resourceType": "B", "id": "1", "s": "x", "d": "2020-01-31", "at": "2020-01-01T00:00:00Z", "n": 5,
        "ref": {"reference": "Patient/1"},
    })  # fmt: skip
    assert types.registry.check(compiled, body) == []
    with soon(0.1):
        for _ in range(1000):
            types.registry.check(compiled, body)
