"""Measures goal by goal: `python -m lab.checker_bench [--quick]`, a table and bench-checkers.json."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from checkers.linearizability.batch import decide_registers
from checkers.linearizability.compiled import NOTE, core
from checkers.linearizability.decision import Decision, decide
from checkers.linearizability.encoding import ENCODERS
from checkers.linearizability.formats.read import read_operations
from checkers.linearizability.operations import Operations
from lab.bench.figures import Figure, table, write
from lab.checker_bench import generate, knossos
from lab.checker_bench.history_file import write_history
from lab.checker_bench.own_model import CasRegister
from lab.checker_bench.porcupine import Porcupine, Times, plain

Found = TypeVar("Found")

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "linearizability"
FASTLIN = {100_000: 0.038, 1_000_000: 0.544}
"""Seconds of FastLin for complete queue histories of five clients, encoding included, as recorded on two cores."""
RECORDED = {"etcd": 0.321, "register 100k c5 0%": 1.34, "register 100k c5 5%": 6.37, "register 10k c20 0%": 2.0,
            "register 10k c20 1%": 5.35, "log 100k": 0.73, "Knossos": 0.00875}  # fmt: skip
"""Seconds of Porcupine as recorded, for machines without Go."""


def timed(call: Callable[[], Any], repeat: int = 7) -> tuple[float, float, Any]:
    """Return the least and the median seconds of some warm repetitions, and the last result."""
    times, result = [], None
    for _ in range(repeat):
        begin = perf_counter()
        result = call()
        times.append(perf_counter() - begin)
        if times[-1] > 5:
            break
    return min(times), median(times), result


def valid(decision: Decision) -> None:
    """Stop if a generated history, which is legal, is judged otherwise."""
    if decision.verdict != "valid":
        raise SystemExit(f"wrong verdict {decision.verdict} {dict(decision.counts)} {decision.reasons}")


def same(name: str, decision: Decision, other: Times) -> None:
    """Stop if Porcupine says otherwise."""
    if other.verdict != "Unknown" and {"Ok": "valid", "Illegal": "invalid"}[other.verdict] != decision.verdict:
        raise SystemExit(f"{name}: we say {decision.verdict}, Porcupine {other.verdict}")


class Bench:
    """Gathers figures, with Porcupine beside us where it can be had."""

    def __init__(self, peer: Porcupine | None) -> None:
        self.peer = peer
        self.figures: list[Figure] = []

    def ratio(
        self, name: str, goal: float, ours: float, theirs: float | None, recorded: float | None, says: str
    ) -> None:
        """Add how many times faster we are."""
        other, word = (theirs, "measured now") if theirs is not None else (recorded, "recorded")
        if other is None:
            self.seconds(name, ours, None, f"{says}; Porcupine did not finish")
            return
        text = f"ours {ours * 1e3:.3g} ms, Porcupine {other * 1e3:.3g} ms ({word}); {says}"
        self.figures.append(Figure(name, other / ours, "x", goal, True, text))

    def seconds(self, name: str, value: float, goal: float | None, says: str) -> None:
        """Add a time in milliseconds."""
        self.figures.append(Figure(name, value * 1e3, "ms", None if goal is None else goal * 1e3, False, says))

    def theirs(self, model: str, ops: Operations, seconds: float = 30) -> float | None:
        """Return Porcupine's least time, None if it is absent, gave up or died."""
        found = self.peer.check(model, [plain(ops)], seconds=seconds) if self.peer else None
        return found[0].least if found and found[0].verdict != "Unknown" else None


def _paths(bench: Bench, folder: str, theirs: str) -> list[Path]:
    """Return Porcupine's own recordings where its module was fetched, else those kept here."""
    found = sorted(path for path in bench.peer.data.glob(theirs) if path.stat().st_size) if bench.peer else []
    return found or sorted((GOLDEN / folder).glob("*.jsonl"))


def _files(paths: list[Path], model: str) -> list[tuple[str, Operations]]:
    out = []
    for path in paths:
        ops = ENCODERS[model](list(read_operations(path, model).operations), None)
        out.append((path.stem, ops))
    return out


def around(ours: Callable[[], list[float]], theirs: Callable[[], Found]) -> tuple[list[float], Found]:
    """Measure ours before and after theirs, and take the lesser of each: a machine's speed changes within a run."""
    before = ours()
    found = theirs()
    return [min(pair) for pair in zip(before, ours(), strict=True)], found


