"""A small streaming reader of EDN, the notation of Clojure's data: what histories need of it, in bounded memory.

Forms come one at a time, also out of one vector around the whole file. Keywords and symbols become their names, nil
None, lists, vectors and sets lists, characters strings; a tag is dropped and its form kept, since only the form can
matter to a checker. Whole numbers are exact; ratios and infinities stay texts.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from checkers.linearizability.formats.source import FormatError, Source, not_utf8

_SPACE: Final = re.compile(r"(?:[\s,]+|;[^\n]*\n)+")
_TOKEN: Final = re.compile(
    r"""\#?"[^"\\]*+(?:\\.[^"\\]*+)*+"  # a string, or a pattern
    | \#\{ | \#_ | \#?\^ | [\[\](){}]  # brackets and prefixes
    | \\.[A-Za-z0-9]*  # a character
    | [^\s,;"()\[\]{}\\^]+  # numbers, names, keywords, tags""",
    re.DOTALL | re.VERBOSE,
)
_WHOLE: Final = re.compile(r"[+-]?[0-9]+N?\Z")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?M?\Z")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_NAMED: Final = {"newline": "\n", "space": " ", "tab": "\t", "return": "\r", "backspace": "\b", "formfeed": "\f"}
_CLOSE: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_CONSTANTS: Final[dict[str, Any]] = {"nil": None, "true": True, "false": False}
WHOLE_DIGITS: Final = 4000
"""Longer numbers are refused: turning them into integers takes quadratic time."""


class _Bad(Exception):
    """The text is no EDN; the text of the error says why."""


class Keyword(str):
    """The name of a keyword, equal to the plain string."""

    __slots__ = ()


def plain(value: Any) -> Any:
    """Return a value with its keywords as plain strings and the keys of its maps as strings."""
    kind = value.__class__
    if kind is Keyword:
        return str(value)
    if kind is list:
        return [plain(one) for one in value]
    if kind is dict:
        return {str(key): plain(one) for key, one in value.items()}
    return value


@dataclass(slots=True)
class _Open:
    """A form whose end has not been seen: its bracket and what is in it so far."""

    bracket: str
    items: list[Any] = field(default_factory=list)
    skip: int = 0


@dataclass(slots=True)
class _Nest:
    """The open forms, outermost first; the bottom one collects whole forms."""

    depth: int
    stack: list[_Open] = field(default_factory=lambda: [_Open("")])

    def take(self, token: str) -> None:
        """Take the next token. Raises `_Bad`."""
        if token in _CLOSE:
            if len(self.stack) > self.depth:
                raise _Bad(f"nested deeper than {self.depth}")
            self.stack.append(_Open(token))
        elif token in "])}":
            top = self.stack.pop() if len(self.stack) > 1 else None
            if top is None or _CLOSE[top.bracket] != token:
                raise _Bad(f"{token!r} closes nothing" if top is None else f"{token!r} closes {top.bracket!r}")
            if top.skip:
                raise _Bad(f"nothing stands after a prefix before {token!r}")
            self._put(_built(top))
        elif token in ("#_", "^", "#^"):
            self.stack[-1].skip += 1
        elif token[0] != "#" or token[:2] in ('#"', "##"):
            self._put(_atom(token.removeprefix("#") if token[-1] == '"' else token))

    def _put(self, value: Any) -> None:
        top = self.stack[-1]
        if top.skip:
            top.skip -= 1
        else:
            top.items.append(value)


def _built(form: _Open) -> Any:
    items = form.items
    if form.bracket != "{":
        return items
    if len(items) % 2:
        raise _Bad("a map with a key and no value")
    found: dict[Any, Any] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        name = key if isinstance(key, str | int | float | bool | None) else repr(key)
        if name in found:
            raise _Bad(f"a map with {name!r} twice")
        found[name] = value
    return found


def _atom(token: str) -> Any:
    if token in _CONSTANTS:
        return _CONSTANTS[token]
    first = token[0]
    if first == '"':
        return _text(token[1:-1])
    if first == ":":
        return Keyword(token[1:])
    if _WHOLE.match(token):
        if len(token) > WHOLE_DIGITS:
            raise _Bad(f"a number of {len(token)} digits")
        return int(token.rstrip("N"))
    if _DECIMAL.match(token):
        number = float(token.rstrip("M"))
        if not math.isfinite(number):
            raise _Bad(f"the number {token} is too large")
        return number
    if first == "\\":
        return _character(token[1:])
    return token


