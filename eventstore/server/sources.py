"""What an import reads: resources out of NDJSON, JSON, YAML, folders and archives, each as the bytes that were sent.

`items` gives them one by one: an `Item` for each resource, a `Trouble` for what cannot be read and is refused, a
`Skipped` for what is no resource. Nothing is re-encoded, so numbers keep their digits. Lines and archives of any
length go through in constant memory; a JSON or YAML document is read whole.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import IO, Any

import msgspec

from eventstore.body import read
from eventstore.errors import QuireError
from eventstore.server.settings import BODY_BYTES_MAX
from eventstore.yaml import to_json

DOCUMENT_BYTES_MAX = 1024 * 1024 * 1024
"""Of one JSON or YAML file, which must be read whole."""
MEMBER_BYTES_MAX = 64 * 1024 * 1024
"""Of one JSON or YAML file in an archive: nobody sees what it unpacks to before it is read."""
READ_BYTES = 1024 * 1024

STDIN = "-"
PLAIN_LINES = (".ndjson", ".jsonl")
LINES = (*PLAIN_LINES, ".ndjson.gz", ".jsonl.gz")
ARCHIVES = (".tgz", ".tar.gz")
DOCUMENTS = (".json", ".yaml", ".yml")
KINDS = (*LINES, *ARCHIVES, *DOCUMENTS)
DEFINITIONS = ("CodeSystem", "ValueSet", "Entity", "Attribute", "StructureDefinition", "FHIRSchema", "Prefix")
"""Files of these types come first in a folder, in this order: the others may need what they define."""

_PACKAGE_FILES = ("package.json", "package-lock.json", ".index.json")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Item(msgspec.Struct, frozen=True, gc=False):
    """One resource: where it stands, its type and id, and its JSON on one line."""

    name: str
    type: str
    id: str
    data: bytes


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """Something that should hold resources, and cannot be read."""

    name: str
    reason: str


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """Something that is no resource, and need not be one."""

    name: str
    reason: str


Found = Item | Trouble | Skipped


def items(sources: Iterable[str]) -> Iterator[Found]:
    """Everything in these files, folders and archives, `-` being standard input, in an order that stays the same."""
    for source in sources:
        yield from _source(source, os.path.basename(os.path.normpath(source)), in_bulk=False)


def _source(path: str, label: str, *, in_bulk: bool) -> Iterator[Found]:
    """`label` is what its items are named by, and what ids are made of: the path as far as it is not the machine's."""
    kind = path.lower()
    try:
        if path == STDIN:
            with open(sys.stdin.fileno(), "rb", READ_BYTES, closefd=False) as file:
                yield from _lines(file, label)
        elif os.path.isdir(path):
            yield from _folder(path, label)
        elif kind.endswith(LINES):
            with gzip.open(path) if kind.endswith(".gz") else open(path, "rb", READ_BYTES) as file:
                yield from _lines(file, label)
        elif kind.endswith(ARCHIVES):
            yield from _archive(path, label)
        elif kind.endswith(DOCUMENTS):
            with open(path, "rb") as file:
                yield from _file(file, os.fstat(file.fileno()).st_size, DOCUMENT_BYTES_MAX, label, in_bulk)
        elif not os.path.exists(path):
            yield Trouble(label, "cannot be read: there is no such file")
        else:
            yield Trouble(
                label, f"cannot tell what is in it: its name should end in one of {', '.join(KINDS)}"
            )
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        yield Trouble(label, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _folder(path: str, label: str) -> Iterator[Found]:
    """The files in it and below it that can hold resources, in the order of their names, definitions first."""
    names: list[str] = []
    for folder, below, files in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        names += [os.path.relpath(os.path.join(folder, name), path) for name in files]
    for name in sorted(names, key=_rank):
        if name.lower().endswith(KINDS):
            yield from _source(os.path.join(path, name), f"{label}/{name}", in_bulk=True)


def _rank(name: str) -> tuple[int, str]:
    stem = re.split(r"[/\\.]", name, maxsplit=1)[0]
    return (DEFINITIONS.index(stem) if stem in DEFINITIONS else len(DEFINITIONS), name)


def _archive(path: str, label: str) -> Iterator[Found]:
    """The files in it that can hold resources, in the order of the archive; nothing is written to the disk."""
    with tarfile.open(path, "r|gz") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            name = f"{label}/{member.name}"
            if not member.isfile() or not name.lower().endswith((*PLAIN_LINES, *DOCUMENTS)):
                continue
            file = archive.extractfile(member)
            assert file is not None
            if name.lower().endswith(PLAIN_LINES):
                yield from _lines(file, name)
            else:
                yield from _file(file, member.size, MEMBER_BYTES_MAX, name, in_bulk=True)


def _lines(file: IO[bytes] | gzip.GzipFile, label: str) -> Iterator[Found]:
    """NDJSON: a resource on each line that is not blank."""
    ids = _Ids(label)
    number = 0
    while line := file.readline(BODY_BYTES_MAX + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if len(line) > BODY_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = file.readline(READ_BYTES)
            yield Trouble(f"{label}:{number}", _too_large("a line", BODY_BYTES_MAX))
        elif not line.isspace():
            yield _item(line.rstrip(b"\r\n"), f"{label}:{number}", ids, number)


def _file(file: IO[bytes], size: int, size_max: int, label: str, in_bulk: bool) -> Iterator[Found]:
    """A JSON or YAML file."""
    if os.path.basename(label) in _PACKAGE_FILES:
        yield Skipped(label, "describes a package")
    elif size > size_max:
        yield Trouble(label, _too_large(f"a file of {size} bytes", size_max) + "; NDJSON may be of any size")
    else:
        data = file.read(size_max).removeprefix(_BYTE_ORDER_MARK)
        found = _document(data, label) if label.lower().endswith(".json") else _yaml(data, label)
        for one in found:
            no_resource = in_bulk and isinstance(one, Trouble) and one.reason == _NO_TYPE
            yield Skipped(one.name, _NO_TYPE) if no_resource else one


def _yaml(data: bytes, label: str) -> Iterator[Found]:
    """Each document of a YAML file. Where one ends is where YAML says so: at `---`, which no text can hold there."""
    documents = [
        text for text in re.split(rb"^---(?=\s|\Z)", data, flags=re.MULTILINE) if _says_something(text)
    ]
    for index, text in enumerate(documents):
        name = label if len(documents) == 1 else f"{label}[{index}]"
        try:
            yield from _document(to_json(text), name)
        except QuireError as error:
            yield Trouble(name, str(error))


def _says_something(text: bytes) -> bool:
    return any(line.strip() and not line.lstrip().startswith(b"#") for line in text.splitlines())


class _Named(msgspec.Struct):
    """What a resource says of itself."""

    resourceType: Any = None  # noqa: N815 - FHIR's name
    id: Any = msgspec.UNSET
    type: Any = None


class _Search(msgspec.Struct):
    mode: Any = None


class _Entry(msgspec.Struct):
    resource: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    search: _Search | None = None


class _Bundle(msgspec.Struct):
    entry: list[_Entry] = []


_named = msgspec.json.Decoder(_Named).decode
_bundle = msgspec.json.Decoder(_Bundle).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def _document(data: bytes, label: str) -> Iterator[Found]:
    """One resource, an array of them, or the resources of a Bundle."""
    try:
        if re.match(rb"\s*\[", data):
            yield from _each(enumerate(_array(data)), label)
            return
        named = _named(data)
        if named.resourceType == "Bundle" and named.type not in ("document", "message"):
            yield from _entries(_bundle(data), str(named.type), label)
            return
        if b"\n" in data:
            data = msgspec.json.format(data, indent=-1)
    except _NOT_JSON as error:
        yield Trouble(label, _wrong(data, error))
        return
    yield _item(data, label, _Ids(label), 0)


def _entries(bundle: _Bundle, type: str, label: str) -> Iterator[Found]:
    """The resources of a Bundle; one that is a document or a message is a resource itself, and does not get here."""
    if type == "history":
        yield Trouble(label, "a Bundle of type history holds versions, and an import takes resources")
        return
    parts: list[tuple[int, msgspec.Raw]] = []
    for index, entry in enumerate(bundle.entry):
        if isinstance(entry.resource, msgspec.UnsetType):
            yield Skipped(f"{label}[{index}]", "an entry without a resource")
        elif entry.search is None or entry.search.mode != "outcome":
            parts.append((index, entry.resource))
    yield from _each(parts, label)


def _each(parts: Iterable[tuple[int, msgspec.Raw]], label: str) -> Iterator[Found]:
    ids = _Ids(label)
    for index, part in parts:
        data = bytes(part)
        if b"\n" in data:
            data = msgspec.json.format(data, indent=-1)
        yield _item(data, f"{label}[{index}]", ids, index)


class _Ids:
    """Ids for what has none: of the place and what stands there, so that the same always gets the same.

    They begin alike and count up, so a file's resources are neighbours in the index.
    """

    def __init__(self, label: str) -> None:
        self._prefix = sha256(label.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def make(self, index: int, data: bytes) -> str:
        return f"{self._prefix}-{index:09d}-{sha256(data).hexdigest()[:16]}"


def _item(data: bytes, name: str, ids: _Ids, index: int) -> Found:
    if len(data) > BODY_BYTES_MAX:
        return Trouble(name, _too_large(f"a resource of {len(data)} bytes", BODY_BYTES_MAX))
    try:
        named = _named(data)
    except _NOT_JSON as error:
        return Trouble(name, _wrong(data, error))
    type, id = named.resourceType, named.id
    if not isinstance(type, str):
        return Trouble(name, _NO_TYPE)
    if id is msgspec.UNSET:
        id = ids.make(index, data)
        data = _with_id(data, id)
    return Item(name, type, str(id), data)


_NO_TYPE = "no resourceType"
_BEGINNING = re.compile(rb'\s*\{(\s*"resourceType"\s*:\s*"[A-Za-z0-9.-]*"\s*,)?')


def _with_id(data: bytes, id: str) -> bytes:
    """The id put in at the beginning, or after the resourceType when that is there; the rest as it is."""
    match = _BEGINNING.match(data)
    assert match is not None
    return b'%b"id":"%b",%b' % (match[0], id.encode(), data[match.end() :])


def _wrong(data: bytes, error: Exception) -> str:
    """What is wrong with the JSON, as a server would say it."""
    try:
        value = read(data).value
    except QuireError as refusal:
        return str(refusal)
    return f"not a resource: {error}" if isinstance(value, dict) else "a resource is an object"


def _too_large(what: str, most: int) -> str:
    return f"{what} is over the limit of {most} bytes"
