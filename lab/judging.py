"""From a run's folder to its verdict, report page and last lines; the same for a fresh run and a stored one."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from checkers.builder import load_history
from checkers.compose import judge
from checkers.report.html import write_report
from checkers.report.terminal import render_text
from checkers.verdict import Verdict
from lab.rundir import RunDir

WEAK: Final = "with a weaker status, which promises"  # true of most runs, and never the reason for a verdict


def judge_run(folder: RunDir, without: Sequence[str] = ()) -> Verdict:
    """Judge the run's history; leave verdict.json and report.html in its folder.

    ``without`` names checkers that the plan removed: if one of them is required the verdict is at most unknown.
    """
    history = load_history(folder.history)
    verdict = judge(history, folder.path, without=without)
    folder.verdict.write_bytes(verdict.encode())
    write_report(verdict, history, folder.report)
    return verdict


def judge_file(path: Path, only: Sequence[str] | None = None) -> Verdict:
    """Judge a stored history. Raises HistoryError, KeyError for an unknown checker, OSError."""
    return judge(path, only=only)


def report_text(verdict: Verdict) -> str:
    """The terminal report, without the last lines."""
    return render_text(verdict)


def last_lines(
    verdict: Verdict, folder: RunDir, replay: Sequence[str], expected: str = "", flaws: Sequence[str] = ()
) -> str:
    """Verdict, why, seed, folder, replay command: what every run ends with. Planted flaws are always said."""
    lines = [f"verdict: {verdict.headline}"]
    telling = [reason for reason in verdict.why if WEAK not in reason] or list(verdict.why) or ["nothing to add"]
    lines.append(f"why:     {telling[0]}")
    if expected:
        met = "as expected" if verdict.valid.word == expected else f"EXPECTED {expected}"
        lines.append(f"expect:  {met}")
    if flaws:
        lines.append(f"flaws:   {', '.join(flaws)} (planted: this says nothing about a cluster without them)")
    lines.append(f"seed:    {verdict.seed}")
    lines.append(f"folder:  {folder.path}")
    lines.append(f"report:  {folder.report}")
    lines.append(f"replay:  {shlex.join(replay)}")
    return "\n".join(lines)
