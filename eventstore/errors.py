"""Every way a request can be refused; the shell turns each class into its HTTP status.

QuireError
├── Malformed           the bytes or the URL make no sense
├── Invalid             understood, and breaks a rule
├── NotFound            nothing of that name
├── Gone                it was deleted
├── Conflict            something is in the way
├── PreconditionFailed  If-Match or If-None-Match did not hold
├── TooLarge            over a named limit
├── UnsupportedMedia    a body type that is not read here
├── NotAcceptable       an answer type that is not written here
├── NotAllowed          a method that this URL does not have
├── NotSupported        known to the standard, not built
├── Throttled           a queue is full: come back later
├── Unavailable         the log cannot be written or read now
│   └── OutcomeUnknown  the log went away in a commit; whether it was written will be seen
├── NotYet              the log has not reached the position waited for
└── Corrupt             the log is not what it was when written
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

Path = tuple[str | int, ...]
"""Where in a resource: keys, and 0-based array indices as integers."""


class Issue(msgspec.Struct, frozen=True):
    """One thing wrong with a resource or a request.

    `code` is a FHIR issue type (http://hl7.org/fhir/valueset-issue-type.html).
    """

    message: str
    path: Path = ()
    code: str = "invalid"
    severity: str = "error"


class QuireError(Exception):
    """Something was refused. `issues` says what and where; never empty."""

    code: ClassVar[str] = "exception"

    def __init__(self, message: str | Sequence[Issue], *, path: Path = (), code: str = "") -> None:
        if isinstance(message, str):
            self.issues: list[Issue] = [Issue(message, path, code or self.code)]
        else:
            self.issues = list(message)
        super().__init__("; ".join(issue.message for issue in self.issues))


class Malformed(QuireError):
    """The bytes cannot be parsed, or a parameter is nonsense."""

    code = "structure"


class Invalid(QuireError):
    """Parsed, and breaks a rule of its type or of the store."""

    code = "value"


class Forbidden(QuireError):
    """Who asks may not, or may not ask from there."""

    code = "forbidden"


class NotFound(QuireError):
    """No such type, resource or version."""

    code = "not-found"


class Gone(QuireError):
    """The resource was deleted. `position` is that of the delete."""

    code = "deleted"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class Diverged(QuireError):
    """A cursor comes from a history that is not this log's. `fork` is the last position they share, when known."""

    code = "expired"

    def __init__(self, message: str, fork: int | None) -> None:
        super().__init__(message)
        self.fork = fork


class Conflict(QuireError):
    """The state of the store stands against it."""

    code = "conflict"


class PreconditionFailed(QuireError):
    """The version asked for is not the current one. `position` is the current one, if there is one."""

    code = "conflict"

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class TooLarge(QuireError):
    """Over a limit; the message names the limit and its unit."""

    code = "too-long"


class UnsupportedMedia(QuireError):
    """The Content-Type is not one that is read here."""

    code = "not-supported"


class NotAcceptable(QuireError):
    """Accept or _format asks for something that is not written here."""

    code = "not-supported"


class NotAllowed(QuireError):
    """The URL exists and does not have this method. `allow` lists those it has, and so does the message."""

    code = "not-supported"

    def __init__(self, message: str, allow: Sequence[str]) -> None:
        super().__init__(f"{message}: it takes {', '.join(allow)}")
        self.allow = tuple(allow)


class NotSupported(QuireError):
    """A part of the standard that this version does not have."""

    code = "not-supported"


class Throttled(QuireError):
    """A queue is full. Try again after `retry_after_seconds`."""

    code = "throttled"

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(QuireError):
    """The log cannot be reached or written now; nothing was half done."""

    code = "transient"


class OutcomeUnknown(Unavailable):
    """The log went away during a commit and did not come back in time: what was asked may be in it."""


class NotYet(QuireError):
    """The log has not reached the position waited for. `position` is where it stands."""

    code = "transient"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class Corrupt(QuireError):
    """The log differs from what was written. `position` is the first that does, when known."""

    code = "exception"

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position
