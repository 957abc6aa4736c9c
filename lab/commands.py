"""What the judging commands do, as functions that return an exit code and the text for stdout.

What judges is imported when something is judged: numpy and the templates would only delay the start of a run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from checkers.event import HistoryError
from checkers.verdict import Validity, Verdict
from lab.cluster.manifest import boot_id, owner_of
from lab.cluster.netns import NamespaceError
from lab.errors import VERDICT_EXIT, ExitCode, LabError, PlanError, SetupError, storage_refusal
from lab.merge import merge_again
from lab.options import RunOptions, default_tables, overlay
from lab.plan import Plan
from lab.planfile import build_plan, nearest, read_plan
from lab.rundir import RunDir
from lab.runner import RunResult, run_plan
from lab.show import Show, show_for

HISTORY = "history.jsonl.zst"


def plan_of(path: Path | None, options: RunOptions) -> Plan:
    """The plan of a file (or a default one) with the options laid over it. Raises PlanError."""
    tables: dict[str, Any] = {} if path is None else read_plan(path)
    return build_plan(overlay(tables, options), str(path) if path is not None else "options")


def default_plan(options: RunOptions) -> Plan:
    """The plan of `lab run` without a file. Raises PlanError."""
    return build_plan(overlay(default_tables(options), options), "options")


def run_and_report(
    path: Path | None, options: RunOptions, out: Path, *, as_json: bool, began: float, show: Show | None = None
) -> tuple[ExitCode, str]:
    """`lab run`."""
    plan = plan_of(path, options) if path is not None else default_plan(options)
    result = carry_out(plan, out, show=show or show_for(), began=began)
    code = VERDICT_EXIT[result.verdict.valid.word]
    if as_json:
        return code, json_text(result.verdict, result.folder, planted(result.plan))
    from lab.judging import last_lines, report_text

    replay = ["lab", "replay", str(result.folder.path)]
    expected = result.plan.judge.expect
    ending = last_lines(result.verdict, result.folder, replay, expected, planted(result.plan))
    return code, f"{report_text(result.verdict)}\n{ending}"


def carry_out(plan: Plan, out: Path, *, show: Show | None = None, began: float | None = None) -> RunResult:
    """Run a plan; what the machine refuses becomes a SetupError with its words."""
    try:
        return run_plan(plan, out, show, began=began)
    except NamespaceError as error:
        raise SetupError(f"this machine gave no network namespaces: {error}; `lab doctor` says what it lacks") from None
    except OSError as error:
        refusal = storage_refusal(error, out)
        if refusal is None:
            raise
        raise refusal from None


def check_any(path: Path, only: Sequence[str], judging: Mapping[str, Any], *, as_json: bool) -> tuple[ExitCode, str]:
    """`lab check`, with the lab's checkers or with a model. Raises PlanError where options contradict each other."""
    given = {name: value for name, value in judging.items() if value not in (None, False, ())}
    if "model" not in given:
        if given:
            name = next(iter(given)).replace("_", "-")
            raise PlanError(f"--{name} needs --model: without one the lab's own checkers judge a run's history")
        return check_history(path, only, as_json=as_json)
    if only:
        raise PlanError("--checker and --model exclude each other: a model is judged alone")
    from lab.checking import CheckOptions, check_model

    return check_model(history_of(path), CheckOptions(**given), as_json=as_json)


def history_of(path: Path) -> Path:
    """The history of a run's folder, or the file itself. Raises PlanError for a folder without one.

    A run that was killed left its journals: they are merged now, if they are certain to hold all that was written.
    """
    if not path.is_dir():
        return path
    history = path / HISTORY
    if history.exists():
        return history
    folder = RunDir(path)
    if not folder.plan.exists():
        raise PlanError(f"{path} is no run: it has no {HISTORY}")
    owner = owner_of(folder.manifest)
    if owner is not None and owner.alive():
        raise PlanError(f"{path} has no {HISTORY} yet: its lab still runs (pid {owner.pid})")
    again = f"the same plan and seed again: lab replay {path}"
    if owner is None or owner.boot_id != boot_id():
        raise PlanError(
            f"{path} is a run without a {HISTORY}, and its journals may lack what a machine that went down did not "
            f"write; {again}"
        )
    try:
        count = merge_again(folder)
    except FileNotFoundError:
        raise PlanError(f"{path} has no {HISTORY}: no client has done anything there; {again}") from None
    except OSError as error:
        raise SetupError(f"cannot write {history}: {error.strerror}") from None
    show_for().line(f"the run ended before its journals were merged; merged {count} events")
    return history


