"""Every anomaly type has the smallest history that must be caught, and a near miss that must pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkers.compose import CHECKERS, Budget, Checker, judge, run_checker
from checkers.facts import gather
from checkers.fault_proof import check_fault_proof
from checkers.history import LineWriter
from checkers.queue_log import check_queue_log
from checkers.total_queue import check_total_queue
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.planted import c1, two, types
from tests.unit.checkers.story import GROUP, MS, NODES, QUEUE, Story, value


def c6(story: Story) -> Record:
    return check_queue_log(gather(story.history()))


CASES: list[tuple[str, Callable[[], Story], Callable[[], Story]]] = [
    (
        "inconsistent-offsets",
        lambda: two("1>poll 1<poll=[0:b]"),
        lambda: two("1>poll 1<poll=[1:b]"),
    ),
    (
        "duplicate",
        lambda: two("1>poll 1<poll=[1:b] 2>poll 2<poll=[2:b]"),
        lambda: two("1>poll 1<poll=[1:b] 2>poll 2<poll=[1:b]"),
    ),
    (
        "int-poll-skip",
        lambda: two("0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a,2:c]"),
        lambda: two("0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a,1:b,2:c]"),
    ),
    (
        "int-nonmonotonic-poll",
        lambda: two("1>poll 1<poll=[1:b,0:a]"),
        lambda: two("1>poll 1<poll=[0:a,1:b]"),
    ),
    (
        "hole",
        lambda: Story().tell("0>s(a) 0<s(a)@0 0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a,2:c]"),
        lambda: Story().tell("0>s(a) 0<s(a)@0 0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a] 1>poll 1<poll=[2:c]"),
    ),
    (
        "nonmonotonic-poll",
        lambda: two("1>poll 1<poll=[0:a,1:b] 1>poll 1<poll=[0:a]"),
        lambda: two("1>poll 1<poll=[0:a,1:b] 1>seek@0 1<poll=[0:a]"),
    ),
    (
        "poll-skip",
        lambda: two("0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a] 1>poll 1<poll=[2:c]"),
        lambda: two("0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a] 1>poll 1<moved 1>poll 1<poll=[2:c]").drain("[a,b,c]"),
    ),
    (
        "poll-skip",
        lambda: two("1>seek@0 1<poll=[1:b]").drain("[a,b]"),
        lambda: two("1>seek@1 1<poll=[1:b]").drain("[a,b]"),
    ),
    (
        "poll-skip",
        lambda: two("0>s(c) 0<s(c)@5 1>read@1 1<read=[5:c]"),
        lambda: two("0>s(c) 0<s(c)@5 1>read@3 1<read=[5:c]"),
    ),
    (
        "nonmonotonic-poll",
        lambda: two("1>read@1 1<read=[0:a]"),
        lambda: two("1>read@1 1<read=[1:b]"),
    ),
    (
        "nonmonotonic-send",
        lambda: Story().tell("0>s(a) 0<s(a)@1 0>s(b) 0<s(b)@0"),
        lambda: Story().tell("0>s(a) 0<s(a)@1 1>s(b) 1<s(b)@0"),
    ),
    (
        "G1a",
        lambda: Story().tell("0>s(a) 0xs(a) 1>poll 1<poll=[0:a]"),
        lambda: Story().tell("0>s(a) 0?s(a) 1>poll 1<poll=[0:a]"),
    ),
    (
        "future-read",
        lambda: Story().tell("1>poll 1<poll=[0:a] 0>s(a) 0<s(a)@0"),
        lambda: Story().tell("1>poll 0>s(a) 1<poll=[0:a] 0<s(a)@0"),
    ),
    (
        "lost-write",
        lambda: two("0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a] 2>poll 2<poll=[2:c]"),
        lambda: two("0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a] 2>poll 2<poll=[2:c] 3>poll 3?poll=[1:b]"),
    ),
]


@pytest.mark.parametrize(("kind", "bad", "good"), CASES, ids=[case[0] for case in CASES])
def test_queue_log_anomaly_and_its_near_miss(kind: str, bad: Callable[[], Story], good: Callable[[], Story]) -> None:
    record = c6(bad())
    assert kind in types(record)
    found = next(anomaly for anomaly in record.anomalies if anomaly.type == kind)
    assert found.core
    assert kind not in types(c6(good()))
    assert c6(good()).valid is not Validity.INVALID or kind == "nonmonotonic-send"


def test_a_value_in_a_queue_it_was_not_sent_to() -> None:
    story = Story(topics={"t": {GROUP: 2}}).tell("0>s(a) 0<s(a)@0")
    story.queue = "t/broker-a/1"
    assert types(c6(story.tell("1>poll 1<poll=[0:a]"))) == {"cross-queue"}
    story = Story().tell("0>s(a) 0<s(a)@0")
    story.queue = "%RETRY%g/broker-a/0"
    assert types(c6(story.tell("1>poll 1<poll=[9:a]"))) == set()


@pytest.mark.parametrize(("attempts", "named", "violated"), [(3, False, False), (1, False, True), (3, True, True)])
def test_a_library_that_chose_queues_may_have_left_a_copy_in_another(
    attempts: int, named: bool, violated: bool
) -> None:
    """The attempt before may have been stored without an answer; a single one, or one for this queue, may not."""
    story = Story(topics={"t": {GROUP: 2}})
    asked = {"queue": "t/broker-a/1"} if named else {}
    story.add(0, "invoke", "send", value("a"), **asked)
    story.now += MS
    answer = {"queue": "t/broker-a/1", "offset": 0, "status": "SEND_OK", "ack": "local", "epoch": 1}
    story.add(0, "ok", "send", value("a"), node="broker-a-0:10911", attempts=attempts, **answer)
    for queue in ("t/broker-a/0", "t/broker-a/1"):
        story.queue = queue
        story.tell("1>poll 1<poll=[0:a]")
    found = judge(story.history(), only=["C4", "C6"])
    wrong = {one.type for record in found.records for one in record.anomalies if one.severity is Severity.VIOLATION}
    assert wrong == ({"cross-queue", "fresh"} if violated else set())


def test_batches_keep_their_order() -> None:
    def batch(offsets: list[int]) -> Story:
        story = Story()
        values = [value("a"), value("b")]
        story.add(0, "invoke", "send", values, queue=QUEUE)
        story.add(0, "ok", "send", values, queue=QUEUE, offset=offsets, status="SEND_OK", ack="local")
        return story

    assert "int-nonmonotonic-send" in types(c6(batch([1, 0])))
    assert types(c6(batch([0, 1]))) == set()
    story = batch([0, 2]).tell("1>s(c) 1<s(c)@1")
    assert types(c6(story)) == set()
    assert "int-send-skip" in types(c6(story), Severity.NOTE)


def test_a_batch_that_was_partly_lost_is_a_loss() -> None:
    def run(offsets: list[int], content: str) -> Validity:
        story = Story()
        values = [value(name) for name in "abc"]
        story.add(0, "invoke", "send", values, queue=QUEUE)
        story.add(0, "ok", "send", values, queue=QUEUE, offset=offsets, status="SEND_OK", ack="local")
        return judge(story.drain(content, top=3).events).valid

    assert run([0, 1, 2], "[a,b,c]") is Validity.VALID
    assert run([0, 1, 2], "[0:a,2:c]") is Validity.INVALID
    assert run([0, 1], "[a,b,c]") is Validity.UNKNOWN, "an answer of another shape"
    assert run([0, 1, 2, 3], "[a,b,c]") is Validity.UNKNOWN


def test_key_order_of_an_orderly_group() -> None:
    def handled(first: str, second: str) -> Story:
        story = Story()
        for place, name in enumerate("ab"):
            story.tell(f"0>s({name})")
            story.events[-1].key = "k"
            story.tell(f"0<s({name})@{place}")
        for name in (first, second):
            story.tell(f"5>handle=[{'ab'.index(name)}:{name}] 5<handle")
            story.events[-1].orderly = True
        return story

    record = c6(handled("b", "a"))
    assert "key-order" in types(record)
    assert len(next(one for one in record.anomalies if one.type == "key-order").core) == 8
    assert types(c6(handled("a", "b"))) == set()


def test_exactly_once_forbids_handling_twice() -> None:
    tale = "0>s(a) 0<s(a)@0 5>handle=[0:a] 5<handle 5>handle=[0:a] 5<handle"
    assert "consume-count" in types(c6(Story(exactly_once=True).tell(tale)))
    assert "consume-count" in types(c6(Story().tell(tale)), Severity.NOTE)


def test_lag_is_measured_as_a_lower_bound() -> None:
    story = two("")
    story.tell("1>poll 1<poll=[0:a]").at(3.0).tell("1>poll 1<poll=[]")
    record = c6(story)
    assert record.metrics["largest lag s"] == pytest.approx(2.997, abs=0.001)


# ---- C0: what the history does not tell


def test_a_group_that_nobody_wrote_to_shows_nothing() -> None:
    groups = {GROUP: {"nodes": NODES, "copies": 1}, "broker-b": {"nodes": ["b-0"], "copies": 1}}
    verdict = judge(Story(groups=groups, gates={"send_ok": 1}).tell("0>s(a) 0<s(a)@0").drain("[a]").events)
    assert verdict.valid is Validity.UNKNOWN
    assert any("no send to broker-b was answered SEND_OK" in reason for reason in verdict.why)


def test_a_kill_is_contradicted_by_answers_of_the_life_it_ended_and_by_no_other() -> None:
    def run(incarnation: int) -> Validity:
        story = two("")
        said = {"node": NODES[0], "group": GROUP, "answered": True, "role": "SYNC_MASTER", "state": "serving"}
        story.add("lab", "info", "status", {**said, "incarnation": 1, "t_asked": story.now - 1})
        story.now += 1
        story.fault("k", "kill", targets=[NODES[0]])
        story.now += 10
        story.add("lab", "info", "status", {**said, "incarnation": incarnation, "t_asked": story.now - 5})
        story.now += 1
        story.fault("k", "kill", "heal", targets=[NODES[0]])
        return judge(story.drain("[a,b]").events).valid

    assert run(2) is Validity.VALID
    assert run(1) is Validity.UNKNOWN


def test_a_destruction_is_contradicted_by_answers_of_what_it_destroyed() -> None:
    story = two("")
    said = {"node": NODES[0], "group": GROUP, "answered": True, "role": "SYNC_MASTER", "state": "serving"}
    story.add("lab", "info", "status", {**said, "incarnation": 1, "t_asked": story.now - 1})
    story.now += 1
    story.fault("d", "destroy", targets=[NODES[0]])
    story.now += 10
    story.add("lab", "info", "status", {**said, "incarnation": 1, "t_asked": story.now - 5})
    story.now += 1
    record = check_fault_proof(gather(story.drain("[a,b]", excluded=(NODES[0],)).history()))
    assert types(record, Severity.UNDECIDED) == {"no-effect"}


@pytest.mark.parametrize(
    ("kind", "life", "late", "mode", "seen"),
    [
        ("kill", 2, False, "assign", True),
        ("kill", 3, False, "assign", False),  # it was started twice, so it may have answered in between
        ("kill", 2, True, "assign", False),  # when its healing had begun
        ("kill", 2, False, "subscribe", False),  # recorded when it was over; nobody knows when it began
        ("pause", 1, False, "assign", True),
        ("pause", 2, False, "assign", False),
    ],
)
def test_a_fault_is_contradicted_by_what_its_victim_answers_to_clients(
    kind: str, life: int, late: bool, mode: str, seen: bool
) -> None:
    story = Story(addresses={f"{NODES[0]}:10911": NODES[0]}, mode=mode).tell("0>s(a) 0<s(a)@0")
    said = {"node": NODES[0], "group": GROUP, "answered": True, "role": "SYNC_MASTER", "state": "serving"}

    def asked(incarnation: int) -> None:
        story.now += 10
        story.add("lab", "info", "status", {**said, "incarnation": incarnation, "t_asked": story.now - 5})
        story.now += 1

    def polled() -> None:
        story.tell("1>poll 1<poll=[0:a]")
        story.events[-1].node = f"{NODES[0]}:10911"

    asked(1)
    story.fault("f", kind, targets=[NODES[0]])
    if not late:
        polled()
    story.now += 1
    story.fault("f", kind, "heal", targets=[NODES[0]])
    if late:
        polled()
    asked(life)
    record = check_fault_proof(gather(story.drain("[a]").history()))
    assert types(record, Severity.UNDECIDED) == ({"no-effect"} if seen else set())


@pytest.mark.parametrize(
    ("cut", "healed", "beside", "found"),
    [
        ("0", "1", False, set()),
        ("1", "1", False, {"unproven-injection"}),  # what it cuts passes all the same
        ("0", "0", False, {"unproven-heal"}),
        ("0", "0", True, set()),  # by another cut, which began while the healing was being proven
    ],
)
def test_a_cut_is_held_against_the_pictures_of_its_proofs(cut: str, healed: str, beside: bool, found: set[str]) -> None:
    story = two("")

    def picture(passes: str) -> None:
        flows = [f"-{passes}", "1-"]
        evidence = {"hosts": [NODES[0], NODES[1]], "new_flows": flows, "established_flows": flows}
        story.events[-1].value["evidence"] = evidence

    story.fault("p", "partition", targets=[NODES[0]])
    story.events[-1].value["cut"] = [[NODES[0], NODES[1]]]
    picture(cut)
    story.fault("p", "partition", "heal", targets=[NODES[0]])
    picture(healed)
    story.events[-1].value["t_done"] = story.now - 1000
    if beside:
        story.events[-1].time += 10_000
        last = story.events.pop()
        story.now -= 500
        story.fault("q", "partition", targets=[NODES[0]], lasts=0)
        story.events[-1].value["cut"] = [[NODES[0], NODES[1]]]
        story.now = last.time
        story.events.append(last)
        last.index = len(story.events) - 1
        story.fault("q", "partition", "heal", targets=[NODES[0]])
    record = check_fault_proof(gather(story.drain("[a,b]").history()))
    assert types(record, Severity.UNDECIDED) == found


@pytest.mark.parametrize(
    ("kind", "found"),
    [("partition", {"unhealed"}), ("blackhole", {"unhealed"}), ("pause", {"unhealed"}), ("kill", set())],
)
def test_a_cut_or_a_pause_that_was_meant_to_last_goes_on_until_it_is_healed(kind: str, found: set[str]) -> None:
    story = two("").fault("f", kind, targets=[NODES[0]])
    for event in story.events[-2:]:
        event.value["permanent"] = True
    record = check_fault_proof(gather(story.drain("[a,b]").history()))
    assert types(record, Severity.UNDECIDED) == found


def test_a_fault_was_done_before_that_was_recorded() -> None:
    story = two("").fault("k", "kill", targets=[NODES[0]])
    recorded = story.now
    story.events[-1].value["t_done"] = recorded + 10**10
    story.now += 10**9
    story.fault("k", "kill", "heal", targets=[NODES[0]])
    (window,) = gather(story.drain("[a,b]").history()).windows
    assert window.a2 == recorded


def test_a_fault_on_what_the_run_does_not_know_hit_nobody_knows_what() -> None:
    def run(target: str) -> set[str]:
        story = Story(clients=["client-1"], name_servers=["namesrv-1"]).tell("0>s(a) 0<s(a)@0")
        story.fault("k", "kill", targets=[target])
        story.fault("k", "kill", "heal", targets=[target])
        return types(check_fault_proof(gather(story.drain("[a]").history())), Severity.UNDECIDED)

    assert run(NODES[0]) == run("namesrv-1") == run("client-1") == set()
    assert run("broker-z-0") == {"no-target"}


@pytest.mark.parametrize(
    ("source", "late", "seen"),
    [
        ("client-1", False, True),
        ("client-2", False, False),  # on the other side
        ("lab", False, False),  # the side channel, which nothing cuts
        ("client-1", True, False),  # when its healing had begun
    ],
)
def test_a_cut_is_contradicted_by_answers_across_it(source: str, late: bool, seen: bool) -> None:
    """One direction is enough to lose a question or its answer."""
    story = two("")
    story.fault("p", "partition", targets=["client-1"])
    story.events[-1].value["cut"] = [["namesrv-1", "client-1"]]
    said = {"ns": "namesrv-1", "incarnation": 1, "from": source, "answered": True, "topic": "t", "groups": {}}

    def answer() -> None:
        story.now += 10
        story.add("lab", "info", "route", {**said, "t_asked": story.now - 5})
        story.now += 1

    if not late:
        answer()
    story.fault("p", "partition", "heal", targets=["client-1"])
    if late:
        answer()
    record = check_fault_proof(gather(story.drain("[a,b]").history()))
    assert types(record, Severity.UNDECIDED) == ({"no-effect"} if seen else set())
    assert record.valid is (Validity.UNKNOWN if seen else Validity.VALID)


# ---- after a manual promotion only SEND_OK is held


def promoted(tale: str, after: str, content: str, before_poll: str = "", top: int | None = None) -> Story:
    story = Story().tell(tale).tell(before_poll)
    story.fault("d", "destroy", targets=[NODES[0]])
    story.promote().tell(after)
    return story.drain(content, excluded=(NODES[0],), top=top)


def whole(story: Story) -> dict[str, Validity]:
    return {record.checker: record.valid for record in judge(story.events).records}


def test_offsets_of_unpromised_values_may_be_given_again_after_a_promotion() -> None:
    story = promoted(
        "0>s(a) 0<s(a)@0 0>s(w) 0<s(w)@1!SLAVE_NOT_AVAILABLE 0>s(u) 0<s(u)@2!SLAVE_NOT_AVAILABLE "
        "0>s(v) 0<s(v)@3!SLAVE_NOT_AVAILABLE",
        "2>s(x) 2<s(x)@1",
        "[a,x]",
        "1>poll 1<poll=[0:a,1:w,2:u,3:v]",
        top=2,
    )
    verdict = judge(story.events)
    assert verdict.valid is Validity.VALID, verdict.why
    assert types(verdict.record("C6"), Severity.NOTE) >= {"inconsistent-offsets"}
    assert types(verdict.record("C12"), Severity.NOTE) == {"unacked-dirty-read", "unacked-vanished-read"}
    record = verdict.record("C1")
    assert record is not None
    assert record.counts["lost-weak (note)"] == 3


def test_two_promised_values_at_one_offset_are_a_violation_after_a_promotion_too() -> None:
    story = promoted("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1", "2>s(x) 2<s(x)@1", "[a,x]")
    assert whole(story)["C6"] is Validity.INVALID
    assert whole(story)["C1"] is Validity.INVALID


def test_without_a_promotion_a_clash_is_a_violation_whatever_the_status() -> None:
    story = Story().tell("0>s(w) 0<s(w)@0!FLUSH_DISK_TIMEOUT 2>s(x) 2<s(x)@0").drain("[x]")
    assert whole(story)["C6"] is Validity.INVALID


def test_a_read_taken_back_without_a_promotion_is_a_violation() -> None:
    story = Story().tell("0>s(u) 0?s(u) 1>poll 1<poll=[0:u]").drain("[]", top=1)
    verdict = judge(story.events)
    assert types(verdict.record("C12")) == {"unacked-vanished-read"}


# ---- C16, C19, C20


def test_losses_are_attributed_to_the_fault_that_took_the_epoch_away() -> None:
    story = promoted("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1", "2>s(x) 2<s(x)@2", "[a]")
    verdict = judge(story.events)
    rpo = {fault["kind"]: fault["rpo"]["lost SEND_OK"] for fault in verdict.faults}
    assert rpo == {"destroy": 2, "promote": 0}  # b, and x


@pytest.mark.parametrize("proof", [False, "unsupported", None])
def test_an_unproven_injection_makes_the_run_unknown(proof: object) -> None:
    def run(verified: object) -> Validity:
        story = two("").fault("k", "kill", targets=[NODES[0]], verified=verified)
        story.fault("k", "kill", "heal", targets=[NODES[0]])
        return judge(story.drain("[a,b]").events).valid

    assert run(True) is Validity.VALID
    assert run(proof) is Validity.UNKNOWN


def test_an_unproven_heal_makes_the_run_unknown() -> None:
    story = two("").fault("k", "kill", targets=[NODES[0]])
    story.fault("k", "kill", "heal", targets=[NODES[0]], verified=False)
    assert judge(story.drain("[a,b]").events).valid is Validity.UNKNOWN


def test_a_fault_the_plan_asked_for_and_that_never_came_makes_the_run_unknown() -> None:
    story = Story(expected_faults={"kill": 1}).tell("0>s(a) 0<s(a)@0").drain("[a]")
    assert judge(story.events).valid is Validity.UNKNOWN


def test_an_exit_that_no_fault_explains_is_a_violation() -> None:
    def run(**more: object) -> set[str]:
        story = two("").fault("k", "kill", targets=[NODES[0]])
        exit_value = {"node": NODES[0], "pid": 5, "code": None, "signal": 9, "expected": None, "fault": None, **more}
        story.add("lab", "info", "node-exit", exit_value)
        story.fault("k", "kill", "heal", targets=[NODES[0]])
        return types(judge(story.drain("[a,b]").events).record("C20"))

    assert run() == set()
    assert run(node=NODES[1]) == {"unexpected-exit"}
    assert run(node=NODES[1], expected=True) == set()
    assert run(expected=False) == {"unexpected-exit"}, "a second end, by itself, beside the kill"


def test_whoever_finds_a_node_killed_is_told_where_to_look() -> None:
    def text(signal: str) -> str:
        story = two("")
        story.add("lab", "info", "node-exit", {"node": NODES[0], "pid": 5, "signal": signal, "expected": False})
        record = judge(story.drain("[a,b]").events).record("C20")
        assert record is not None
        return record.anomalies[0].text

    assert "the kernel for want of memory" in text("SIGKILL")
    assert "the kernel" not in text("SIGSEGV")


def test_a_node_that_ends_long_after_its_promotion_has_ended_by_itself() -> None:
    def run(when: str) -> set[str]:
        story = two("")
        exit_value = {"node": NODES[1], "pid": 5, "code": 1}
        if when == "later":
            story.fault("p", "promote", targets=[NODES[1]])
            story.now += 1000
            story.add("lab", "info", "node-exit", exit_value)
        else:  # a promotion by restart
            story.add("nemesis", "info", "promote", {"id": "p", "action": "inject", "kind": "promote", "asked": "one"})
            story.add("lab", "info", "node-exit", exit_value)
            done = {"id": "p", "action": "inject", "kind": "promote", "targets": [NODES[1]], "done": "did it"}
            story.now += 1000
            story.add("nemesis", "info", "promote", {**done, "t_done": story.now, "verified": True})
        return types(judge(story.drain("[a,b]").events).record("C20"))

    assert run("later") == {"unexpected-exit"}
    assert run("meanwhile") == set()


def test_log_patterns_carry_their_severity() -> None:
    story = two("")
    for severity in ("violation", "note", "nobody knows"):
        pattern = {"node": NODES[0], "pattern": "p", "line": "truncate below confirm", "severity": severity}
        story.add("lab", "info", "log-pattern", pattern)
    record = judge(story.drain("[a,b]").events).record("C20")
    assert record is not None
    assert record.valid is Validity.INVALID
    assert types(record, Severity.UNDECIDED) == {"log-pattern"}


# ---- delivery


def group_story(handled: str, **final: Any) -> Story:
    story = Story(consumer_groups=["g"]).tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1")
    for word in handled.split():
        story.tell(word)
    story.drain("[a,b]", finish=False)
    story.tell("7>handle=[2:r/9/1] 7<handle")
    return story.group_final(**final).finish()


def delivery(story: Story) -> Record:
    record = judge(story.events).record("delivery")
    assert record is not None
    return record


ALL = "5>handle=[0:a] 5<handle 5>handle=[1:b] 5<handle"
FIRST = "5>handle=[0:a] 5<handle"


def test_everything_handled_is_delivered() -> None:
    assert delivery(group_story(ALL)).valid is Validity.VALID


def test_a_message_the_group_never_handled_is_skipped() -> None:
    record = delivery(group_story(FIRST))
    assert record.valid is Validity.INVALID
    assert record.anomalies[0].values == ("r/0/b",)


@pytest.mark.parametrize("place", ["retry", "dead"])
def test_a_message_in_the_retry_or_dead_letter_topic_is_accounted_for(place: str) -> None:
    assert delivery(group_story(FIRST, **{place: "b"})).valid is Validity.VALID


def test_a_refused_message_must_come_again() -> None:
    assert delivery(group_story(FIRST + " 5>handle=[1:b] 5xhandle")).valid is Validity.INVALID
    assert delivery(group_story(FIRST + " 5>handle=[1:b] 5?handle")).valid is Validity.VALID


def test_a_group_that_lags_or_was_not_looked_at_decides_nothing() -> None:
    assert delivery(group_story(FIRST, lag=1)).valid is Validity.UNKNOWN
    assert delivery(group_story(ALL, lag=1)).valid is Validity.UNKNOWN
    assert delivery(group_story(ALL, ok=False)).valid is Validity.UNKNOWN
    story = Story(consumer_groups=["g"]).tell("0>s(a) 0<s(a)@0").drain("[a]")
    assert judge(story.events).valid is Validity.UNKNOWN


def test_duplicates_are_counted() -> None:
    record = delivery(group_story(ALL + " 5>handle=[1:b] 5<handle"))
    assert record.valid is Validity.VALID
    assert record.counts["g duplicates"] == 1


def test_a_queue_the_group_never_touched_is_skipped() -> None:
    story = Story(consumer_groups=["g"], topics={"t": {GROUP: 2}}).tell("0>s(a) 0<s(a)@0 5>handle=[0:a] 5<handle")
    story.drain("[a]", finish=False).tell("7>handle=[1:r/9/1] 7<handle")
    story.queue = "t/broker-a/1"
    story.tell("0>s(b) 0<s(b)@0").drain("[b]", finish=False)
    story.queue = QUEUE
    assert delivery(story.group_final().finish()).valid is Validity.INVALID


def test_after_a_restart_of_everything_only_the_second_drain_counts() -> None:
    def run(again: str) -> Record:
        story = two("").drain("[a,b]", finish=False)
        first = len(story.events)
        story.drain(again, finish=False)
        for event in story.events[first:]:
            if event.f == "drain" and event.round is not None:
                event.round += 2
        return c1(story.finish())

    assert run("[0:a,1:b,2:r/9/1]").valid is Validity.VALID
    assert types(run("[0:a,2:r/9/1]")) == {"vanished"}


def test_replicas_alone_decide_when_the_cluster_never_came_back(tmp_path: Path) -> None:
    def run(*, dumped: bool) -> Record:
        story = Story(not_applicable={}).tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1")
        for rule in ("D2", "D3", "D7", "D10"):
            story.step(rule)
        story.step("D4", ok=False)
        for node in NODES if dumped else NODES[:1]:
            with LineWriter(tmp_path / f"{node}.jsonl") as out:
                out.write({"o": 0, "s": 10, "d": "00", "t": 1, "q": QUEUE, "k": 0, "v": value("a"), "x": True})
            dump = {"group": GROUP, "node": node, "file": f"{node}.jsonl", "begin": 0, "end": 10, "complete": True}
            story.add("lab", "info", "dump", {**dump, "commit": 0})
        return check_total_queue(gather(story.finish().history(), tmp_path))

    assert types(run(dumped=True)) == {"lost"}
    assert run(dumped=True).counts["lost"] == 1
    assert types(run(dumped=False)) == set()
    assert run(dumped=False).valid is Validity.UNKNOWN


def test_a_crashed_checker_is_unknown_and_hurts_no_other() -> None:
    def crash(_: object) -> Record:
        raise ZeroDivisionError("planted")

    facts = gather(two("").drain("[a,b]").history())
    record = run_checker(Checker("C5", "order", crash), facts, Budget())
    assert record.valid is Validity.UNKNOWN
    assert "planted" in record.reasons[0]


def test_a_passed_budget_is_unknown() -> None:
    facts = gather(two("").drain("[a,b]").history())
    record = run_checker(CHECKERS[0], facts, Budget(wall_ms=0.0))
    assert record.valid is Validity.UNKNOWN


def test_a_required_checker_that_did_not_run_makes_the_verdict_unknown() -> None:
    verdict = judge(two("").drain("[a,b]").events, only=["C1"])
    assert verdict.valid is Validity.UNKNOWN
    assert "C5 is required and did not run" in verdict.why
    with pytest.raises(KeyError, match="there is no checker C99"):
        judge(two("").events, only=["C99"])
    verdict = judge(Story(required=["C8"]).tell("0>s(a) 0<s(a)@0").drain("[a]").events)
    assert verdict.valid is Validity.UNKNOWN


def test_a_checker_that_is_left_out_brings_no_other_in() -> None:
    verdict = judge(two("").drain("[a,b]").events, without=["C17"])
    assert verdict.valid is Validity.VALID
    assert verdict.record("C17") is None
    assert judge(two("").drain("[a,b]").events, without=["C5"]).valid is Validity.UNKNOWN
    with pytest.raises(KeyError, match="there is no checker C99"):
        judge(two("").events, without=["C99"])


def test_a_clash_names_the_two_values_and_who_saw_them() -> None:
    story = Story().tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1 1>s(c) 1<s(c)@1 2>poll 2<poll=[0:a,1:c]")
    found = [anomaly for anomaly in c6(story).anomalies if anomaly.type == "inconsistent-offsets"]
    assert [(anomaly.values, anomaly.offsets) for anomaly in found] == [(("r/0/b", "r/0/c"), (1,))]
    assert found[0].core == (5, 7, 9)


def test_a_fault_that_hit_nothing_proves_nothing() -> None:
    story = two("").fault("k", "kill", targets=[])
    story.fault("k", "kill", "heal", targets=[])
    assert judge(story.drain("[a,b]").events).valid is Validity.UNKNOWN


def test_facts_that_cannot_be_worked_out_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("checkers.compose.gather", crash)
    verdict = judge(two("").drain("[a,b]").events)
    assert verdict.valid is Validity.UNKNOWN
    assert "planted" in verdict.why[0]


def test_a_lag_nobody_could_read_decides_nothing() -> None:
    story = group_story(ALL)
    for event in story.events:
        if event.f == "group-final":
            event.value["lag"] = {QUEUE: None}
    assert delivery(story).valid is Validity.UNKNOWN
