"""C7 and C12 for Raft groups: byte offsets as indices, terms by number, and every replica's own commit position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkers.dirty_reads import check_dirty_reads
from checkers.facts import gather
from checkers.leaders import check_leaders
from checkers.positions import check_positions
from checkers.replica_log import check_replica_log
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import ADDRESS, THREE, A, B, C, RaftStory
from tests.unit.checkers.story import QUEUE
from tests.unit.checkers.test_replica_log import SIZE, dump

FULL = "0:t1:A 1:t1:B 2:t2:C"
TABLE = [[1, A, 0], [2, B, 2 * SIZE]]


def told(
    folder: Path, logs: dict[str, str], *, ready: bool = True, story: RaftStory | None = None, **how: Any
) -> Record:
    """Dump each node's log; `how` gives the options of `dump`, by node where a dict."""
    story = story or RaftStory()
    for rule in ("D2", "D4", "D7", "D10"):
        story.step(rule, ok=ready or rule != "D4")
    story.now += 1000
    for node, text in logs.items():
        options = {key: value[node] if isinstance(value, dict) else value for key, value in how.items()}
        dump(story, folder, node, text, **{"commit": 3, "epochs": TABLE, **options})
    return check_replica_log(gather(story.finish().history(), folder))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def test_three_equal_logs_agree(tmp_path: Path) -> None:
    record = told(tmp_path, dict.fromkeys(THREE, FULL))
    assert record.valid is Validity.VALID, record.reasons
    assert len(record.details["agreement"]["broker-a"]) == 3


def test_a_member_indexes_what_it_knows_to_be_committed(tmp_path: Path) -> None:
    """The last heartbeat tells of the rest: nothing is wrong with a record above the commit, and nothing is known."""
    logs = {**dict.fromkeys(THREE, FULL), C: FULL + "!"}
    assert types(told(tmp_path, logs)) == {"index-mismatch"}
    late = told(tmp_path, logs, commit={A: 3, B: 3, C: 2})
    assert types(late) == set()
    assert types(late, Severity.UNDECIDED) == {"index-mismatch"}
    assert late.valid is Validity.UNKNOWN


def test_replicas_that_call_different_records_committed_have_diverged(tmp_path: Path) -> None:
    """Planted: a conflicting tail is not cut."""
    other = {**dict.fromkeys(THREE, FULL), C: "0:t1:A 1:t1:B 2:t1:D"}
    tables = {A: TABLE, B: TABLE, C: TABLE[:1]}
    assert "committed-divergence" in types(told(tmp_path, other, epochs=tables))
    near = told(tmp_path, other, epochs=tables, commit={A: 3, B: 3, C: 2}, ready=False)
    assert types(near) == set()
    assert near.valid is Validity.UNKNOWN, "an uncommitted tail before the cluster had settled"


def test_a_commit_by_counting_an_old_term_shows_as_a_lost_commit(tmp_path: Path) -> None:
    """Planted: Figure 8. A committed its record of term 1 by counting copies; a later leader overwrote it."""
    story = RaftStory().status(A, "leader", 3, commit=3 * SIZE, end=3 * SIZE)
    record = told(tmp_path, dict.fromkeys(THREE, "0:t1:A 1:t1:B"), commit=2, epochs=TABLE[:1], story=story)
    assert types(record) == {"truncated-commit"}
    assert record.anomalies[0].core[0] < record.anomalies[0].core[1]
    story = RaftStory().status(A, "leader", 3, commit=2 * SIZE, end=3 * SIZE)
    near = told(tmp_path, dict.fromkeys(THREE, "0:t1:A 1:t1:B"), commit=2, epochs=TABLE[:1], story=story)
    assert near.valid is Validity.VALID, near.reasons


