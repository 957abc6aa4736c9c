"""From a run's folder to its verdict, and the last lines that tell it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from checkers.history import HistoryWriter
from checkers.verdict import Validity, Verdict
from lab.cluster.manifest import Owner
from lab.commands import check_history, report_again
from lab.errors import ExitCode, PlanError, SetupError
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


def killed(folder: Path, **owner: Any) -> RunDir:
    """What a lab that was killed in its drain leaves, by its manifest's owner."""
    found = RunDir.create(folder, "killed")
    found.write_plan("seed = 7")
    events = Story().tell("0>s(a) 0<s(a)@0 1>poll 1<poll=[0:a]").events
    for writer, seen in (("lab", events[:1]), ("client-1", events[1:])):
        with HistoryWriter(found.journal(writer)) as out:
            for event in seen:
                out.append(event)
    this = dataclasses.asdict(Owner.this_process())
    found.manifest.write_text(json.dumps({"owner": {**this, **owner}, "created": []}))
    return found


def test_a_killed_run_is_judged_by_its_journals(tmp_path: Path) -> None:
    """What was recorded shows what was lost until then, and can prove nothing of what was kept."""
    folder = killed(tmp_path, start_ticks=1)
    code, text = check_history(folder.path, (), as_json=False)
    assert code is ExitCode.UNKNOWN
    assert "the history ends before its drain did" in " ".join(text.split())
    assert folder.history.exists()
    size = folder.journal("lab").stat().st_size
    for written, words in ((size, ""), (size + 1, "the recording is damaged")):
        folder.history.unlink()
        folder.written.write_text(json.dumps({"lab": written}))
        if not words:
            assert report_again(folder.path)[0] is ExitCode.UNKNOWN
            continue
        with pytest.raises(SetupError, match=words):
            report_again(folder.path)


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ({}, "its lab still runs"),
        ({"boot_id": "another"}, "its journals may lack what a machine that went down.*lab replay"),
        ({"start_ticks": "gone"}, "no client has done anything there.*lab replay"),
    ],
)
def test_a_run_without_a_history_says_how_to_go_on(tmp_path: Path, owner: dict[str, Any], words: str) -> None:
    """Its lab may still be at it; and what a machine lost that went down would be laid to the cluster."""
    folder = killed(tmp_path, **owner)
    if "start_ticks" in owner:  # as after a cluster by hand
        folder.journal("client-1").unlink()
    for judge in (report_again, lambda path: check_history(path, (), as_json=False)):
        with pytest.raises(PlanError, match=words):
            judge(folder.path)


def test_a_report_that_cannot_be_written_is_no_bug_of_the_lab(tmp_path: Path) -> None:
    """It names the file, and the command that needs none."""
    folder = run(tmp_path)
    folder.verdict.mkdir()
    with pytest.raises(SetupError, match=r"cannot write .*verdict\.json: Is a directory; `lab check"):
        report_again(folder.path)


def test_a_run_of_another_version_is_judged_without_its_plan(tmp_path: Path) -> None:
    """Keys of its plan may mean nothing here; its history does."""
    folder = run(tmp_path)
    folder.write_plan("colour = 1")
    with pytest.raises(PlanError, match=r"unknown key 'colour'.*if another version wrote it: `lab check"):
        report_again(folder.path)
    assert check_history(folder.path, (), as_json=False)[0] is ExitCode.VALID


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
