"""From a run's folder to its verdict, and the last lines that tell it."""

from pathlib import Path
from typing import Any

import pytest

from checkers.history import HistoryWriter
from checkers.verdict import Validity, Verdict
from lab.commands import check_history
from lab.errors import ExitCode
from lab.judging import judge_run, last_lines
from lab.rundir import RunDir
from tests.unit.checkers.story import Story


def run(folder: Path, **meta: Any) -> RunDir:
    """A small valid run."""
    found = RunDir.create(folder, "small")
    with HistoryWriter(found.history) as out:
        for event in Story(**meta).tell("0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a]").drain("[a]").events:
            out.append(event)
    return found


@pytest.mark.parametrize(
    ("removed", "must_be"), [((), Validity.VALID), (("C17",), Validity.VALID), (("C6",), Validity.UNKNOWN)]
)
def test_a_plan_may_remove_what_is_not_required(tmp_path: Path, removed: tuple[str, ...], must_be: Validity) -> None:
    verdict = judge_run(run(tmp_path), removed)
    assert verdict.valid is must_be, verdict.why


@pytest.mark.parametrize("flaws", [(), ("ack-before-quorum",)])
def test_planted_flaws_are_told_whoever_judges_the_run(tmp_path: Path, flaws: tuple[str, ...]) -> None:
    """Not only by the command that planted them: a valid run with a flaw says nothing of a cluster without it."""
    folder = run(tmp_path, flaws=list(flaws))
    for as_json in (False, True):
        code, text = check_history(folder.path, (), as_json=as_json)
        assert code is ExitCode.VALID
        assert ("Flaws are planted (ack-before-quorum)" in " ".join(text.split())) is bool(flaws)


def test_the_reason_of_an_exceeded_bound_is_told_first() -> None:
    lost = "3 messages were answered with a weaker status, which promises nothing; 3 of them are gone"
    bound = "C16 (data lost per fault): fault f1: messages answered with a weaker status that it lost: 3, allowed are 0"
    verdict = Verdict(Validity.INVALID, (lost, bound), (), "", (), 7, "r", "invalid")
    assert f"why:     {bound}" in last_lines(verdict, RunDir(Path("runs/r")), ["lab"])