def etcd(bench: Bench) -> None:
    """Goals 1 and 14: the recorded etcd histories as a cas-register."""
    paths = _paths(bench, "porcupine-etcd", "jepsen/etcd_*.log")
    files = _files(paths, "cas-register")
    raw = [(name, _raw(ops)) for name, ops in files]
    joined = _joined([ops for _, ops in raw])
    (*each, together), found = around(
        lambda: [*_each("cas-register", raw), timed(lambda: decide_registers(*joined), 20)[0]],
        lambda: bench.peer.check("register", [plain(ops) for _, ops in raw], repeat=20) if bench.peer else None,
    )
    ours = {name: least for (name, _), least in zip(raw, each, strict=True)}
    theirs = {name: one.least for (name, _), one in zip(raw, found, strict=True)} if found else {}
    for (name, ops), one in zip(raw, found or (), strict=False):
        same(name, decide("cas-register", ops), one)
    total, other = sum(ours.values()), sum(theirs.values()) if theirs else None
    says = f"{len(raw)} histories"
    bench.ratio("1 etcd, one call each", 150, total, other, None, says)
    if theirs:
        slowest = min(raw, key=lambda one: theirs[one[0]] / ours[one[0]])[0]
        bench.ratio(f"1 etcd, worst history ({slowest})", 1, ours[slowest], theirs[slowest], None, "least ratio of all")
    bench.ratio("1 etcd, one batch", 400, together, other, None, says)
    objects = [list(read_operations(path, "cas-register").operations) for path in paths]
    own = sum(timed(lambda ops=ops: decide(CasRegister(), ops), 5)[0] for ops in objects)  # type: ignore[misc]
    bench.seconds("14 etcd, a user's Python model", own, 0.025 * len(raw) / 102, f"{says}, from objects")


def registers_of_knossos(bench: Bench, folder: Path | None) -> None:
    """Goal 2: the cas-registers that Knossos keeps, each as its folder says."""
    found = knossos.histories(folder)
    if isinstance(found, str):
        print(f"without goal 2, Knossos' histories: {found}", file=sys.stderr)  # noqa: T201
        return
    for name, verdict, ops in found:
        decision = decide("cas-register", ops)
        if decision.verdict != verdict:
            raise SystemExit(f"{name}: we say {decision.verdict}, Knossos {verdict}")
    joined = _joined([ops for _, _, ops in found])
    raw = [(name, ops) for name, _, ops in found]
    (*each, together), others = around(
        lambda: [*_each("cas-register", raw), timed(lambda: decide_registers(*joined), 100)[0]],
        lambda: bench.peer.check("register", [plain(ops) for _, ops in raw], repeat=20) if bench.peer else None,
    )
    for (name, _, ops), other in zip(found, others or (), strict=False):
        same(name, decide("cas-register", ops), other)
    theirs = sum(other.least for other in others) if others else None
    says = f"{len(found)} histories, {sum(len(ops) for _, _, ops in found)} operations, all as labelled"
    bench.ratio("2 Knossos, one call each", 4, sum(each), theirs, RECORDED["Knossos"], says)
    if [one.word for one in decide_registers(*joined)] != [verdict for _, verdict, _ in found]:
        raise SystemExit("the batch of Knossos' histories has other verdicts than one call each")
    bench.ratio("2 Knossos, one batch", 10, together, theirs, RECORDED["Knossos"], says)


def _each(model: str, named: Sequence[tuple[str, Operations]]) -> list[float]:
    return [timed(lambda ops=ops: decide(model, ops), 20)[0] for _, ops in named]  # type: ignore[misc]


def _raw(ops: Operations) -> Operations:
    """Return columns whose ids are the values themselves."""
    return Operations(call=ops.call, ret=ops.ret, f=ops.f, a=ops.a, b=ops.b)


def _joined(parts: list[Operations]) -> tuple[Operations, Any]:
    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Operations(**{name: column(name) for name in ("call", "ret", "f", "a", "b")}), starts


