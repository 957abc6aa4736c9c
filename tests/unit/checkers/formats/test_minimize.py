"""Counter-examples get small by sound steps only: proven by trying all orders of small histories."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from checkers.linearizability import minimize as minimizing
from checkers.linearizability.formats.read import read_operations
from checkers.linearizability.minimize import minimize, shrink
from checkers.linearizability.operations import Operation
from checkers.linearizability.subhistory import cut, lines, write_lines
from tests.unit.checkers.formats.brute import MODELS, bent, legal, linearizable

SEED = 20261125
ROUNDS = 200


@pytest.mark.parametrize("model", MODELS)
def test_brute_force_knows_legal_from_illegal(model: str) -> None:
    """The judge of these tests: what a system could have shown is legal, and of the bent ones some are not."""
    chance = random.Random(SEED)
    found: Counter[bool] = Counter()
    for _ in range(ROUNDS):
        operations = legal(model, chance, 6)
        assert linearizable(model, operations), operations
        found[linearizable(model, bent(model, chance, operations))] += 1
    assert found[False] > 0 or model == "mutex"
    assert found[True] > 0


@pytest.mark.parametrize("model", MODELS)
def test_no_step_makes_a_legal_history_illegal(model: str) -> None:
    """Whatever is tried on the way down is legal if the whole is, also if each try is believed to fail."""
    chance = random.Random(SEED + 1)
    tried = 0
    for _ in range(ROUNDS):
        operations = legal(model, chance, 7)
        whole = sorted(operations, key=lambda one: one.invoked)

        def failing(candidate: list[Operation]) -> bool:
            nonlocal tried
            tried += 1
            assert linearizable(model, candidate), (whole, candidate)  # noqa: B023 — called before the next round
            return chance.random() < 0.6

        proof = chance.sample(whole, 2)
        minimize(model, whole, failing, proof=proof, last_event=chance.choice(whole).invoked + 300)
    assert tried > ROUNDS


@pytest.mark.parametrize("model", [model for model in MODELS if model != "mutex"])
def test_what_remains_is_illegal_alone_and_smaller(model: str, tmp_path: Path) -> None:
    """In memory, and in the file that was written of it."""
    chance = random.Random(SEED + 2)
    sizes: list[int] = []
    while len(sizes) < 15:
        operations = bent(model, chance, legal(model, chance, 8, unknown=0.15))
        if linearizable(model, operations):
            continue
        small = minimize(model, operations, lambda some: not linearizable(model, some))
        assert not linearizable(model, small.operations), operations
        sizes.append(len(small.operations))
        path = tmp_path / "small.jsonl"
        write_lines(path, lines(small.operations))
        again = read_operations(path, model).operations
        assert not linearizable(model, again), (small.operations, path.read_text())
        assert [(one.f, one.outcome, one.argument, one.result) for one in again] == [
            (one.f, one.outcome, one.argument, one.result) for one in small.operations
        ]
    assert sum(sizes) < 15 * 7


@pytest.mark.flaws
@pytest.mark.parametrize(
    ("model", "flaw"), [("register", ("read", "write")), ("fifo-queue", ("dequeue",)), ("kv-append", ("get", "append"))]
)
def test_an_unsound_step_would_be_noticed(model: str, flaw: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Were operations that change the state taken out one by one."""
    monkeypatch.setitem(minimizing._READS, model, flaw)
    with pytest.raises(AssertionError):
        test_no_step_makes_a_legal_history_illegal(model)


