"""`lab check FILE --model …` from the outside: verdicts, exit codes, what is printed and written, mistakes of users."""

import csv
import gzip
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from checkers.linearizability.models import NAMES
from lab.checking import parse_budget
from lab.cli import main
from lab.errors import ExitCode, PlanError
from tests.unit.checkers.formats.samples import GOLDEN, history

COLUMNS = csv.DictReader((GOLDEN / "expected.tsv").open(), delimiter="\t")
RECORDED = [(row["file"], row["model"].split("(")[0], row["linearizable"] == "true") for row in COLUMNS]


def lab_check(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test writes into a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(text: str, name: str = "h.jsonl") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


@pytest.mark.parametrize(("file", "model", "valid"), RECORDED, ids=[row[0] for row in RECORDED])
def test_recorded_histories_keep_their_verdicts(file: str, model: str, valid: bool) -> None:
    """All of them, as labelled."""
    found = lab_check(GOLDEN / file, "--model", model)
    assert found.exit_code == (ExitCode.VALID if valid else ExitCode.INVALID), found.output
    assert found.output.startswith("valid: " if valid else "invalid: ")


@pytest.mark.parametrize(
    ("file", "model", "code"),
    [
        ("etcd_001.log", "cas-register", 1),
        ("etcd_005.log", "cas-register", 0),
        ("c01-bad.txt", "kv-append", 1),
        ("c01-ok.txt", "kv-append", 0),
    ],
)
def test_porcupines_logs(file: str, model: str, code: int) -> None:
    """With the format named, and told by the first bytes."""
    assert lab_check(GOLDEN / "porcupine-logs" / file, "--model", model).exit_code == code
    assert lab_check(GOLDEN / "porcupine-logs" / file, "--model", model, "--format", "porcupine").exit_code == code


@pytest.mark.parametrize("failed_cas", ["dropped", "observed"])
@pytest.mark.parametrize(("file", "valid"), [(file, valid) for file, _, valid in RECORDED if "etcd" in file][::6])
def test_a_failed_compare_does_not_matter_in_these(file: str, valid: bool, failed_cas: str) -> None:
    """Whether it is taken as an observation or left out."""
    found = lab_check(GOLDEN / file, "--model", "cas-register", "--failed-cas", failed_cas)
    assert found.exit_code == (0 if valid else 1)


def events(text: str) -> str:
    """A queue history in the notation `0>e(a) 0<e(a) 1>d 1<d=a 1?d`; `p<e(a)@2` and `1>end 1<end=0` for logs."""
    rows: list[tuple[Any, str, str, Any]] = []
    log = "@" in text
    for process, kind, f, value, at, answer in re.findall(
        r"(\d)([><?])(end|e|d)?(?:\((\w)\))?(?:@(\d))?(?:=(\S+))?", text
    ):
        if f == "end":
            rows.append((int(process), kind, "read", [int(answer or 0), None]))
        elif log:
            rows.append((int(process), kind, "append", [int(at) if at else None, value]))
        else:
            name = {"e": "enqueue", "d": "dequeue"}[f]
            rows.append((int(process), kind, name, value or (None if answer in ("", "∅") else answer)))
    return history(*rows)


GOLDEN_VECTORS = [
    (11, "fifo-queue", "0>e(a) 0<e(a) 0>e(b) 0<e(b) 1>d 1<d=b 1>d 1<d=a", 1, "order"),
    (12, "fifo-queue", "0>e(a) 1>e(b) 0<e(a) 1<e(b) 2>d 2<d=b 2>d 2<d=a", 0, ""),
    (13, "fifo-queue", "0>e(a) 0<e(a) 0>e(b) 0<e(b) 1>d 1<d=b", 1, "lost"),
    (14, "fifo-queue", "0>e(a) 0<e(a) 0>e(b) 0<e(b) 1>d 2>d 2?d 1<d=b", 0, ""),
    (15, "fifo-queue", "0>e(a) 0<e(a) 0>e(b) 0<e(b) 1>d 1<d=b 2>d 2?d", 1, "lost"),
    (16, "fifo-queue", "0>e(a) 0<e(a) 1>d 1<d=∅", 1, "empty"),
    (17, "fifo-queue", "0>e(a) 1>d 1<d=∅ 0<e(a)", 0, ""),
    (18, "fifo-queue", "1>d 1<d=a 0>e(a) 0<e(a)", 1, ""),
    (19, "fifo-queue", "0>e(a) 0?e(a) 1>d 1<d=a", 0, ""),
    (20, "append-log", "0>e(a) 0<e(a)@1 1>e(b) 1<e(b)@0", 1, ""),
    (21, "append-log", "0>e(a) 1>e(b) 0<e(a)@1 1<e(b)@0", 0, ""),
    (22, "append-log", "0>e(a) 0<e(a)@0 1>end 1<end=0", 1, ""),
]


@pytest.mark.parametrize(("number", "model", "story", "code", "anomaly"), GOLDEN_VECTORS)
def test_golden_vectors(number: int, model: str, story: str, code: int, anomaly: str) -> None:
    """The small histories that define queues and logs; an invalid one is invalid again when it is minimal."""
    path = stored(events(story))
    found = lab_check(path, "--model", model, "--minimize")
    assert found.exit_code == code, (number, found.output)
    assert anomaly in found.output.splitlines()[0]
    if code == 1:
        assert lab_check("h.minimal.jsonl", "--model", model).exit_code == 1


Row = tuple[Any, str, str, Any]


def did(f: str, asked: Any = None, answer: Any = None) -> list[Row]:
    return [(0, ">", f, asked), (0, "<", f, answer)]


PUT, APPENDED, PUT_IN = did("put", ["k", 1], ["k", 1]), did("append", ["k", "a"]), did("enqueue", 1, 1)
BOTH = did("txn", [["write", "x", 1], ["write", "y", 2]])


def both(x: int, y: int) -> list[Row]:
    return did("txn", [["read", "x", None], ["read", "y", None]], [["read", "x", x], ["read", "y", y]])


SAMPLES: list[tuple[str, list[Row], int]] = [
    ("register", did("write", 1, 1) + did("read", None, 1), 0),
    ("register", did("write", 1, 1) + did("read", None, None), 1),
    ("cas-register", did("cas", [None, 1], [None, 1]) + did("read", None, 1), 0),
    ("cas-register", did("cas", [2, 1], [2, 1]), 1),
    ("mutex", [*did("acquire"), (1, ">", "acquire", None), (1, "?", "acquire", None)], 0),
    ("mutex", [*did("acquire"), (1, ">", "acquire", None), (1, "<", "acquire", None)], 1),
    ("kv", PUT + did("get", ["k", None], ["k", 1]), 0),
    ("kv", PUT + did("get", ["k", None], ["k", 2]), 1),
    ("kv-append", APPENDED + did("get", ["k", None], ["k", "a"]), 0),
    ("kv-append", APPENDED + did("get", ["k", None], ["k", ""]), 1),
    ("multi-register", BOTH + both(1, 2), 0),
    ("multi-register", BOTH + both(1, 3), 1),
    ("set", did("add", 1, 1) + did("read", None, [1]), 0),
    ("set", did("add", 1, 1) + did("read", None, []), 1),
    ("total-queue", PUT_IN + did("drain", None, [1]), 0),
    ("total-queue", PUT_IN + did("drain", None, []), 1),
    ("append-log", did("append", [None, "a"], [0, "a"]) + did("read", [0, None], [0, "a"]), 0),
    ("append-log", did("append", [None, "a"], [1, "a"]) + did("read", [1, None], [1, "a"]), 1),
    ("fifo-queue", PUT_IN + did("dequeue", None, 1), 0),
]


@pytest.mark.parametrize(("model", "rows", "code"), SAMPLES)
def test_every_model(model: str, rows: list[Row], code: int) -> None:
    """A history that passes and a near one that does not; what is minimal is invalid again."""
    path = stored(history(*rows))
    found = lab_check(path, "--model", model, "--minimize", "--json")
    report = json.loads(found.stdout)
    assert found.exit_code == code, report
    assert report["verdict"] == ("invalid" if code else "valid")
    assert report["model"] == model
    if code:
        assert report["text"]
        assert report["witness"]
        again = lab_check(report["minimal"]["path"], "--model", model)
        assert again.exit_code == 1, again.output


def test_every_model_is_covered_both_ways() -> None:
    """By the samples and vectors above."""
    seen = {(model, code) for model, _, code in SAMPLES} | {(model, code) for _, model, _, code, _ in GOLDEN_VECTORS}
    assert seen == {(model, code) for model in NAMES for code in (0, 1)}


def test_what_an_invalid_verdict_prints() -> None:
    """Verdict, one sentence, witness with lines, method and why, the small history, how to check it again."""
    rows: list[tuple[Any, str, str, Any]] = []
    for number in range(30):
        rows += [(0, ">", "enqueue", number), (0, "<", "enqueue", number)]
        if number not in (11, 12):
            rows += [(1, ">", "dequeue", None), (1, "<", "dequeue", number)]
        if number == 12:
            rows += [
                (1, ">", "dequeue", None),
                (1, "<", "dequeue", 12),
                (1, ">", "dequeue", None),
                (1, "<", "dequeue", 11),
            ]
    path = stored(history(*rows), "my queue.jsonl")
    found = lab_check(path, "--model", "fifo-queue", "--minimize", "--picture", "q.svg")
    lines = found.output.splitlines()
    assert found.exit_code == 1
    assert lines[0] == "invalid: not linearizable as fifo-queue: order"
    assert lines[1].startswith("anomaly:  ")
    assert {"11", "12"} <= set(re.findall(r"\d+", lines[1]))
    for part in ("enqueue(11)", "enqueue(12)", "dequeue() → 12", "dequeue() → 11"):
        assert part in found.output
    assert "lines 45-46" in found.output
    assert "method:   " in found.output
    assert "(jsonl): 60 operations of 2 processes, 0 of unknown outcome, 0 failed" in found.output
    assert "minimal:  " in found.output
    assert "again:    lab check 'my queue.minimal.jsonl' --model fifo-queue" in found.output
    small = Path("my queue.minimal.jsonl").read_text().splitlines()
    assert len(small) <= 8
    assert json.loads(small[0])["origin"] == 44
    assert lab_check("my queue.minimal.jsonl", "--model", "fifo-queue").exit_code == 1
    assert ET.parse("q.svg").getroot().tag.endswith("svg")


def test_a_legal_order_is_written_and_can_be_replayed() -> None:
    """By a few lines that know nothing of the checker."""
    file = GOLDEN / "porcupine-etcd" / "etcd_005.jsonl"
    found = lab_check(file, "--model", "cas-register", "--emit-linearization", "order.jsonl")
    assert found.exit_code == 0
    state: Any = None
    done = set()
    rows = [json.loads(line) for line in Path("order.jsonl").read_text().splitlines()]
    latest = -1
    for row in rows:
        done.add(row["invoked_line"])
        if row["outcome"] == "ok":
            assert row["returned_line"] > latest
        latest = max(latest, row["invoked_line"])
        if row["f"] == "read":
            assert row["result"] == state
        elif row["f"] == "write":
            state = row["argument"]
        else:
            assert state == row["argument"][0]
            state = row["argument"][1]
    events = [json.loads(line) for line in file.read_text().splitlines()]
    open_now: dict[int, int] = {}
    for event in events:
        if event["type"] == "invoke":
            open_now[event["process"]] = event["index"] + 1
        elif event["type"] == "ok":
            assert open_now[event["process"]] in done


def test_wrapped_histories(tmp_path: Path) -> None:
    """And what is written of them has a plain name."""
    text = history(*SAMPLES[1][1]).encode()
    Path("h.jsonl.gz").write_bytes(gzip.compress(text))
    Path("h2.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(text))
    assert lab_check("h.jsonl.gz", "--model", "register", "--minimize").exit_code == 1
    assert lab_check("h2.jsonl.zst", "--model", "register").exit_code == 1
    assert Path("h.minimal.jsonl").exists()


def test_initial_state_and_null_reads() -> None:
    """As JSON; a read of null is an observation unless told otherwise."""
    read_five = stored(history((0, ">", "read", None), (0, "<", "read", 5)))
    assert lab_check(read_five, "--model", "register").exit_code == 1
    assert lab_check(read_five, "--model", "register", "--init", "5").exit_code == 0
    assert lab_check(read_five, "--model", "register", "--init", '"5"').exit_code == 1
    read_null = stored(history(*SAMPLES[1][1]))
    assert lab_check(read_null, "--model", "register").exit_code == 1
    assert lab_check(read_null, "--model", "register", "--null-read", "unknown").exit_code == 0


def test_a_budget_ends_in_unknown() -> None:
    """With a reason, never with a guess."""
    found = lab_check(GOLDEN / "porcupine-etcd" / "etcd_005.jsonl", "--model", "cas-register", "--budget", "1nodes")
    assert found.exit_code == ExitCode.UNKNOWN
    assert found.output.startswith("unknown: not decided as cas-register")
    assert "because:" in found.output


def test_nothing_is_known_of_nothing() -> None:
    """A history without operations proves nothing."""
    stored('{"index":0,"process":"nemesis","type":"info","f":"kill","value":null,"time":0}\n')
    found = lab_check("h.jsonl", "--model", "register")
    assert found.exit_code == ExitCode.UNKNOWN
    assert "of nothing nothing is known" in found.output


def test_budgets_are_times_sizes_and_numbers() -> None:
    """Anything else is refused."""
    budget = parse_budget(("2min", "3GB", "1000nodes"))
    assert (budget.wall_ms, budget.memory_mb, budget.nodes) == (120_000, 3000, 1000)
    assert parse_budget(("none", "5s")).wall_ms == 5000
    assert parse_budget(("none", "5s")).memory_mb is None
    for text in ("5", "s", "-1s", "5h", ""):
        with pytest.raises(PlanError, match="write a time, a size or a number"):
            parse_budget((text,))


COUNTER = """
class Counter:
    def init(self):
        return 0

    def step(self, state, op):
        if op.f == "increment":
            return True, state + 1
        return op.outcome == "info" or op.result == state, state

    def pure(self, op):
        return op.f == "get"


class NoStep:
    def init(self):
        return 0


class Broken(Counter):
    def step(self, state, op):
        return state / 0


class NeedsMore:
    def __init__(self, more):
        self.more = more
"""


@pytest.fixture
def module(folder: Path, request: pytest.FixtureRequest) -> str:
    """A module of models in the current folder, under a name of its own."""
    name = f"models_{abs(hash(request.node.name))}"
    (folder / f"{name}.py").write_text(COUNTER)
    (folder / f"{name}_syntax.py").write_text("def f(:\n")
    (folder / f"{name}_import.py").write_text("import not_there_at_all\n")
    return name


def counted(result: int) -> Path:
    rows: list[tuple[Any, str, str, Any]] = [(0, ">", "increment", None), (0, "<", "increment", None)] * 3
    return stored(
        history(*rows, (1, ">", "get", None), (1, "<", "get", 2), (1, ">", "get", None), (1, "<", "get", result))
    )


def test_a_model_of_ones_own(module: str) -> None:
    """From the current folder; it is minimised by its own `pure`."""
    good = counted(3)
    Path("good.jsonl").write_text(good.read_text().replace('"value": 2', '"value": 3'))
    assert lab_check("good.jsonl", "--model", f"{module}:Counter").exit_code == 0
    found = lab_check(counted(3), "--model", f"{module}:Counter", "--minimize")
    assert found.exit_code == 1, found.output
    assert Path("h.minimal.jsonl").read_text().count('"get"') == 2
    assert lab_check("h.minimal.jsonl", "--model", f"{module}:Counter").exit_code == 1


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("$:Countre", "has no Countre; did you mean 'Counter'?"),
        ("$:NoStep", "NoStep has no step; a model has init() and step()"),
        ("$:NeedsMore", "NeedsMore() failed: TypeError"),
        ("$:Broken", "failed: ZeroDivisionError: division by zero (line"),
        ("$_syntax:X", "failed: SyntaxError"),
        ("$_import:X", "imports not_there_at_all, which is not there"),
        ("$_missing:X", "no module"),
        ("$/x:X", "write module:Class"),
        ("fifo", "unknown model 'fifo'"),
        ("fifo-queu", "did you mean 'fifo-queue'?"),
    ],
)
def test_a_model_that_is_none(model: str, says: str, module: str) -> None:
    """One sentence, exit code 2, no traceback."""
    found = lab_check(counted(3), "--model", model.replace("$", module))
    assert found.exit_code == ExitCode.USAGE
    assert says in found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.jsonl", "--model", "register"], "cannot read history none.jsonl"),
        (["h.jsonl", "--model", "register", "--init", "{"], "is not JSON"),
        (["h.jsonl", "--model", "register", "--format", "xml"], "'xml' is not one of"),
        (["h.jsonl", "--model", "register", "--checker", "C1"], "--checker and --model exclude each other"),
        (["h.jsonl", "--minimize"], "--minimize needs --model"),
        (["h.jsonl", "--model", "register", "--format", "edn"], "h.jsonl, line 1"),
        (["h.jsonl", "--model", "fifo-queue"], "h.jsonl, line 1: 'write' is no operation of fifo-queue"),
        ([".", "--model", "register"], "is no run: it has no history"),
        (["h.jsonl", "--model", "register", "--minimize", "--picture", "no/such/folder.svg"], "cannot write"),
    ],
)
def test_mistakes_are_told_in_one_sentence(arguments: list[str], says: str) -> None:
    """With exit code 2."""
    stored(history(*SAMPLES[1][1]))
    found = lab_check(*arguments)
    assert found.exit_code == ExitCode.USAGE, found.output
    assert says in found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:-30], "line 4: the file ends in the middle of this line"),
        (lambda text: text.replace('"index": 2', '"index": 1'), "line 3: index 1 for the second time"),
        (lambda text: text.replace('"process": 0', '"process": null', 1), "line 1: not an event"),
        (lambda text: text.replace('"time"', '"tiem"', 1), "unknown field `tiem`"),
        (lambda text: text.replace('"value": 1', '"value": x', 1), "line 1: not JSON"),
        (lambda text: "", "holds no events"),
    ],
)
def test_damage_is_told_in_one_sentence(damage: Any, says: str) -> None:
    """With the file and the line, and exit code 2."""
    stored(damage(history(*SAMPLES[1][1])))
    found = lab_check("h.jsonl", "--model", "register")
    assert found.exit_code == ExitCode.USAGE
    assert says in found.output
    assert len(found.output.splitlines()) == 1


