"""Rates for status reports. Pure."""

from __future__ import annotations

from collections import deque

__all__ = ["Meter"]

_SAMPLE_S = 1.0
_WINDOWS_S = (10.0, 60.0, 600.0)


class Meter:
    """Turns a counter that only grows into rates over the last 10, 60 and 600 seconds."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(_WINDOWS_S[-1] / _SAMPLE_S) + 1)

    def sample(self, now: float, count: int) -> None:
        """Note the counter; more often than once a second changes nothing."""
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now, count))

    def rates(self, now: float, count: int) -> list[float]:
        """Events a second in each window, as far back as there are samples."""
        rates = []
        for window in _WINDOWS_S:
            base = next(((when, value) for when, value in self._samples if now - when <= window), None)
            rates.append(0.0 if base is None or now <= base[0] else (count - base[1]) / (now - base[0]))
        return rates

    def text(self, now: float, count: int) -> str:
        """The rates as brokerStatus prints them."""
        return " ".join(f"{rate:.6f}" for rate in self.rates(now, count))