def _text(body: str) -> str:
    return _ESCAPE.sub(_unescaped, body) if "\\" in body else body


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if len(code) == 5 and code[0] == "u":
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    raise _Bad(f"the escape \\{code} means nothing")


def _character(name: str) -> str:
    if len(name) == 1:
        return name
    if name in _NAMED:
        return _NAMED[name]
    if re.fullmatch(r"u[0-9a-fA-F]{4}", name):
        return chr(int(name[1:], 16))
    raise _Bad(f"the character \\{name} means nothing")


def parse(text: str) -> Any:
    """Read one form out of a short text. Raises `ValueError`."""
    nest = _Nest(50)
    position = 0
    try:
        while position < len(text):
            if space := _SPACE.match(text, position):
                position = space.end()
            elif token := _TOKEN.match(text, position):
                nest.take(token[0])
                position = token.end()
            else:
                raise _Bad("a string without an end")
    except _Bad as error:
        raise ValueError(str(error)) from None
    items = nest.stack[0].items
    if len(nest.stack) != 1 or len(items) != 1:
        raise ValueError("not one whole form")
    return items[0]


def _text_pieces(source: Source) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in source.pieces():
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].count(b"\n")
            raise source.error(source.line + before, not_utf8(error)) from None
        source.line += text.count("\n")
        yield text
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise source.error(source.line, not_utf8(error)) from None


def forms(source: Source) -> Iterator[tuple[int, Any]]:
    """Yield (line of its first character, value) of every form, out of the vector around them if there is one.

    Raises `FormatError` with the line of the damage; a form larger than the line limit is refused before it is held.
    """
    reader = _Forms(source)
    for text in _text_pieces(source):
        yield from reader.feed(text)
    yield from reader.end()


class _Forms:
    """Cuts a stream of text into forms."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nest = _Nest(source.limits.depth)
        self._pending: list[str] = []
        self._held = 0
        self._wait = 0
        self._line = 1
        self._start = 1
        self._size = 0
        self._around = False
        self._closed = False

    def feed(self, text: str) -> Iterator[tuple[int, Any]]:
        """Take more text; yield the forms it completes. What was cut short is looked at again at twice the length."""
        self._pending.append(text)
        self._held += len(text)
        if self._held >= self._wait:
            yield from self._scan("".join(self._pending), final=False)
        if self._held > self._source.limits.line:
            raise self._error(self._source.too_long("form"))

    def end(self) -> Iterator[tuple[int, Any]]:
        """Take the end of the text. Raises `FormatError` if a form is open."""
        yield from self._scan("".join(self._pending), final=True)
        if len(self._nest.stack) > 1 or (self._around and not self._closed):
            raise self._error("the file ends inside a form that begins here: it was cut short", self._start)

    def _error(self, reason: str, line: int | None = None) -> FormatError:
        return self._source.error(self._line if line is None else line, reason)

    def _scan(self, text: str, *, final: bool) -> Iterator[tuple[int, Any]]:
        position, end = 0, len(text)
        counted = 0
        nest = self._nest
        while position < end:
            space = _SPACE.match(text, position)
            if space is not None:
                position = space.end()
                continue
            token = _TOKEN.match(text, position)
            if token is None and final:
                self._line += text.count("\n", counted, position)
                if text[position] == ";":
                    return
                raise self._error("a string begins here and has no end")
            if token is None or (token.end() == end and not final) or (token[0] == "#" and not final):
                break
            if len(nest.stack) == 1:
                self._line += text.count("\n", counted, position)
                counted = position
                self._start, self._size = self._line, 0
                if self._closed:
                    raise self._error("something stands after the end of the history's vector")
                if not self._around and token[0] in "[(" and not nest.stack[0].skip:
                    self._around = True
                    position = token.end()
                    continue
                if self._around and token[0] in "])":
                    self._closed = True
                    position = token.end()
                    continue
            try:
                nest.take(token[0])
            except _Bad as error:
                self._line += text.count("\n", counted, position)
                raise self._error(f"not EDN: {error}") from None
            self._size += token.end() - position
            position = token.end()
            if self._size > self._source.limits.line:
                raise self._error(self._source.too_long("form"), self._start)
            bottom = nest.stack[0].items
            if bottom:
                yield self._start, bottom.pop()
        self._line += text.count("\n", counted, position)
        self._pending = [text[position:]]
        self._held = end - position
        self._wait = 2 * self._held
