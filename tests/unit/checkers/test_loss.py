"""C16: which fault a loss is laid to, by the terms of the group, and what each fault cost."""

from __future__ import annotations

from pathlib import Path

from checkers.compose import judge
from checkers.facts import gather
from checkers.loss import check_loss
from checkers.report.terminal import render_text
from checkers.verdict import Record
from tests.unit.checkers.raft import THREE, A, B, RaftStory
from tests.unit.checkers.story import MS
from tests.unit.checkers.test_replica_log import SIZE, dump


def c16(story: RaftStory, folder: Path) -> Record:
    return check_loss(gather(story.history(), folder))


def lost(record: Record) -> dict[str, int]:
    return {row["fault"]: row["lost SEND_OK"] for row in record.details["losses"] if row["lost SEND_OK"]}


def two_faults(folder: Path, *, logged: bool = True) -> RaftStory:
    """A leads term 1 and is cut off; B leads term 2 meanwhile, A goes on acknowledging b and c; later a follower dies
    and term 3 comes, which has cut nothing of theirs."""
    story = RaftStory().at(1).tell("0>s(a) 0<s(a)@0")
    story.at(2).fault("cut", "partition", targets=[A])
    story.at(3)
    story.lead(B, 2).at(3).tell("1>s(x) 1<s(x)@1")
    story.lead(A, 1).at(3.5).tell("2>s(b) 2<s(b)@1 2>s(c) 2<s(c)@2")
    story.at(4).fault("cut", "partition", "heal", targets=[A])
    story.at(6).fault("kill", "kill", targets=[A])
    story.lead(B, 3).at(7).tell("3>s(y) 3<s(y)@2")
    story.at(8).fault("kill", "kill", "heal", targets=[A])
    story.at(9).drain("[a,x,y]", finish=False)
    if logged:
        table = [[1, A, 0], [2, B, SIZE], [3, B, 2 * SIZE]]
        for node in THREE:
            story.now += MS
            dump(story, folder, node, "0:t1:a 1:t2:x 2:t3:y", commit=3, epochs=table)
    story.finish()
    return story


def test_a_loss_belongs_to_the_fault_around_the_change_of_term_that_took_its_log_over(tmp_path: Path) -> None:
    record = c16(two_faults(tmp_path), tmp_path)
    assert lost(record) == {"cut": 2}
    (change,) = record.details["taken over"]
    assert (change["term"], change["fault"], change["lost"]) == (2, "cut", 2)
    assert 2.9 < change["at"][0] <= change["at"][1] < 3.1
    row = next(row for row in record.details["losses"] if row["fault"] == "cut")
    assert row["acked_during_lost"] == 2
    assert row["longest_run"] == 2


def test_a_term_that_left_no_record_has_taken_nothing_over(tmp_path: Path) -> None:
    """Term 2 acknowledged x and left nothing: by the logs the change that cost b and c was that to term 3."""
    story = two_faults(tmp_path, logged=False)
    assert lost(c16(story, tmp_path)) == {"cut": 2}  # without logs the next term that served counts
    story = two_faults(tmp_path, logged=False)
    for node in THREE:
        story.now += MS
        dump(story, tmp_path, node, "0:t1:a 1:t3:y", commit=2, epochs=[[1, A, 0], [3, B, SIZE]])
    assert lost(c16(story, tmp_path)) == {"kill": 2}


def test_a_loss_without_a_change_of_term_belongs_to_the_first_fault_that_could_touch_it(tmp_path: Path) -> None:
    story = RaftStory().at(1).tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1")
    story.at(2).fault("f1", "kill", targets=[B]).at(3).fault("f1", "kill", "heal", targets=[B])
    story.at(5).fault("f2", "kill", targets=[B]).at(6).fault("f2", "kill", "heal", targets=[B])
    story.at(9).drain("[a]")
    record = c16(story, tmp_path)
    assert lost(record) == {"f1": 1}
    assert record.details["taken over"] == []


def test_a_loss_that_no_fault_explains_is_told_so(tmp_path: Path) -> None:
    story = RaftStory().at(1).tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1").at(9).drain("[a]")
    assert lost(c16(story, tmp_path)) == {"unattributed": 1}


def test_the_report_tells_which_change_of_leader_cost_what(tmp_path: Path) -> None:
    text = render_text(judge(two_faults(tmp_path).history(), tmp_path))
    assert "What changes of leader cost" in text
    assert "broker-a     2  3.00–3.00 s  cut       2" in text
