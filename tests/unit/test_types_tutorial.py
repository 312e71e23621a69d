"""The tutorial, steps 11 to 19, as far as types are concerned."""

from __future__ import annotations

import pytest
from harness.definitions import Definitions, entity
from jsonschema import Draft202012Validator

EXTENSIONS = {"type": "array", "items": {"$ref": "#/definitions/Extension"}}
PUBLISHED = {
    "type": "object",
    "minProperties": 1,
    "patternProperties": {"^(_.*|fhir_.*)": {}},
    "properties": {
        "id": {"type": "string"},
        "extension": EXTENSIONS,
        "modifierExtension": EXTENSIONS,
        "meta": {"$ref": "#/definitions/Meta"},
        "resourceType": {"type": "string", "const": "UserSetting"},
        "theme": {"type": "string", "enum": ["dark", "white"]},
    },
}


@pytest.fixture
def tutorial() -> Definitions:
    """As it is after step 12."""
    definitions = Definitions()
    definitions.entity("UserSetting", isOpen=True)
    definitions.put(
        "Attribute",
        "UserSetting.theme",
        {
            "path": ["theme"],
            "type": entity("string"),
            "enum": ["dark", "white"],
            "resource": entity("UserSetting"),
        },
    )
    return definitions


def errors(definitions: Definitions, body: dict[str, object]) -> list[tuple[tuple[str | int, ...], str]]:
    found = definitions.issues({"resourceType": "UserSetting", "id": "user-3", **body})
    return [(issue.path, issue.message) for issue in found]


def test_an_open_type_takes_everything_at_step_11() -> None:
    definitions = Definitions()
    definitions.entity("UserSetting", isOpen=True)
    assert definitions.wrong("UserSetting", {"theme": [{"name": "white"}, {"name": "black"}]}) == {}


def test_the_published_schema_of_step_13_has_these_keys_and_no_others(tutorial: Definitions) -> None:
    assert tutorial.registry.schema_at(["definitions", "UserSetting"]) == PUBLISHED
    assert list(tutorial.registry.schema_at(["definitions", "UserSetting", "properties", "theme"])) == [
        "type",
        "enum",
    ]


def test_step_14_lists_the_type_before_the_enum(tutorial: Definitions) -> None:
    assert errors(tutorial, {"theme": 2}) == [
        (("theme",), "expected type of string"),
        (("theme",), "expected one of dark, white"),
    ]


def test_step_15(tutorial: Definitions) -> None:
    assert errors(tutorial, {"theme": "unexisting"}) == [(("theme",), "expected one of dark, white")]


def test_steps_16_to_19(tutorial: Definitions) -> None:
    tutorial.entity("UserSetting", isOpen=False)
    closed = {**PUBLISHED, "additionalProperties": False}
    assert tutorial.registry.schema_at(["definitions", "UserSetting"]) == closed
    assert errors(tutorial, {"theme": "dark", "menu": "collapsed"}) == [(("menu",), "extra property")]
    assert errors(tutorial, {"theme": "dark", "_note": {}}) == []


def test_a_stock_validator_agrees_at_step_13b(tutorial: Definitions) -> None:
    tutorial.entity("UserSetting", isOpen=False)
    document = tutorial.registry.schema_at([])
    Draft202012Validator.check_schema(document)
    stock = Draft202012Validator(document)
    for body, valid in (
        ({"theme": 2}, False),
        ({"theme": "unexisting"}, False),
        ({"theme": "dark", "menu": "collapsed"}, False),
        ({"theme": "dark", "_note": {}}, True),
    ):
        assert stock.is_valid({"resourceType": "UserSetting", **body}) is valid
    assert not stock.is_valid({"resourceType": "Unknown"})
    assert not stock.is_valid({"theme": "dark"})


def test_every_reference_in_the_document_resolves(tutorial: Definitions) -> None:
    document = tutorial.registry.schema_at([])
    waiting: list[object] = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].removeprefix("#/definitions/") in document["definitions"]
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
