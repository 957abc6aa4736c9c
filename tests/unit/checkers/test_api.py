"""The stable interface: its examples run, its names are light to import, and independent objects are judged apart."""

import doctest
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import checkers
from checkers import MODELS, History, HistoryError, Model, Operation, check, minimal, picture_of, witness_operations
from checkers.verdict import Validity

ROOT = Path(__file__).parents[3]


def test_the_examples_of_the_module_run() -> None:
    """Those in its docstring."""
    import checkers.api

    found = doctest.testmod(checkers.api)
    assert found.attempted > 6
    assert found.failed == 0


@pytest.mark.parametrize("name", ["histories.md", "linearizability.md"])
def test_the_examples_of_the_documentation_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of their own, where they may write."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = doctest.testfile(str(ROOT / "docs" / name), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 2
    assert found.failed == 0


def test_importing_the_package_is_light() -> None:
    """Neither numpy nor msgspec until a name is used; every promised name is there."""
    code = (
        "import checkers, sys; assert not {'numpy', 'msgspec', 'zstandard'} & set(sys.modules), 'heavy'; "
        "assert set(checkers.__all__) <= set(dir(checkers)); [getattr(checkers, name) for name in checkers.__all__]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        checkers.nothing  # noqa: B018


def test_models_by_name_or_by_class() -> None:
    """What is neither is refused with what there is."""
    assert "fifo-queue" in MODELS
    with pytest.raises(HistoryError, match="fifo-queue"):
        check([_append("q", 0, 0, "a", 0)], "fifo")
    with pytest.raises(HistoryError, match="unknown model"):
        History.read("nothing.jsonl", "fifo")

    class Mine:
        def init(self) -> int:
            return 0

        def step(self, state: int, op: Operation) -> tuple[bool, int]:
            return True, state

    assert isinstance(Mine(), Model)


def _append(key: str | None, process: int, at: int, value: str, offset: int) -> Operation:
    return Operation(
        f="append", process=process, invoked=at, returned=at + 1, argument=[None, value], result=[offset, value],
        key=key, invoked_line=at + 1, returned_line=at + 2,
    )  # fmt: skip


def test_objects_with_keys_are_independent() -> None:
    """One offset in two queues is no clash; an anomaly names its queue; the rows are those of the whole."""
    good = [_append("q1", 0, 0, "a", 0), _append("q2", 1, 2, "b", 0), _append("q1", 0, 4, "c", 1)]
    decision = check(good, "append-log")
    assert decision.validity is Validity.VALID
    assert "2 independent objects" in decision.why
    order = decision.linearization()
    assert order is not None
    operations = [decision.operations.operation(row) for row in order]
    assert [one.argument[1] for one in operations if one is not None] == ["a", "b", "c"]
    bad = [*good, _append("q2", 1, 6, "d", 2), _append("q2", 1, 8, "e", 1)]
    decision = check(bad, "append-log")
    assert decision.verdict == "invalid"
    assert decision.counts == {"order": 1}
    assert decision.witness is not None
    assert decision.witness.text.startswith("q2: ")
    assert [one.argument[1] for one in witness_operations(decision)] == ["d", "e"]
    assert [one.argument[1] for one in minimal(bad, "append-log").operations] == ["d", "e"]
    assert check([one for one in bad if one.key == "q1"], "append-log").verdict == "valid"


def test_a_search_over_objects_keeps_the_failing_prefix_in_rows_of_the_whole() -> None:
    """The failing operation is the one that failed, whichever object it is of."""

    def op(f: str, at: int, key: str, argument: object = None, result: object = None) -> Operation:
        return Operation(f=f, process=at, invoked=at, returned=at + 1, argument=argument, result=result, key=key)

    history = [
        op("write", 0, "x", 1), op("cas", 2, "x", [1, 2], True), op("read", 4, "x", None, 2),
        op("write", 6, "y", 1), op("cas", 8, "y", [1, 2], True), op("read", 10, "y", None, 1),
    ]  # fmt: skip
    decision = check(history, "cas-register")
    assert decision.verdict == "invalid"
    assert decision.prefix is not None
    failing = decision.operations.operation(decision.prefix.failing)
    assert failing == history[5]
    assert set(decision.prefix.rows) <= {3, 4, 5}


def test_of_nothing_nothing_is_known() -> None:
    """And only what is invalid has a counter-example."""
    decision = check([], "register")
    assert (decision.verdict, decision.coverage) == ("unknown", 0.0)
    with pytest.raises(ValueError, match="this one is valid"):
        minimal([_append(None, 0, 0, "a", 0)], "append-log")


def test_a_picture_of_operations() -> None:
    """Is an SVG document."""
    assert picture_of([_append("q", 0, 0, "a", 0)], "t").startswith("<svg ")
