"""Elections as the nodes' own logs tell them, in the words of the history (event ``election``)."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any, Final

import msgspec

from lab.systems.dledger import node_of
from lab.topology import Group
from nemesis.world import Election, Moment

FEED_POLL_S: Final = 0.001  # while a fault waits: what it waits for may be over in a few milliseconds
READ_MOST: Final = 1 << 20  # bytes at once; what is left comes with the next look
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
WORDS: Final = {
    "raft-elected-as-leader": "elected",
    "raft-grant-vote": "granted",
    "raft-asks-for-votes": "candidate",
    "raft-follows": "follows",
    "raft-leader-steps-down": "stepped-down",
    "raft-lost-its-quorum": "stepped-down",
}
"""Line of a node's log to event of the history."""

NAMES: Final = {"granted": ("to", "candidate"), "follows": ("leader", "leader")}
"""Where the other party stands: key of the history, field of the log."""


def elections(path: Path, node: str, group: Group, start_ns: int, starts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The values of the ``election`` events of one node's log, in its order.

    ``start_ns`` is the run's zero and ``starts`` when each incarnation was started, all on the machine's monotonic
    clock, which is the log's too. Lines that are no events (cut off by a kill, or of something else) are passed over.
    """
    with path.open("rb") as lines:
        for line in lines:
            found = _read(line, node, group, start_ns, starts)
            if found is not None:
                yield found


class Feed:
    """What nodes write about elections, as they write it. Implements ``nemesis.world.Elections``."""

    def __init__(self, groups: Sequence[Group], log_of: Callable[[str], Path]) -> None:
        self._groups = groups
        self._log_of = log_of

    async def next(self, moment: Moment, group: str) -> Election:
        """Wait for the next line of this kind in the log of a node of the group, or of any group."""
        word = {Moment.ELECTED: "elected", Moment.VOTER: "granted"}[moment]
        tails = [
            (one, node, _Tail(self._log_of(node)))
            for one in self._groups if group in ("", one.name)
            for node in (*one.nodes, *one.spares)
        ]  # fmt: skip
        try:
            while True:
                for one, node, tail in tails:
                    for line in tail.fresh():
                        found = _read(line, node, one, 0, ())
                        if found is not None and found["event"] == word:
                            return Election(node, one.name, found["term"])
                await asyncio.sleep(FEED_POLL_S)
        finally:
            for _, _, tail in tails:
                tail.close()


class _Tail:
    """Whole lines that are written to a file from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._rest = b""
        if (file := self._opened()) is not None:
            file.seek(0, SEEK_END)

    def fresh(self) -> list[bytes]:
        """Those since the last call; none from a node that was never started."""
        file = self._opened()
        data = None if file is None else file.read(READ_MOST)
        if not data:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def close(self) -> None:
        """Read no more."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> FileIO | None:
        if self._file is None and self._path.exists():
            self._file = self._path.open("rb", buffering=0)
        return self._file


def _read(line: bytes, node: str, group: Group, start_ns: int, starts: Sequence[int]) -> dict[str, Any] | None:
    """The event of one line; None if it is of something else, or cut off by a kill."""
    try:
        entry = _DECODER.decode(line)
    except msgspec.DecodeError:
        return None
    return _election(entry, node, group, start_ns, starts)


def _election(
    entry: dict[str, Any], node: str, group: Group, start_ns: int, starts: Sequence[int]
) -> dict[str, Any] | None:
    word = WORDS.get(str(entry.get("event")))
    term, logged = entry.get("term"), entry.get("t_ns")
    if word is None or not isinstance(term, int) or not isinstance(logged, int):
        return None
    value: dict[str, Any] = {"node": node, "group": group.name, "event": word, "term": term, "t": logged - start_ns}
    if incarnation := bisect_right(starts, logged):
        value["incarnation"] = incarnation
    if word in NAMES:
        key, field = NAMES[word]
        other = str(entry.get(field) or "")
        value[key] = node_of(group, other) or other
    return value
