"""Events of a history, version 1: one JSON object a line. The field names are those the checkers read."""

from typing import Any, Final

import msgspec

FORMAT: Final = 1
LAB: Final = "lab"
NEMESIS: Final = "nemesis"

Event = dict[str, Any]


def event(time_ns: int, process: int | str, kind: str, f: str, value: object, **extras: object) -> Event:
    """One event; ``kind`` is invoke, ok, fail or info. Extras that are None are left out."""
    made: Event = {"time": time_ns, "process": process, "type": kind, "f": f, "value": value}
    for key, extra in extras.items():
        if extra is not None:
            made[key] = extra
    return made


def fault_text(code: str, phase: str, text: str) -> dict[str, str]:
    """The ``error`` of a fail or info completion."""
    return {"code": code, "phase": phase, "text": text[:300]}


encode_line = msgspec.json.Encoder(enc_hook=str).encode