@pytest.mark.flaws
def test_forgetting_past_a_compare_and_set_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no blind overwrite."""
    monkeypatch.setitem(minimizing._OVERWRITES, "cas-register", ("write", "cas"))
    with pytest.raises(AssertionError):
        test_no_step_makes_a_legal_history_illegal("cas-register")


def test_what_a_write_made_forgotten_goes() -> None:
    """Thousands of compare-and-sets before it, but not one that overlaps it."""
    chain = [one("cas", 2 * place, 2 * place + 1, [place, place + 1], True) for place in range(500)]
    end = [one("write", 2000, 2001, 7), one("read", 2002, 2003, None, 8)]

    def failing(some: list[Operation]) -> bool:
        return [each.f for each in some][-2:] == ["write", "read"]

    assert list(minimize("cas-register", [*chain, *end], failing).operations) == end
    overlapping = one("cas", 1999, 2002, [500, 501], True)
    assert len(minimize("cas-register", [*chain, overlapping, *end], failing).operations) > 500


def one(f: str, begin: int, end: int | None, argument: object = None, result: object = None) -> Operation:
    return Operation(
        f=f, process=begin, invoked=begin, returned=end, outcome="ok" if end is not None else "info",
        argument=argument, result=result, invoked_line=begin + 1, returned_line=None if end is None else end + 1,
    )  # fmt: skip


def test_a_queue_keeps_only_the_values_of_the_anomaly() -> None:
    """Three operations out of hundreds: a was in before b, and only b came out."""
    operations = []
    for number in range(100):
        operations += [one("enqueue", number * 4, number * 4 + 1, number)]
        if number != 40:
            operations += [one("dequeue", number * 4 + 2, number * 4 + 3, None, number)]
    tries = Counter[str]()

    def failing(some: list[Operation]) -> bool:
        tries["all"] += 1
        taken = [each.result for each in some if each.f == "dequeue"]
        return any(
            each.f == "enqueue"
            and each.argument not in taken
            and any(
                other.invoked > each.invoked for other in some if other.f == "dequeue" and other.result > each.argument
            )
            for each in some
        )

    small = minimize("fifo-queue", operations, failing)
    assert [each.f for each in small.operations] == ["enqueue", "enqueue", "dequeue"]
    proof = [each for each in operations if each.argument in (40, 41) or each.result == 41]
    tries.clear()
    near = minimize("fifo-queue", operations, failing, proof=proof)
    assert [(each.f, each.argument if each.f == "enqueue" else each.result) for each in near.operations] == [
        ("enqueue", 40), ("enqueue", 41), ("dequeue", 41),
    ]  # fmt: skip
    assert tries["all"] < 20


def test_offsets_count_anew() -> None:
    """Two appends at 998 and 999 in the wrong order stand at 0 and 1, and the note says so."""
    operations = [one("append", 2 * place, 2 * place + 1, [None, place], [place, place]) for place in range(998)]
    operations += [
        one("append", 2000, 2001, [None, "a"], [999, "a"]),
        one("append", 2002, 2003, [None, "b"], [998, "b"]),
    ]

    def failing(some: list[Operation]) -> bool:
        return {"a", "b"} <= {each.argument[1] for each in some if each.outcome == "ok"}

    small = minimize("append-log", operations, failing, proof=operations[-2:])
    assert [each.result for each in small.operations] == [[1, "a"], [0, "b"]]
    assert small.notes == ("offsets count anew from 0: 0 was 998, 1 was 999",)
    assert small.operations[0].invoked_line == 2001


def test_a_cut_leaves_what_was_known_then() -> None:
    """Answers that came later are not known yet."""
    operations = [one("write", 0, 5, 1), one("read", 1, 2, None, 1), one("write", 6, 7, 2)]
    assert [(each.f, each.outcome, each.returned) for each in cut(operations, 3)] == [
        ("write", "info", None), ("read", "ok", 2),
    ]  # fmt: skip


def test_a_written_part_keeps_order_origin_and_unknown_outcomes() -> None:
    """A process that goes on after an unknown outcome had it closed; overlapping operations of one get two numbers."""
    operations = [
        Operation(f="write", process=3, invoked=10, outcome="info", argument=1, invoked_line=11),
        Operation(f="read", process=3, invoked=20, returned=30, result=1, invoked_line=21, returned_line=31),
        Operation(f="read", process=3, invoked=25, returned=30, result=1, invoked_line=26, returned_line=31),
        Operation(f="write", process="p", invoked=26, returned=40, argument=2, invoked_line=27, returned_line=41),
    ]
    assert [(row["process"], row["type"], row["f"], row.get("origin")) for row in lines(operations)] == [
        (3, "invoke", "write", 10), (3, "info", "write", None), (3, "invoke", "read", 20), (4, "invoke", "read", 25),
        (5, "invoke", "write", 26), (3, "ok", "read", 30), (4, "ok", "read", 30), (5, "ok", "write", 40),
    ]  # fmt: skip
    assert [row["index"] for row in lines(operations)] == list(range(8))
    json.dumps(lines(operations))


@pytest.mark.parametrize("size", [0, 1, 2, 7, 30])
def test_shrinking_finds_what_is_needed(size: int) -> None:
    """Exactly the items without which nothing fails, wherever they are."""
    chance = random.Random(size)
    items = list(range(size))
    needed = set(chance.sample(items, min(size, 3)))
    assert set(shrink(items, lambda some: needed <= set(some))) == needed
