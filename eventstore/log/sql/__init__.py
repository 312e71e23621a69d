"""Reads the SQL files: named queries, and numbered migrations."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def queries(package: str, dialect: str) -> dict[str, str]:
    """The named queries of `{dialect}.sql` in a package. A file is `-- name: x` and its statement, again and again."""
    text = files(package).joinpath(f"{dialect}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def migrations(dialect: str) -> list[str]:
    """The scripts that bring the schema from version n to n + 1, the first being 0."""
    folder = files(__package__).joinpath(dialect)
    return [file.read_text("utf-8") for file in sorted(folder.iterdir(), key=lambda file: file.name)]
