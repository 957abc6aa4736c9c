"""Histories of every format become the same operations, wrapped and cut into pieces in any way."""

import csv
import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from checkers.event import EventType
from checkers.files import encode_event
from checkers.history import Event, HistoryWriter
from checkers.linearizability.decision import decide
from checkers.linearizability.formats import read as reading
from checkers.linearizability.formats.encode import encode
from checkers.linearizability.formats.read import FormatError, Options, read_operations
from checkers.linearizability.formats.recording import RecordedOperations
from checkers.linearizability.operations import NEVER, NULL, Code, Operation
from tests.unit.checkers.formats.samples import GOLDEN, history, imported, line
from tests.unit.checkers.story import Story

QUEUE = history(
    (0, ">", "enqueue", 7), (1, ">", "dequeue", None), (0, "<", "enqueue", 7), (1, "<", "dequeue", 7),
    (2, ">", "enqueue", 8), (2, "?", "enqueue", 8), (1, ">", "dequeue", None), (3, ">", "enqueue", 9),
    (3, "x", "enqueue", None), (1, "<", "dequeue", None), (4, ">", "dequeue", None),
)  # fmt: skip


def facts(operation: Operation) -> tuple[Any, ...]:
    return (
        operation.f, operation.process, operation.invoked, operation.returned, operation.outcome, operation.argument,
        operation.result,
    )  # fmt: skip


def rows(path: str) -> list[dict[str, str]]:
    with (GOLDEN / "expected.tsv").open() as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if row["file"].startswith(path)]


def test_the_recorded_histories_hold_what_their_table_says() -> None:
    """Operations, outcomes and processes of all 53."""
    for row in rows(""):
        found = read_operations(GOLDEN / row["file"], row["model"].split("(")[0])
        outcomes = [operation.outcome for operation in found.operations]
        assert found.format == "jsonl"
        assert len(found.operations) == int(row["operations"]), row["file"]
        assert outcomes.count("info") == int(row["info_ops"]), row["file"]
        assert outcomes.count("fail") == int(row["fail_ops"]), row["file"]
        assert len({operation.process for operation in found.operations}) == int(row["processes"]), row["file"]


@pytest.mark.parametrize("name", ["etcd_001", "etcd_005"])
def test_porcupines_log_is_the_converted_history(name: str) -> None:
    """Process numbers differ where the conversion retired them; what happened when does not."""
    log = read_operations(GOLDEN / "porcupine-logs" / f"{name}.log", "cas-register")
    lines = read_operations(GOLDEN / "porcupine-etcd" / f"{name}.jsonl", "cas-register", Options(failed_cas="observed"))
    assert log.format == "porcupine"

    def closed(found: reading.Imported) -> list[tuple[Any, ...]]:
        return [
            (one.f, one.argument, one.result, one.outcome) for one in found.operations if one.outcome != "info"
        ]  # fmt: skip

    assert closed(log) == closed(lines)
    assert any(operation.result is False for operation in log.operations)


def test_porcupines_key_value_lines_are_edn() -> None:
    """With the key beside the value."""
    log = read_operations(GOLDEN / "porcupine-logs" / "c01-bad.txt", "kv-append")
    lines = read_operations(GOLDEN / "porcupine-kv" / "c01-bad.jsonl", "kv-append")
    assert list(map(facts, log.operations)) == list(map(facts, lines.operations))
    named = read_operations(GOLDEN / "porcupine-logs" / "c01-bad.txt", "kv-append", Options(format="porcupine"))
    assert list(map(facts, named.operations)) == list(map(facts, lines.operations))


