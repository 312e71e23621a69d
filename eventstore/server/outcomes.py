"""Errors as clients see them: one status for each class, one OperationOutcome shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventstore import errors
from eventstore.errors import Issue, Path, QuireError

STATUS: dict[type[QuireError], int] = {
    errors.Malformed: 400,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.NotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.Diverged: 410,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Invalid: 422,
    errors.Throttled: 429,
    errors.Corrupt: 500,
    errors.NotSupported: 501,
    errors.Unavailable: 503,
    errors.OutcomeUnknown: 504,
    errors.NotYet: 504,
}


def status(error: QuireError) -> int:
    """The HTTP status of a refusal."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def headers(error: QuireError) -> dict[str, str]:
    """What a refusal says in headers: the current version, when to retry, what is allowed."""
    match error:
        case errors.PreconditionFailed(position=int() as position) | errors.Gone(position=position):
            return {"ETag": f'W/"{position}"'}
        case errors.NotYet(position=position):
            return {"X-Log-Position": str(position)}
        case errors.Throttled(retry_after_seconds=seconds):
            return {"Retry-After": str(seconds)}
        case errors.Unavailable():
            return {"Retry-After": "1"}
        case errors.NotAllowed(allow=allow):
            return {"Allow": ", ".join(allow)}
    return {}


def outcome(issues: Sequence[Issue], base: str, root: str = "") -> dict[str, Any]:
    """An OperationOutcome; on the base `/` also with the flat `errors` and `warnings`. `root` is the type."""
    told: dict[str, Any] = {
        "resourceType": "OperationOutcome",
        "issue": [_issue(one, root) for one in issues],
    }
    if not base:
        told["errors"] = [_flat(one) for one in issues if one.severity in ("error", "fatal")]
        told["warnings"] = [_flat(one) for one in issues if one.severity == "warning"]
    return told


def _flat(issue: Issue) -> dict[str, Any]:
    return {"path": list(issue.path), "message": issue.message}


def _issue(issue: Issue, root: str) -> dict[str, Any]:
    told: dict[str, Any] = {"severity": issue.severity, "code": issue.code, "diagnostics": issue.message}
    if issue.path:
        told["expression"] = [expression(issue.path, root)]
    return told


def expression(path: Path, root: str) -> str:
    """A path as FHIRPath: `UserSetting.patientsFilters[0].location`."""
    text = root
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if step.isidentifier() else f"`{step}`"
            text += f".{name}" if text else name
    return text
