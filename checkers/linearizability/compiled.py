"""The compiled core where it was built; without it everything works by numpy and Python, slower, and says so."""

from __future__ import annotations

import importlib
from typing import Any, Final


def _load() -> Any:
    try:
        return importlib.import_module("checkers.linearizability._core")
    except ImportError:
        return None


core: Final = _load()

NOTE: Final = (
    "the compiled core of the checkers is not there (no C compiler at install?): "
    "numpy and Python decide instead, with the same verdicts but slower"
)


def core_for(engine: str) -> Any:
    """Return the core that `auto`, `core` or `fallback` asks for. Raises RuntimeError where `core` cannot be had."""
    if engine == "fallback":
        return None
    if engine == "core" and core is None:
        raise RuntimeError(NOTE)
    return core
