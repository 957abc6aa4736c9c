"""The command line: every command has a help text, wrong words get the nearest right one, errors their exit codes."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from checkers.verdict import Validity
from lab import byhand
from lab.byhand import running
from lab.cli import main
from lab.cluster.userns import NoPrivilegeError
from lab.commands import batch_code, check_history, report_again
from lab.errors import ExitCode, LabBugError, PlanError, SetupError
from lab.leaks import Traces
from lab.matrix import read_matrix
from lab.rundir import RunDir
from lab.scenarios import list_text, plans_folder, read_scenarios, table
from lab.show import Plain
from lab.topology import topology_of
from lab.validate import validate
from nodes.commands import mqadmin, mqshutdown

PLANS = Path(__file__).resolve().parents[3] / "plans"
VISIBLE = [name for name, command in main.commands.items() if not command.hidden and name != "admin"]


@pytest.mark.parametrize("name", VISIBLE)
def test_every_command_explains_itself(name: str) -> None:
    """In one sentence at least."""
    found = CliRunner().invoke(main, [name, "--help"])
    assert found.exit_code == 0
    assert found.output.startswith("Usage:")


def options(command: click.Command, path: str) -> Iterator[tuple[str, click.Option]]:
    """All options of a command and of the commands below it."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{path} {parameter.opts[0]}", parameter
    for name, below in command.commands.items() if isinstance(command, click.Group) else ():
        yield from options(below, f"{path} {name}")


@pytest.mark.parametrize("program", [main, mqadmin, mqshutdown], ids=["lab", "mqadmin", "mqshutdown"])
def test_every_option_is_explained(program: click.Command) -> None:
    """With a sentence behind its name."""
    found = dict(options(program, str(program.name)))
    assert found
    assert [path for path, option in found.items() if not option.help] == []


def test_the_help_names_every_configuration_of_the_scenarios() -> None:
    """And a scenario that has no configuration `sync` is run in its first."""
    scenarios = read_scenarios(PLANS)
    said = CliRunner().invoke(main, ["scenario", "run", "--help"]).output.replace("\n", " ")
    assert [name for name in scenarios.configurations if f" {name}" not in said] == []
    assert (scenarios.scenario("S7").default, scenarios.scenario("S13").default) == ("sync", "dledger3")


def test_scenarios_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the checkout, unless the current folder has some of its own."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["scenario", "list"]).output.startswith("S1 ")
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "scenarios.toml").write_text("scenario = []\nconfiguration = {}\n")
    assert plans_folder() == Path("plans")