@pytest.mark.parametrize("depth", [100, 400, 700, 990, 5000])
def test_deep_values_are_compared_or_refused(depth: int) -> None:
    """Without a traceback."""
    deep = "[" * depth + "]" * depth
    stored(history(*did("write", 7, 7), *did("read", None, 8)).replace("7", deep, 2))
    found = lab_check("h.jsonl", "--model", "register", "--minimize")
    assert found.exit_code in (ExitCode.INVALID, ExitCode.USAGE)
    assert (found.exit_code == ExitCode.INVALID) or "nested too deeply" in found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize("engine", ["auto", "fallback"])
@pytest.mark.parametrize(("file", "model", "valid"), RECORDED[::10])
def test_with_and_without_the_compiled_core(file: str, model: str, valid: bool, engine: str) -> None:
    """The same verdict, and the report says which it was."""
    found = lab_check(GOLDEN / file, "--model", model, "--engine", engine, "--json")
    assert found.exit_code == (0 if valid else 1)
    assert json.loads(found.stdout)["engine"] == "fallback" or engine == "auto"


@pytest.mark.parametrize(
    ("name", "anomaly"),
    [
        ("invalid/appends-swapped.jsonl", "order"),
        ("invalid/lost.jsonl", "stale"),
        ("invalid/vanished.jsonl", "stale"),
        ("invalid/one-offset-two-messages.jsonl", "clash"),
        ("invalid/failed-send-delivered.jsonl", "unwritten"),
        ("invalid/promotion-after-one-copy.jsonl.zst", "clash"),
        ("valid/two-messages.jsonl", ""),
        ("valid/unknown-send-turned-up.jsonl", ""),
        ("valid/weak-status-lost.jsonl", ""),
    ],
)
def test_the_labs_own_histories_as_logs(name: str, anomaly: str) -> None:
    """Queue by queue, and what is minimal of one queue is invalid alone."""
    found = lab_check(GOLDEN.parent / "histories" / name, "--model", "append-log", "--minimize")
    assert found.exit_code == (1 if anomaly else 0), found.output
    assert anomaly in found.output.splitlines()[0]
    assert "note:     judged as one strict object a queue" in found.output
    if anomaly:
        (small,) = Path().glob("*.minimal.jsonl")
        assert lab_check(small, "--model", "append-log").exit_code == 1