def test_what_any_member_called_committed_is_not_replaced_by_a_later_term(tmp_path: Path) -> None:
    """Planted: a leader without what was committed makes the others cut it; the log has grown past it again since."""
    logs, later = dict.fromkeys(THREE, "0:t1:A 1:t1:B 2:t3:C 3:t3:D"), [[1, A, 0], [3, B, 2 * SIZE]]
    story = RaftStory().status(C, "follower", 2, commit=3 * SIZE, end=3 * SIZE)
    record = told(tmp_path, logs, commit=4, epochs=later, story=story)
    assert types(record) == {"truncated-commit"}
    assert record.counts["truncated-commit"] == 3
    assert f"{C} of broker-a had called {3 * SIZE} committed in term 2" in record.anomalies[0].text
    for near in (
        RaftStory().status(C, "follower", 2, commit=2 * SIZE, end=3 * SIZE),  # no more than what is left
        RaftStory().status(C, "follower", 3, commit=3 * SIZE, end=3 * SIZE),  # of that very term
    ):
        assert told(tmp_path, logs, commit=4, epochs=later, story=near).valid is Validity.VALID
    excused = RaftStory().status(C, "follower", 2, commit=3 * SIZE, end=3 * SIZE)
    excused.fault("d", "destroy:rejoin", targets=[A]).fault("d", "destroy:rejoin", "heal", targets=[A])
    assert types(told(tmp_path, logs, commit=4, epochs=later, story=excused)) == set()


def test_a_commit_position_beyond_the_end_of_a_dump_is_a_violation(tmp_path: Path) -> None:
    record = told(tmp_path, dict.fromkeys(THREE, FULL), commit={A: 3, B: 3, C: 4})
    assert "commit-beyond-end" in types(record)


def test_a_record_before_the_first_known_term_is_a_violation(tmp_path: Path) -> None:
    record = told(tmp_path, dict.fromkeys(THREE, FULL), epochs=[[2, B, 2 * SIZE]])
    assert types(record) == {"term-table-mismatch"}
    trimmed = told(tmp_path, dict.fromkeys(THREE, "1:t1:B 2:t2:C"), epochs=[[2, B, 2 * SIZE]])
    assert types(trimmed) == set(), "what a trimmed log begins with may be of a term whose start was trimmed too"


def test_a_member_that_joined_and_was_not_dumped_makes_it_unknown(tmp_path: Path) -> None:
    story = RaftStory()
    change = {"group": "broker-a", "voters": [*THREE, "broker-a-3"], "learners": [], "quorum": 3}
    story.add("lab", "info", "membership", change)
    record = told(tmp_path, dict.fromkeys(THREE, FULL), story=story)
    assert record.valid is Validity.UNKNOWN
    assert "broker-a-3" in " ".join(record.reasons)


def test_a_tail_without_any_sentinel_before_it_is_no_late_write(tmp_path: Path) -> None:
    logs = {**dict.fromkeys(THREE, FULL), C: "0:t1:A 1:t1:B"}
    tables = {A: TABLE, B: TABLE, C: TABLE[:1]}
    record = told(tmp_path, logs, epochs=tables, commit={A: 2, B: 2, C: 2})
    assert "unreconciled-tail" in types(record, Severity.UNDECIDED)
    assert record.valid is Validity.UNKNOWN, "it may be a sentinel that was never answered"


def test_a_node_that_lost_its_disk_may_have_lost_its_commits(tmp_path: Path) -> None:
    story = RaftStory().status(A, "leader", 3, commit=9 * SIZE, end=9 * SIZE)
    story.fault("d", "destroy:rejoin", targets=[A]).fault("d", "destroy:rejoin", "heal", targets=[A])
    assert types(told(tmp_path, dict.fromkeys(THREE, FULL), story=story)) == set()


def test_what_grows_while_it_is_dumped_is_no_lost_commit(tmp_path: Path) -> None:
    story = RaftStory()
    story.phase("load-end")
    story.status(A, "leader", 2, commit=5 * SIZE, end=5 * SIZE)
    assert told(tmp_path, dict.fromkeys(THREE, FULL), story=story).valid is Validity.VALID