@pytest.mark.parametrize("refused", [False, True])
def test_the_doctor_looks_from_where_runs_look(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the user namespace that a run of this user would have, and with the system's tools; where none is given it
    says so and goes on."""
    seen = []

    def ensure() -> None:
        seen.append("namespace")
        if refused:
            raise NoPrivilegeError("no user namespaces here")

    def doctor_text() -> tuple[ExitCode, str]:
        seen.append(os.environ["PATH"])
        return ExitCode.SETUP_FAILED if refused else ExitCode.VALID, "found"

    monkeypatch.setattr("lab.cluster.userns.ensure", ensure)
    monkeypatch.setattr("lab.commands.doctor_text", doctor_text)
    monkeypatch.setenv("PATH", "/usr/bin:/sbin")
    found = CliRunner().invoke(main, ["doctor"])
    assert (found.exit_code, seen) == (4 if refused else 0, ["namespace", "/usr/bin:/sbin:/usr/sbin"])
    assert "found" in found.output
    assert ("no user namespaces here" in found.output) is refused


@pytest.mark.parametrize(("proven", "code"), [(True, ExitCode.VALID), (False, ExitCode.UNKNOWN)])
def test_a_fault_by_hand_that_is_not_proven_shows_in_the_exit_code(
    proven: bool, code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that hurts and goes on would otherwise take what never happened for done."""
    monkeypatch.setattr(byhand, "running", RunDir)
    monkeypatch.setattr(byhand, "ask", lambda *_: {"said": "f1 kill:voter: nothing", "proven": proven})
    found = CliRunner().invoke(main, ["hurt", "kill:voter"])
    assert (found.exit_code, found.output) == (code, "f1 kill:voter: nothing\n")


@pytest.mark.parametrize("help_option", ["-h", "--help"])
def test_every_group_of_commands_takes_both_words_for_help(help_option: str) -> None:
    """`lab`, and RocketMQ's administration, where -h means help too."""
    for arguments in ([], ["scenario"], ["admin"], ["admin", "topicRoute"]):
        found = CliRunner().invoke(main, [*arguments, help_option])
        assert (found.exit_code, found.output.startswith("Usage:")) == (0, True), arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["scenario", "lst"], "did you mean 'list'?"),
        (["run", "--cliens", "3"], "--clients"),
        (["run", "--rate", "fast"], "not a valid integer"),
        (["run", "plans/none.toml"], "cannot read plan plans/none.toml"),
        (["check", "none.jsonl"], "cannot read history none.jsonl"),
        (["check", "none.jsonl", "--checker", "C99"], "unknown checker 'C99'"),
    ],
)
def test_wrong_words_are_usage_errors(arguments: list[str], says: str) -> None:
    """Exit code 2 and one clear message."""
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == ExitCode.USAGE
    assert says in found.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PlanError("p"), ExitCode.USAGE),
        (SetupError("s"), ExitCode.SETUP_FAILED),
        (LabBugError("b"), ExitCode.OUR_BUG),
        (ZeroDivisionError("z"), ExitCode.OUR_BUG),
        (PermissionError(errno.EACCES, "Permission denied", "/root/runs"), ExitCode.SETUP_FAILED),
        (KeyboardInterrupt(), ExitCode.UNKNOWN),
    ],
)
def test_errors_have_their_exit_codes(error: BaseException, code: ExitCode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever raises them; our own bugs ask for a report."""

    def fail() -> str:
        raise error

    monkeypatch.setattr("lab.commands.clean_text", fail)
    found = CliRunner().invoke(main, ["clean"])
    assert found.exit_code == code
    assert ("report" in found.output) == (code is ExitCode.OUR_BUG)


@pytest.mark.parametrize(
    ("trouble", "code", "says"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ExitCode.UNKNOWN, ""),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.SETUP_FAILED, "written to stdout: No space left"),
    ],
)
def test_a_verdict_stays_what_it_is_when_nobody_reads_it(
    trouble: OSError, code: ExitCode, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lab check RUN | head` exited with 1, which means invalid."""
    whole = click.echo

    def echo(text: str, *, err: bool = False) -> None:
        if not err:
            raise trouble
        whole(text, err=True)

    monkeypatch.setattr("lab.commands.report_again", lambda folder: (ExitCode.UNKNOWN, "verdict: unknown"))
    monkeypatch.setattr(click, "echo", echo)
    found = CliRunner().invoke(main, ["report", "run"])
    assert found.exit_code == code
    assert says in found.output


def test_help_that_nobody_reads_is_no_verdict() -> None:
    """`lab --help | true` exited with 1, which means invalid."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "lab", "--help"], stdout=writing, check=False)
    finally:
        os.close(writing)
    assert done.returncode == ExitCode.NOBODY_READS


def test_a_broken_pipe_of_the_labs_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look like a reader who has gone, and say nothing."""

    def fail() -> str:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("lab.commands.clean_text", fail)
    found = CliRunner().invoke(main, ["clean"])
    assert found.exit_code == ExitCode.OUR_BUG
    assert "a pipe inside the lab is broken" in found.output


def test_a_path_without_the_tools_of_a_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """`lab run` ended with a traceback and called it a bug of the lab."""
    monkeypatch.setattr("lab.cluster.userns.ensure", lambda: None)
    monkeypatch.setattr("lab.cli.shutil.which", lambda tool: None if tool == "setpriv" else f"/bin/{tool}")
    found = CliRunner().invoke(main, ["run"])
    assert found.exit_code == ExitCode.SETUP_FAILED
    assert "PATH leads to no setpriv (util-linux)" in found.output


def test_a_run_goes_on_when_nobody_reads_its_progress() -> None:
    """`lab run PLAN 2>&1 | head` ended the run, with the exit code of an invalid one."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as out:
        Plain(out).line("load begins")
        with contextlib.suppress(BrokenPipeError):  # what is left in its buffer
            out.close()


def test_a_folder_that_was_removed_underfoot_is_no_bug_of_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder itself."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SetupError, match="cannot make the run's folder in runs"):
        RunDir.create(Path("runs"), "run")


def test_administration_is_mounted() -> None:
    """Under RocketMQ's own names."""
    found = CliRunner().invoke(main, ["admin", "clusterList", "-n", "nonsense"])
    assert found.exit_code == ExitCode.USAGE
    assert "host:port" in found.output


@pytest.mark.parametrize(
    ("verdicts", "failures", "code"),
    [
        ([Validity.VALID, Validity.VALID], 0, ExitCode.VALID),
        ([Validity.VALID, Validity.UNKNOWN], 0, ExitCode.UNKNOWN),
        ([Validity.UNKNOWN, Validity.INVALID], 1, ExitCode.INVALID),
        ([Validity.VALID], 1, ExitCode.SETUP_FAILED),
        ([], 0, ExitCode.UNKNOWN),
    ],
)
def test_in_a_batch_invalid_dominates(verdicts: list[Validity], failures: int, code: ExitCode) -> None:
    """Failures of set-up are counted apart; of nothing nothing is known."""
    assert batch_code(verdicts, failures) == code


def test_scenarios_and_the_matrix_name_their_expected_verdicts() -> None:
    """Each plan exists, each configuration is known, and both halves of the truth are in the table."""
    scenarios = read_scenarios(PLANS)
    expected = {(found.name, name): verdict for found in scenarios.all for name, verdict in found.expect.items()}
    assert all(found.plan.exists() for found in scenarios.all)
    assert (expected["S7", "async"], expected["S7", "sync"]) == ("invalid", "valid")
    assert "S7" in list_text(scenarios)
    synced = scenarios.plan(scenarios.scenario("S2"), "sync-flush")
    assert (synced.master, synced.broker["flushDiskType"]) == ({"brokerRole": "SYNC_MASTER"}, "SYNC_FLUSH")
    with pytest.raises(PlanError, match="did you mean 'sync'"):
        scenarios.plan(scenarios.scenario("S2"), "synk")
    with pytest.raises(PlanError, match="says nothing about sync"):
        scenarios.plan(scenarios.scenario("S13"), "sync")
    with pytest.raises(PlanError, match="unknown scenario"):
        scenarios.scenario("X1")
    for found in scenarios.all:
        for configuration in found.expect:
            plan = scenarios.plan(found, configuration)
            validate(plan, topology_of(plan))
    five = scenarios.plan(scenarios.scenario("S14"), "dledger5")
    assert (five.cluster.mode, five.cluster.replicas, five.fault[0].kind) == ("dledger", 5, "kill:leader-minority")
    cases = read_matrix(PLANS / "partition-matrix.toml")
    assert len(cases) == len({case.name for case in cases}) == 24
    assert {case.role for case in cases} == {"ASYNC_MASTER", "SYNC_MASTER"}
    assert [case.expect for case in cases if case.then] == ["invalid", "valid"]


def test_no_cluster_no_hands(tmp_path: Path) -> None:
    """Playing by hand without a cluster says how to start one."""
    with pytest.raises(PlanError, match="lab up"):
        running(tmp_path)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    """Neither judged nor reported."""
    with pytest.raises(PlanError, match="is no run"):
        report_again(tmp_path)
    with pytest.raises(PlanError, match="is no run: it has no history"):
        check_history(tmp_path, (), as_json=False)
    with pytest.raises(PlanError, match="cannot read history"):
        check_history(tmp_path / "nothing", (), as_json=False)


def test_what_is_left_behind_is_named() -> None:
    """Only what was not there before."""
    empty = Traces(*(frozenset(),) * 6)
    before = Traces(frozenset({"other"}), *(frozenset(),) * 5)
    after = Traces(frozenset({"other", "new"}), frozenset({"17 python"}), *(frozenset(),) * 4)
    assert before.more_than(empty) == ["namespaces: other"]
    assert after.more_than(before) == ["namespaces: new", "processes: 17 python"]
    assert before.more_than(before) == []


def test_tables_align() -> None:
    """Without blanks at the ends of lines."""
    assert table(("a", "bb"), [("ccc", "d")]) == "a    bb\nccc  d"
