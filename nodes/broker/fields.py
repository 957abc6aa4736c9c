"""Reading header fields of requests. Pure."""

from __future__ import annotations

from nodes.remoting.codes import ResponseCode

__all__ = ["RequestError", "flag", "text", "whole"]


class RequestError(Exception):
    """A request that is answered with an error code and a remark; nothing was done."""

    def __init__(self, code: int, remark: str, ext: dict[str, str] | None = None) -> None:
        super().__init__(remark)
        self.code = int(code)
        self.remark = remark
        self.ext = ext


def text(ext: dict[str, str], name: str, default: str | None = None) -> str:
    """A text field. Raises RequestError if it is missing and there is no default."""
    value = ext.get(name, default)
    if value is None:
        raise RequestError(ResponseCode.SYSTEM_ERROR, f"the header field {name} is missing")
    return value


def whole(ext: dict[str, str], name: str, default: int | None = None) -> int:
    """A whole number. Raises RequestError if it is missing without default, or not a number."""
    value = ext.get(name)
    if value is None or value == "":
        if default is None:
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"the header field {name} is missing")
        return default
    try:
        number = int(value)
    except ValueError:
        raise RequestError(ResponseCode.SYSTEM_ERROR, f"the header field {name} is not a number: {value!r}") from None
    if not -(2**63) <= number < 2**63:
        raise RequestError(ResponseCode.SYSTEM_ERROR, f"the header field {name} is out of range: {value}")
    return number


def flag(ext: dict[str, str], name: str, default: bool = False) -> bool:
    """A truth value, as Java reads it: everything but `true` is false."""
    value = ext.get(name)
    return default if value is None else value.lower() == "true"
