"""Up to where do two logs agree? Cases by hand, then against a model that compares the bytes themselves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.flaws import Flaw
from nodes.replication.epochs import Comparison, Epoch, EpochError, EpochTable, agreement, compare
from nodes.replication.limits import EPOCHS_MAX


def table(text: str) -> EpochTable:
    """`1a@0 2b@100`: number, a letter for the id, start."""
    entries = []
    for word in text.split():
        head, _, start = word.partition("@")
        entries.append(Epoch(int(head[:-1]), head[-1] * 16, int(start)))
    return EpochTable(tuple(entries))


@dataclass(frozen=True)
class Case:
    """One meeting of a primary and a replica: tables, (min, end) of both logs, and where the replica goes on."""

    name: str
    primary: str
    primary_log: tuple[int, int]
    replica: str
    replica_log: tuple[int, int]
    expected: Comparison


CASES = [
    Case("both empty", "1a@0", (0, 0), "", (0, 0), Comparison(0, False)),
    Case("an empty replica gets all, not only the last file", "1a@0", (0, 900), "", (0, 0), Comparison(0, False)),
    Case(
        "an empty replica of a trimmed primary begins at its first byte",
        "1a@0",
        (400, 900),
        "",
        (0, 0),
        Comparison(400, True),
    ),
    Case("behind in the same epoch", "1a@0", (0, 900), "1a@0", (0, 300), Comparison(300, False)),
    Case("equal", "1a@0", (0, 900), "1a@0", (0, 900), Comparison(900, False)),
    Case(
        "the master lost its tail and restarted: the replica is ahead (RocketMQ 1155)",
        "1a@0 2b@500",
        (0, 500),
        "1a@0",
        (0, 900),
        Comparison(500, False),
    ),
    Case(
        "the same, and the master has grown past the replica's end (RocketMQ 6767)",
        "1a@0 2b@500",
        (0, 2000),
        "1a@0",
        (0, 900),
        Comparison(500, False),
    ),
    Case(
        "the same, lengths equal by chance: only the epochs tell",
        "1a@0 2b@500",
        (0, 900),
        "1a@0",
        (0, 900),
        Comparison(500, False),
    ),
    Case("the master restarted without a loss", "1a@0 2b@900", (0, 1500), "1a@0", (0, 900), Comparison(900, False)),
    Case(
        "the replica slept through two restarts",
        "1a@0 2b@500 3c@700",
        (0, 900),
        "1a@0",
        (0, 200),
        Comparison(200, False),
    ),
    Case(
        "the replica holds bytes of an epoch that the master lost altogether",
        "1a@0 3c@500",
        (0, 900),
        "1a@0 2b@500",
        (0, 800),
        Comparison(500, False),
    ),
    Case(
        "the master lost more than its last epoch",
        "1a@0 3c@300",
        (0, 900),
        "1a@0 2b@500",
        (0, 800),
        Comparison(300, False),
    ),
    Case(
        "two were promoted apart and chose one number",
        "1a@0 2b@500",
        (0, 900),
        "1a@0 2c@500",
        (0, 900),
        Comparison(500, False),
    ),
    Case(
        "the old master comes back as a slave with an unreplicated tail",
        "1a@0 2b@500",
        (0, 700),
        "1a@0",
        (0, 650),
        Comparison(500, False),
    ),
    Case(
        "the old master comes back with a higher number than the promoted one",
        "1a@0 2b@500",
        (0, 700),
        "1a@0 5c@400 6d@600",
        (0, 800),
        Comparison(400, False),
    ),
    Case("nothing in common", "1a@0", (0, 900), "1b@0", (0, 900), Comparison(0, False)),
    Case("nothing in common and the master is trimmed", "1a@0", (400, 900), "1b@0", (0, 900), Comparison(400, True)),
    Case(
        "agreement lies where the primary has nothing any more",
        "1a@0 2b@300",
        (400, 900),
        "1a@0 2c@300",
        (0, 900),
        Comparison(400, True),
    ),
    Case(
        "agreement lies where the replica has nothing any more",
        "1a@0 2b@300",
        (0, 900),
        "1a@0 2c@300",
        (600, 900),
        Comparison(0, True),
    ),
    Case(
        "the master is new and empty: the replica follows it down",
        "7a@0",
        (0, 0),
        "1b@0",
        (0, 900),
        Comparison(0, False),
    ),
    Case(
        "the primary's table was shortened by retention",
        "2b@300 3c@700",
        (400, 900),
        "1a@0 2b@300",
        (0, 600),
        Comparison(600, False),
    ),
    Case(
        "the replica's table was shortened by retention",
        "1a@0 2b@300 3c@700",
        (0, 900),
        "2b@300",
        (350, 650),
        Comparison(650, False),
    ),
    Case("shortened tables that share nothing", "3c@700", (700, 900), "1a@0 2b@300", (0, 600), Comparison(700, True)),
    Case(
        "an epoch without a byte claims nothing",
        "1a@0 2b@500",
        (0, 500),
        "1a@0 3c@500",
        (0, 500),
        Comparison(500, False),
    ),
    Case(
        "entries beyond the end claim nothing",
        "1a@0 2b@500",
        (0, 900),
        "1a@0 2b@500 3c@800",
        (0, 450),
        Comparison(450, False),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_where_a_replica_goes_on(case: Case) -> None:
    found = compare(table(case.primary), *case.primary_log, table(case.replica), *case.replica_log)
    assert found == case.expected


def test_the_flaw_splices() -> None:
    """With the planted flaw the replica goes on at its own end, as if lengths were histories."""
    flaws = frozenset({Flaw.SPLICE_DIVERGED})
    assert compare(table("1a@0 2b@500"), 0, 2000, table("1a@0"), 0, 900, flaws) == Comparison(900, False)


@pytest.mark.parametrize(
    "text",
    ["1a@0 1b@5", "2a@0 1b@5", "1a@5 2b@5", "1a@5 2b@4", "0a@0"],
    ids=["same number", "falling number", "same start", "falling start", "number below 1"],
)
def test_tables_that_cannot_be(text: str) -> None:
    with pytest.raises(EpochError):
        table(text)


def test_a_table_is_bounded() -> None:
    with pytest.raises(EpochError, match="bound"):
        EpochTable(tuple(Epoch(number, "0" * 16, number) for number in range(1, EPOCHS_MAX + 2)))


def test_a_new_epoch_takes_the_place_of_one_that_wrote_nothing() -> None:
    assert table("1a@0 2b@500").with_new(Epoch(3, "c" * 16, 500)) == table("1a@0 3c@500")
    assert table("1a@0 2b@500").with_new(Epoch(3, "c" * 16, 300)) == table("1a@0 3c@300")
    assert table("1a@0 2b@500").with_new(Epoch(3, "c" * 16, 700)) == table("1a@0 2b@500 3c@700")


def test_retention_shortens_a_table_from_below() -> None:
    whole = table("1a@0 2b@300 3c@700")
    assert whole.since(0) == whole
    assert whole.since(299) == whole
    assert whole.since(300) == table("2b@300 3c@700")
    assert whole.since(5000) == table("3c@700")


def test_who_wrote_a_byte() -> None:
    whole = table("1a@100 2b@300")
    assert [epoch and epoch.number for epoch in map(whole.at, (99, 100, 299, 300, 9999))] == [
        None,
        1,
        1,
        2,
        2,
    ]


# Random histories. A log is a list of (epoch number, id, k): who wrote the byte, and which of its writes it was.


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[EpochTable, list[tuple[int, str, int]]]]:
    """Three logs after a random life of appends, losses, promotions and copies, copied as replicas do it."""
    logs: list[list[tuple[int, str, int]]] = [[], [], []]
    tables = [EpochTable() for _ in logs]
    seen = [0, 0, 0]
    serial = 0
    for _ in range(draw(st.integers(1, 25))):
        who = draw(st.integers(0, 2))
        act = draw(st.sampled_from(["lead", "lead", "lose", "copy", "copy"]))
        if act == "lead":
            serial += 1
            seen[who] += 1
            epoch = Epoch(seen[who], f"{serial:016x}", len(logs[who]))
            tables[who] = tables[who].with_new(epoch)
            logs[who] += [(epoch.number, epoch.id, k) for k in range(draw(st.integers(0, 4)))]
        elif act == "lose":
            del logs[who][draw(st.integers(0, len(logs[who]))) :]
        else:
            source = draw(st.integers(0, 2))
            if source == who or tables[source].last is None:
                continue
            start = agreement(tables[source], len(logs[source]), tables[who], len(logs[who]))
            logs[who] = logs[who][:start] + logs[source][start:][: draw(st.integers(0, 9))]
            tables[who] = tables[source]
            seen[who] = max(seen[who], seen[source])
    return list(zip(tables, logs, strict=True))


@settings(max_examples=600, deadline=None, derandomize=True)
@given(_histories(), st.sampled_from([(0, 1), (1, 2), (2, 0), (1, 0)]))
def test_agreement_is_the_largest_common_prefix(
    nodes: list[tuple[EpochTable, list[tuple[int, str, int]]]], pair: tuple[int, int]
) -> None:
    (our_table, ours), (their_table, theirs) = nodes[pair[0]], nodes[pair[1]]
    prefix = 0
    while prefix < min(len(ours), len(theirs)) and ours[prefix] == theirs[prefix]:
        prefix += 1
    assert agreement(our_table, len(ours), their_table, len(theirs)) == prefix