def test_two_records_of_one_term_are_a_violation_whoever_led_it(tmp_path: Path) -> None:
    logs = {A: "0:t1:A 1:t2:B", B: "0:t1:A 1:t2:X", C: "0:t1:A"}
    tables = {A: [[1, A, 0], [2, A, SIZE]], B: [[1, A, 0], [2, B, SIZE]], C: [[1, A, 0]]}
    record = told(tmp_path, logs, epochs=tables, commit=1, ready=False)
    assert {"matching-violation", "term-table-mismatch"} <= types(record)


def test_two_terms_cannot_begin_at_one_place(tmp_path: Path) -> None:
    logs = dict.fromkeys(THREE, "0:t2:A 1:t2:B 2:t2:C")
    assert "term-table-mismatch" in types(told(tmp_path, logs, epochs=[[1, A, 0], [2, B, 0]]))
    assert told(tmp_path, logs, epochs=[[2, B, 0]]).valid is Validity.VALID


def test_a_replica_need_not_know_who_led_an_old_term(tmp_path: Path) -> None:
    unknown = [[1, "", 0], [2, "", 2 * SIZE]]
    record = told(tmp_path, dict.fromkeys(THREE, FULL), epochs={A: TABLE, B: unknown, C: TABLE})
    assert record.valid is Validity.VALID, record.reasons
    moved = [[1, "", 0], [2, "", SIZE]]
    record = told(tmp_path, dict.fromkeys(THREE, FULL), epochs={A: TABLE, B: moved, C: TABLE})
    assert "term-table-mismatch" in types(record)


