"""What is there before any definition: Entity and Attribute as types, FHIR's own names, and the rule for new ones."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from eventstore.errors import Invalid
from eventstore.types.datatypes import TYPE_NAME, fhir
from eventstore.types.definition import Element, Library, TypeDefinition
from eventstore.types.entity import EntitySpec, assemble
from eventstore.types.table import CANONICAL

# Stored definitions are read by these limits too: they may grow, and never shrink.
MAX_TYPE_NAME_CHARACTERS = 55
"""PostgreSQL cuts identifiers at 63 bytes, silently; this leaves room for `_history`."""
MAX_PREFIX_CHARACTERS = 40
"""Of the ids of a sequence: an id has 64, and a position up to 19."""
MAX_PATH_LEVELS = 32
MAX_PATH_NAME_CHARACTERS = 64
MAX_ENUM_VALUES = 1_000
MAX_UNION_TYPES = 60
MAX_TARGET_TYPES = 200

SHADOWS_CORE = "shadows-core"
"""The code in `meta.tag` of a definition that takes a name of FHIR's own."""

DEACTIVATED = "deactivated"
"""The code in `meta.tag` of the definition of a type that is read and not written."""

_ANY = TypeDefinition("*", "primitive", schema={})
"""Any JSON. Its name is none that a definition could use."""

_TO_ENTITY = {
    "properties": {
        "id": {"type": "string"},
        "resourceType": {"const": "Entity"},
        "reference": {"type": "string"},
        "display": {"type": "string"},
    },
    "additionalProperties": False,
}
_ONE_ENTITY = {"type": "object", **_TO_ENTITY}


_VALUE_SET = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "resourceType": {"const": "ValueSet"},
        "reference": {"type": "string", "pattern": "^ValueSet/[^|]+$"},
        "uri": {"type": "string", "minLength": 1},
        "display": {"type": "string"},
    },
    "additionalProperties": False,
}


def _some(most: int, **item: Any) -> dict[str, Any]:
    return {"minItems": 1, "maxItems": most, **item}


_KEY = "^[A-Za-z][A-Za-z0-9_-]*$"
_NAME_IN_PATH = {
    "type": "string",
    "pattern": _KEY,
    "maxLength": MAX_PATH_NAME_CHARACTERS,
}
_ENTITIES = {"type": ["object", "string"], **_TO_ENTITY}
_ENUM_VALUE = {"type": ["string", "number", "boolean"]}

_DESCRIPTIVE = (Element("description", "string"), Element("module", "string"), Element("text", "*"))

_OF_ENTITY = (
    Element("type", "code", required=True, enum=("resource", "abstract", "type", "primitive")),
    Element("isOpen", "boolean"),
    Element("schema", open=True),
    Element("isMeta", "boolean"),
    Element("nonPersistable", "boolean"),
    Element("history", "code"),
    Element("idGeneration", "code", enum=("uuid", "sequence")),
    Element(
        "sequencePrefix", "string", schema={"pattern": "^[A-Za-z0-9.-]*$", "maxLength": MAX_PREFIX_CHARACTERS}
    ),
    *_DESCRIPTIVE,
)

_OF_ATTRIBUTE = (
    Element("resource", "*", required=True, schema=_ONE_ENTITY),
    Element("path", "*", required=True, collection=True, schema=_some(MAX_PATH_LEVELS, **_NAME_IN_PATH)),
    Element("type", "*", schema=_ONE_ENTITY),
    Element("union", "*", collection=True, schema=_some(MAX_UNION_TYPES, **_ENTITIES)),
    Element("refers", "*", collection=True, schema=_some(MAX_TARGET_TYPES, **_ENTITIES)),
    Element("enum", "*", collection=True, schema=_some(MAX_ENUM_VALUES, **_ENUM_VALUE)),
    Element("schema", open=True),
    Element("extensionUrl", "uri", schema={"minLength": 1}),
    Element("isRequired", "boolean"),
    Element("isCollection", "boolean"),
    Element("isOpen", "boolean"),
    Element("isUnique", "boolean"),
    Element("isModifier", "boolean"),
    Element("isSummary", "boolean"),
    Element("valueSet", "*", schema=_VALUE_SET),
    Element("order", "integer"),
    *_DESCRIPTIVE,
)


