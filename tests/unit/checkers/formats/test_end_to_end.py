"""From the text of a history to the verdict, against trying all orders; on every way that a history can take."""

import json
import random
from collections import Counter

import pytest

from checkers import check
from checkers.linearizability.decision import decide
from checkers.linearizability.formats import read as reading
from checkers.linearizability.subhistory import lines
from checkers.verdict import Validity
from tests.unit.checkers.formats.brute import MODELS, bent, legal, linearizable
from tests.unit.checkers.formats.samples import imported

SEED = 4211
ROUNDS = 60


def as_edn(value: object) -> str:
    """A JSON value in EDN."""
    if isinstance(value, list):
        return f"[{' '.join(map(as_edn, value))}]"
    return {"null": "nil"}.get(text := json.dumps(value), text)


def edn(rows: list[dict[str, object]]) -> str:
    return "".join(
        f"{{:process {row['process']}, :type :{row['type']}, :f :{row['f']}, :value {as_edn(row['value'])}}}\n"
        for row in rows
    )


@pytest.mark.random
@pytest.mark.parametrize("model", [model for model in MODELS if model != "total-queue"])
@pytest.mark.parametrize("way", ["objects", "columns", "edn"])
def test_verdicts_from_text(model: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both verdicts occur; columns are taken where the model has them and nothing is irregular."""
    if way == "columns":
        monkeypatch.setattr(reading, "COLUMNS_FROM", 1)
    chance = random.Random(f"{SEED}/{model}")
    seen: Counter[bool] = Counter()
    columns = 0
    for _ in range(ROUNDS):
        operations = legal(model, chance, 8, 0.05) if model == "kv-append" else legal(model, chance, 6)
        if chance.random() < 0.7:
            operations = bent(model, chance, operations)
        rows = lines(operations)
        text = edn(rows) if way == "edn" else "".join(json.dumps(row) + "\n" for row in rows)
        found = imported(text, model)
        columns += found.columns is not None
        given = found.operations if found.columns is None else found.columns
        wanted = linearizable(model, operations)
        seen[wanted] += 1
        decision = decide(model, given)
        assert decision.validity is (Validity.VALID if wanted else Validity.INVALID), (SEED, text)
        assert check(list(found.operations), model).validity is decision.validity, (SEED, text)
    assert seen[True] > 0
    assert seen[False] > 0 or model == "mutex"
    assert (columns > ROUNDS // 2) == (way == "columns" and model in ("fifo-queue", "append-log"))
