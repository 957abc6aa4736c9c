"""Java property files as text. Pure.

Follows java.util.Properties (comments, separators, line continuation, escapes) with one exception: a `#` after white
space begins a comment, since the configuration files people copy carry remarks behind their values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Property", "parse_properties", "write_properties"]

_INLINE_COMMENT = re.compile(r"(?:^|[ \t\f])#.*$", re.DOTALL)
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANK = " \t\f"
_WRITTEN = str.maketrans({"\\": "\\\\", "#": "\\#", "\n": "\\n", "\r": "\\r"})


class Property(NamedTuple):
    """One assignment and the line it begins on, counted from 1."""

    key: str
    value: str
    line: int


def parse_properties(text: str) -> list[Property]:
    """All assignments in order, repeated keys included. Raises ValueError for a malformed \\u escape."""
    found = []
    logical = ""
    begun = 0
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = raw.lstrip(_BLANK)
        if not logical:
            if not line or line[0] in "#!":
                continue
            begun = number
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            logical += line[:-1]
            continue
        found.append(_split(logical + line, begun))
        logical = ""
    if logical:
        found.append(_split(logical, begun))
    return found


def write_properties(settings: Mapping[str, str]) -> str:
    """Settings as the text of a property file: `parse_properties` and Java read the same values back.

    Values are paths among others, and may hold what means something here: a backslash, blanks at their ends, a `#`.
    """
    return "".join(f"{key}={_escape(value)}\n" for key, value in settings.items())


def _escape(value: str) -> str:
    inner = value.strip(_BLANK)
    lead, _, trail = value.partition(inner) if inner else ("", "", value)
    ends = ["".join(f"\\u{ord(blank):04x}" for blank in blanks) for blanks in (lead, trail)]
    return inner.translate(_WRITTEN).join(ends)


def _split(line: str, number: int) -> Property:
    end = 0
    while end < len(line) and line[end] not in "=:" + _BLANK:
        end += 2 if line[end] == "\\" else 1
    rest = line[end:].lstrip(_BLANK)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANK)
    value = _INLINE_COMMENT.sub("", rest).rstrip(_BLANK)
    return Property(_unescape(line[:end], number), _unescape(value, number), number)


def _unescape(text: str, number: int) -> str:
    if "\\" not in text:
        return text
    out = []
    pos = 0
    while pos < len(text):
        mark = text[pos]
        pos += 1
        if mark != "\\" or pos >= len(text):
            out.append(mark)
            continue
        mark = text[pos]
        pos += 1
        if mark == "u":
            digits = text[pos : pos + 4]
            if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
                raise ValueError(f"line {number}: \\u wants four hexadecimal digits, not {digits!r}")
            out.append(chr(int(digits, 16)))
            pos += 4
        else:
            out.append(_ESCAPES.get(mark, mark))
    return "".join(out)
