"""A tolerant reader for the JSON dialect that Java peers write. Pure.

fastjson writes integer map keys bare (`{0:"a"}`) and object map keys as bare objects (`{{"queueId":0}:{...}}`); neither
is JSON. `loads` reads strict JSON at full speed and this dialect by a parser of its own. A bare integer key becomes its
decimal text; an object key becomes its canonical JSON text (keys sorted, no blanks), which `key_object` turns back.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = ["FastJsonError", "key_object", "key_text", "loads"]

DEPTH_MAX = 64
"""Nesting beyond this is refused."""

_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<mark>[{}\[\]:,])
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
_SUFFIXES = "LSBFD"

_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class FastJsonError(ValueError):
    """Text that is neither JSON nor the known dialect. The text says where."""


def loads(data: bytes | str) -> Any:
    """Read a document. Raises FastJsonError."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        text = data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        raise FastJsonError(f"not UTF-8 text: {error}") from None
    return _Parser(text).document()


def key_text(key: object) -> str:
    """The canonical text of an object used as a map key."""
    return _encode_sorted(key).decode()


def key_object(key: str) -> dict[str, Any]:
    """The object behind a map key, whether the peer wrote it bare or as a string. Raises FastJsonError."""
    value = loads(key)
    if not isinstance(value, dict):
        raise FastJsonError(f"map key is not an object: {key[:80]}")
    return value


class _Parser:
    """Recursive descent over the tokens of one document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._kind = ""
        self._token = ""
        self._advance()

    def document(self) -> Any:
        value = self._value(0)
        if self._kind != "end":
            raise self._error("text after the document")
        return value

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._pos)
        if found is not None:
            self._pos = found.end()
            self._kind = found.lastgroup or ""
            self._token = found.group(self._kind)
        elif self._text[self._pos :].strip(" \t\r\n"):
            self._kind, self._token = "other", self._text[self._pos : self._pos + 1]
            raise self._error(f"unexpected {self._text[self._pos : self._pos + 10]!r}")
        else:
            self._kind, self._token = "end", ""

    def _error(self, what: str) -> FastJsonError:
        return FastJsonError(f"{what} at character {self._pos}")

    def _take(self, mark: str) -> bool:
        if self._kind == "mark" and self._token == mark:
            self._advance()
            return True
        return False

    def _value(self, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise self._error(f"more than {DEPTH_MAX} levels")
        kind, token = self._kind, self._token
        if kind == "mark" and token == "{":
            self._advance()
            return self._object(depth)
        if kind == "mark" and token == "[":
            self._advance()
            return self._array(depth)
        if kind in ("string", "number"):
            return self._scalar()
        if kind == "word":
            if token in _WORDS:
                self._advance()
                return _WORDS[token]
            if token == "Set" or token == "TreeSet":
                # fastjson's class-aware output writes sets as Set[...].
                self._advance()
                return self._value(depth)
        raise self._error(f"a value was expected, not {token!r}" if kind != "end" else "the text ends too early")

    def _scalar(self) -> Any:
        kind, token = self._kind, self._token
        self._advance()
        if kind == "number" and self._kind == "word" and len(self._token) == 1 and self._token in _SUFFIXES:
            self._advance()
        try:
            return _decode(token)
        except (msgspec.DecodeError, UnicodeEncodeError):
            raise self._error(f"malformed {kind} {token[:40]!r}") from None

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._take("}"):
            key = self._key(depth)
            if not self._take(":"):
                raise self._error("a colon was expected")
            found[key] = self._value(depth + 1)
            if not self._take(","):
                if not self._take("}"):
                    raise self._error("a comma or a closing brace was expected")
                break
        return found

    def _key(self, depth: int) -> str:
        if self._kind == "string":
            return str(self._scalar())
        if self._kind == "number":
            return str(self._scalar())
        if self._kind == "word":
            word = self._token
            self._advance()
            return word
        if self._kind == "mark" and self._token == "{":
            return key_text(self._value(depth + 1))
        raise self._error("a key was expected")

    def _array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self._take("]"):
            found.append(self._value(depth + 1))
            if not self._take(","):
                if not self._take("]"):
                    raise self._error("a comma or a closing bracket was expected")
                break
        return found