def kv(bench: Bench) -> None:
    """Goal 3: the recorded key-value histories, strings and keys as they are."""
    for name, ops in _files(_paths(bench, "porcupine-kv", "kv/c*.txt"), "kv-append"):
        least, middle, decision = timed(lambda ops=ops: decide("kv-append", ops), 30)  # type: ignore[misc]
        found = bench.peer.check("kv-append", [plain(ops)], repeat=30) if bench.peer else None
        says = f"{len(ops)} operations, {decision.verdict}"
        if found:
            same(name, decision, found[0])
        bench.ratio(f"3 kv {name}", 20 if name == "c50-ok" else 1, least, found[0].least if found else None, None, says)
        if name == "c50-bad" and found:
            bench.ratio(f"3 kv {name}, medians", 4, middle, found[0].middle, None, says)


def registers(bench: Bench, quick: bool) -> None:
    """Goals 4 to 8: generated registers, raw 50-bit times."""
    goals = [(4, 100_000, 5, 0.0, 50.0), (4, 100_000, 5, 0.05, 150.0), (5, 10_000, 20, 0.0, 200.0),
             (5, 10_000, 20, 0.01, 500.0), (6, 1_000, 5, 0.0, 3.0), (6, 1_000, 5, 0.01, 3.0), (6, 1_000, 5, 0.05, 3.0),
             (6, 10_000, 5, 0.0, 3.0), (6, 10_000, 5, 0.01, 3.0), (6, 10_000, 5, 0.05, 3.0)]  # fmt: skip
    for goal, n, clients, unknown, wanted in goals:
        ops = generate.register(n, clients, unknown)
        least, _, decision = timed(lambda ops=ops: decide("cas-register", ops))  # type: ignore[misc]
        valid(decision)
        name = f"register {_size(n)} c{clients} {unknown:.0%}"
        theirs = None if quick and n >= 100_000 else bench.theirs("register", ops)
        bench.ratio(f"{goal} {name}", wanted, least, theirs, RECORDED.get(name), f"{decision.nodes} configurations")
    for n, clients, unknown in ((1_000, 20, 0.05), (1_000, 50, 0.0), (1_000, 50, 0.01), (1_000, 50, 0.05)):
        ops = generate.register(n, clients, unknown)
        least, _, decision = timed(lambda ops=ops: decide("cas-register", ops))  # type: ignore[misc]
        valid(decision)
        bench.seconds(f"7 register 1k c{clients} {unknown:.0%}", least, 0.020, "Porcupine takes 37 s or passes 60 s")


def seeds(bench: Bench) -> None:
    """Goal 5, other seeds: no history of a kind may be a hundred times harder than its like."""
    for clients, unknown in ((10, 0.01), (10, 0.05), (20, 0.0), (20, 0.01), (20, 0.05)):
        worst, seed = 0.0, 0
        for number in range(1, 11):
            ops = generate.register(10_000, clients, unknown, seed=number)
            took, _, decision = timed(lambda ops=ops: decide("cas-register", ops), 3)  # type: ignore[misc]
            valid(decision)
            if took > worst:
                worst, seed = took, number
        bench.seconds(f"5 register 10k c{clients} {unknown:.0%}, worst of 10", worst, None, f"seed {seed}")


def _size(n: int) -> str:
    return f"{n // 1_000_000}M" if n >= 1_000_000 else f"{n // 1_000}k"