_OF_FHIRSCHEMA = (
    Element("url", "uri", required=True, schema={"minLength": 1}),
    Element("version", "string"),
    Element("fhirVersion", "code"),
    Element("name", "string", required=True),
    Element("title", "string"),
    Element("status", "code"),
    Element("type", "string", schema={"minLength": 1}),
    Element("kind", "code", required=True, enum=("resource", "logical", "complex-type", "primitive-type")),
    Element("derivation", "code", required=True, enum=("specialization", "constraint")),
    Element("abstract", "boolean"),
    Element("base", "string"),
    Element("ALLOW_FHIR_SCHEMA_FHIR_INCOMPATIBLE_EXTENSIONS", "boolean"),
    Element("any", "boolean"),
    Element("additionalProperties", open=True),
    Element("elements", open=True),
    Element("required", "string", collection=True),
    Element("excluded", "string", collection=True),
    Element("constraints", open=True),
    Element("extensions", open=True),
    Element("contained", open=True, collection=True),
    *_DESCRIPTIVE,
)

_OF_PREFIX = (
    Element("organization", "string", required=True, schema={"minLength": 1}),
    Element("contact", "ContactDetail", collection=True),
    Element("status", "code", required=True, enum=("draft", "active", "retired")),
    *_DESCRIPTIVE,
)


def _definition(name: str, elements: tuple[Element, ...]) -> TypeDefinition:
    bare = assemble(name, EntitySpec("resource", False, None), ())
    return msgspec.structs.replace(bare, elements=(*bare.elements, *elements))


_OURS = {
    name: _definition(name, of)
    for name, of in (
        ("Entity", _OF_ENTITY),
        ("Attribute", _OF_ATTRIBUTE),
        ("FHIRSchema", _OF_FHIRSCHEMA),
        ("Prefix", _OF_PREFIX),
    )
}


@cache
def compiled(version: str) -> Library:
    """What is there to be compiled before any definition: the resource types that define types, and profiles."""
    return {
        **_OURS,
        **{name: one for name, one in fhir(version).items() if one.kind in ("resource", "profile")},
    }


@cache
def library(version: str) -> Library:
    """The types and profiles that a definition of ours may name."""
    return {**fhir(version), _ANY.name: _ANY}


_CORE_RESOURCES = """Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent
Basic Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam
ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication
CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage
CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric
DeviceRequest DiagnosticReport DocumentReference DomainResource Encounter Endpoint EnrollmentRequest
EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario
ExplanationOfBenefit FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse
HealthcareService ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation
ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure MeasureReport Medication
MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement
MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder Observation
ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation Parameters
Patient PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner PractitionerRole Procedure
Provenance Questionnaire QuestionnaireResponse RelatedPerson ResearchStudy ResearchSubject Resource
RiskAssessment Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition
StructureDefinition StructureMap Subscription Substance SupplyDelivery SupplyRequest Task
TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription"""

_MORE_CORE_RESOURCES = {
    "4.0.1": """CatalogEntry DeviceUseStatement DocumentManifest EffectEvidenceSynthesis Media MedicinalProduct
MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured
MedicinalProductPackaged MedicinalProductPharmaceutical MedicinalProductUndesirableEffect
RequestGroup ResearchDefinition ResearchElementDefinition RiskEvidenceSynthesis SubstanceNucleicAcid
SubstancePolymer SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial
SubstanceSpecification""",
    "4.3.0": """AdministrableProductDefinition CatalogEntry Citation ClinicalUseDefinition DeviceUseStatement
DocumentManifest EvidenceReport Ingredient ManufacturedItemDefinition Media
MedicinalProductDefinition NutritionProduct PackagedProductDefinition RegulatedAuthorization
RequestGroup ResearchDefinition ResearchElementDefinition SubscriptionStatus SubscriptionTopic
SubstanceDefinition""",
    "5.0.0": """ActorDefinition AdministrableProductDefinition ArtifactAssessment BiologicallyDerivedProductDispense
CanonicalResource Citation ClinicalUseDefinition ConditionDefinition DeviceAssociation
DeviceDispense DeviceUsage EncounterHistory EvidenceReport FormularyItem GenomicStudy
ImagingSelection Ingredient InventoryItem InventoryReport ManufacturedItemDefinition
MedicinalProductDefinition MetadataResource NutritionIntake NutritionProduct
PackagedProductDefinition Permission RegulatedAuthorization RequestOrchestration Requirements
SubscriptionStatus SubscriptionTopic SubstanceDefinition SubstanceNucleicAcid SubstancePolymer
SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial TestPlan Transport""",
}

