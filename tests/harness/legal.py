"""Whether an answer under /fhir is legal FHIR: the rules of Bundle and OperationOutcome, and no empty arrays.

http://hl7.org/fhir/R4/bundle.html#invs (bdl-1 to bdl-9) and http://hl7.org/fhir/R4/operationoutcome.html.
"""

from __future__ import annotations

from typing import Any

SEVERITIES = {"fatal", "error", "warning", "information"}
CODES = set(
    """invalid structure required value invariant security login unknown expired forbidden suppressed processing
    not-supported duplicate multiple-matches not-found deleted too-long code-invalid extension too-costly
    business-rule conflict transient lock-error no-store exception timeout incomplete throttled informational""".split()
)
BUNDLE_KEYS = {
    "resourceType",
    "id",
    "meta",
    "identifier",
    "type",
    "timestamp",
    "total",
    "link",
    "entry",
    "signature",
}
ENTRY_KEYS = {"id", "link", "fullUrl", "resource", "search", "request", "response"}


def faults(resource: Any) -> list[str]:
    """What is not legal in a Bundle or an OperationOutcome; other resources only for empty arrays and objects."""
    found = (
        list(_empties(resource, "$"))
        if resource.get("resourceType") in ("Bundle", "OperationOutcome")
        else []
    )
    if resource.get("resourceType") == "Bundle":
        found += _bundle(resource)
    if resource.get("resourceType") == "OperationOutcome":
        found += _outcome(resource)
    return found


def _empties(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        if not value:
            yield f"{path}: an empty object"
        for key, inner in value.items():
            if key == "resource":
                continue
            yield from _empties(inner, f"{path}.{key}")
    elif isinstance(value, list):
        if not value:
            yield f"{path}: an empty array"
        for index, inner in enumerate(value):
            yield from _empties(inner, f"{path}[{index}]")
    elif value is None:
        yield f"{path}: null"


def _outcome(outcome: dict[str, Any]) -> list[str]:
    found = []
    if set(outcome) - {"resourceType", "id", "meta", "issue"}:
        found.append(f"OperationOutcome with {sorted(outcome)}")
    if not outcome.get("issue"):
        found.append("OperationOutcome.issue is 1..*")
    for issue in outcome.get("issue", []):
        if set(issue) - {"severity", "code", "details", "diagnostics", "location", "expression"}:
            found.append(f"issue with {sorted(issue)}")
        if issue.get("severity") not in SEVERITIES:
            found.append(f"severity {issue.get('severity')}")
        if issue.get("code") not in CODES:
            found.append(f"code {issue.get('code')}")
    return found


def _bundle(bundle: dict[str, Any]) -> list[str]:
    found = []
    kind = bundle.get("type")
    if set(bundle) - BUNDLE_KEYS:
        found.append(f"Bundle with {sorted(set(bundle) - BUNDLE_KEYS)}")
    if "total" in bundle and kind not in ("searchset", "history"):
        found.append("bdl-1: total only when a search or history")
    if kind == "searchset" and not any(link["relation"] == "self" for link in bundle.get("link", [])):
        found.append("a searchset has a self link")
    urls = []
    for entry in bundle.get("entry", []):
        found += _entry(entry, str(kind))
        version = entry.get("resource", {}).get("meta", {}).get("versionId") or entry.get("response", {}).get(
            "etag"
        )
        if "fullUrl" in entry:
            urls.append((entry["fullUrl"], version))
    if len(urls) != len(set(urls)):
        found.append("bdl-7: fullUrl must be unique, or the versions differ")
    return found


def _entry(entry: dict[str, Any], kind: str) -> list[str]:
    found = []
    if set(entry) - ENTRY_KEYS:
        found.append(f"entry with {sorted(set(entry) - ENTRY_KEYS)}")
    if "search" in entry and kind != "searchset":
        found.append("bdl-2: entry.search only when a search")
    if ("request" in entry) != (kind in ("batch", "transaction", "history")):
        found.append("bdl-3: entry.request mandatory for batch/transaction/history, otherwise prohibited")
    if ("response" in entry) != (kind in ("batch-response", "transaction-response", "history")):
        found.append("bdl-4: entry.response mandatory for responses and history, otherwise prohibited")
    if not {"resource", "request", "response"} & set(entry):
        found.append("bdl-5: must be a resource unless there's a request or response")
    if "/_history/" in entry.get("fullUrl", ""):
        found.append("bdl-8: fullUrl cannot be a version specific reference")
    if kind == "searchset":
        found += _searched(entry)
    if kind == "history":
        found += _version(entry)
    if "resource" in entry and entry["resource"].get("resourceType") == "OperationOutcome":
        found += _outcome(entry["resource"])
    return found


def _searched(entry: dict[str, Any]) -> list[str]:
    mode = entry.get("search", {}).get("mode")
    if mode not in ("match", "include", "outcome"):
        return [f"search.mode {mode}"]
    if mode == "match" and "fullUrl" not in entry:
        return ["a match without fullUrl"]
    return []


def _version(entry: dict[str, Any]) -> list[str]:
    method = entry.get("request", {}).get("method")
    found = []
    if method not in ("POST", "PUT", "DELETE", "PATCH"):
        found.append(f"request.method {method}")
    if (method == "DELETE") == ("resource" in entry):
        found.append("POST and PUT entries hold the resource, DELETE entries do not")
    if not entry.get("response", {}).get("status"):
        found.append("response.status is 1..1")
    return found