KEYED = [
    ("enqueue", ["a", 1], None), ("enqueue", ["b", 2], None), ("dequeue", None, ["b", 2]), ("dequeue", None, ["a", 1]),
    ("dequeue", None, ["a", 1]),
]  # fmt: skip


def test_what_a_queue_promises_is_said_and_said_again(folder: Path) -> None:
    """Across keys and with a redelivery: legal under per-key alone, and the command to repeat it names the contract."""
    rows = [row for f, asked, got in KEYED for row in ((f, "invoke", asked), (f, "ok", asked if got is None else got))]
    lines = [
        json.dumps({"index": n, "process": 0, "type": kind, "f": f, "value": value, "time": n})
        for n, (f, kind, value) in enumerate(rows)
    ]
    path = stored("\n".join(lines) + "\n")
    codes = {
        contract: lab_check(path, "--model", "fifo-queue", "--delivery", contract).exit_code
        for contract in ("exactly-once", "at-most-once", "at-least-once", "per-key")
    }
    assert codes == {"exactly-once": 1, "at-most-once": 1, "at-least-once": 1, "per-key": 0}
    found = lab_check(path, "--model", "fifo-queue", "--delivery", "at-least-once", "--minimize")
    assert found.exit_code == ExitCode.INVALID
    assert "again:    lab check h.minimal.jsonl --model fifo-queue --delivery at-least-once" in found.output
    again = lab_check("h.minimal.jsonl", "--model", "fifo-queue", "--delivery", "at-least-once")
    assert again.exit_code == ExitCode.INVALID
    refused = lab_check(path, "--model", "total-queue", "--delivery", "per-key")
    assert refused.exit_code == ExitCode.USAGE
    assert "only fifo-queue has" in refused.output


def test_a_history_of_another_harness_without_a_model_is_told_how(folder: Path) -> None:
    """The lab's own checkers cannot judge it, and say what can."""
    line = {"index": 0, "process": 0, "type": "invoke", "f": "write", "value": 1, "time": 0}
    for text in ("[{:process 0 :type :invoke :f :write :value 1}]\n", json.dumps(line) + "\n"):
        found = lab_check(stored(text))
        assert found.exit_code == ExitCode.USAGE
        assert "lab check FILE --model" in found.output


def test_a_mutex_is_told_as_a_mutex(folder: Path) -> None:
    """It is decided as a register that is compared and set, which is nothing that its user asked about."""
    lines = [
        json.dumps({"index": n, "process": n // 2, "type": kind, "f": "acquire", "value": None})
        for n, kind in enumerate(("invoke", "ok") * 2)
    ]
    found = lab_check(stored("\n".join(lines) + "\n"), "--model", "mutex")
    assert found.exit_code == ExitCode.INVALID
    assert "the acquire by process 1 (called line 3, returned line 4) cannot have happened" in found.output
    assert "the state then is held" in found.output
