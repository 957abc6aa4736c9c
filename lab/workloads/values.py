"""Unique values and the message bodies that carry them: the value first, then a blank, then padding."""

from typing import Final

SEPARATOR: Final = b" "
PADDING: Final = b"."
VALUE_MAX: Final = 47  # so that the smallest body of a plan (48 bytes) holds a value and its separator


def value_of(run: str, thread: int, counter: int) -> str:
    """``run/thread/counter``."""
    return f"{run}/{thread}/{counter}"


def body_of(value: str, size: int) -> bytes:
    """A body of ``size`` bytes (or as long as the value needs)."""
    head = value.encode() + SEPARATOR
    return head + PADDING * max(0, size - len(head))


def whole_body(body: bytes, size: int) -> bool:
    """Whether a body that carries a value is as it was sent, to the last byte; ``size`` is what was asked for."""
    head, found, padding = body.partition(SEPARATOR)
    return len(body) == max(size, len(head) + len(found)) and padding.count(PADDING) == len(padding)


def value_in(body: bytes) -> str | None:
    """The value that a body carries, None if it is not one of a lab's. Of the rest see `whole_body`."""
    head, found, _ = body.partition(SEPARATOR)
    if not found or len(head) > VALUE_MAX or head.count(b"/") != 2:
        return None
    try:
        return head.decode("ascii")
    except UnicodeDecodeError:
        return None
