"""History in, verdict out: pure checkers over what every client saw.

    from checkers import check
    check("queue.jsonl", "fifo-queue").verdict      # 'valid', 'invalid' or 'unknown'

The names below are the stable interface (see checkers/api.py); they are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from checkers.api import (
        Budget,
        Decision,
        FormatError,
        History,
        HistoryError,
        Minimal,
        Model,
        Operation,
        check,
        minimal,
        picture_of,
        witness_operations,
    )
    from checkers.linearizability.models import NAMES as MODELS

__all__ = [
    "MODELS",
    "Budget",
    "Decision",
    "FormatError",
    "History",
    "HistoryError",
    "Minimal",
    "Model",
    "Operation",
    "check",
    "minimal",
    "picture_of",
    "witness_operations",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, name = ("checkers.linearizability.models", "NAMES") if name == "MODELS" else ("checkers.api", name)
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
