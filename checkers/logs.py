"""Which value stands at which offset of which queue, by everything anybody was told.

From all reads of any outcome, and the offsets brokers answered to sends, comes a sorted table of distinct (queue,
offset, value). Several checkers ask it the same questions, so it is made once.

After a role change or the loss of a store a value without SEND_OK may rightly give way to another at its offset. Such
a *disowned* row (no promise, and not in the drained log) proves nothing about order and is not settled. In a Raft group
the loss of disks takes nothing back that was sent after the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from checkers.columns import ALIAS_TOPICS, FAIL, NEVER, OK, History, Int, Mask
from checkers.drain import Drain, promises, split_queue
from checkers.meta import GroupMeta
from checkers.windows import ROLE_CHANGES, STORE_LOSS, Window


@dataclass(frozen=True, slots=True, eq=False)
class QueueLogs:
    """Sorted distinct rows (queue, offset, value), and what is known about each row and value.

    `rank` is the dense index of the row's offset among its queue's settled offsets (-1 for disowned rows).
    `entry_row` and `send_row` give the row of each entry and of each answered send (-1: none). By value number:
    `promised` (SEND_OK), `attempted`, `failed`, `seen` (any read),
    `drained` (in the final drain) and `sender` (its row in `Sends`). By queue number: `alias`, `rewound`. `revocable`
    marks rows whose value may rightly have lost its place, if nobody promised it.
    """

    queue: npt.NDArray[np.int32]
    offset: Int
    value: npt.NDArray[np.int32]
    rank: Int
    settled: Mask
    observed: Mask
    entry_row: Int
    send_row: Int
    promised: Mask
    attempted: Mask
    failed: Mask
    seen: Mask
    drained: Mask
    sender: npt.NDArray[np.int32]
    alias: Mask
    rewound: Mask
    revocable: Mask
    clashes: Int

    def span(self, queue: int) -> tuple[int, int]:
        """Return the first row of a queue and the row after its last."""
        low, high = np.searchsorted(self.queue, [queue, queue + 1])
        return int(low), int(high)


def _distinct(queue: Int, offset: Int, value: Int) -> tuple[Int, Int]:
    """Return the positions of the distinct triples in sorted order, and for each input row its distinct row."""
    if not len(queue):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    queues, offsets, values = int(queue.max()) + 1, int(offset.max()) + 1, int(value.max()) + 2
    if queues * offsets * values < 2**63:
        key = (queue * offsets + offset) * values + (value + 1)
        order = np.argsort(key, kind="stable")
        sorted_key = key[order]
        new = np.ones(len(key), dtype=bool)
        new[1:] = sorted_key[1:] != sorted_key[:-1]
    else:
        order = np.lexsort((value, offset, queue))
        new = np.ones(len(queue), dtype=bool)
        for column in (queue, offset, value):
            ordered = column[order]
            new[1:] = (ordered[1:] != ordered[:-1]) if column is queue else new[1:] | (ordered[1:] != ordered[:-1])
    inverse = np.empty(len(queue), dtype=np.int64)
    inverse[order] = np.cumsum(new) - 1
    return order[new], inverse


def _rewound(history: History, windows: tuple[Window, ...], promised: Mask) -> Mask:
    """Mark the queues whose end may rightly have moved back: another primary took over, or a store lost data."""
    sends = history.sends
    group_names = [split_queue(name)[1] for name in history.queues]
    result = np.zeros(len(group_names), dtype=bool)
    changed: set[str] = set()
    if history.meta.mode == "dledger":
        # What is read or acknowledged is committed there; only the loss of too many disks can take it back.
        changed = {name for name in history.meta.groups if _quorum_lost(history, windows, name)}
        result[:] = [name in changed for name in group_names]
        return result
    for name, group in history.meta.groups.items():
        members = {*group.nodes, name}
        masters = _masters(history, name) or members
        if any(
            (window.family in ROLE_CHANGES and window.touches(members))
            or (window.family in STORE_LOSS and window.touches(masters))
            for window in windows
        ):
            changed.add(name)
    answered = promised & (sends.queue >= 0) & (sends.node >= 0)
    groups = {name: number for number, name in enumerate(sorted(set(group_names)))}
    number_of = np.array([groups[name] for name in group_names], dtype=np.int64)
    if bool(answered.any()):
        pairs = np.unique(np.stack([number_of[sends.queue[answered]], sends.node[answered].astype(np.int64)]), axis=1)
        several = np.bincount(pairs[0], minlength=len(groups)) > 1
        changed.update(name for name, number in groups.items() if several[number])
    for queue, name in enumerate(group_names):
        result[queue] = name in changed
    return result


def _masters(history: History, name: str) -> set[str]:
    """Return the nodes that answered sends of a group; empty if not all are known. Nobody misses what a slave lost."""
    sends = history.sends
    of_group = np.array([split_queue(queue)[1] == name for queue in history.queues] + [False], dtype=bool)
    answered = np.unique(sends.node[(sends.type == OK) & of_group[sends.queue]])
    found = {history.meta.node_at(history.nodes[number]) if number >= 0 else None for number in answered.tolist()}
    return {node for node in found if node is not None} if None not in found else set()


def _takes_records(window: Window, group: GroupMeta) -> bool:
    """Tell whether a fault takes records of a member of a Raft group away. One that is removed takes nothing committed
    with it (Raft, section 6)."""
    if window.family in ("power", "powerloss"):
        return group.flush != "SYNC_FLUSH"
    return window.family in STORE_LOSS and window.family != "remove"


def _quorum_lost(history: History, windows: tuple[Window, ...], name: str) -> bool:
    """Tell whether so many replicas of a Raft group lost their disks that a quorum without them may know nothing."""
    group = history.meta.groups[name]
    struck: set[str] = set()
    for window in windows:
        if _takes_records(window, group):
            struck.update(set(window.targets or group.electors) & set(group.electors))
    return bool(struck) and group.votes - len(struck) + group.votes <= len(group.electors)


def _sent_after_losses(history: History, windows: tuple[Window, ...], queue: Int, sender: Int) -> Mask:
    """Mark rows of Raft groups that were sent after the last loss of a disk of their group: nothing excuses their end.

    Elsewhere a replica that took over, or lost its tail, may disown what was sent to another one at any time.
    """
    if history.meta.mode != "dledger":
        return np.zeros(len(queue), dtype=bool)
    last = np.full(len(history.queues), -1, dtype=np.int64)
    for number, name in enumerate(history.queues):
        group = history.meta.groups.get(split_queue(name)[1])
        if group is not None:
            near = {*group.nodes, *group.electors}
            last[number] = max((w.a2 for w in windows if _takes_records(w, group) and w.touches(near)), default=-1)
    begun = history.events.time[history.sends.invoked[sender]] if len(history.sends) else np.zeros(len(queue), np.int64)
    after: Mask = (sender >= 0) & (begun > last[queue])
    return after


def _dense_ranks(queue: Int, offset: Int, settled: Mask) -> Int:
    """Number the settled offsets of each queue from 0 upwards."""
    rank = np.full(len(queue), -1, dtype=np.int64)
    rows = np.flatnonzero(settled)
    if len(rows):
        q, o = queue[rows], offset[rows]
        new = np.ones(len(rows), dtype=bool)
        new[1:] = (q[1:] != q[:-1]) | (o[1:] != o[:-1])
        running = np.cumsum(new) - 1
        first = np.ones(len(rows), dtype=bool)
        first[1:] = q[1:] != q[:-1]
        base = running[first]
        rank[rows] = running - base[np.cumsum(first) - 1]
    return rank


def queue_logs(history: History, windows: tuple[Window, ...], drain: Drain) -> QueueLogs:
    """Build the table of a history."""
    sends, reads, entries = history.sends, history.reads, history.entries
    values = len(history.values)
    alias = np.array([name.startswith(ALIAS_TOPICS) for name in history.queues], dtype=bool)
    promised_send = promises(history)
    rewound = _rewound(history, windows, promised_send)

    def marked(numbers: npt.NDArray[np.int32]) -> Mask:
        mark = np.zeros(values, dtype=bool)
        mark[numbers[numbers >= 0]] = True
        return mark

    final = drain.final[entries.read]
    entry_queue = reads.queue[entries.read].astype(np.int64)
    promised = marked(sends.value[promised_send])
    sender = np.full(values, -1, dtype=np.int32)
    sender[sends.value[::-1]] = np.arange(len(sends), dtype=np.int32)[::-1]
    home = np.full(values + 1, -1, dtype=np.int64)  # by value, the queue it was sent to; a copy elsewhere is another
    home[sends.value[::-1]] = np.where(sends.queue >= 0, sends.queue, sends.asked)[::-1]
    drained = marked(entries.value[final & (~alias[entry_queue] | (entry_queue == home[entries.value]))])

    of_entry = np.flatnonzero((entries.offset >= 0) & ~alias[entry_queue] if len(entries) else np.zeros(0, bool))
    of_send = np.flatnonzero((sends.offset >= 0) & (sends.queue >= 0) & (sends.type == OK))
    queue = np.concatenate([entry_queue[of_entry], sends.queue[of_send].astype(np.int64)])
    offset = np.concatenate([entries.offset[of_entry], sends.offset[of_send]])
    value = np.concatenate([entries.value[of_entry], sends.value[of_send]]).astype(np.int64)
    first, inverse = _distinct(queue, offset, value)
    queue, offset, value = queue[first], offset[first], value[first]

    entry_row = np.full(len(entries), -1, dtype=np.int64)
    entry_row[of_entry] = inverse[: len(of_entry)]
    send_row = np.full(len(sends), -1, dtype=np.int64)
    send_row[of_send] = inverse[len(of_entry) :]
    observed = np.zeros(len(queue), dtype=bool)
    observed[inverse[: len(of_entry)]] = True
    in_drain = np.zeros(len(queue), dtype=bool)
    in_drain[entry_row[(entry_row >= 0) & final]] = True

    known = value >= 0
    revocable = rewound[queue] & ~_sent_after_losses(history, windows, queue, np.where(known, sender[value], -1))
    settled = ~revocable | in_drain | (known & promised[value])
    real = np.flatnonzero(known)
    same = (queue[real][1:] == queue[real][:-1]) & (offset[real][1:] == offset[real][:-1])
    clashes = real[np.flatnonzero(same) + 1]
    return QueueLogs(
        queue=queue.astype(np.int32),
        offset=offset,
        value=value.astype(np.int32),
        rank=_dense_ranks(queue, offset, settled),
        settled=settled,
        observed=observed,
        entry_row=entry_row,
        send_row=send_row,
        promised=promised,
        attempted=marked(sends.value),
        failed=marked(sends.value[sends.type == FAIL]),
        seen=marked(entries.value),
        drained=drained,
        sender=sender,
        alias=alias,
        rewound=rewound,
        revocable=revocable,
        clashes=clashes,
    )


def first_seen(history: History) -> Int:
    """Return for each value the position at which a read that returned it first completed (NEVER: not seen)."""
    entries, reads = history.entries, history.reads
    when = np.full(len(history.values), NEVER, dtype=np.int64)
    known = entries.value >= 0
    np.minimum.at(when, entries.value[known], history.events.position[reads.returned[entries.read[known]]])
    return when