_CORE_TYPES = """Address Age Annotation Attachment BackboneElement CodeableConcept Coding ContactDetail ContactPoint
Contributor Count DataRequirement Distance Dosage Duration Element ElementDefinition Expression Extension
HumanName Identifier MarketingStatus Meta Money Narrative ParameterDefinition Period ProductShelfLife
Quantity Range Ratio Reference RelatedArtifact SampledData Signature Timing TriggerDefinition UsageContext
base64Binary boolean canonical code date dateTime decimal id instant integer markdown oid positiveInt
string time unsignedInt uri url uuid xhtml"""

_MORE_CORE_TYPES = {
    "4.0.1": "Population ProdCharacteristic SubstanceAmount",
    "4.3.0": "CodeableReference DataType Population ProdCharacteristic RatioRange",
    "5.0.0": """Availability BackboneType Base CodeableReference DataType ExtendedContactDetail MonetaryComponent
PrimitiveType RatioRange VirtualServiceDetail integer64""",
}

_ABSTRACT = frozenset(("Resource", "DomainResource", "CanonicalResource", "MetadataResource"))


@cache
def core_resources(version: str) -> frozenset[str]:
    """The resource types of a FHIR version, abstract ones too."""
    return frozenset(f"{_CORE_RESOURCES} {_MORE_CORE_RESOURCES[version]}".split())


@cache
def core_types(version: str) -> frozenset[str]:
    """The data types of a FHIR version."""
    return frozenset(f"{_CORE_TYPES} {_MORE_CORE_TYPES[version]}".split())


def is_core_name(name: str, version: str) -> bool:
    """Whether FHIR has a resource or data type of that name."""
    return name in core_resources(version) or name in core_types(version)


def is_core_target(name: str, version: str) -> bool:
    """Whether a Reference may point to a FHIR resource of that name."""
    return name in core_resources(version) - _ABSTRACT


def refusal_of_key(name: str) -> str:
    """Why no element may be called so; nothing when one may."""
    if len(name) > MAX_PATH_NAME_CHARACTERS:
        return f"the name of an element may have {MAX_PATH_NAME_CHARACTERS} characters, and no more"
    if not re.fullmatch(_KEY.strip("^$"), name):
        return "the name of an element is letters, digits, - and _, beginning with a letter"
    return ""


_ROUTES = frozenset((
    "admin", "api", "audit", "auth", "changes", "console", "docs", "fhir", "health", "live", "login", "logout",
    "metadata", "metrics", "oauth", "openapi", "ready", "sql", "static", "ui", "ws",
))  # fmt: skip
_PREFIXES = ("quire", "sqlite", "pg")
_NAME = re.compile(TYPE_NAME)


def check_name(name: str, version: str, definition: dict[str, Any]) -> None:
    """Raise Invalid when no definition, or not this one, may take the name."""
    if why := _refusal_of_name(name, version) or _shadow(name, version, definition):
        raise Invalid(why, path=("id",))


def _refusal_of_name(name: str, version: str) -> str:
    if len(name) > MAX_TYPE_NAME_CHARACTERS:
        return f"a type name may have {MAX_TYPE_NAME_CHARACTERS} characters, and no more"
    if not _NAME.fullmatch(name):
        return "a type name is letters and digits, beginning with a letter, in parts joined by - or ."
    if name in _OURS or name in fhir(version):
        return f"{name} is built in and cannot be redefined"
    if name.lower() in _ROUTES:
        return f"{name} is reserved: it is part of a URL of the server"
    if prefix := next((prefix for prefix in _PREFIXES if name.lower().startswith(prefix)), ""):
        return f"names beginning {prefix} are reserved"
    return ""


def _shadow(name: str, version: str, definition: dict[str, Any]) -> str:
    if not is_core_name(name, version) or definition.get("url") == CANONICAL + name:
        return ""
    if is_tagged(definition, SHADOWS_CORE):
        return ""
    return (
        f"{name} is a FHIR {version} type: to define your own, put a meta.tag with code {SHADOWS_CORE} on it"
    )


def is_tagged(definition: dict[str, Any], code: str) -> bool:
    """Whether a definition has a code among its `meta.tag`."""
    return any(tag.get("code") == code for tag in definition.get("meta", {}).get("tag", ()))


def resource(name: str, version: str) -> dict[str, Any] | None:
    """A built-in type as an Entity resource, if there is one of that name."""
    found = _OURS.get(name) or fhir(version).get(name)
    if found is None:
        return None
    about: dict[str, Any] = {"resourceType": "Entity", "id": name, "type": found.kind}
    return about if found.kind == "primitive" else {**about, "isOpen": found.open}
