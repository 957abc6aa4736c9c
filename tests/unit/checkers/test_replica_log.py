"""C7 over replica dumps, its golden vectors 27-29 among them, each anomaly with a near miss that passes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from checkers.facts import gather
from checkers.history import LineWriter
from checkers.replica_log import check_replica_log
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.story import GROUP, NODES, QUEUE, Story, value

SIZE = 100


def records(text: str) -> list[dict[str, Any]]:
    """Read `0:t1:A 1:t1:B!`: place in the log, epoch, content; `!` unindexes the record, `#` breaks its checksum."""
    lines: list[dict[str, Any]] = []
    for word in text.split():
        place, term, name = word.rstrip("!#").split(":")
        line: dict[str, Any] = {
            "o": int(place) * SIZE,
            "s": SIZE,
            "d": hashlib.sha1(name.encode()).hexdigest(),
            "t": int(term[1:]),
            "q": QUEUE,
            "k": int(place),
            "v": value(name),
            "x": not word.endswith("!"),
        }
        if word.endswith("#"):
            line["c"] = False
        lines.append(line)
    return lines


def dump(
    story: Story,
    folder: Path,
    node: str,
    text: str,
    *,
    commit: int | None = 0,
    epochs: list[list[Any]] | None = None,
    complete: bool = True,
    **more: Any,
) -> None:
    """Write a dump file of a node and the event that tells of it. `commit` counts records."""
    lines = records(text)
    name = f"{node}-{len(story.events)}.jsonl.zst"
    with LineWriter(folder / name) as out:
        out.write_all(lines)
    begin = lines[0]["o"] if lines else 0
    terms = epochs if epochs is not None else []
    story.add(
        "lab",
        "info",
        "dump",
        {
            "group": GROUP,
            "node": node,
            "incarnation": "1",
            "file": name,
            "begin": begin,
            "end": (lines[-1]["o"] + SIZE) if lines else 0,
            "commit": None if commit is None else commit * SIZE,
            "epochs": terms,
            "complete": complete,
            **more,
        },
    )


def check(folder: Path, left: str, right: str, *, ready: bool = True, **options: Any) -> Record:
    story = Story(not_applicable={})
    for rule in ("D2", "D4", "D7", "D10"):
        story.step(rule, ok=ready or rule != "D4")
    dump(story, folder, NODES[0], left, **options)
    dump(story, folder, NODES[1], right, **options)
    return check_replica_log(gather(story.finish().history(), folder))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def test_equal_logs_agree(tmp_path: Path) -> None:
    record = check(tmp_path, "0:t1:A 1:t1:B", "0:t1:A 1:t1:B", commit=2)
    assert record.valid is Validity.VALID
    assert record.details["agreement"][GROUP][0]["agreed records"] == 2


@pytest.mark.parametrize("read", [True, False])
def test_an_older_dump_does_not_stand_for_one_that_failed(tmp_path: Path, read: bool) -> None:
    """After a restart of everything a replica gave no log, and the one from before it is all there is of it."""
    story = Story(not_applicable={})
    for node in (*NODES, NODES[0]):
        dump(story, tmp_path, node, "0:t1:A 1:t1:B", commit=2)
    for rule in ("D2", "D4", "D10"):
        story.step(rule)
    story.step("D7", ok=True, scope=GROUP)
    story.step("D7", ok=read, scope=GROUP, detail=f"{NODES[1]} does not answer")
    record = check_replica_log(gather(story.finish().history(), tmp_path))
    assert record.valid is (Validity.VALID if read else Validity.UNKNOWN)
    assert any("does not answer" in reason for reason in record.reasons) is not read


def test_27_a_tail_beyond_the_commit_may_differ_until_the_cluster_has_settled(tmp_path: Path) -> None:
    left, right = "0:t0:_ 1:t1:A 2:t1:B", "0:t0:_ 1:t1:A 2:t2:C"
    record = check(tmp_path, left, right, commit=2, ready=False)
    assert types(record) == set()
    assert types(record, Severity.UNDECIDED) == {"unreconciled-tail"}
    assert types(check(tmp_path, left, right, commit=2)) == {"unreconciled-tail"}
    story = Story(not_applicable={})
    for node, text in zip(NODES * 2, (left, right, left, left), strict=True):  # while it ran, and in the end
        dump(story, tmp_path, node, text, commit=2)
    for rule in ("D2", "D4", "D7", "D10"):
        story.step(rule, ok=True)
    record = check_replica_log(gather(story.finish().history(), tmp_path))
    assert record.valid is Validity.VALID, record.reasons


def test_28_below_both_commits_nothing_may_differ(tmp_path: Path) -> None:
    record = check(tmp_path, "0:t0:_ 1:t1:A 2:t1:B", "0:t0:_ 1:t1:A 2:t2:C", commit=3, ready=False)
    assert types(record) == {"committed-divergence"}


def test_29_one_index_and_term_hold_one_record(tmp_path: Path) -> None:
    record = check(tmp_path, "0:t0:_ 1:t1:A 2:t1:B", "0:t0:_ 1:t1:A 2:t1:C", ready=False)
    assert types(record) == {"matching-violation"}


def test_equal_records_after_a_difference_violate_the_prefix(tmp_path: Path) -> None:
    record = check(tmp_path, "0:t1:A 1:t1:B 2:t3:C", "0:t1:A 1:t2:X 2:t3:C", ready=False)
    assert types(record) == {"prefix-violation"}


def test_a_commit_beyond_the_end(tmp_path: Path) -> None:
    assert "commit-beyond-end" in types(check(tmp_path, "0:t1:A", "0:t1:A", commit=2))


def test_a_hole_in_the_log(tmp_path: Path) -> None:
    assert "hole" in types(check(tmp_path, "0:t1:A 2:t1:C", "0:t1:A 2:t1:C"))


def test_a_checksum_that_does_not_hold(tmp_path: Path) -> None:
    assert types(check(tmp_path, "0:t1:A#", "0:t1:A")) == {"bad-checksum"}


def test_a_record_its_queue_index_does_not_point_to(tmp_path: Path) -> None:
    assert types(check(tmp_path, "0:t1:A!", "0:t1:A")) == {"index-mismatch"}
    assert types(check(tmp_path, "0:t1:A!", "0:t1:A", ready=False), Severity.UNDECIDED) >= {"index-mismatch"}
    whole = " ".join(f"{place}:t1:m{place}" for place in range(50))
    torn = " ".join(f"{word}!" for word in whole.split())
    assert check(tmp_path, torn, whole).counts["index-mismatch"] == 50, "all are counted, though few are kept"


def test_two_records_that_claim_one_place_in_a_queue(tmp_path: Path) -> None:
    story = Story(not_applicable={})
    lines = records("0:t1:A 1:t1:B")
    lines[1]["k"] = 0
    with LineWriter(tmp_path / "x.jsonl") as out:
        out.write_all(lines)
    for node in NODES:
        value = {"group": GROUP, "node": node, "file": "x.jsonl", "begin": 0, "end": 200, "commit": 0, "complete": True}
        story.add("lab", "info", "dump", value)
    assert types(check_replica_log(gather(story.finish().history(), tmp_path))) == {"index-mismatch"}


@pytest.mark.parametrize(
    ("log", "other", "wrong"),
    [
        ("0:t1:A 1:t2:B", [[1, "x", 0], [2, "z", 100]], True),
        ("0:t1:A 1:t2:B", [[1, "z", 0], [2, "y", 100]], True),  # of the first one as well
        ("1:t1:A 2:t2:B", [[1, "z", 100], [2, "y", 200]], False),  # a trimmed log does not tell of its first one
        ("0:t1:A 1:t2:B", [[1, "x", 0], [2, "y", 100]], False),
    ],
)
def test_one_epoch_begins_at_one_place(tmp_path: Path, log: str, other: list[list[Any]], wrong: bool) -> None:
    begin = int(log[0]) * SIZE
    story = Story(not_applicable={})
    dump(story, tmp_path, NODES[0], log, epochs=[[1, "x", begin], [2, "y", begin + SIZE]])
    dump(story, tmp_path, NODES[1], log, epochs=other)
    record = check_replica_log(gather(story.finish().history(), tmp_path))
    assert ("term-table-mismatch" in types(record)) is wrong, record.reasons


def test_records_carry_the_epoch_their_table_gives_them(tmp_path: Path) -> None:
    epochs = [[1, "x", 0], [2, "y", 100], [3, "w", 100]]
    assert types(check(tmp_path, "0:t1:A 1:t3:B", "0:t1:A 1:t3:B", epochs=epochs)) == set()
    assert types(check(tmp_path, "0:t1:A 1:t2:B", "0:t1:A 1:t2:B", epochs=epochs)) == {"term-table-mismatch"}
    epochs = [[2, "x", 0], [1, "y", 100]]
    assert "term-table-mismatch" in types(check(tmp_path, "0:t2:A 1:t1:B", "0:t2:A 1:t1:B", epochs=epochs))


def test_what_was_confirmed_must_still_be_there(tmp_path: Path) -> None:
    story = Story(not_applicable={})
    dump(story, tmp_path, NODES[0], "0:t1:A 1:t1:B", commit=2)
    dump(story, tmp_path, NODES[0], "0:t1:A", commit=1)
    assert types(check_replica_log(gather(story.finish().history(), tmp_path))) == {"truncated-commit"}
    story = Story(not_applicable={})
    dump(story, tmp_path, NODES[0], "0:t1:A 1:t1:B", commit=1)
    dump(story, tmp_path, NODES[0], "0:t1:A", commit=1)
    assert types(check_replica_log(gather(story.finish().history(), tmp_path))) == set()


def replicated(folder: Path, left: str, right: str) -> Record:
    groups = {GROUP: {"nodes": NODES, "copies": 2, "flush": "ASYNC_FLUSH", "role": "SYNC_MASTER"}}
    story = Story(not_applicable={}, groups=groups).tell("0>s(A) 0<s(A)@0")
    story.events[-1].ack = "replicated"
    story.step("D4")
    dump(story, folder, NODES[0], left)
    dump(story, folder, NODES[1], right)
    return check_replica_log(gather(story.finish().history(), folder))


def test_a_value_acknowledged_as_replicated_is_on_as_many_replicas(tmp_path: Path) -> None:
    assert types(replicated(tmp_path, "0:t1:A", "0:t1:A")) == set()
    assert "under-replicated" in types(replicated(tmp_path, "0:t1:A", ""))


def test_a_promise_that_does_not_tell_its_level_has_that_of_its_group(tmp_path: Path) -> None:
    def run(right: str) -> set[str]:
        groups = {GROUP: {"nodes": NODES, "copies": 2, "flush": "ASYNC_FLUSH", "role": "SYNC_MASTER"}}
        story = Story(not_applicable={}, groups=groups).tell("0>s(A) 0<s(A)@0")
        story.events[-1].ack = None
        story.step("D4")
        dump(story, tmp_path, NODES[0], "0:t1:A")
        dump(story, tmp_path, NODES[1], right)
        return types(check_replica_log(gather(story.finish().history(), tmp_path)))

    assert run("0:t1:A") == set()
    assert "under-replicated" in run("")


def test_a_copy_in_a_retry_topic_is_no_replica_of_the_message(tmp_path: Path) -> None:
    def run(topic: str) -> set[str]:
        groups = {GROUP: {"nodes": NODES, "copies": 2, "flush": "ASYNC_FLUSH", "role": "SYNC_MASTER"}}
        story = Story(not_applicable={}, groups=groups).tell("0>s(A) 0<s(A)@0")
        story.events[-1].ack = "replicated"
        story.step("D4")
        for node in NODES:
            dump(story, tmp_path, node, "0:t1:A")
            with LineWriter(tmp_path / story.events[-1].value["file"]) as out:
                out.write_all([{**line, "q": f"{topic}/{GROUP}/0"} for line in records("0:t1:A")])
        return types(check_replica_log(gather(story.finish().history(), tmp_path)))

    assert run("t") == set()
    assert run("%RETRY%g") == {"under-replicated"}


def read_and_logged(folder: Path, log: str, *, ready: bool = True) -> Record:
    """A and B are read at 0 and 1, with the sentinel behind them; both replicas hold this log."""
    story = Story(not_applicable={}).tell("0>s(A) 0<s(A)@0 0>s(B) 0<s(B)@1")
    story.drain("[A,B]", rules={"D4": ready}, finish=False)
    for node in NODES:
        dump(story, folder, node, log)
    return check_replica_log(gather(story.finish().history(), folder))


def test_one_copy_was_promised_and_one_there_must_be(tmp_path: Path) -> None:
    assert types(read_and_logged(tmp_path, "0:t1:A 1:t1:B 2:t1:r/9/1")) == set()
    assert types(read_and_logged(tmp_path, "0:t1:A 1:t1:X 2:t1:r/9/1")) == {"under-replicated"}


def test_what_was_read_in_the_end_is_in_a_log_whoever_promised_it(tmp_path: Path) -> None:
    def run(log: str, *, ready: bool = True) -> set[str]:
        story = Story(not_applicable={}).tell("0>s(A) 0<s(A)@0 1>s(B) 1?s(B)")
        story.drain("[A,B]", rules={"D4": ready}, finish=False)
        for node in NODES:
            dump(story, tmp_path, node, log)
        return types(check_replica_log(gather(story.finish().history(), tmp_path)))

    assert run("0:t1:A 1:t1:B 2:t1:r/9/1") == set()
    assert run("0:t1:A 1:t1:X 2:t1:r/9/1") == {"index-mismatch"}
    assert run("0:t1:A 1:t1:X 2:t1:r/9/1", ready=False) == set(), "nobody knows that these are the last logs"


def test_a_message_stands_in_the_logs_where_readers_found_it(tmp_path: Path) -> None:
    record = read_and_logged(tmp_path, "0:t1:B 1:t1:A 2:t1:r/9/1")
    assert types(record) == {"index-mismatch"}
    assert record.counts["index-mismatch"] == 4  # two records on two replicas
    assert "r/0/B at 0 on broker-a-0 is entry 0 of t/broker-a/0, but readers found it at 1" in record.anomalies[0].text
    assert record.anomalies[0].core
    undecided = read_and_logged(tmp_path, "0:t1:B 1:t1:A 2:t1:r/9/1", ready=False)
    assert "index-mismatch" not in types(undecided)


def test_a_record_that_does_not_tell_of_its_index_proves_nothing(tmp_path: Path) -> None:
    story = Story(not_applicable={})
    story.step("D4")
    for node in NODES:
        dump(story, tmp_path, node, "0:t1:A")
        path = tmp_path / story.events[-1].value["file"]
        with LineWriter(path) as out:
            out.write_all([{**line, "x": None} for line in records("0:t1:A")])
    record = check_replica_log(gather(story.finish().history(), tmp_path))
    assert record.valid is Validity.UNKNOWN
    assert "do not tell whether their queue's index points to them" in record.reasons[0]


def test_a_lost_value_that_a_replica_still_has_is_stranded(tmp_path: Path) -> None:
    story = Story(not_applicable={}).tell("0>s(A) 0<s(A)@0").drain("[]", finish=False)
    dump(story, tmp_path, NODES[0], "0:t1:A")
    dump(story, tmp_path, NODES[1], "0:t1:A")
    assert "stranded" in types(check_replica_log(gather(story.finish().history(), tmp_path)))


def test_a_missing_or_broken_dump_is_unknown(tmp_path: Path) -> None:
    story = Story(not_applicable={})
    dump(story, tmp_path, NODES[0], "0:t1:A")
    record = check_replica_log(gather(story.finish().history(), tmp_path))
    assert record.valid is Validity.UNKNOWN
    assert "no log dump of broker-a-1" in record.reasons[0]
    record = check(tmp_path, "0:t1:A", "0:t1:A", complete=False)
    assert record.valid is Validity.UNKNOWN
    story = Story(not_applicable={})
    dump(story, tmp_path, NODES[0], "0:t1:A", file="gone.jsonl.zst")
    dump(story, tmp_path, NODES[1], "0:t1:A")
    assert check_replica_log(gather(story.finish().history(), tmp_path)).valid is Validity.UNKNOWN


@pytest.mark.parametrize("changed", [b"", None])
def test_a_dump_file_that_is_not_the_recorded_one_proves_nothing(tmp_path: Path, changed: bytes | None) -> None:
    """Emptied, or another run's: what is not in it was not lost by the cluster."""
    (tmp_path / "other").mkdir()
    dump(Story(), tmp_path / "other", NODES[1], "0:t1:B")
    (other,) = (tmp_path / "other").iterdir()
    story = Story(not_applicable={})
    for rule in ("D2", "D4", "D7", "D10"):
        story.step(rule, ok=True)
    dump(story, tmp_path, NODES[0], "0:t1:A", commit=1)
    dump(story, tmp_path, NODES[1], "0:t1:A", commit=1, file="n.jsonl.zst")
    recorded = next(path for path in tmp_path.iterdir() if path.name.startswith(NODES[1])).read_bytes()
    story.events[-1].value["digest"] = hashlib.blake2b(recorded, digest_size=16).hexdigest()
    history = story.finish().history()

    def judged(data: bytes) -> Record:
        (tmp_path / "n.jsonl.zst").write_bytes(data)
        return check_replica_log(gather(history, tmp_path))

    assert judged(recorded).valid is Validity.VALID
    record = judged(other.read_bytes() if changed is None else changed)
    assert record.valid is Validity.UNKNOWN
    assert any("is not the file that was recorded" in reason for reason in record.reasons)


def test_records_written_after_the_last_sentinel_may_still_be_on_their_way(tmp_path: Path) -> None:
    def run(*, sentinel_on_both: bool) -> Record:
        story = Story(not_applicable={}).tell("0>s(A) 0<s(A)@0").drain("[A]", finish=False)
        left = "0:t1:A 1:t1:r/9/1 2:t1:retry"
        dump(story, tmp_path, NODES[0], left)
        dump(story, tmp_path, NODES[1], "0:t1:A 1:t1:r/9/1" if sentinel_on_both else "0:t1:A")
        return check_replica_log(gather(story.finish().history(), tmp_path))

    assert run(sentinel_on_both=True).valid is Validity.VALID
    assert types(run(sentinel_on_both=False)) == {"unreconciled-tail"}