def test_operations_carry_their_lines_and_outcomes() -> None:
    """Lines count from 1; an unknown outcome never returned."""
    found = imported(QUEUE, "fifo-queue").operations
    assert [facts(operation) for operation in found] == [
        ("enqueue", 0, 0, 2, "ok", 7, None),
        ("dequeue", 1, 1, 3, "ok", None, 7),
        ("enqueue", 2, 4, None, "info", 8, None),
        ("dequeue", 1, 6, 9, "ok", None, None),
        ("enqueue", 3, 7, 8, "fail", 9, None),
        ("dequeue", 4, 10, None, "info", None, None),
    ]
    assert (found[0].invoked_line, found[0].returned_line, found[5].returned_line) == (1, 3, None)


@pytest.mark.parametrize("wrap", [lambda data: data, zstandard.ZstdCompressor().compress, gzip.compress])
@pytest.mark.parametrize("end", ["\n", ""])
def test_wrapping_does_not_matter(wrap: Any, end: str, tmp_path: Path) -> None:
    """Told by the first bytes, not by the name; a last line without an end counts, and two frames are one file."""
    path = tmp_path / "anything"
    half = QUEUE.index("\n", len(QUEUE) // 2) - 5
    first, second = QUEUE[:half].encode(), (QUEUE[half:].rstrip("\n") + end).encode()
    path.write_bytes(wrap(first) + wrap(second))
    wanted = list(map(facts, imported(QUEUE, "fifo-queue").operations))
    assert list(map(facts, read_operations(path, "fifo-queue").operations)) == wanted


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_marks_and_line_ends_do_not_matter(mark: bytes, end: bytes, tmp_path: Path) -> None:
    """As other systems write them."""
    wanted = list(map(facts, imported(QUEUE, "fifo-queue").operations))
    (tmp_path / "h").write_bytes(mark + QUEUE.encode().replace(b"\n", end))
    assert list(map(facts, read_operations(tmp_path / "h", "fifo-queue").operations)) == wanted
    log = GOLDEN / "porcupine-logs" / "etcd_001.log"
    wanted = list(map(facts, read_operations(log, "cas-register").operations))
    (tmp_path / "h").write_bytes(mark + log.read_bytes().replace(b"\n", end))
    assert list(map(facts, read_operations(tmp_path / "h", "cas-register").operations)) == wanted


@pytest.mark.parametrize("piece", [1, 2, 3, 50, 100])
def test_pieces_do_not_matter(piece: int) -> None:
    """A line may lie across any of them."""
    wanted = list(map(facts, imported(QUEUE, "fifo-queue").operations))
    assert list(map(facts, imported(QUEUE, "fifo-queue", piece=piece, format="jsonl").operations)) == wanted


def test_what_is_no_operation_is_skipped() -> None:
    """The nemesis, completions that nothing invoked, and blank lines, which are not counted as events."""
    text = (
        line(0, "nemesis", "info", "partition", {"a": ["b"]})
        + "\n"
        + line(1, 0, "ok", "read", 5)
        + line(2, 0, "invoke", "read")
        + line(3, "nemesis/net", "info", "heal")
        + line(4, 0, "info", "read")
        + line(5, 0, "ok", "read", 9)
    )
    (one,) = imported(text, "register").operations
    assert facts(one) == ("read", 0, 1, None, "info", None, None)
    assert (one.invoked_line, one.returned_line) == (4, 6)
    nothing = imported(line(0, "nemesis", "info", "partition"), "register")
    assert (len(nothing.operations), nothing.events) == (0, 1)


EDN_LINES = """
; a queue
{:index 0 :process 0, :type :invoke, :f :enqueue, :value 7, :time 5}
{:index 1, :process :nemesis, :type :info, :f :kill, :value {:n1 #{:killed}}}
{:index 2, :process 1, :type :invoke, :f :dequeue, :value nil, :node "n1", :clock-offsets {"n1" 0.5}}
#jepsen.history.Op{:index 3, :process 0, :type :ok, :f :enqueue,
  :value 7}
{:index 4, :process 1, :type :ok, :f :dequeue, :value 7}
{:index 5, :process 2, :type :invoke, :f :enqueue, :value 8}
{:index 6, :process 2, :type :info, :f :enqueue, :value :timed-out, :error "socket"}
"""


@pytest.mark.parametrize("piece", [1, 7, 1 << 18])
@pytest.mark.parametrize("around", ["", "[", "("])
def test_jepsens_histories(piece: int, around: str) -> None:
    """One map after the other, or all in one vector."""
    text = around + EDN_LINES + {"": "", "[": "]", "(": ")"}[around] + " ; the end"
    found = imported(text, "fifo-queue", piece=piece, format="edn").operations
    assert [facts(operation) for operation in found] == [
        ("enqueue", 0, 0, 2, "ok", 7, None),
        ("dequeue", 1, 1, 3, "ok", None, 7),
        ("enqueue", 2, 4, None, "info", 8, None),
    ]
    assert [operation.invoked_line for operation in found] == [3, 5, 9]
    assert imported(text, "fifo-queue").format == "edn"


def test_jepsen_without_indices_and_with_transactions() -> None:
    """Keywords are strings; a read that says its value in the invocation already is taken if the answer agrees."""
    text = """[{:process 3, :type :invoke, :f :txn, :value [[:read :x nil] [:write :y 2]]}
               {:process 3, :type :ok, :f :txn, :value [[:read :x 0] [:write :y 2]]}]"""
    (one,) = imported(text, "multi-register").operations
    assert (one.argument, one.result) == (
        [["read", "x", None], ["write", "y", 2]],
        [["read", "x", 0], ["write", "y", 2]],
    )
    read = "{:process 3 :type :invoke :f :read :value 4}\n{:process 3 :type :ok :f :read :value %s}"
    assert imported(read % 4, "register").operations[0].result == 4
    with pytest.raises(FormatError, match="line 2: read 5, but the invocation already says 4"):
        list(imported(read % 5, "register").operations)


@pytest.mark.parametrize(
    ("model", "f", "asked", "answer", "argument", "result"),
    [
        ("register", "read", None, None, None, None),
        ("register", "write", [1, {"a": None}], None, [1, {"a": None}], None),
        ("cas-register", "cas", [1, 2], [1, 2], [1, 2], True),
        ("cas-register", "cas", [1, 2], False, [1, 2], False),
        ("mutex", "acquire", None, None, None, None),
        ("fifo-queue", "dequeue", None, None, None, None),
        ("total-queue", "drain", None, [1, 2], None, [1, 2]),
        ("set", "read", None, [], None, []),
        ("set", "add", "a", "a", "a", None),
        ("append-log", "append", [None, "a"], [3, "a"], [None, "a"], [3, "a"]),
        ("append-log", "read", [3, None], [3, "a"], [3, None], [3, "a"]),
        ("append-log", "read", [3, None], [3, None], [3, None], [3, None]),
        ("kv", "get", ["k", None], ["k", 5], ["k", None], ["k", 5]),
        ("kv", "put", ["k", 5], ["k", 5], ["k", 5], None),
        ("kv-append", "append", ["k", "x"], None, ["k", "x"], None),
        ("kv-append", "get", ["k", None], ["k", ""], ["k", None], ["k", ""]),
        ("multi-register", "txn", [["write", "k", 5]], [["write", "k", 5]], [["write", "k", 5]], [["write", "k", 5]]),
        (None, "anything", {"a": 1}, [True], {"a": 1}, [True]),
    ],
)
def test_the_shapes_of_every_model(
    model: str | None, f: str, asked: Any, answer: Any, argument: Any, result: Any
) -> None:
    """What went in and what came out."""
    (one,) = imported(history((0, ">", f, asked), (0, "<", f, answer)), model).operations
    assert (one.outcome, one.argument, one.result) == ("ok", argument, result)


def test_a_failed_compare_is_dropped_unless_it_is_an_observation() -> None:
    """And never an observation when it failed for another reason."""
    text = history((0, ">", "cas", [1, 2]), (0, "x", "cas", [1, 2]), (1, ">", "cas", [3, 4]))
    text += line(3, 1, "fail", "cas", [3, 4], error="timed-out")
    dropped = imported(text, "cas-register").operations
    assert [(one.outcome, one.result) for one in dropped] == [("fail", None), ("fail", None)]
    observed = imported(text, "cas-register", failed_cas="observed").operations
    assert [(one.outcome, one.result) for one in observed] == [("ok", False), ("fail", None)]


def long_history(model: str, text: bool) -> str:
    value = (lambda number: f"m{number}") if text else (lambda number: number)
    events: list[tuple[Any, str, str, Any]] = []
    if model == "fifo-queue":
        for number in range(6):
            events += [(0, ">", "enqueue", value(number)), (1, ">", "dequeue", None)]
            events += [(0, "<", "enqueue", value(number) if number % 2 else None), (1, "<", "dequeue", value(number))]
        events += [(0, ">", "dequeue", None), (0, "<", "dequeue", None), (2, ">", "enqueue", value(9))]
        events += [(2, "?", "enqueue", None), (3, ">", "dequeue", None), (4, ">", "enqueue", value(8))]
        events += [(4, "x", "enqueue", value(8))]
    else:
        for number in range(6):
            events += [(0, ">", "append", [None, value(number)]), (1, ">", "read", [number, None])]
            events += [(0, "<", "append", [number, value(number)]), (1, "<", "read", [number, value(number)])]
        events += [(0, ">", "read", [6, None]), (0, "<", "read", [6, None]), (2, ">", "append", [None, value(9)])]
        events += [(2, "?", "append", [None, value(9)]), (3, ">", "read", [2, None])]
    return history(*events)


@pytest.mark.parametrize("model", ["fifo-queue", "append-log"])
@pytest.mark.parametrize("text", [False, True])
def test_columns_say_the_same_as_operations(model: str, text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way at speed drops failures and reads without an answer, and nothing else."""
    monkeypatch.setattr(reading, "COLUMNS_FROM", 1)
    found = imported(long_history(model, text), model)
    columns = found.columns
    assert columns is not None
    assert isinstance(found.operations, RecordedOperations)
    kept = [one for one in found.operations if one.outcome == "ok" or (one.outcome == "info" and one.f != "read")]
    assert len(columns) == len(kept)
    for row, one in enumerate(kept):
        assert columns.operation(row) == one
        assert columns.call[row] == one.invoked
        assert columns.ret[row] == (NEVER if one.returned is None else one.returned)
        code = Code(columns.f[row])
        assert columns.a is not None
        value = columns.value(int(columns.a[row]))
        if model == "fifo-queue":
            assert value == (one.argument if code is Code.ENQUEUE else one.result)
            assert (code is Code.EMPTY) == (one.f == "dequeue" and one.outcome == "ok" and one.result is None)
        else:
            assert columns.b is not None
            at = None if columns.b[row] == NULL else int(columns.b[row])
            seen = one.result or [None, one.argument[1]]
            assert [at, value] == seen
            assert (code is Code.APPEND, code is Code.LOG_END) == (one.f == "append", seen[1] is None)


@pytest.mark.parametrize(
    "events",
    [
        [(0, ">", "enqueue", 1.5), (0, "<", "enqueue", None)],
        [(0, ">", "enqueue", True), (0, "<", "enqueue", None)],
        [(0, ">", "enqueue", 1), (0, "<", "enqueue", None), (0, ">", "enqueue", "1"), (0, "<", "enqueue", None)],
        [(0, ">", "enqueue", 1 << 70), (0, "<", "enqueue", None)],
        [(0, ">", "enqueue", NULL), (0, "<", "enqueue", None)],
        [(0, ">", "dequeue", None), (0, "?", "dequeue", 4)],
        [(0, ">", "enqueue", [1]), (0, "<", "enqueue", [1])],
    ],
)
def test_what_is_irregular_goes_the_careful_way(
    events: list[tuple[Any, str, str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """True is not 1, 1 is not "1", and no id stands for nothing."""
    monkeypatch.setattr(reading, "COLUMNS_FROM", 1)
    found = imported(history(*events), "fifo-queue")
    assert found.columns is None
    assert len(found.operations) == len(events) // 2


def test_only_queues_and_logs_have_a_way_at_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are checked one by one at any length."""
    monkeypatch.setattr(reading, "COLUMNS_FROM", 1)
    found = imported(history((0, ">", "write", 1), (0, "<", "write", 1)), "register")
    assert found.columns is None
    queue = imported(history((0, ">", "enqueue", 1), (0, "<", "enqueue", None)), "fifo-queue")
    assert queue.columns is not None
    assert isinstance(queue.operations, RecordedOperations)
    assert encode(queue.operations, "register") is None


def lab_events() -> list[Event]:
    queue = "t/a/0"
    rows: list[tuple[int | str, EventType, str, Any, dict[str, Any]]] = [
        ("lab", "info", "meta", {"format": 1, "run": "r"}, {}),
        (0, "invoke", "send", "r/0/0", {"queue": queue}),
        (0, "ok", "send", "r/0/0", {"queue": queue, "offset": 0, "status": "SEND_OK", "node": "n1"}),
        (1, "invoke", "send", ["r/1/0", "r/1/1"], {"queue": queue}),
        (1, "ok", "send", ["r/1/0", "r/1/1"], {"queue": queue, "offset": [1, 2], "status": "FLUSH_SLAVE_TIMEOUT"}),
        (2, "invoke", "poll", None, {"queue": queue}),
        (2, "ok", "poll", {queue: [[0, "r/0/0"], [1, "r/1/0"]]}, {}),
        (3, "invoke", "drain", None, {"queue": queue}),
        (3, "info", "drain", {queue: [[0, "r/0/0"], [2, "r/1/1"]]}, {}),
        (4, "invoke", "end", queue, {}),
        (4, "ok", "end", 3, {}),
        (5, "invoke", "send", "r/5/0", {"queue": queue}),
    ]
    return [
        Event(index, index * 1000, process, kind, f, value, **extra)
        for index, (process, kind, f, value, extra) in enumerate(rows)
    ]


@pytest.mark.parametrize("name", ["h.jsonl", "h.jsonl.zst"])
def test_the_labs_own_histories(name: str, tmp_path: Path) -> None:
    """An answer that is no promise is unknown, answers that broke off still show what they showed."""
    with HistoryWriter(tmp_path / name) as out:
        out.write_all(lab_events())
    found = read_operations(tmp_path / name, "append-log")
    assert found.format == "lab"
    assert [(one.f, one.outcome, one.argument, one.result, one.key) for one in found.operations] == [
        ("append", "ok", [None, "r/0/0"], [0, "r/0/0"], "t/a/0"),
        ("append", "info", [None, "r/1/0"], None, "t/a/0"),
        ("append", "info", [None, "r/1/1"], None, "t/a/0"),
        ("read", "ok", [0, None], [0, "r/0/0"], "t/a/0"),
        ("read", "ok", [1, None], [1, "r/1/0"], "t/a/0"),
        ("read", "ok", [0, None], [0, "r/0/0"], "t/a/0"),
        ("read", "ok", [2, None], [2, "r/1/1"], "t/a/0"),
        ("read", "ok", [3, None], [3, None], "t/a/0"),
        ("append", "info", [None, "r/5/0"], None, "t/a/0"),
    ]
    fifo = read_operations(tmp_path / name, "fifo-queue").operations
    assert [(one.f, one.argument or one.result) for one in fifo if one.f == "dequeue"] == [
        ("dequeue", "r/0/0"), ("dequeue", "r/1/0"), ("dequeue", "r/1/1"),
    ]  # fmt: skip
    with pytest.raises(FormatError, match="judged as append-log or fifo-queue, not as register"):
        read_operations(tmp_path / name, "register")


@pytest.mark.parametrize(("untrimmed", "missing"), [(None, [4, 6]), ("*", [0, 1, 2, 4, 6]), ("t/a/0", [0, 1, 2, 4, 6])])
def test_what_a_complete_drain_did_not_find(untrimmed: str | None, missing: list[int]) -> None:
    """Is a read that found nothing; below the first offset only if the run says that nothing was trimmed."""
    events = lab_events()[:7]
    answer = {"t/a/0": [[offset, f"r/0/{offset}"] for offset in (3, 5, 7)]}
    events.append(Event(7, 0, 8, "invoke", "drain", None, queue="t/a/0"))
    events.append(Event(8, 0, 8, "ok", "drain", answer, queue="t/a/0", complete=True, sentinel=7))
    events.append(
        Event(9, 0, "lab", "info", "drain-step", {"rule": "D10", "scope": untrimmed, "ok": untrimmed is not None})
    )
    found = imported("".join(msgspec.json.encode(event).decode() + "\n" for event in events), "append-log").operations
    reads = [one.result for one in found if one.f == "read" and one.process == 8]
    assert [offset for offset, value in reads if value is None] == missing
    assert [offset for offset, value in reads if value is not None] == [3, 5, 7]
    events[8].complete = None
    found = imported("".join(msgspec.json.encode(event).decode() + "\n" for event in events), "append-log").operations
    assert all(one.result[1] is not None for one in found if one.f == "read")


def test_a_lab_history_of_another_version_is_refused() -> None:
    """As are gaps and answers of another shape."""
    events = lab_events()
    meta = msgspec.json.encode(Event(0, 0, "lab", "info", "meta", {"format": 9})).decode() + "\n"
    with pytest.raises(FormatError, match="line 1: format 9; this version reads format 1"):
        imported(meta, "append-log")
    text = "".join(msgspec.json.encode(event).decode() + "\n" for event in events if event.index != 4)
    with pytest.raises(FormatError, match="line 5: index 5, but 4 comes next"):
        imported(text, "append-log")
    events[6].value = {"t/a/0": [["r/0/0", 0]]}
    with pytest.raises(FormatError, match="line 7: the messages of an answer"):
        imported("".join(msgspec.json.encode(event).decode() + "\n" for event in events), "append-log")


@pytest.mark.parametrize("offset", [-5, 1 << 62])
@pytest.mark.parametrize("model", ["append-log", "fifo-queue"])
def test_what_is_no_offset_of_the_lab_is_refused(offset: int, model: str) -> None:
    """A negative one would be a hole, and with it a log that is not linearizable."""
    sent, polled = lab_events(), lab_events()
    sent[2].offset = offset
    polled[6].value = {"t/a/0": [[offset, "r/0/0"]]}
    for events, says in ((sent, "line 3: an offset is a whole number from 0"), (polled, "line 7: the messages of an")):
        with pytest.raises(FormatError, match=says):
            imported(b"".join(map(encode_event, events)), model)


def test_a_message_of_the_lab_came_out_between_its_deliveries() -> None:
    """A poll that began first and was answered last may have been the one that took it out."""
    story = Story().tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1 1>poll 2>poll 2<poll=[1:b] 3>poll 3<poll=[0:a] 1<poll=[0:a]")
    found = imported(b"".join(map(encode_event, story.events)), "fifo-queue", format="lab").operations
    (taken,) = (one for one in found if one.f == "dequeue" and one.result == "r/0/a")
    indices = [event.index for event in story.events if event.f == "poll"]
    assert (taken.invoked, taken.returned) == (indices[0], indices[4])
    assert decide("fifo-queue", list(found)).verdict == "valid"
