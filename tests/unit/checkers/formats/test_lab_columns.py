"""The lab's histories as columns are what they are as objects, and are judged the same; what is not plain is left."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkers.api import Decision, History, check
from checkers.event import Event
from checkers.linearizability.formats import lab_columns, lab_history, read
from checkers.linearizability.formats.source import FormatError, Source
from checkers.linearizability.operations import Operation
from checkers.plain import PLAIN, Plain
from tests.unit.checkers.raft import RaftPretend, raft_run
from tests.unit.checkers.runs import Pretend, pretend_run
from tests.unit.checkers.story import Story
from tests.unit.checkers.test_plain import lines

MODELS = lab_history.MODELS
READERS = [None] if PLAIN is None else [PLAIN, None]


def written(path: Path, events: list[Event]) -> Path:
    path.write_bytes(b"\n".join(lines(events)) + b"\n")
    return path


def objects(path: Path, model: str) -> list[Operation] | str:
    try:
        return sorted(lab_history.read(Source.open(path), model), key=lambda one: one.invoked)
    except FormatError as error:
        return str(error)


def said(decision: Decision) -> Any:
    return (
        decision.verdict, decision.method, decision.why, dict(decision.counts), dict(decision.metrics),
        decision.witnesses, decision.prefix, decision.linearization(), decision.coverage,
        [decision.operations.operation(row) for row in range(len(decision.operations))],
    )  # fmt: skip


def judged(path: Path, model: str, plain: Plain | None) -> Decision | None:
    """Hold that columns are what objects are, and that both are judged the same; None where there are no columns."""
    found = lab_columns.read(Source.open(path), model, plain=plain)
    if found is None:
        return None
    expected = objects(path, model)
    assert list(found) == expected
    assert found[: len(found)] == expected
    if not expected:
        return None
    decision = check(History(found, _parts=found.parts()), model)
    assert said(decision) == said(check(History(found[:]), model))
    return decision


TALES: dict[str, tuple[str, str, str]] = {
    "in order": ("0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a]", "valid", "valid"),
    "never answered": ("0>s(a) 1>poll 1<poll=[0:a]", "valid", "valid"),
    "swapped": ("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1 1>poll 1<poll=[1:b] 1>poll 1<poll=[0:a]", "valid", "invalid"),
    "two at one place": ("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@0", "invalid", "valid"),
    "a place given back": ("0>s(a) 0<s(a)@1 0>s(b) 0<s(b)@0", "invalid", "valid"),
    "delivered twice": (
        "0>s(a) 0<s(a)@0 1>poll 2>poll 3>poll 3<poll=[0:a] 1<poll=[0:a] 2<poll=[0:a]", "valid", "valid",
    ),
}  # fmt: skip


@pytest.mark.parametrize("plain", READERS)
@pytest.mark.parametrize("name", TALES)
def test_tales(name: str, plain: Plain | None, tmp_path: Path) -> None:
    tale, as_log, as_queue = TALES[name]
    path = written(tmp_path / "history.jsonl", Story().tell(tale).events)
    for model, verdict in (("append-log", as_log), ("fifo-queue", as_queue)):
        decision = judged(path, model, plain)
        assert decision is not None
        assert decision.verdict == verdict


def scene(*, untrimmed: bool) -> list[Event]:
    """Two queues; weak, failed and unknown sends; an answered length; a handler; a drain that skipped something."""
    story = Story(topics={"t": {"a": 2}})
    value, other = "t/a/0", "t/a/1"

    def call(process: int, f: str, asked: Any, answer: Any, kind: Any = "ok", **more: Any) -> None:
        story.now += 1000
        story.add(process, "invoke", f, asked, queue=more.get("queue"))
        story.now += 1000
        story.add(process, kind, f, answer, **more)

    for place, name in enumerate("abcd"):
        call(1, "send", f"r/1/{place}", None, queue=value, offset=place, status="SEND_OK", node="n:1")
        call(2, "append", f"r/2/{place}", None, queue=other, offset=2 * place, key=name)
    call(1, "send", "r/1/7", None, queue=value, status="FLUSH_DISK_TIMEOUT", offset=9)
    call(1, "send", "r/1/8", None, "fail", queue=value, error="no route")
    call(3, "send", "r/3/0", None, "info", queue=value, error={"code": "timeout"})
    story.add(4, "invoke", "send", "r/4/0", queue=other)
    call(5, "handle", {value: [[0, "r/1/0"], [1, "r/1/1"]]}, None, node="n:2")
    call(5, "poll", None, {value: [[0, "r/1/0"]], other: [[0, "r/2/0"], [2, "r/2/1"]]}, node="n:2")
    call(6, "poll", None, {value: [[1, "r/1/1"]]}, "info")
    call(7, "end", value, 4, node="n:3")
    call(8, "drain", None, {value: [[2, "r/1/2"], [3, "r/1/3"]], other: [[4, "r/2/2"], [6, "r/2/3"]]}, complete=True)
    story.add("lab", "info", "drain-step", {"rule": "D10", "scope": other, "ok": untrimmed})
    return story.events


@pytest.mark.parametrize("plain", READERS)
@pytest.mark.parametrize("untrimmed", [False, True])
def test_all_that_can_happen(untrimmed: bool, plain: Plain | None, tmp_path: Path) -> None:
    path = written(tmp_path / "history.jsonl", scene(untrimmed=untrimmed))
    for model in MODELS:
        assert judged(path, model, plain) is not None
    found = lab_columns.read(Source.open(path), "append-log", plain=plain)
    assert found is not None
    skipped = [one.argument[0] for one in found if one.f == "read" and one.process == 8 and one.result[1] is None]
    assert skipped == ([5] if not untrimmed else [0, 1, 2, 3, 5])


RUNS: dict[str, Callable[[], list[Event]]] = {
    "one master": lambda: pretend_run(Pretend(seed=3, seconds=20)),
    "a group": lambda: raft_run(RaftPretend(5)),
    "everything": lambda: scene(untrimmed=True),
}


@pytest.mark.random
@pytest.mark.parametrize("seed", range(40))
def test_changed_runs(seed: int, tmp_path: Path) -> None:
    """Members of some events are exchanged: what is still taken is what objects say."""
    chance = random.Random(seed)
    name = list(RUNS)[seed % 3]
    kept = [json.loads(line) for line in lines(RUNS[name]())]
    for _ in range(chance.randrange(4) if name != "everything" else 1):
        event = chance.choice(kept[1:])
        other = chance.choice([one for one in kept if one["f"] == event["f"] and one["type"] == event["type"]])
        member = chance.choice(["value", "offset", "status", "queue", "type", "f", "complete", "key"])
        event[member] = chance.choice(
            [other.get(member), None, -1, 3, True, "x", [], ["r/1/0"], {"t/a/0": None}, 1 << 62]
        )
    path = tmp_path / "history.jsonl"
    path.write_text("".join(f"{json.dumps(event)}\n" for event in kept))
    for model in MODELS:
        for plain in READERS:
            judged(path, model, plain)


def changed(at: int, **members: Any) -> list[Event]:
    events = Story().tell("0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a]").events
    for name, value in members.items():
        setattr(events[at], name, value)
    return events


LEFT = [
    changed(3, offset=-5), changed(3, offset=1 << 62), changed(2, value=7), changed(2, value=["r/0/a"]),
    changed(5, value={"t/a/0": [[True, "r/0/a"]]}), changed(5, value={"t/a/0": [[0, 1]]}),
    changed(5, value={"t/a/0": [[0, None]]}), changed(5, value={"t/a/0": [[-1, "r/0/a"]]}),
    changed(5, value={"t/a/0": None}), changed(5, f="read"), changed(4, process=0), changed(0, value={"format": 9}),
    changed(4, f="read", key="k")[:5] + changed(5, f="read", value="x")[5:],
]  # fmt: skip


@pytest.mark.parametrize("plain", READERS)
@pytest.mark.parametrize("number", range(len(LEFT)))
def test_what_is_not_plain_is_left(number: int, plain: Plain | None, tmp_path: Path) -> None:
    path = written(tmp_path / "history.jsonl", LEFT[number])
    assert lab_columns.read(Source.open(path), "append-log", plain=plain) is None


def test_lines_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    """An empty line counts, so a file with one is left; a last line without its end is whole."""
    path = written(tmp_path / "history.jsonl", changed(2))
    text = path.read_bytes()
    path.write_bytes(text.rstrip(b"\n"))
    assert judged(path, "append-log", PLAIN) is not None
    path.write_bytes(text.replace(b"\n", b"\n\n", 1))
    assert lab_columns.read(Source.open(path), "append-log") is None


def test_large_files_take_this_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same counter-example, and an initial state is put before the objects."""
    path = written(tmp_path / "history.jsonl", Story().tell(TALES["two at one place"][0]).events)
    before = check(path, "append-log")
    assert History.read(path, "append-log")._parts is None
    monkeypatch.setattr(read, "COLUMNS_FROM", 1)
    history = History.read(path, "append-log")
    assert history._parts is not None
    assert said(check(history, "append-log")) == said(before)
    path = written(path, Story().tell("1>poll 1<poll=[0:a]").events)
    assert check(History.read(path, "append-log"), "append-log", init=["r/0/a"]).verdict == "valid"
