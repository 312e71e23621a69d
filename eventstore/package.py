"""FHIR's NPM packages: a `.tgz` read into its manifest and resources, and one written, the same bytes for the same.

https://hl7.org/fhir/packages.html. Nothing is unpacked to a disk, and what is read is bounded before it is held.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from eventstore.body import RESOURCE_BYTES_MAX
from eventstore.errors import Invalid, Malformed, TooLarge

PACKED_BYTES_MAX = 64 * 1024 * 1024
UNPACKED_BYTES_MAX = 256 * 1024 * 1024
"""Of everything in it, its own headers too."""
FILES_MAX = 20_000
FILE_BYTES_MAX = RESOURCE_BYTES_MAX
"""Of one file that may be a resource."""

FOLDER = "package"
MANIFEST = f"{FOLDER}/package.json"
INDEX = ".index.json"
EXAMPLES = f"{FOLDER}/example"
_EXAMPLES = frozenset((EXAMPLES, f"{FOLDER}/examples"))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PLAIN = frozenset((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE))
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What `package/package.json` says, as far as it is looked at."""

    name: str
    version: str
    canonical: str = ""
    title: str = ""
    description: str = ""
    type: str = ""
    fhir_versions: list[str] = []
    fhir_version_list: list[str] = msgspec.field(default_factory=list, name="fhir-version-list")
    """What `fhirVersions` was called once."""
    dependencies: dict[str, str] = {}

    @property
    def versions(self) -> list[str]:
        """Of FHIR; empty when it does not say."""
        return self.fhir_versions or self.fhir_version_list

    def check_version(self, version: str) -> None:
        """Raise Invalid when the package is of another FHIR version than this."""
        if self.versions and not any(_same_release(one, version) for one in self.versions):
            given = ", ".join(self.versions)
            raise Invalid(
                f"{self.name}@{self.version} is of FHIR {given}, and this log is of FHIR {version}: "
                f"take the package made for {version}",
                code="not-supported",
            )


class File(msgspec.Struct, frozen=True):
    """A resource in a package: the path of its file, its type and id, and its JSON."""

    path: str
    type: str
    id: str
    data: bytes

    @property
    def name(self) -> str:
        return f"{self.type}/{self.id}"

    @property
    def is_example(self) -> bool:
        """Whether it stands among the examples."""
        return str(PurePosixPath(self.path).parent) in _EXAMPLES


class Left(msgspec.Struct, frozen=True):
    """Something of a package that is not taken, or not all that it says; and why."""

    name: str
    reason: str


class Package(msgspec.Struct, frozen=True):
    """A package: what it says of itself, its resources in the order of the archive, and what are none."""

    manifest: Manifest
    files: list[File]
    left: list[Left]


class _Named(msgspec.Struct):
    resourceType: Any = None  # noqa: N815 - FHIR's name
    id: Any = None


_named = msgspec.json.Decoder(_Named).decode
_manifest = msgspec.json.Decoder(Manifest).decode


def read_package(data: bytes) -> Package:
    """Read a packed package.

    Raises Malformed for what is no archive or has files that no package has, TooLarge over a limit, Invalid without a
    manifest. Files that hold no resource are told in `left`.
    """
    if len(data) > PACKED_BYTES_MAX:
        raise TooLarge(f"a package of {len(data)} bytes; at most {PACKED_BYTES_MAX} packed bytes are taken")
    try:
        unpacked = _unpacked(data)
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        raise Malformed(f"the package is no .tgz that can be read: {error}") from None
    if MANIFEST not in unpacked:
        raise Invalid(f"there is no {MANIFEST}: this is no FHIR package")
    manifest = _read_manifest(unpacked.pop(MANIFEST))
    found = [_file(path, content) for path, content in unpacked.items()]
    files = [one for one in found if isinstance(one, File)]
    return Package(manifest, files, [one for one in found if isinstance(one, Left)])


