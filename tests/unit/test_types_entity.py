"""Entity and Attribute: what they can say, what it means for a body, and what is refused, with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions, entity

from eventstore.errors import Invalid
from eventstore.types.builtin import MAX_ENUM_VALUES, MAX_PATH_LEVELS


@pytest.fixture
def types() -> Definitions:
    """A closed resource type T, and some to name."""
    definitions = Definitions()
    definitions.entity("T")
    definitions.entity("Other")
    definitions.put("Entity", "Part", {"type": "type"})
    definitions.put("Entity", "Base", {"type": "abstract"})
    definitions.attribute("Part", "size", "integer")
    return definitions


def refusal(
    definitions: Definitions, path: str, type: str = "", **fields: Any
) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(Invalid) as refused:
        definitions.attribute("T", path, type, **fields)
    return {issue.path: issue.message for issue in refused.value.issues}


class TestMeaning:
    def test_without_a_type_it_is_a_closed_object(self, types: Definitions) -> None:
        types.attribute("T", "box")
        assert types.wrong("T", {"box": {}}) == {}
        assert types.wrong("T", {"box": "x"}) == {("box",): "expected type of object"}
        assert types.wrong("T", {"box": {"a": 1}}) == {("box", "a"): "extra property"}

    def test_its_own_is_open_opens_it(self, types: Definitions) -> None:
        types.attribute("T", "box", isOpen=True)
        assert types.wrong("T", {"box": {"a": 1}}) == {}

    def test_missing_parents_are_closed_objects(self, types: Definitions) -> None:
        types.attribute("T", "a.b.c", "string")
        assert types.wrong("T", {"a": {"b": {"c": "x", "_c": {}, "id": "i", "extension": []}}}) == {}
        assert types.wrong("T", {"a": {"x": 1, "b": {"c": 1}}}) == {
            ("a", "x"): "extra property",
            ("a", "b", "c"): "expected type of string",
        }

    def test_a_parent_may_be_defined_after_its_parts(self, types: Definitions) -> None:
        types.attribute("T", "a.b", "string")
        types.attribute("T", "a", isCollection=True, isOpen=True)
        assert types.wrong("T", {"a": [{"b": "x", "c": 1}]}) == {}
        assert types.wrong("T", {"a": [{"b": 1}]}) == {("a", 0, "b"): "expected type of string"}

    def test_an_id_below_the_top_may_be_defined(self, types: Definitions) -> None:
        types.attribute("T", "a.id", "integer")
        assert types.wrong("T", {"a": {"id": 5}}) == {}

    def test_a_collection_refuses_a_scalar_and_its_absence_an_array(self, types: Definitions) -> None:
        types.attribute("T", "many", "string", isCollection=True)
        types.attribute("T", "one", "string")
        assert types.wrong("T", {"many": "x", "one": ["x"]}) == {
            ("many",): "expected type of array",
            ("one",): "expected type of string",
        }

    def test_required(self, types: Definitions) -> None:
        types.attribute("T", "a.b", "string", isRequired=True)
        types.attribute("T", "c", "string", isRequired=True, isCollection=True)
        assert types.wrong("T", {"c": ["x"]}) == {}
        assert types.wrong("T", {"a": {}}) == {("a", "b"): "is required", ("c",): "is required"}
        assert types.wrong("T", {"c": []}) == {("c",): "must have at least 1 items"}

    def test_a_union_is_one_of_its_keys(self, types: Definitions) -> None:
        types.attribute("T", "value", union=[entity("Quantity"), "string", {"reference": "Entity/Part"}])
        assert types.wrong("T", {}) == {}
        assert types.wrong("T", {"valueQuantity": {"value": 1}}) == {}
        assert types.wrong("T", {"valueString": "x", "valuePart": {"size": 1}}) == {
            ("valuePart",): "valueString is there already: one value[x] is allowed"
        }
        remedy = {("value",): "use valueQuantity or valueString or valuePart"}
        assert types.wrong("T", {"value": {"Quantity": {"value": 1}}}) == remedy
        assert types.wrong("T", {"value": "x"}) == remedy

    def test_a_required_union(self, types: Definitions) -> None:
        types.attribute("T", "value", union=["Quantity", "string"], isRequired=True)
        assert types.wrong("T", {}) == {("value",): "is required: valueQuantity or valueString"}
        assert types.wrong("T", {"valueString": "x"}) == {}

    def test_in_an_open_type_too_the_bare_name_of_a_union_is_refused(self, types: Definitions) -> None:
        types.entity("T", isOpen=True)
        types.attribute("T", "value", union=["Quantity", "string"])
        assert types.wrong("T", {"value": "x"}) == {("value",): "use valueQuantity or valueString"}

    def test_refers_is_a_reference_to_one_of_the_types(self, types: Definitions) -> None:
        types.attribute("T", "subject", refers=["Patient", entity("Other")])
        for reference in ("Patient/1", "Other/x/_history/3", "https://x.org/Device/1", "#a", "urn:oid:1.2"):
            assert types.wrong("T", {"subject": {"reference": reference}}) == {}
        assert types.wrong("T", {"subject": {"identifier": {"value": "x"}, "type": "Other"}}) == {}
        assert types.wrong("T", {"subject": {"reference": "Device/1"}}) == {
            ("subject", "reference"): "expected a reference to Patient or Other"
        }
        assert types.wrong("T", {"subject": {"type": "Device"}}) == {
            ("subject", "type"): "expected a reference to Patient or Other"
        }

    def test_refers_in_a_union(self, types: Definitions) -> None:
        types.attribute("T", "who", union=["Reference", "string"], refers=["Patient"])
        assert types.wrong("T", {"whoReference": {"reference": "Device/1"}}) == {
            ("whoReference", "reference"): "expected a reference to Patient"
        }

    def test_schema_narrows_what_the_type_lets_in(self, types: Definitions) -> None:
        types.attribute("T", "code", "string", schema={"pattern": "^[A-Z]+$", "maxLength": 3})
        assert types.wrong("T", {"code": "abcd"}) in (
            {("code",): "does not match the pattern ^[A-Z]+$"},
            {("code",): "must have at most 3 characters"},
        )
        assert types.wrong("T", {"code": "ABC"}) == {}

    def test_schema_of_a_collection_is_for_the_array_and_for_its_items(self, types: Definitions) -> None:
        types.attribute("T", "n", "integer", isCollection=True, schema={"minimum": 0, "uniqueItems": True})
        assert types.wrong("T", {"n": [1, -1]}) == {("n", 1): "must be at least 0"}
        assert types.wrong("T", {"n": [1, 1]}) == {("n",): "must not have an item twice"}

    def test_schema_of_an_entity(self, types: Definitions) -> None:
        types.entity("T", schema={"required": ["a"], "properties": {"a": {"type": "string"}, "b": {}}})
        assert types.wrong("T", {"b": 1}) == {("a",): "is required"}
        types.attribute("T", "a", "string", enum=["x"])
        assert types.wrong("T", {"a": "y", "c": 1}) == {("a",): "expected one of x", ("c",): "extra property"}

    def test_schema_says_what_the_other_keys_of_an_open_object_are(self, types: Definitions) -> None:
        types.attribute("T", "map", isOpen=True, schema={"additionalProperties": {"type": "integer"}})
        assert types.wrong("T", {"map": {"a": 1, "b": "x"}}) == {("map", "b"): "expected type of integer"}

    def test_a_complex_type_of_ones_own(self, types: Definitions) -> None:
        types.attribute("T", "part", "Part", isCollection=True)
        assert types.wrong("T", {"part": [{"size": 1}, {"size": "x", "more": 1}]}) == {
            ("part", 1, "size"): "expected type of integer",
            ("part", 1, "more"): "extra property",
        }

    def test_a_type_may_be_made_of_itself(self, types: Definitions) -> None:
        types.attribute("Part", "parts", "Part", isCollection=True)
        types.attribute("Part", "on", "date")
        types.attribute("T", "part", "Part")
        assert types.wrong("T", {"part": {"parts": [{"parts": [{"size": 1}]}]}}) == {}
        assert types.wrong("T", {"part": {"parts": [{"parts": [{"on": "2021-02-29"}]}]}}) == {
            ("part", "parts", 0, "parts", 0, "on"): "2021-02 has 28 days"
        }

    def test_descriptive_fields_change_nothing(self, types: Definitions) -> None:
        types.entity(
            "T", description="d", module="m", text={"status": "x"}, isMeta=False, nonPersistable=False
        )
        types.attribute("T", "a", "string", order=1, isSummary=True, isModifier=True, isUnique=False)
        assert types.wrong("T", {"a": "x"}) == {}


class TestExtension:
    URL = "http://example.org/theme"

    def held(self, *values: dict[str, Any]) -> dict[str, Any]:
        return {"extension": [{"url": self.URL, **value} for value in values]}

    def test_the_value_is_in_the_extension(self, types: Definitions) -> None:
        types.attribute("T", "theme", "string", extensionUrl=self.URL, enum=["dark", "white"])
        assert types.wrong("T", {}) == {}
        assert types.wrong("T", self.held({"valueString": "dark"})) == {}
        assert types.wrong("T", {"extension": [{"url": "http://other", "valueInteger": 1}]}) == {}
        assert types.wrong("T", self.held({"valueString": "red"})) == {
            ("extension", 0, "valueString"): "expected one of dark, white"
        }
        assert types.wrong("T", self.held({"valueInteger": 1})) == {
            ("extension", 0, "valueString"): "is required"
        }

    def test_the_plain_key_is_refused_with_the_form_to_use(self, types: Definitions) -> None:
        types.attribute("T", "theme", "string", extensionUrl=self.URL)
        remedy = "use extension: [{url: http://example.org/theme, valueString: ...}]"
        assert types.wrong("T", {"theme": "dark"}) == {("theme",): remedy}

    def test_how_often(self, types: Definitions) -> None:
        types.attribute("T", "theme", "string", extensionUrl=self.URL, isRequired=True)
        assert types.wrong("T", {}) == {
            ("extension",): "is required: {url: http://example.org/theme, valueString: ...}"
        }
        assert types.wrong("T", self.held({"valueString": "a"}, {"valueString": "b"})) == {
            ("extension", 1): "one extension of http://example.org/theme is allowed"
        }
        types.attribute("T", "theme", "string", extensionUrl=self.URL, isCollection=True)
        assert types.wrong("T", self.held({"valueString": "a"}, {"valueString": "b"})) == {}

    def test_below_the_top(self, types: Definitions) -> None:
        types.attribute("T", "a.on", "date", extensionUrl=self.URL)
        assert types.wrong("T", {"a": self.held({"valueDate": "2020-02-30"})}) == {
            ("a", "extension", 0, "valueDate"): "2020-02 has 29 days"
        }

    def test_a_reference(self, types: Definitions) -> None:
        types.attribute("T", "by", refers=["Patient"], extensionUrl=self.URL)
        assert types.wrong("T", self.held({"valueReference": {"reference": "Device/1"}})) == {
            ("extension", 0, "valueReference", "reference"): "expected a reference to Patient"
        }

    def test_two_in_one_place_have_different_urls(self, types: Definitions) -> None:
        types.attribute("T", "a", "string", extensionUrl=self.URL)
        assert refusal(types, "b", "string", extensionUrl=self.URL) == {
            ("path",): f"the extension {self.URL} is that of Attribute T.a"
        }


class TestRefusedEntities:
    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"type": "primitive"}, ("type",)),
            ({"nonPersistable": True}, ("nonPersistable",)),
            ({"isMeta": True}, ("isMeta",)),
            ({"history": "none"}, ("history",)),
            ({"history": "diff"}, ("history",)),
            ({"idGeneration": "random"}, ("idGeneration",)),
            ({"sequencePrefix": "A"}, ("sequencePrefix",)),
            ({"type": "thing"}, ("type",)),
            ({"isOpen": "yes"}, ("isOpen",)),
            ({"title": "x"}, ("title",)),
            ({"schema": {"additionalProperties": True}}, ("schema", "additionalProperties")),
            ({"schema": []}, ("schema",)),
        ],
    )
    def test_the_path_names_the_field(self, fields: dict[str, Any], path: tuple[str, ...]) -> None:
        with pytest.raises(Invalid) as refused:
            Definitions().entity("T", **fields)
        assert [issue.path for issue in refused.value.issues] == [path]

    def test_what_is_not_there_yet_says_so(self) -> None:
        with pytest.raises(Invalid, match="history is not available in this version: leave it out"):
            Definitions().entity("T", history="none")

    def test_a_type_is_required(self) -> None:
        with pytest.raises(Invalid) as refused:
            Definitions().put("Entity", "T", {"isOpen": True})
        assert [(issue.path, issue.code) for issue in refused.value.issues] == [(("type",), "required")]


class TestRefusedAttributes:
    def test_an_unknown_entity(self, types: Definitions) -> None:
        with pytest.raises(Invalid, match="there is no Entity Nope"):
            types.attribute("Nope", "a", "string")

    @pytest.mark.parametrize("name", ["string", "Coding", "Entity", "Attribute", "Extension"])
    def test_a_built_in_type(self, types: Definitions, name: str) -> None:
        with pytest.raises(Invalid, match="is built in and cannot be changed"):
            types.attribute(name, "a", "string")

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("Nope", "Nope is no type that is known here"),
            ("integer64", "integer64 is no type that is known here"),
            ("Other", "Other is a resource type: to point to one, use refers"),
            ("Patient", "Patient is a resource type: to point to one, use refers"),
            ("Attribute", "Attribute is a resource type: to point to one, use refers"),
            ("CanonicalResource", "CanonicalResource is no type that is known here"),
            ("coding", "coding is no type; there is Coding"),
            ("PART", "PART is no type; there is Part"),
            ("Base", "Base is abstract: no element can be just that"),
            ("Element", "Element is abstract: no element can be just that"),
            ("*", "* is no type that is known here"),
        ],
    )
    def test_a_type_that_no_element_can_have(self, types: Definitions, name: str, why: str) -> None:
        assert refusal(types, "a", name) == {("type",): why}
        assert refusal(types, "a", union=["string", entity(name)]) == {("union", 1): why}

    def test_a_target_that_is_none(self, types: Definitions) -> None:
        assert refusal(types, "a", refers=["Patient", "Nope"]) == {
            ("refers", 1): "there is no resource type Nope"
        }

    @pytest.mark.parametrize(
        "name", ["id", "resourceType", "meta", "extension", "modifierExtension", "fhir_x"]
    )
    def test_reserved_names(self, types: Definitions, name: str) -> None:
        assert list(refusal(types, name, "string")) == [("path", 0)]

    @pytest.mark.parametrize("name", ["extension", "modifierExtension", "fhir_x"])
    def test_reserved_names_below_the_top(self, types: Definitions, name: str) -> None:
        assert list(refusal(types, f"a.{name}", "string")) == [("path", 1)]

    @pytest.mark.parametrize(
        "name", ["", "_x", "__proto__", "1a", "a b", "é", "a\n", "a$", "x" * 65, 5, None]
    )
    def test_bad_names(self, types: Definitions, name: Any) -> None:
        with pytest.raises(Invalid) as refused:
            types.put("Attribute", "T.a", {"resource": entity("T"), "path": [name]})
        assert {issue.path for issue in refused.value.issues} == {("path", 0)}

    @pytest.mark.parametrize("path", [[], "theme", ["a"] * (MAX_PATH_LEVELS + 1)])
    def test_bad_paths(self, types: Definitions, path: Any) -> None:
        with pytest.raises(Invalid) as refused:
            types.put("Attribute", "T.a", {"resource": entity("T"), "path": path})
        assert {issue.path for issue in refused.value.issues} == {("path",)}

    def test_the_deepest_path(self, types: Definitions) -> None:
        types.put(
            "Attribute",
            "T.a",
            {"resource": entity("T"), "path": ["a"] * MAX_PATH_LEVELS, "type": entity("date")},
        )
        body: Any = "2020-02-31"
        for _ in range(MAX_PATH_LEVELS):
            body = {"a": body}
        assert types.wrong("T", body) == {("a",) * MAX_PATH_LEVELS: "2020-02 has 29 days"}

    def test_one_path_twice(self, types: Definitions) -> None:
        types.attribute("T", "a", "string")
        with pytest.raises(Invalid, match=r"the path a is that of Attribute T.a"):
            types.put(
                "Attribute", "other-id", {"resource": entity("T"), "path": ["a"], "type": entity("code")}
            )

    def test_an_attribute_may_replace_itself(self, types: Definitions) -> None:
        types.attribute("T", "a", "string")
        types.attribute("T", "a", "integer")
        assert types.wrong("T", {"a": 1}) == {}

    def test_nothing_is_inside_a_scalar_or_a_typed_element(self, types: Definitions) -> None:
        types.attribute("T", "a", "string")
        types.attribute("T", "c", "Coding")
        types.attribute("T", "u", union=["string", "code"])
        assert refusal(types, "a.b", "string") == {
            ("path",): "a is string by Attribute T.a: there are no elements to add in it"
        }
        assert list(refusal(types, "c.more", "string")) == [("path",)]
        assert list(refusal(types, "u.more", "string")) == [("path",)]

    def test_what_has_parts_stays_an_object(self, types: Definitions) -> None:
        types.attribute("T", "a.b", "string")
        assert refusal(types, "a", "string") == {
            ("path",): "Attribute T.a.b is inside it: only an object without a type has elements of its own"
        }

    def test_keys_of_unions_clash(self, types: Definitions) -> None:
        types.attribute("T", "valueString.x", "string")
        assert refusal(types, "value", union=["code", "string"]) == {
            ("path",): "the key valueString is that of Attribute T.valueString.x"
        }
        types.attribute("T", "value", union=["code", "integer"])
        assert refusal(types, "valueCode", "code") == {
            ("path",): "the key valueCode is that of Attribute T.value"
        }
        types.attribute("T", "a.valueCode", "code")

    def test_a_union_cannot_make_a_reserved_key(self, types: Definitions) -> None:
        assert refusal(types, "modifier", union=["Extension", "string"]) == {
            ("union", 0): "modifierExtension is there already"
        }
        assert refusal(types, "v", union=["string", "string"]) == {("union", 1): "vString is there already"}

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"union": ["string"], "type": entity("string")}, ("type",)),
            ({"union": ["string"], "enum": ["a"]}, ("enum",)),
            ({"union": ["string"], "schema": {}}, ("schema",)),
            ({"union": ["string"], "isCollection": True}, ("isCollection",)),
            ({"union": ["string"], "extensionUrl": "http://x"}, ("extensionUrl",)),
            ({"refers": ["Patient"], "enum": ["a"]}, ("enum",)),
            ({"refers": ["Patient"], "type": entity("string")}, ("refers",)),
            ({"type": entity("string"), "isOpen": True}, ("isOpen",)),
            ({"extensionUrl": "http://x"}, ("extensionUrl",)),
            ({"extensionUrl": "http://x", "type": entity("Part")}, ("extensionUrl",)),
            ({"extensionUrl": "", "type": entity("string")}, ("extensionUrl",)),
            ({"enum": ["a"]}, ("enum",)),
            ({"enum": [], "type": entity("string")}, ("enum",)),
            ({"enum": ["a"], "type": entity("Coding")}, ("enum",)),
            ({"enum": ["a", 1], "type": entity("string")}, ("enum", 1)),
            ({"enum": ["2020-02-31"], "type": entity("date")}, ("enum", 0)),
            ({"enum": [{}], "type": entity("string")}, ("enum", 0)),
            ({"enum": list(range(MAX_ENUM_VALUES + 1)), "type": entity("integer")}, ("enum",)),
            ({"union": []}, ("union",)),
            ({"refers": []}, ("refers",)),
            ({"refers": [5]}, ("refers", 0)),
            ({"type": {"id": "string", "resourceType": "Patient"}}, ("type", "resourceType")),
            ({"type": {"reference": "Patient/string"}}, ("type", "reference")),
            ({"type": {"id": "string", "reference": "Entity/code"}}, ("type", "reference")),
            ({"type": {}}, ("type", "id")),
            ({"type": {"id": ""}}, ("type",)),
            ({"union": [""]}, ("union", 0)),
            ({"type": "string"}, ("type",)),
            ({"isUnique": True, "isCollection": True}, ("isUnique",)),
            ({"valueSet": {"id": "x"}}, ("valueSet",)),
            ({"isRequired": 1}, ("isRequired",)),
            ({"regex": "x"}, ("regex",)),
            (
                {"type": entity("Coding"), "schema": {"additionalProperties": {}}},
                ("schema", "additionalProperties"),
            ),
        ],
    )
    def test_the_path_names_the_field(self, types: Definitions, fields: dict[str, Any], path: Any) -> None:
        with pytest.raises(Invalid) as refused:
            types.put("Attribute", "T.a", {"resource": entity("T"), "path": ["a"], **fields})
        assert [issue.path for issue in refused.value.issues] == [path]

    def test_a_refused_definition_leaves_the_types_as_they_were(self, types: Definitions) -> None:
        before = types.registry
        refusal(types, "a", "Nope")
        assert types.registry is before
        assert types.wrong("T", {"a": 1}) == {("a",): "extra property"}
