"""Reads a guide: its curl commands, and the answers it shows for them."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import Any, NamedTuple

import yaml

_BLOCK = re.compile(r"^```(\w+)(?: answer=(\d+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
HOST = "http://127.0.0.1:8080"


class Step(NamedTuple):
    """One request of a guide, and the answer it promises; `...` stands for anything."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None
    status: int
    answer: Any


def steps(text: str) -> list[Step]:
    """The curl commands that are followed by an answer, in order."""
    blocks = [(match[1], match[2], match[3]) for match in _BLOCK.finditer(text)]
    found = []
    for (language, _, command), (_, status, answer) in pairwise(blocks):
        if language == "sh" and command.startswith("curl") and status:
            found.append(Step(*_curl(command), int(status), yaml.safe_load(answer)))
    return found


def _curl(command: str) -> tuple[str, str, dict[str, str], str | None]:
    words = shlex.split(command)[1:]
    method, url, headers, body = "GET", "", {}, None
    while words:
        match words:
            case ["-X", value, *words]:
                method = value
            case ["-H", value, *words]:
                name, _, text = value.partition(": ")
                headers[name] = text
            case ["--data-binary", value, *words]:
                body = value
            case [value, *words]:
                url = value
    return method, url.removeprefix(HOST), headers, body


def unlike(shown: Any, real: Any, path: str = "$") -> list[str]:
    """Where the real answer is not as shown."""
    if shown == "...":
        return []
    if isinstance(shown, dict) and isinstance(real, dict):
        keys = [f"{path}.{key}: shown, not answered" for key in shown if key not in real]
        keys += [f"{path}.{key}: answered, not shown" for key in real if key not in shown]
        return keys + [
            text for key in shown if key in real for text in unlike(shown[key], real[key], f"{path}.{key}")
        ]
    if isinstance(shown, list) and isinstance(real, list) and len(shown) == len(real):
        return [
            text
            for n, (one, other) in enumerate(zip(shown, real, strict=True))
            for text in unlike(one, other, f"{path}[{n}]")
        ]
    return (
        [] if shown == real and type(shown) is type(real) else [f"{path}: {shown!r} shown, {real!r} answered"]
    )
