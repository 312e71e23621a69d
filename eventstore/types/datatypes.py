"""The FHIR data types that are built in, for each FHIR version, and what a value of each primitive looks like."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from eventstore.errors import Invalid
from eventstore.types import table
from eventstore.types.definition import EXTENSION, REFERENCE, RESOURCE, Element, Library, TypeDefinition

FHIR_VERSIONS = ("4.0.1", "4.3.0", "5.0.0")


def check_fhir_version(version: str) -> None:
    """Raises Invalid for a version of FHIR that is not supported."""
    if version not in FHIR_VERSIONS:
        raise Invalid(f"FHIR {version} is not supported: use one of {', '.join(FHIR_VERSIONS)}")


ID = r"^[A-Za-z0-9\-.]{1,64}$"
TYPE_NAME = r"[A-Za-z][A-Za-z0-9]*(?:[-.][A-Za-z0-9]+)*"
RELATIVE_REFERENCE = rf"{TYPE_NAME}/[A-Za-z0-9\-.]{{1,64}}(?:/_history/[A-Za-z0-9\-.]{{1,64}})?(?:#\S*)?"

_UUID = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OID = r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+"
_URL = r"[A-Za-z][A-Za-z0-9+.\-]*://\S+"
_REFERENCE = rf"^(?:{RELATIVE_REFERENCE}|#\S*|{_URL}|{_UUID.replace('a-f', 'A-Fa-f')}|{_OID})$"
_CODE = r"^\S+(?: \S+)*$"
_URI = r"^\S*$"
_INTEGER64 = r"^(?:0|[-+]?[1-9][0-9]{0,18})$"

_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_MONTH = r"(?:0[1-9]|1[0-2])"
_DAY = r"(?:0[1-9]|[12][0-9]|3[01])"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_DATE = rf"^{_YEAR}(?:-{_MONTH}(?:-{_DAY})?)?$"


def _clock(fraction: str) -> str:
    """A time of day to the second at least; 60 is a leap second."""
    return rf"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.{fraction})?"


_FRACTION = {"4.0.1": "[0-9]+", "4.3.0": "[0-9]+", "5.0.0": "[0-9]{1,9}"}

_MEANING = {
    ID: "expected an id: 1 to 64 of A-Z, a-z, 0-9, - and .",
    _REFERENCE: "expected a reference: Type/id, #id, an absolute URL, urn:uuid:... or urn:oid:...",
    _CODE: "expected a code: no white space but single spaces inside",
    _URI: "expected a URI: no white space",
    _INTEGER64: "expected an integer in a string",
    f"^{_UUID}$": "expected a UUID: urn:uuid: and 36 characters in lower case",
    f"^{_OID}$": "expected an OID: urn:oid:1.2.3",
    _DATE: "expected a date: YYYY, YYYY-MM or YYYY-MM-DD",
}

_WHOLE = {"type": "integer", "maximum": 2**31 - 1}
_TEXT = {"type": "string"}


def _texts(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


_PRIMITIVES: dict[str, dict[str, Any]] = {
    "base64Binary": {"type": "string", "contentEncoding": "base64"},
    "boolean": {"type": "boolean"},
    "canonical": _texts(_URI),
    "code": _texts(_CODE),
    "date": _texts(_DATE),
    "decimal": {"type": "number"},
    "id": _texts(ID),
    "integer": {**_WHOLE, "minimum": -(2**31)},
    "markdown": _TEXT,
    "oid": _texts(f"^{_OID}$"),
    "positiveInt": {**_WHOLE, "minimum": 1},
    "string": _TEXT,
    "unsignedInt": {**_WHOLE, "minimum": 0},
    "uri": _texts(_URI),
    "url": _texts(_URI),
    "uuid": _texts(f"^{_UUID}$"),
    "xhtml": _TEXT,
}


def _moments(version: str) -> dict[str, dict[str, Any]]:
    """The primitives with a time of day in them."""
    clock = _clock(_FRACTION[version])
    day = f"{_YEAR}-{_MONTH}-{_DAY}"
    return {
        "dateTime": _texts(rf"^{_YEAR}(?:-{_MONTH}(?:-{_DAY}(?:T{clock}{_ZONE})?)?)?$"),
        "instant": _texts(f"^{day}T{clock}{_ZONE}$"),
        "time": _texts(f"^{clock}$"),
    }


_MOMENT_MEANING = {
    "dateTime": "expected a dateTime: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with Z or an offset",
    "instant": "expected an instant: YYYY-MM-DDThh:mm:ss with Z or an offset",
    "time": "expected a time: hh:mm:ss",
}


@cache
def meaning_of(pattern: str) -> str:
    """What a pattern of ours asks for, in words; nothing for a pattern of somebody else's."""
    for version in FHIR_VERSIONS:
        for name, schema in _moments(version).items():
            if schema["pattern"] == pattern:
                return _MOMENT_MEANING[name]
    return _MEANING.get(pattern, "")


_OPEN_TYPES = """base64Binary boolean canonical code date dateTime decimal id instant integer markdown oid positiveInt
string time unsignedInt uri url uuid Address Age Annotation Attachment CodeableConcept Coding ContactPoint Count
Distance Duration HumanName Identifier Money Period Quantity Range Ratio Reference SampledData Signature Timing
ContactDetail DataRequirement Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext Dosage"""

_MORE_OPEN_TYPES = {
    "4.0.1": "Contributor Meta",
    "4.3.0": "Contributor CodeableReference RatioRange",
    "5.0.0": "Meta integer64 CodeableReference RatioRange Availability ExtendedContactDetail",
}


@cache
def open_types(version: str) -> tuple[str, ...]:
    """The types that the value of an Extension may have, whether or not they are built in here."""
    return (*_OPEN_TYPES.split(), *_MORE_OPEN_TYPES[version].split())


PART = (Element("id", "string"), Element(EXTENSION, "Extension", collection=True))
"""What every element that is an object may have."""

_NOT_DATA = frozenset((RESOURCE, "DomainResource", "StructureDefinition", "Basic", "ValueSet", "CodeSystem"))


@cache
def fhir(version: str) -> Library:
    """What of FHIR is built in: data types, the bases of resources, profiles of data types, StructureDefinition, Basic."""
    primitives = _PRIMITIVES | _moments(version) | _of_version(version)
    found = {name: TypeDefinition(name, "primitive", schema=schema) for name, schema in primitives.items()}
    found |= table.read(version, open_types(version))
    found[REFERENCE] = _with_syntax(found[REFERENCE])
    return found


def _of_version(version: str) -> dict[str, dict[str, Any]]:
    return {"integer64": _texts(_INTEGER64)} if version == "5.0.0" else {}


def _with_syntax(reference: TypeDefinition) -> TypeDefinition:
    """The one rule of a data type that is neither a type nor a constraint."""
    elements = tuple(
        msgspec.structs.replace(one, schema={"pattern": _REFERENCE}) if one.name == "reference" else one
        for one in reference.elements
    )
    return msgspec.structs.replace(reference, elements=elements)


@cache
def datatypes(version: str) -> Library:
    """The data types of a FHIR version, by name."""
    return {
        name: one for name, one in fhir(version).items() if one.kind != "profile" and name not in _NOT_DATA
    }
