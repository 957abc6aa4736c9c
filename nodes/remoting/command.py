"""One remoting command: a request or a response, independent of how its header is written.

Source: RocketMQ class RemotingCommand.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

__all__ = [
    "FLAG_ONEWAY",
    "FLAG_RESPONSE",
    "VERSION",
    "Command",
    "Language",
    "Serialize",
    "request",
]

FLAG_RESPONSE = 1
FLAG_ONEWAY = 2

VERSION = 479
"""Ordinal of RocketMQ's MQVersion that our nodes announce (V5_3_3)."""

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class Language(StrEnum):
    """Who wrote the peer. The order is that of the binary codes 0..13 (RocketMQ class LanguageCode)."""

    JAVA = "JAVA"
    CPP = "CPP"
    DOTNET = "DOTNET"
    PYTHON = "PYTHON"
    DELPHI = "DELPHI"
    ERLANG = "ERLANG"
    RUBY = "RUBY"
    OTHER = "OTHER"
    HTTP = "HTTP"
    GO = "GO"
    PHP = "PHP"
    OMS = "OMS"
    RUST = "RUST"
    NODE_JS = "NODE_JS"


class Serialize(StrEnum):
    """How a header is written on the wire."""

    JSON = "JSON"
    ROCKETMQ = "ROCKETMQ"
    """The binary header. It cannot carry codes above 32767; such commands are written as JSON."""


class Command(msgspec.Struct, gc=False, rename={"ext": "extFields", "serialize": "serializeTypeCurrentRPC"}):
    """A request, or the response to one.

    `ext` are the header fields, text to text; `opaque` (signed, 32 bits) ties a response to its request; `version` is
    an ordinal of RocketMQ's MQVersion; `serialize` says how the header was, or shall be, written. The class is a
    msgspec struct so that a JSON header is decoded into it directly; the wire names exist for that only.
    """

    code: Int32
    ext: dict[str, str] = {}
    body: bytes = b""
    opaque: Int32 = 0
    flag: Int32 = 0
    remark: str | None = None
    language: Language = Language.PYTHON
    version: Int32 = VERSION
    serialize: Serialize = Serialize.JSON

    @property
    def is_response(self) -> bool:
        """True for a response, False for a request."""
        return bool(self.flag & 1)

    @property
    def is_oneway(self) -> bool:
        """True for a request that wants no response."""
        return bool(self.flag & 2)

    def reply(
        self, code: int = 0, remark: str | None = None, ext: dict[str, str] | None = None, body: bytes = b""
    ) -> Command:
        """The response to this request: same `opaque`, response bit set, JSON header as Java servers answer."""
        return Command(code, {} if ext is None else ext, body, self.opaque, FLAG_RESPONSE, remark)


def request(code: int, ext: dict[str, str] | None = None, body: bytes = b"", *, oneway: bool = False) -> Command:
    """A request without an `opaque` yet: the client that sends it gives it one."""
    return Command(int(code), {} if ext is None else ext, body, 0, FLAG_ONEWAY if oneway else 0)