def write_package(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """Pack files by path, with the manifest and an index of each folder. The same bytes whenever and wherever it is done."""
    named = {path: _file(path, data) for path, data in files.items()}
    folders = sorted({str(PurePosixPath(path).parent) for path in files} | {FOLDER})
    whole = {
        **files,
        MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n",
        **{f"{folder}/{INDEX}": _index(folder, named) for folder in folders},
    }
    target = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0, compresslevel=9) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(whole, key=lambda one: (one != MANIFEST, one)):
            info = tarfile.TarInfo(path)
            info.size = len(whole[path])
            archive.addfile(info, io.BytesIO(whole[path]))
    return target.getvalue()


class _Counted(io.RawIOBase):
    """What comes out of the archive, up to UNPACKED_BYTES_MAX: a little that unpacks to very much ends there."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._bytes += len(data)
        if self._bytes > UNPACKED_BYTES_MAX:
            raise TooLarge(f"the package unpacks to more than {UNPACKED_BYTES_MAX} bytes")
        return data


def _unpacked(data: bytes) -> dict[str, bytes]:
    """The JSON files of the folders that hold resources, by path; all others are looked at and left."""
    found: dict[str, bytes] = {}
    count = 0
    with (
        gzip.GzipFile(fileobj=io.BytesIO(data)) as packed,
        tarfile.open(fileobj=_Counted(packed), mode="r|") as archive,
    ):
        for member in archive:
            count += 1
            if count > FILES_MAX:
                raise TooLarge(f"the package has more than {FILES_MAX} files")
            path = _checked(member)
            if not member.isfile() or not _may_be_resource(path):
                continue
            if member.size > FILE_BYTES_MAX:
                raise TooLarge(
                    f"{path} has {member.size} bytes; at most {FILE_BYTES_MAX} are taken of a file"
                )
            if path in found:
                raise Malformed(f"{path[:200]} is in the package twice")
            file = archive.extractfile(member)
            assert file is not None
            found[path] = file.read().removeprefix(_BYTE_ORDER_MARK)
    return found


def _checked(member: tarfile.TarInfo) -> str:
    """Its path. Raises Malformed for what points out of the package, and for what is neither file nor folder."""
    path = PurePosixPath(member.name)
    shown = ascii(member.name[:200])
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise Malformed(f"the package has a path that leads out of it: {shown}")
    if member.type not in _PLAIN:
        raise Malformed(f"the package has a link or a device, and may have files only: {shown}")
    return str(path)


def _may_be_resource(path: str) -> bool:
    place = PurePosixPath(path)
    return (
        str(place.parent) in {FOLDER, *_EXAMPLES}
        and place.suffix == ".json"
        and not place.name.startswith(".")
    )


def _read_manifest(data: bytes) -> Manifest:
    try:
        return _manifest(data)
    except _NOT_JSON as error:
        raise Invalid(f"{MANIFEST} cannot be read: {error}") from None


def _file(path: str, data: bytes) -> File | Left:
    try:
        named = _named(data)
    except _NOT_JSON as error:
        return Left(path, f"not a resource: {error}")
    if not isinstance(named.resourceType, str):
        return Left(path, "no resourceType")
    if not isinstance(named.id, str):
        return Left(path, "no id")
    return File(path, named.resourceType, named.id, data)


def _index(folder: str, named: Mapping[str, File | Left]) -> bytes:
    """FHIR's `.index.json`: what is in a folder."""
    rows = []
    for path in sorted(named):
        file = named[path]
        if isinstance(file, File) and str(PurePosixPath(path).parent) == folder:
            value = msgspec.json.decode(file.data)
            more = {key: value[key] for key in _INDEXED if isinstance(value.get(key), str)}
            rows.append(
                {"filename": PurePosixPath(path).name, "resourceType": file.type, "id": file.id, **more}
            )
    return msgspec.json.format(msgspec.json.encode({"index-version": 2, "files": rows}), indent=2) + b"\n"


_INDEXED = ("url", "version", "kind", "type", "derivation")


def _same_release(one: str, other: str) -> bool:
    """`4.0.1` is of the release 4.0."""
    return one.split(".")[:2] == other.split(".")[:2]
