"""Stored histories keep their verdicts: any later version must judge those in tests/golden/histories/<verdict>/ so.

`python -m tests.unit.checkers.test_golden_histories` writes them anew; read the difference before keeping it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from checkers.compose import judge
from checkers.history import Event, HistoryWriter
from checkers.verdict import Severity
from tests.unit.checkers.raft import ADDRESS, RaftPretend, raft_run
from tests.unit.checkers.runs import Pretend, pretend_run
from tests.unit.checkers.story import NODES, Story

FOLDER = Path(__file__).parents[2] / "golden" / "histories"


def stored() -> list[Path]:
    return sorted(path for path in FOLDER.glob("*/*.jsonl*"))


@pytest.mark.parametrize("path", stored(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_stored_history_keeps_its_verdict(path: Path) -> None:
    verdict = judge(path)
    assert verdict.valid.word == path.parent.name, verdict.why


@pytest.mark.parametrize(
    "path", [path for path in stored() if path.parent.name == "invalid"], ids=lambda path: path.name
)
def test_every_violation_is_told_in_a_sentence_with_the_events_that_prove_it(path: Path) -> None:
    verdict = judge(path)
    found = [one for record in verdict.records for one in record.anomalies if one.severity is Severity.VIOLATION]
    assert found
    for anomaly in found:
        assert anomaly.core, anomaly
        assert set(anomaly.core) <= set(anomaly.ops)
        assert len(anomaly.text) > len(anomaly.type) + 20, anomaly


def test_there_are_histories_of_every_verdict() -> None:
    assert {path.parent.name for path in stored()} == {"valid", "unknown", "invalid"}


def stories() -> Iterator[tuple[str, list[Event]]]:
    """The stories behind the files."""
    gates = {"warm_send_ok": 20, "recovered_send_ok": 20}
    small = Pretend(seconds=20, rate=30, queues=2, gates=gates)
    yield "valid/promotion-after-two-copies.jsonl.zst", pretend_run(replace(small, synchronous=True))
    yield "invalid/promotion-after-one-copy.jsonl.zst", pretend_run(replace(small, synchronous=False))
    yield "unknown/unproven-faults.jsonl.zst", pretend_run(replace(small, verified=False))
    two = "0>s(1) 0<s(1)@0 1>poll 1<poll=[0:1] 0>s(2) 0<s(2)@1 1>poll 1<poll=[1:2]"
    yield "valid/two-messages.jsonl", Story().tell(two).drain("[1,2]").events
    unknown = "2>s(3) 2?s(3)"
    yield "valid/unknown-send-turned-up.jsonl", Story().tell(two).tell(unknown).drain("[1,2,3]").events
    yield "valid/unknown-send-never-came.jsonl", Story().tell(two).tell(unknown).drain("[1,2]").events
    weak = "2>s(3) 2<s(3)@2!FLUSH_SLAVE_TIMEOUT"
    story = Story().tell(two).tell(weak).fault("d", "destroy", targets=[NODES[0]]).promote()
    yield "valid/weak-status-lost.jsonl", story.drain("[1,2]", excluded=(NODES[0],), top=2).events
    yield "invalid/lost.jsonl", Story().tell(two).tell("2>s(3) 2<s(3)@2").drain("[1,2]").events
    yield "invalid/vanished.jsonl", Story().tell(two).drain("[1]").events
    yield "invalid/failed-send-delivered.jsonl", Story().tell(two).tell("2>s(3) 2xs(3)").drain("[1,2,3]").events
    swapped = "0>s(1) 0<s(1)@1 1>s(2) 1<s(2)@0"
    yield "invalid/appends-swapped.jsonl", Story().tell(swapped).drain("[2,1]").events
    twice = "0>s(1) 0<s(1)@0 1>s(2) 1<s(2)@0"
    yield "invalid/one-offset-two-messages.jsonl", Story().tell(twice).drain("[2]").events
    story = Story().tell(two)
    story.add("lab", "info", "node-exit", {"node": NODES[0], "pid": 7, "signal": 11, "expected": False, "fault": None})
    yield "invalid/unexpected-exit.jsonl", story.drain("[1,2]").events
    yield "unknown/no-sentinel.jsonl", Story().tell(two).drain("[1]", complete=False).events
    yield "unknown/not-ready.jsonl", Story().tell(two).drain("[1,2]", rules={"D4": False}).events
    yield "unknown/no-drain.jsonl", Story().tell(two).events
    yield "unknown/idle.jsonl", Story(gates={"send_ok": 100}).tell(two).drain("[1,2]").events
    broken = Story().tell(two).drain("[]").tell("5>s(9) 5?s(9) 5>s(10)")
    yield "unknown/broken-history-beside-a-loss.jsonl", broken.events
    story = Story().tell(two).fault("k", "kill", targets=[NODES[0]])
    story.fault("k", "kill", "heal", targets=[NODES[0]], verified=False)
    yield "unknown/unproven-heal.jsonl", story.drain("[1,2]").events

    raft = RaftPretend(seed=1, seconds=20, rate=25)
    yield "valid/raft-failovers.jsonl.zst", raft_run(raft)
    events = raft_run(raft)
    last = [event for event in events if event.status == "SEND_OK" and event.epoch and event.epoch > 1][20]
    last.epoch, last.node = 1, next(event.node for event in events if event.epoch == 1)
    yield "invalid/raft-deposed-leader-acknowledges.jsonl.zst", events
    events = raft_run(raft)
    for event in events:
        if event.f == "send" and event.type == "ok" and 15.0e9 < event.time < 18.0e9:
            event.type, event.status, event.offset, event.ack = "info", None, None, None
    yield "invalid/raft-stall.jsonl.zst", events
    events = [event for event in raft_run(raft) if event.f != "status" or event.value["node"] != "broker-a-1"]
    for index, event in enumerate(events):
        event.index = index
    yield "unknown/raft-nobody-asked-one-node.jsonl.zst", events
    events = raft_run(raft)
    events[0].value["addresses"] = dict.fromkeys(ADDRESS, "")
    yield "unknown/raft-nobody-knows-who-answered.jsonl.zst", events


def write() -> None:
    """Write all files."""
    for name, events in stories():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with HistoryWriter(path) as out:
            out.write_all(events)


if __name__ == "__main__":
    write()
