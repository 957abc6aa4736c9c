"""Lengths of time as people write them in plans: ``300ms``, ``1.5s``, ``2m``."""

import re
from typing import Final, final

NS_PER_S: Final = 1_000_000_000
_UNITS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S, "h": 3600 * NS_PER_S}
_PATTERN: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)?")


@final
class Duration:
    """A length of time in whole nanoseconds; a bare number in a plan means seconds."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    @classmethod
    def parse(cls, value: object) -> "Duration":
        """Read ``"250ms"``, ``"3s"``, ``2`` or ``2.5``; raises ValueError that says what is accepted."""
        if isinstance(value, Duration):
            return value
        if isinstance(value, bool):
            raise ValueError(f"{value!r} is not a length of time; write for example 30s or 250ms")
        text = str(value) if isinstance(value, int | float) else value
        match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not a length of time; write for example 30s, 250ms or 2m")
        number, unit = match.groups()
        return cls(round(float(number) * _UNITS[unit or "s"]))

    @classmethod
    def seconds(cls, seconds: float) -> "Duration":
        """The same length from a number of seconds."""
        return cls(round(seconds * NS_PER_S))

    @property
    def s(self) -> float:
        """Seconds, for timers."""
        return self.ns / NS_PER_S

    def __str__(self) -> str:
        if self.ns % NS_PER_S == 0:
            return f"{self.ns // NS_PER_S}s"
        if self.ns % 1_000_000 == 0:
            return f"{self.ns // 1_000_000}ms"
        return f"{self.ns}ns"

    def __repr__(self) -> str:
        return f"Duration({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.ns == self.ns

    def __hash__(self) -> int:
        return hash(self.ns)

    def __lt__(self, other: "Duration") -> bool:
        return self.ns < other.ns

    def __le__(self, other: "Duration") -> bool:
        return self.ns <= other.ns