def check_history(path: Path, only: Sequence[str], *, as_json: bool) -> tuple[ExitCode, str]:
    """`lab check`. A truncated history is judged as far as it goes, and is then at most unknown."""
    from checkers.compose import CHECKERS
    from lab.judging import judge_file, report_text

    known = [checker.name for checker in CHECKERS]
    for name in only:
        if name not in known:
            raise PlanError(f"unknown checker {name!r}{nearest(name, known)}")
    path = history_of(path)
    try:
        verdict = judge_file(path, list(only) or None)
    except HistoryError as error:
        hint = "; a history of another harness is judged as a model: lab check FILE --model fifo-queue, register, …"
        raise PlanError(f"{error}{hint if error.line == 1 and not error.truncated else ''}") from None
    except OSError as error:
        raise PlanError(f"cannot read history {path}: {error.strerror}") from None
    code = VERDICT_EXIT[verdict.valid.word]
    return code, json_text(verdict, None) if as_json else report_text(verdict)


def report_again(path: Path) -> tuple[ExitCode, str]:
    """`lab report`."""
    from lab.judging import judge_run, last_lines, report_text

    folder = RunDir(path.resolve())
    if not folder.path.is_dir():
        raise PlanError(f"{path} is no run: there is no such folder")
    history_of(path)
    stored = stored_plan(folder)
    try:
        verdict = judge_run(folder, stored.judge.remove)
    except HistoryError as error:
        raise PlanError(str(error)) from None
    except OSError as error:
        raise SetupError(
            f"cannot write {error.filename}: {error.strerror}; `lab check {path}` judges a run without writing"
        ) from None
    replay = ["lab", "replay", str(folder.path)]
    ending = last_lines(verdict, folder, replay, flaws=planted(stored))
    return VERDICT_EXIT[verdict.valid.word], f"{report_text(verdict)}\n{ending}"


def stored_plan(folder: RunDir) -> Plan:
    """The plan that a run was carried out with, an empty one if it is not there. Raises PlanError."""
    if not folder.plan.exists():
        return Plan()
    try:
        return build_plan(read_plan(folder.plan), str(folder.plan))
    except PlanError as error:
        raise PlanError(f"{error}; if another version wrote it: `lab check {folder.path}` judges without it") from None


def planted(plan: Plan) -> tuple[str, ...]:
    """All flaws of a plan: those of the nodes, of the nemesis and of the clients."""
    return (*plan.flaws, *plan.lever_flaws, *plan.client_flaws)


def json_text(verdict: Verdict, folder: RunDir | None, flaws: Sequence[str] = ()) -> str:
    """The verdict for machines."""
    value = {**verdict.to_json(), "flaws": list(flaws)} if flaws else verdict.to_json()
    if folder is not None:
        value = {**value, "folder": str(folder.path), "report": str(folder.report)}
    return msgspec.json.encode(value).decode()


def batch_code(verdicts: Sequence[Validity], failures: int) -> ExitCode:
    """A batch: invalid dominates unknown; failures of set-up are counted apart and show if nothing worse does."""
    if Validity.INVALID in verdicts:
        return ExitCode.INVALID
    if failures:
        return ExitCode.SETUP_FAILED
    return VERDICT_EXIT[max(verdicts, default=Validity.UNKNOWN).word]


def doctor_text() -> tuple[ExitCode, str]:
    """`lab doctor`."""
    from lab.doctor import REQUIRED, abilities

    found = abilities()
    lines = []
    for name, ability in found.items():
        mark = "✓" if ability.ok else "✗"
        need = " (needed)" if name in REQUIRED else ""
        lines.append(f"  {mark} {name}{need}{'' if ability.ok else f': {ability.reason}'}")
    lacking = [name for name in REQUIRED if not found[name].ok]
    lines.append("")
    lines.append(f"this machine lacks: {', '.join(lacking)}" if lacking else "this machine can run labs")
    return ExitCode.SETUP_FAILED if lacking else ExitCode.VALID, "\n".join(lines)


def clean_text() -> str:
    """`lab clean`."""
    from lab.cluster.manifest import clean

    lines = []
    for cleaned in clean():
        if cleaned.alive:
            lines.append(f"{cleaned.manifest}: its lab still runs, left alone")
        lines += [f"removed {thing}" for thing in cleaned.removed]
        lines += [f"kept {thing}" for thing in cleaned.kept]
    return "\n".join(lines) or "nothing was left behind"


def setup_failure(error: Exception) -> str | None:
    """The words of an error that is a failure of set-up, None for any other."""
    return str(error) if isinstance(error, LabError) and error.exit_code is ExitCode.SETUP_FAILED else None
