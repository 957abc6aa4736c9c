"""Masters of controller mode as their brokers' own logs tell them, in the words of the history (event ``election``).

The lines have wall-clock times only, so the events have none: who was master in which epoch is told, in their order.
Source: RocketMQ 5.3.3, class ReplicasManager.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FILE: Final = "home/logs/rocketmqlogs/broker.log"
_LINE: Final = re.compile(r"Begin to change to (?P<role>master|slave), .*(?:new Epoch:|newMasterEpoch=)(?P<epoch>\d+)")
_WORDS: Final = {"master": "elected", "slave": "follows"}


def switches_in(folder: Path, node: str, group: str) -> Iterator[dict[str, Any]]:
    """The election events of one broker's log in ``folder``, in their order; other lines are passed over."""
    path = folder / FILE
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found = _LINE.search(line)
            if found is not None:
                word = _WORDS[found["role"]]
                yield {"node": node, "group": group, "event": word, "term": int(found["epoch"])}
