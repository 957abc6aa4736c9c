"""Unique values and the message bodies that carry them: the value first, then a blank, then padding."""

from typing import Final

SEPARATOR: Final = b" "
VALUE_MAX: Final = 47  # so that the smallest body of a plan (48 bytes) holds a value and its separator


def value_of(run: str, thread: int, counter: int) -> str:
    """``run/thread/counter``."""
    return f"{run}/{thread}/{counter}"


def body_of(value: str, size: int) -> bytes:
    """A body of ``size`` bytes (or as long as the value needs)."""
    head = value.encode() + SEPARATOR
    return head + b"." * max(0, size - len(head))


def value_in(body: bytes) -> str | None:
    """The value that a body carries, None if it is not one of a lab's."""
    head, found, _ = body.partition(SEPARATOR)
    if not found or len(head) > VALUE_MAX or head.count(b"/") != 2:
        return None
    try:
        return head.decode("ascii")
    except UnicodeDecodeError:
        return None