def linear(bench: Bench, quick: bool) -> None:
    """Goals 9 to 13: logs and queues, encoding included, and the fallback without a compiler."""
    ops = generate.log(100_000, 5, 0.0, raw=True)
    least, _, decision = timed(lambda: decide("append-log", ops))
    valid(decision)
    bench.ratio(
        "9 log 100k 0%",
        100,
        least,
        None if quick else bench.theirs("append-log", ops),
        RECORDED["log 100k"],
        "raw times",
    )
    for unknown in (0.01, 0.05):
        some = generate.log(100_000, 5, unknown, raw=True)
        more, _, decision = timed(lambda some=some: decide("append-log", some))  # type: ignore[misc]
        valid(decision)
        bench.figures.append(
            Figure(f"9 log 100k {unknown:.0%} against 0%", more / least, "x", 2.0, False, "time over time")
        )
    for name, model, make, ordered, raw in (
        ("10 log", "append-log", generate.log, 0.15, 0.30),
        ("11 queue", "fifo-queue", generate.queue, 0.20, 0.35),
    ):
        for clients, unknown in ((5, 0.0), (20, 0.01), (50, 0.05)):
            for label, options, goal in (
                ("ordered events", {}, ordered),
                ("raw times", {"raw": True}, raw),
                ("raw times, shuffled", {"raw": True, "shuffled": True}, raw),
            ):
                ops = make(1_000_000, clients, unknown, **options)
                took, _, decision = timed(lambda ops=ops, model=model: decide(model, ops), 5)  # type: ignore[misc]
                valid(decision)
                bench.seconds(f"{name} 1M c{clients} {unknown:.0%}, {label}", took, goal, "columns to verdict")
    for n, recorded in FASTLIN.items():
        ops = generate.queue(n, 5, 0.0, raw=True, shuffled=True)
        took, _, decision = timed(lambda ops=ops: decide("fifo-queue", ops))  # type: ignore[misc]
        valid(decision)
        text = f"ours {took * 1e3:.3g} ms, FastLin {recorded * 1e3:.3g} ms (recorded)"
        bench.figures.append(Figure(f"12 queue {_size(n)} against FastLin", recorded / took, "x", 2.0, True, text))
    for name, model, make, goal in (
        ("queue", "fifo-queue", generate.queue, 1.0),
        ("log", "append-log", generate.log, 0.4),
    ):
        ops = make(1_000_000, 5, 0.01)
        took, _, decision = timed(lambda ops=ops, model=model: decide(model, ops, engine="fallback"), 3)  # type: ignore[misc]
        valid(decision)
        bench.seconds(f"13 {name} 1M by numpy alone", took, goal, "ordered events")


_LOADED = """
import numpy as np
from time import process_time
from checkers.linearizability.decision import decide
from checkers.linearizability.operations import Operations
found = np.load({path!r})
many = [Operations(**{{name.split("/")[1]: found[name] for name in found.files if name.startswith(f"{{k}}/")}})
        for k in range({count})]
times = []
for _ in range({repeat}):
    begin = process_time()
    verdicts = [decide({model!r}, ops).verdict for ops in many]
    times.append((process_time() - begin) / len(many))
peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(min(times), int(peak) / 1e3, *sorted(set(verdicts)))
"""


def loaded(path: Path, model: str, many: Sequence[Operations], repeat: int) -> tuple[float, float]:
    """Return what a fresh process that has the columns of some histories needs for one: processor seconds (the least
    mean of some rounds), megabytes."""
    columns = ("call", "ret", "f", "a", *(() if model == "fifo-queue" else ("b",)))
    kept = {f"{k}/{c}": getattr(ops, c) for k, ops in enumerate(many) for c in columns if getattr(ops, c) is not None}
    np.savez(path, **kept)
    script = _LOADED.format(path=str(path), model=model, repeat=repeat, count=len(many))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    took, peak, *verdicts = done.stdout.split()
    if verdicts != ["valid"]:
        raise SystemExit(f"{path.name} as {model}: {', '.join(verdicts)}")
    return float(took), float(peak)


