"""The two ways to write a command's header: JSON text and RocketMQ's binary form. Pure.

Sources: RocketMQ classes RemotingCommand, RemotingSerializable, RocketMQSerializable. Strict input takes the fast
path straight into a `Command`; anything looser that fastjson would accept (bare numbers among the header fields,
numbers as text, an unknown language, nulls) takes the lenient path.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from nodes.remoting.command import VERSION, Command, Language, Serialize

__all__ = [
    "BINARY_CODE_MAX",
    "HeaderError",
    "decode_binary",
    "decode_json",
    "encode_binary",
    "encode_json",
]

BINARY_CODE_MAX = 32_767
"""The largest code the binary header can carry: it has 16 bits, signed."""

_VERSION_FROM_END = -24
_LANGUAGE_FROM_END = -112
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_LANGUAGES = tuple(Language)
_LANGUAGE_CODE = {language: number for number, language in enumerate(_LANGUAGES)}
_LANGUAGE_NAME = {language.value: language for language in _LANGUAGES}

_json_encode = msgspec.json.Encoder().encode
_json_decode = msgspec.json.Decoder(Command).decode
_json_decode_any = msgspec.json.Decoder().decode

_BINARY_FIXED = struct.Struct(">hBhiii")  # code, language, version, opaque, flag, remark length
_INT = struct.Struct(">i")
_SHORT = struct.Struct(">H")

_OWN_TAIL = b',"serializeTypeCurrentRPC":"JSON","version":%d}' % VERSION


class HeaderError(ValueError):
    """A header that cannot be read. The text says why."""


def encode_json(command: Command) -> bytes:
    """The JSON header. Keys are sorted as Java writes them; `extFields` is always present."""
    opaque = command.opaque
    remark = command.remark
    if command.language is Language.PYTHON:
        head = b'{"code":%d,"extFields":%b,"flag":%d,"language":"PYTHON","opaque":%d' % (
            command.code,
            _json_encode(command.ext),
            command.flag,
            opaque,
        )
    else:
        head = b'{"code":%d,"extFields":%b,"flag":%d,"language":%b,"opaque":%d' % (
            command.code,
            _json_encode(command.ext),
            command.flag,
            _json_encode(command.language),
            opaque,
        )
    if remark is not None:
        head += b',"remark":' + _json_encode(remark)
    if command.version == VERSION:
        return head + _OWN_TAIL
    return head + b',"serializeTypeCurrentRPC":"JSON","version":%d}' % command.version


def decode_json(header: bytes) -> Command:
    """Read a JSON header. Raises HeaderError."""
    try:
        command = _json_decode(header)
    except msgspec.ValidationError:
        return _decode_loose(header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HeaderError(f"header is not JSON: {error}") from None
    # The struct's defaults are ours; what a peer leaves out means 0 and JAVA. Both keys stand near the end of a header
    # with sorted keys, so the search begins there.
    if header.find(b'"version"', _VERSION_FROM_END) < 0 and b'"version"' not in header:
        command.version = 0
    if (
        command.language is Language.PYTHON
        and header.find(b'"language"', _LANGUAGE_FROM_END) < 0
        and b'"language"' not in header
    ):
        command.language = Language.JAVA
    command.serialize = Serialize.JSON
    return command


def _decode_loose(header: bytes) -> Command:
    """Read a JSON header whose values have unusual types, as far as their meaning is certain."""
    try:
        fields = _json_decode_any(header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HeaderError(f"header is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise HeaderError("header is not a JSON object")
    if fields.get("code") is None:
        raise HeaderError("header has no code")
    ext: dict[str, str] = {}
    raw_ext = fields.get("extFields")
    if isinstance(raw_ext, dict):
        for key, value in raw_ext.items():
            if value is not None:
                ext[key] = _as_text(value)
    elif raw_ext is not None:
        raise HeaderError("extFields is not a JSON object")
    remark = fields.get("remark")
    return Command(
        _as_int32("code", fields["code"]),
        ext,
        b"",
        _as_int32("opaque", fields.get("opaque")),
        _as_int32("flag", fields.get("flag")),
        None if remark is None else _as_text(remark),
        _language(fields.get("language", "JAVA")),
        _as_int32("version", fields.get("version")),
    )


def _language(name: Any) -> Language:
    return _LANGUAGE_NAME.get(name, Language.OTHER) if isinstance(name, str) else Language.OTHER


def _as_text(value: Any) -> str:
    """A JSON value as the text that Java would have put there."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return _json_encode(value).decode()


def _as_int32(name: str, value: Any) -> int:
    """A JSON number, or a decimal number as text, within 32 bits; null counts as 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise HeaderError(f"{name} is not a number: {value[:40]!r}") from None
    if isinstance(value, bool) or not isinstance(value, int) or not _INT32_MIN <= value <= _INT32_MAX:
        raise HeaderError(f"{name} is not a 32-bit number: {str(value)[:40]}")
    return value


def encode_binary(command: Command) -> bytes:
    """The binary header. Raises HeaderError if a field does not fit into it."""
    remark = b"" if command.remark is None else command.remark.encode()
    parts: list[bytes] = []
    for key, value in command.ext.items():
        raw_key, raw_value = key.encode(), value.encode()
        if len(raw_key) > BINARY_CODE_MAX:
            raise HeaderError(f"header field name of {len(raw_key)} bytes does not fit the binary header")
        parts += (_SHORT.pack(len(raw_key)), raw_key, _INT.pack(len(raw_value)), raw_value)
    ext = b"".join(parts)
    try:
        fixed = _BINARY_FIXED.pack(
            command.code,
            _LANGUAGE_CODE[command.language],
            command.version,
            command.opaque,
            command.flag,
            len(remark),
        )
    except struct.error as error:
        raise HeaderError(f"command does not fit the binary header: {error}") from None
    return b"".join((fixed, remark, _INT.pack(len(ext)), ext))


def decode_binary(header: bytes) -> Command:
    """Read a binary header. Raises HeaderError."""
    size = len(header)
    try:
        code, language, version, opaque, flag, remark_size = _BINARY_FIXED.unpack_from(header)
        pos = _BINARY_FIXED.size
        if not 0 <= remark_size <= size - pos - 4:
            raise HeaderError(f"remark of {remark_size} bytes in a header of {size}")
        remark = header[pos : pos + remark_size].decode() if remark_size else None
        pos += remark_size
        (ext_size,) = _INT.unpack_from(header, pos)
        pos += 4
        if not 0 <= ext_size <= size - pos:
            raise HeaderError(f"header fields of {ext_size} bytes in a header of {size}")
        end = pos + ext_size
        ext: dict[str, str] = {}
        while pos < end:
            (key_size,) = _SHORT.unpack_from(header, pos)
            pos += 2
            key = header[pos : pos + key_size].decode()
            pos += key_size
            (value_size,) = _INT.unpack_from(header, pos)
            pos += 4
            if not 0 <= value_size <= end - pos:
                raise HeaderError(f"header field of {value_size} bytes passes the end of the header")
            ext[key] = header[pos : pos + value_size].decode()
            pos += value_size
    except struct.error:
        raise HeaderError(f"binary header of {size} bytes is cut short") from None
    except UnicodeDecodeError:
        raise HeaderError("binary header holds text that is not UTF-8") from None
    return Command(
        code,
        ext,
        b"",
        opaque,
        flag,
        remark,
        _LANGUAGES[language] if language < len(_LANGUAGES) else Language.OTHER,
        version,
        Serialize.ROCKETMQ,
    )
