"""Reading and writing histories: files, damage, columns, and the rules every history must keep."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from checkers.compose import judge
from checkers.history import Event, HistoryError, HistoryWriter, MetaError, build_history, load_history, read_events
from checkers.verdict import Validity
from tests.unit.checkers.story import QUEUE, Story, value

GOOD = "0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a]"


def good_story() -> Story:
    return Story().tell(GOOD).drain("[a]")


def write(path: Path, story: Story) -> Path:
    with HistoryWriter(path) as out:
        for event in story.events:
            out.append(event)
    return path


@pytest.mark.parametrize("name", ["h.jsonl", "h.jsonl.zst"])
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    story = good_story()
    path = write(tmp_path / name, story)
    assert list(read_events(path)) == story.events
    assert judge(path).valid is Validity.VALID


def test_a_flushed_history_can_be_read_before_it_is_closed(tmp_path: Path) -> None:
    out = HistoryWriter(tmp_path / "h.jsonl.zst")
    for event in good_story().events:
        out.append(event)
    out.flush()
    with pytest.raises(HistoryError) as caught:
        list(read_events(out.path))
    assert caught.value.truncated
    history = load_history(out.path)
    assert len(history) == len(good_story().events)
    assert history.damage is not None
    out.close()
    out.close()
    assert load_history(out.path).damage is None


def test_unknown_keys_are_ignored_and_null_is_no_value(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    line = {"index": 0, "time": 0, "process": "lab", "type": "info", "f": "meta", "value": {"run": "r"}, "new": 1}
    path.write_bytes(msgspec.json.encode(line) + b"\n")
    assert load_history(path).meta.run == "r"


@pytest.mark.parametrize("name", ["h.jsonl", "h.jsonl.zst"])
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_a_truncated_history_is_unknown_and_says_where(tmp_path: Path, name: str, keep: float) -> None:
    story = Story()
    for number in range(3000):
        story.tell(f"{number % 7}>s({number}) {number % 7}<s({number})@{number}")
    path = write(tmp_path / name, story.drain("[]", complete=False))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(HistoryError) as caught:
        load_history(path, strict=True)
    assert caught.value.truncated
    assert f"line {caught.value.line}" in str(caught.value)
    assert "verdict can only be unknown" in str(caught.value)
    try:
        verdict = judge(path)
    except HistoryError:
        assert name.endswith(".zst")  # not one whole block was left
    else:
        assert verdict.valid is Validity.UNKNOWN
        assert "broken" in verdict.why[0]


def test_a_history_cut_before_its_first_event_offers_nothing_to_read(tmp_path: Path) -> None:
    path = write(tmp_path / "h.jsonl.zst", good_story())
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(HistoryError, match="no event of it can be read"):
        judge(path)


def test_a_garbled_line_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "h.jsonl", good_story())
    lines = path.read_bytes().split(b"\n")
    lines[4] = b'{"index":4,"time":'
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryError, match="line 5") as caught:
        load_history(path, strict=True)
    assert not caught.value.truncated
    assert caught.value.events_read == 4
    verdict = judge(path)
    assert verdict.valid is Validity.UNKNOWN
    assert "line 5" in verdict.why[0]


def test_garbage_in_the_compressed_data_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "h.jsonl.zst", good_story())
    path.write_bytes(path.read_bytes()[:8] + b"\xff" * 40)
    with pytest.raises(HistoryError, match="garbled"):
        load_history(path)


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(b"")
    with pytest.raises(HistoryError, match="no meta event"):
        load_history(path)
    path.write_bytes(b'{"index":0,"time":0,"process":"lab","type":"info","f":"meta","value":{"format":2}}\n')
    with pytest.raises(HistoryError, match="format 2"):
        load_history(path)
    path.write_bytes(b"hello\n")
    with pytest.raises(HistoryError, match="line 1"):
        load_history(path)
    with pytest.raises(FileNotFoundError):
        load_history(tmp_path / "none.jsonl")
    with pytest.raises(MetaError, match="groups"):
        build_history([Event(0, 0, "lab", "info", "meta", {"groups": 5})])


def test_columns_hold_what_the_events_said() -> None:
    history = Story().tell("0>s(a) 0<s(a)@3!FLUSH_DISK_TIMEOUT*2 1>s(b) 1?s(b) 2>s(c)").history()
    sends = history.sends
    assert [history.values[number] for number in sends.value] == ["r/0/a", "r/0/b", "r/0/c"]
    assert sends.type.tolist() == [1, 3, 3]
    assert sends.offset.tolist() == [3, -1, -1]
    assert sends.attempts.tolist() == [2, 1, 1]
    assert sends.returned.tolist() == [3, 5, -1]
    assert history.statuses[sends.status[0]] == "FLUSH_DISK_TIMEOUT"
    assert history.errors[sends.error[1]] == "reply timeout"
    assert sends.end[1] == sends.end[2] > 2**61


def test_events_of_one_instant_overlap() -> None:
    """At equal times an invocation comes before a completion: equality is concurrency, never precedence."""
    story = Story().tell("0>s(a) 0<s(a)@1")
    story.add(1, "invoke", "send", value("b"), queue=QUEUE)
    sends = story.history().sends
    assert sends.begin[1] < sends.end[0]
    story = Story().tell("0>s(a) 0<s(a)@1 1>s(b)")
    sends = story.history().sends
    assert sends.begin[1] > sends.end[0]


def breach(story: Story, rule: int) -> None:
    """Expect one broken rule, and an unknown verdict even beside a proven loss."""
    history = story.history()
    assert rule in history.breach_counts
    verdict = judge(history)
    assert verdict.valid is Validity.UNKNOWN
    assert "broken" in verdict.why[0]


def lost_story() -> Story:
    """A run that would be invalid."""
    return Story().tell("0>s(a) 0<s(a)@0").drain("[]")


def test_a_loss_alone_is_invalid() -> None:
    assert judge(lost_story().events).valid is Validity.INVALID


def test_rule_1_indices_are_dense_and_time_is_monotonic() -> None:
    story = lost_story()
    story.events[5].index = 99
    breach(story, 1)
    story = lost_story()
    story.events[5].time = 10**15
    breach(story, 1)


def test_rule_2_completions_match() -> None:
    breach(lost_story().tell("5<s(x)@9"), 2)
    breach(lost_story().tell("5>s(x) 5<poll=[0:a]"), 2)
    story = lost_story().tell("5>poll")
    story.add(5, "ok", "poll", {"t/broker-a/0": 17})
    breach(story, 2)


def test_rule_3_one_operation_at_a_time() -> None:
    breach(lost_story().tell("5>s(x) 5>s(y)"), 3)


def test_rule_4_nothing_follows_an_unknown_outcome() -> None:
    breach(lost_story().tell("5>s(x) 5?s(x) 5>s(y)"), 4)


def test_rule_5_values_are_unique() -> None:
    breach(lost_story().tell("5>s(x) 5<s(x)@9 6>s(x)"), 5)
    story = lost_story()
    story.add(5, "invoke", "send", 17)
    breach(story.tell("5<s(x)"), 5)


def test_rule_6_values_belong_to_the_run() -> None:
    breach(lost_story().tell("5>poll 5<poll=[8:other/0/1]"), 6)


def test_a_broken_history_keeps_what_it_had() -> None:
    history = lost_story().tell("5>s(x) 5>s(y) 5<s(y)@9").history()
    assert np.count_nonzero(history.sends.returned < 0) == 1


def test_a_run_without_activity_is_unknown() -> None:
    verdict = judge(Story(gates={"send_ok": 100}).tell(GOOD).drain("[a]").events)
    assert verdict.valid is Validity.UNKNOWN
    assert any("only 1 sends were answered SEND_OK; 100 are needed" in reason for reason in verdict.why)


def test_a_history_without_a_drain_is_unknown() -> None:
    assert judge(Story().tell(GOOD).events).valid is Validity.UNKNOWN


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"deliveries": 50}, "deliver"),
        ({"warm_send_ok": 5}, "before the first fault"),
        ({"recovered_send_ok": 5}, "after the last fault was over"),
        ({"attempts_per_fault": 5}, "while kill"),
        ({"info_ratio": 0.05}, "unknown outcome"),
    ],
)
def test_each_gate_speaks(gate: dict[str, float], words: str) -> None:
    story = Story(gates=gate).tell("0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a] 3>s(q) 3?s(q)")
    story.fault("k", "kill", targets=["broker-a-0"])
    story.fault("k", "kill", "heal", targets=["broker-a-0"])
    verdict = judge(story.drain("[a]").events)
    assert verdict.valid is Validity.UNKNOWN
    assert any(words in reason for reason in verdict.why)
    relaxed = Story().tell("0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a] 3>s(q) 3?s(q)")
    relaxed.fault("k", "kill", targets=["broker-a-0"])
    relaxed.fault("k", "kill", "heal", targets=["broker-a-0"])
    assert judge(relaxed.drain("[a]").events).valid is Validity.VALID


@pytest.mark.parametrize(("when", "valid"), [("inject", False), ("lasts", True), ("heal", False)])
def test_sends_count_for_a_fault_while_it_is_in_effect(when: str, valid: bool) -> None:
    """What was sent while it waited for its moment, or was being healed, it did not touch."""
    story = Story(gates={"attempts_per_fault": 1}).tell("0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a]")
    for action in ("inject", "heal"):
        begin = {"id": "k", "action": action, "kind": "kill", "asked": "one"}
        story.add("nemesis", "info", "kill", begin)
        if when == action:
            story.tell("2>s(b) 2<s(b)@1")
        done = {"targets": ["broker-a-0"], "done": "did it", "t_done": story.now + 1, "verified": True}
        story.now += 2
        story.add("nemesis", "info", "kill", {**begin, **done, "evidence": {"probe": "p"}})
        if when == "lasts" and action == "inject":
            story.tell("2>s(b) 2<s(b)@1")
    verdict = judge(story.drain("[a,b]").events)
    assert verdict.valid is (Validity.VALID if valid else Validity.UNKNOWN)
    assert any("while kill" in reason for reason in verdict.why) is not valid


@pytest.mark.parametrize("name", ["long.jsonl", "long.jsonl.zst"])
def test_a_line_of_many_pieces_is_read_whole(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkers.wrapping.PACKED_PIECE", 7)
    monkeypatch.setattr("checkers.wrapping.PIECE", 5)
    monkeypatch.setattr("checkers.wrapping.ZSTD_SIP", 3)
    written = [Event(n, n, "lab", "info", "note", "é" * (n % 5) * 17) for n in range(40)]
    with HistoryWriter(tmp_path / name) as out:
        out.write_all(written)
    assert list(read_events(tmp_path / name)) == written


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkers.wrapping.PACKED_PIECE", 10)
    monkeypatch.setattr("checkers.wrapping.PIECE", 10)
    monkeypatch.setattr("checkers.files.LINE_MAX", 100)
    first = msgspec.json.encode(Event(0, 0, "lab", "info", "note"))
    (tmp_path / "h.jsonl").write_bytes(first + b"\n" + b"x" * 1000)
    with pytest.raises(HistoryError, match=r"line 2: a line of more than 100 bytes"):
        list(read_events(tmp_path / "h.jsonl"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"index":1,"time":2,"process":0,"type":"invoke","f":"a\xffb"}', "line 2: not UTF-8 text"),
        (b'{"index":1,"time":2,"process":4294967296,"type":"invoke","f":"send"}', r"line 2: not an event .*process"),
        (b'{"index":1,"time":2,"process":-1,"type":"invoke","f":"send"}', r"line 2: not an event .*process"),
        (b'{"index":1,"time":4611686018427387904,"process":0,"type":"invoke","f":"a"}', r"line 2: not an event .*time"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path, line: bytes, words: str) -> None:
    """Such a history is never read as another one, and what came before it is still judged: unknown, not a crash."""
    path = tmp_path / "h.jsonl"
    path.write_bytes(msgspec.json.encode(Story().events[0]) + b"\n" + line + b"\n")
    with pytest.raises(HistoryError, match=words):
        list(read_events(path))
    verdict = judge(path)
    assert verdict.valid is Validity.UNKNOWN
    assert "line 2" in verdict.why[0]