def growth(bench: Bench, folder: Path, quick: bool) -> None:
    """Goals 10 and 11: ten times the operations take about ten times as long, up to ten million; with their memory."""
    for name, model, make in (("10 log", "append-log", generate.log), ("11 queue", "fifo-queue", generate.queue)):
        before = 0.0
        for n in (1_000, 10_000, 100_000, 1_000_000, *(() if quick else (10_000_000,))):
            # small ones in turn with their like: one alone, again and again, is learnt by heart by the processor
            many = [make(n, 5, 0.01, raw=True, seed=seed) for seed in range(1, 1 + max(1, min(64, 100_000 // n)))]
            took, peak = loaded(folder / "ops.npz", model, many, 9 if n >= 1_000_000 else 50)
            says = f"{took * 1e3:.3g} ms of processor, {peak:.0f} MB at the peak of a fresh process with the columns"
            if before:
                bench.figures.append(Figure(f"{name} {_size(n)} against a tenth", took / before, "x", 15, False, says))
            before = took


def memory(bench: Bench, folder: Path) -> None:
    """Goals 8, 10 and 11: peak memory of a fresh process that has the columns and decides."""
    cases: list[tuple[str, str, Operations, float, float | None]] = [
        ("8 register 1M c5 5%", "cas-register", generate.register(1_000_000, 5, 0.05), 500, 0.8),
        ("10 log 1M c50 5%", "append-log", generate.log(1_000_000, 50, 0.05, raw=True), 250, None),
        ("11 queue 1M c50 5%", "fifo-queue", generate.queue(1_000_000, 50, 0.05, raw=True), 300, None),
    ]
    for name, model, ops, goal, seconds in cases:
        took, peak = loaded(folder / "ops.npz", model, [ops], 1)
        bench.figures.append(Figure(f"{name}, memory", peak, "MB", goal, False, "peak of a fresh process"))
        if seconds is not None:
            bench.seconds(
                name, took, seconds, "processor time of the first call in a fresh process; Porcupine runs out of memory"
            )


_CHECKED = """
from time import perf_counter, process_time
from checkers import check
begin, busy = perf_counter(), process_time()
decision = check({path!r}, {model!r})
took, busy = perf_counter() - begin, process_time() - busy
peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(took, busy, int(peak) / 1e3, decision.verdict)
"""


def files(bench: Bench, folder: Path) -> None:
    """Goal 15: a compressed file of a million operations to its verdict, in a fresh process."""
    for model, make in (("fifo-queue", generate.queue), ("append-log", generate.log)):
        path = folder / f"{model}.jsonl.zst"
        lines = write_history(make(1_000_000, 20, 0.01), model, path)
        script = _CHECKED.format(path=str(path), model=model)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        took, busy, peak, verdict = done.stdout.split()
        if verdict != "valid":
            raise SystemExit(f"file of {model}: {verdict}")
        says = f"{lines} JSON lines in zstd, {path.stat().st_size / 1e6:.0f} MB; {float(busy):.1f} s of processor"
        bench.seconds(f"15 {model} 1M from a file", float(took), 4.0, says)
        bench.figures.append(Figure(f"15 {model} 1M from a file, memory", float(peak), "MB", 1500, False, says))


def startup(bench: Bench) -> None:
    """Goal 16: a fresh interpreter to its first verdict."""
    script = (
        "from checkers.linearizability.decision import decide\n"
        "from checkers.linearizability.operations import columns\n"
        "assert decide('cas-register', columns([0, 2], [1, 3], [1, 0], [5, 5], [0, 0])).verdict == 'valid'\n"
    )
    bare = timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 5)[0]
    took = timed(lambda: subprocess.run([sys.executable, "-c", script], check=True), 5)[0]
    bench.seconds(
        "16 import and first verdict", took - bare, 0.25, f"a bare interpreter takes {bare * 1e3:.0f} ms more"
    )


def main() -> None:
    """Run all goals and write bench-checkers.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without Porcupine's slow runs and ten million operations")
    parser.add_argument(
        "--only",
        default="",
        help="comma separated: etcd, knossos, kv, registers, seeds, linear, growth, memory, file, startup",
    )
    parser.add_argument(
        "--knossos", type=Path, metavar="FOLDER", help="a checkout of Knossos, where its release is out of reach"
    )
    options = parser.parse_args()
    if core is None:
        print(NOTE, file=sys.stderr)  # noqa: T201
    peer = Porcupine.build()
    if isinstance(peer, str):
        print(f"without Porcupine, against recorded figures: {peer}", file=sys.stderr)  # noqa: T201
    bench = Bench(None if isinstance(peer, str) else peer)
    parts: dict[str, Callable[[Path], None]] = {
        "etcd": lambda _: etcd(bench),
        "knossos": lambda _: registers_of_knossos(bench, options.knossos),
        "kv": lambda _: kv(bench),
        "registers": lambda _: registers(bench, options.quick),
        "seeds": lambda _: seeds(bench),
        "linear": lambda _: linear(bench, options.quick),
        "growth": lambda folder: growth(bench, folder, options.quick),
        "startup": lambda _: startup(bench),
        "memory": lambda folder: memory(bench, folder),
        "file": lambda folder: files(bench, folder),
    }
    try:
        for name, part in parts.items():
            if not options.only or name in options.only.split(","):
                with tempfile.TemporaryDirectory() as folder:
                    part(Path(folder))
    finally:
        if bench.peer:
            bench.peer.close()
    print(table(bench.figures))  # noqa: T201
    write(
        bench.figures,
        {"machine": platform.platform(), "python": platform.python_version()},
        Path("bench-checkers.json"),
    )


if __name__ == "__main__":
    main()