@pytest.mark.parametrize(
    ("how", "words"),
    [({"commit": None}, "does not say how far it is committed"), ({"epochs": []}, "has no table of terms")],
)
def test_a_dump_without_commit_or_terms_is_unknown(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    record = told(tmp_path, dict.fromkeys(THREE, FULL), **how)
    assert record.valid is Validity.UNKNOWN
    assert any(words in reason for reason in record.reasons)


def test_a_missing_replica_is_unknown(tmp_path: Path) -> None:
    assert told(tmp_path, {A: FULL, B: FULL}).valid is Validity.UNKNOWN


JUNK: tuple[Any, ...] = (None, True, -1, 2**70, 0.5, "x", [], {}, [[]], [[1, A]], [[1, A, "x"]], ["ab", "cd", "efg"])


@pytest.mark.parametrize("key", ["begin", "end", "commit", "epochs", "group", "node", "file", "complete"])
def test_junk_in_a_dump_event_is_never_valid_and_never_crashes(tmp_path: Path, key: str) -> None:
    for junk in JUNK:
        story = RaftStory()
        told(tmp_path, dict.fromkeys(THREE, FULL), story=story)
        dumps = [event for event in story.events if event.f == "dump"]
        dumps[1].value[key] = junk
        facts = gather(story.history(), tmp_path)
        record = check_replica_log(facts)
        same = key == "complete" and junk is True
        assert same or record.valid is not Validity.VALID, (key, junk)


@pytest.mark.parametrize("line", [b"{}\n", b"\xff\xfe\n", b'{"o":' + b"9" * 25 + b',"s":1,"d":"x","t":1}\n', b"[1,2"])
def test_junk_in_a_dump_file_makes_it_unusable(tmp_path: Path, line: bytes) -> None:
    story = RaftStory()
    told(tmp_path, dict.fromkeys(THREE, FULL), story=story)
    dumped = next(event for event in story.events if event.f == "dump")
    dumped.value["file"] = "junk.jsonl"
    (tmp_path / "junk.jsonl").write_bytes(line)
    record = check_replica_log(gather(story.history(), tmp_path))
    assert record.valid is not Validity.VALID
    assert any("not usable" in reason for reason in record.reasons)


def dirty(story: RaftStory, content: str, **how: Any) -> Record:
    return check_dirty_reads(gather(story.drain(content, **how).history()))


def failed_over(read: str) -> RaftStory:
    """A message of unknown outcome is read, then another node leads and takes over."""
    story = RaftStory().say(f"0>s(a) 0<s(a)@0 1>s(x) 1?s(x) 2>poll 2<poll={read}").lead(B, 2)
    return story.say("3>s(b) 3<s(b)@1")


def test_a_read_above_the_commit_that_an_election_took_back_is_a_violation() -> None:
    """Planted: reads above commit. In a master/slave group a promotion would excuse it, as nothing was promised."""
    record = dirty(failed_over("[0:a,1:x]"), "[a,b]")
    assert types(record) == {"unacked-dirty-read"}
    assert record.valid is Validity.INVALID
    assert dirty(failed_over("[0:a]"), "[a,b]").valid is Validity.VALID


def test_the_loss_of_too_many_disks_excuses_what_had_no_promise() -> None:
    story = failed_over("[0:a,1:x]")
    story.fault("d", "destroy:rejoin", targets=[A]).fault("d", "destroy:rejoin", "heal", targets=[A])
    record = dirty(story, "[a,b]")
    assert types(record) == set()
    assert types(record, Severity.NOTE) == {"unacked-dirty-read"}
    story = failed_over("[0:a,1:x]")
    story.fault("p", "power", targets=THREE).fault("p", "power", "heal", targets=THREE)
    assert types(dirty(story, "[a,b]")) == {"unacked-dirty-read"}, "with SYNC_FLUSH power loss takes nothing away"


def test_a_member_that_is_removed_takes_nothing_committed_with_it() -> None:
    story = failed_over("[0:a,1:x]").fault("m", "remove", targets=[C])
    assert types(dirty(story, "[a,b]", excluded=(C,))) == {"unacked-dirty-read"}


def test_reads_of_a_queue_without_a_decidable_drain_are_unknown() -> None:
    assert dirty(failed_over("[0:a]"), "[a,b]", rules={"D4": False}).valid is Validity.UNKNOWN


def terms_of_answers(folder: Path, logs: dict[str, str]) -> tuple[list[int], set[str], bool]:
    """Two promises whose answers name no term, the second by B: the terms they are given, C8's and C9's findings, and
    whether C8 could decide."""
    story = RaftStory().asked(end=1000)
    story.epoch = None
    story.say("0>s(A) 0<s(A)@0").asked(2, B, end=1000, queues={QUEUE: [0, 1]})
    story.node = ADDRESS[B]
    story.say("0>s(B) 0<s(B)@1").asked(2, B, end=1000, queues={QUEUE: [0, 2]})
    for rule in ("D2", "D4", "D7", "D10"):
        story.step(rule)
    for node, text in logs.items():
        dump(story, folder, node, text, commit=2, epochs=[])
    facts = gather(story.history(), folder)
    record = check_leaders(facts)
    found = {one.type for one in (*record.anomalies, *check_positions(facts).anomalies)}
    blind = any("do not tell" in reason and "SEND_OK" in reason for reason in record.reasons)
    return facts.send_term[facts.promised].tolist(), found, blind


def test_an_answer_without_a_term_is_of_the_term_of_its_record(tmp_path: Path) -> None:
    """A leader answers only for what it appended itself, and the term stands in the record."""
    assert terms_of_answers(tmp_path, dict.fromkeys(THREE, "0:t1:A 1:t2:B")) == ([1, 2], set(), False)


def test_a_second_leader_of_a_term_is_seen_by_records_alone(tmp_path: Path) -> None:
    """Planted: B answers for a record of the term that A leads."""
    terms, found, _ = terms_of_answers(tmp_path, dict.fromkeys(THREE, "0:t1:A 1:t1:B"))
    assert terms == [1, 1]
    assert "two-leaders-one-term" in found


@pytest.mark.parametrize(
    "logs",
    [
        {A: "0:t1:A 1:t2:B", B: "0:t1:A 1:t3:B"},  # the replicas do not agree on its term
        {A: "0:t1:A 1:t2:C"},  # another record stands in its place
        {},
    ],
)
def test_a_record_that_tells_nothing_leaves_its_answer_without_a_term(tmp_path: Path, logs: dict[str, str]) -> None:
    terms, _, blind = terms_of_answers(tmp_path, logs)
    assert terms[1] == -1
    assert blind, "and C8 says that it could not judge it"
