"""The comparison with releases: cells are possible, commands say the same, results last, the page is true."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import lab.commands
from checkers.compose import INTERRUPTED
from checkers.verdict import Validity, Verdict
from lab.cli import main as lab_main
from lab.commands import plan_of
from lab.compared import __main__ as program
from lab.compared.cells import ROOT, Cell, read_cells
from lab.compared.page import page, rto_words
from lab.compared.results import NOT_RUN, Result, read_results, run_cell, told, write_results
from lab.errors import ExitCode, LabError, PlanError, SetupError
from lab.generator.faults import fault_schedule
from lab.options import RunOptions
from lab.topology import settings_of, topology_of
from lab.validate import validate

COMPARISON = read_cells()
CELLS = {cell.name: cell for cell in COMPARISON.cells}
FIRST = COMPARISON.cells[0]
MACHINE = {"cpus": 2, "kernel": "6.1"}


def result(cell: str = FIRST.name, **changed: Any) -> Result:
    made = Result(
        cell=cell,
        turn=0,
        seed=7,
        verdict="valid",
        why=("all of it was there",),
        promise="SEND_OK: a promise",
        versions={"brokerlab": "0.1", "rocketmq": "5.3.3", "python": "3.11", "kernel": "6.1"},
        began="2026-01-02 03:04",
        took_s=61.0,
        commit="abc1234",
        load=0.5,
        rto={"state": "recovered", "rto": [0.25, 0.5], "gap": 0.3},
        rpo={"rpo_count": [0, 0], "rpo_time": [0.0, 0.0], "lost weaker": 0},
    )
    return replace(made, **changed)


def verdict(valid: Validity, *faults: dict[str, object]) -> Verdict:
    return Verdict(valid, ("because",), (), "a promise", tuple(faults), 7, "run", valid.word)


def test_every_cell_of_the_comparison_is_there_once() -> None:
    """Each system in each mode under each fault, with each client."""
    shape = (COMPARISON.systems, COMPARISON.modes, COMPARISON.faults, COMPARISON.clients)
    wanted = 1
    for axis in shape:
        wanted *= len(axis)
    assert len(CELLS) == len(COMPARISON.cells) == wanted
    assert {cell.options.route_poll for cell in COMPARISON.cells} == {"30s", "1s"}
    assert set(COMPARISON.systems) == {"ours", "4.9.7", "5.3.3"}


@pytest.mark.parametrize("mode", COMPARISON.modes)
def test_cells_are_possible_and_differ_in_nothing_but_what_they_compare(mode: str) -> None:
    """Times of the fault, load and seed are those of the plan, whatever the system."""
    cells = [cell for cell in COMPARISON.cells if cell.mode == mode]
    first = plan_of(ROOT / cells[0].plan, cells[0].options)
    (times,) = [(one.at_ns, one.heal_ns) for one in fault_schedule(first, first.seed or 0)]
    for cell in cells:
        plan = plan_of(ROOT / cell.plan, cell.options)
        validate(plan, topology_of(plan))
        assert [(one.at_ns, one.heal_ns) for one in fault_schedule(plan, plan.seed or 0)] == [times], cell.name
        same = msgspec.structs.replace(plan.load, client=first.load.client, route_poll=first.load.route_poll)
        assert same == first.load, cell.name
        assert plan.seed == first.seed
        assert plan.cluster.system == ("python" if cell.system == "ours" else "rocketmq"), cell.name


def test_the_newer_line_is_asked_to_wait_for_its_slave() -> None:
    """Or it would promise less than the others."""
    promised = {
        system: settings_of(
            plan_of(ROOT / cell.plan, cell.options),
            master=True,
        ).get("inSyncReplicas")
        for system in COMPARISON.systems
        for cell in [CELLS[f"{system}/master-slave/kill/python-30s"]]
    }
    assert promised == {"ours": None, "4.9.7": None, "5.3.3": "2"}


def test_the_command_of_a_cell_asks_for_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page prints is what the comparison ran."""
    asked: list[tuple[Path | None, RunOptions]] = []

    def remember(path: Path | None, options: RunOptions, *_: object, **__: object) -> tuple[ExitCode, str]:
        asked.append((path, options))
        return ExitCode.VALID, ""

    monkeypatch.setattr(lab.commands, "run_and_report", remember)
    monkeypatch.setattr("lab.cli._enter_namespace", lambda: None)
    for cell in COMPARISON.cells:
        words = shlex.split(cell.command())
        assert words[0] == "lab"
        done = CliRunner().invoke(lab_main, words[1:])
        assert (done.exit_code, asked[-1]) == (0, (cell.plan, cell.options)), done.output


def test_patterns_choose_cells_and_wrong_ones_are_refused() -> None:
    """With the nearest name."""
    assert [cell.name for cell in COMPARISON.chosen(("ours/dledger/kill/*",))] == [
        "ours/dledger/kill/python-30s",
        "ours/dledger/kill/python-1s",
        "ours/dledger/kill/java-30s",
        "ours/dledger/kill/java-1s",
    ]
    assert COMPARISON.chosen(()) == COMPARISON.cells
    with pytest.raises(PlanError, match="did you mean 'ours/dledger/kill/python-30s'"):
        COMPARISON.chosen(("ours/dleger/kill/python-30s",))


def test_results_last(tmp_path: Path) -> None:
    """And what is no file of results is refused."""
    path = tmp_path / "compared.json"
    assert read_results(path) == ()
    results = (result(), result(turn=1, seed=8, verdict="unknown", rto=None, rpo=None))
    write_results(path, results, MACHINE)
    assert read_results(path) == results
    assert json.loads(path.read_text())["machine"] == MACHINE
    for broken in ("[]", '{"results": [{"cell": "x"}]}', "{"):
        path.write_text(broken)
        with pytest.raises(LabError, match="move it away"):
            read_results(path)


def test_what_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no verdict, and the seed of its turn."""

    def refuse(*_: object, **__: object) -> None:
        raise SetupError("there is no such release here")

    monkeypatch.setattr("lab.compared.results.carry_out", refuse)
    found = run_cell(FIRST, 2, tmp_path)
    assert (found.verdict, found.why, found.seed, found.ran) == (NOT_RUN, ("there is no such release here",), 9, False)


def test_a_result_tells_its_fault() -> None:
    """RTO and RPO as in the verdict's table of faults."""
    rto, rpo = {"state": "recovered"}, {"rpo_count": [1, 2]}
    found = told(result(rto=None, rpo=None), verdict(Validity.INVALID, {"rto": rto, "consumer rto": None, "rpo": rpo}))
    assert (found.verdict, found.why, found.rto, found.rpo) == ("invalid", ("because",), rto, rpo)
    assert told(result(), verdict(Validity.UNKNOWN)).rto is None


HEALED = {"state": "after heal", "rto": [9.96, None]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "no data"),
        ({"state": "recovered", "rto": [1.0, 2.0], "gap": 0.5}, "1.00–2.00 s"),
        ({"state": "never", "rto": [9.5, None], "gap": 9.5}, "not back (> 9.50 s)"),
        (HEALED | {"after_heal": [0.7, 0.9]}, "all 10.0 s of the fault, then 0.70–0.90 s"),
        (HEALED | {"after_heal": [0.7, None]}, "all 10.0 s of the fault, never back"),
    ],
)
def test_rto_in_words(row: dict[str, object] | None, words: str) -> None:
    """What lasts as long as the fault is told with what came after it."""
    assert rto_words(row) == words


def test_the_page_shows_systems_side_by_side() -> None:
    """Verdict, RTO and RPO of every run, why one is not valid, what has not been run, and all commands."""
    lost = {"rpo_count": [3, 3], "rpo_time": [0.1, 0.2], "lost weaker": 0}
    results = [
        result(),
        result(turn=1, seed=8),
        result(
            "5.3.3/master-slave/kill/python-30s", verdict="invalid", why=("3 messages are gone",), rpo=lost, load=7.25
        ),
        result("4.9.7/dledger/kill/python-30s", verdict=NOT_RUN, why=("not built",), rto=None, rpo=None),
    ]
    text = page(COMPARISON, results, MACHINE)
    row = next(
        line for line in text.splitlines() if line.startswith("| kill -9 of the writer | Python, 30 s | **valid**")
    )
    valid = "**valid** · 0.25–0.50 s · 0 lost"
    assert row.split(" | ")[2:] == [
        f"{valid}<br>{valid}", "not run yet", "**invalid** · 0.25–0.50 s · 3 SEND_OK, 0.10–0.20 s lost |"
    ]  # fmt: skip
    assert "Java, 30 s" not in text  # nothing of it has been run
    assert "- 5.3.3/master-slave/kill/python-30s (seed 7): invalid: 3 messages are gone" in text
    assert "- 4.9.7/dledger/kill/python-30s (seed 7): not run: not built" in text
    assert "- versions: brokerlab 0.1, kernel 6.1, python 3.11, rocketmq 5.3.3\n- machine: cpus 2\n" in text
    assert "runs: 3, of 2 of 120 cells" in text
    assert "0.5 to 7.25 (a busy machine: take times as upper bounds)" in text
    assert all(cell.command() in text for cell in COMPARISON.cells)


def test_the_page_of_no_results_says_so() -> None:
    """Nothing is claimed."""
    text = page(COMPARISON, [], {})
    assert "Nothing has been run yet." in text
    assert "**valid**" not in text


def test_a_comparison_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has a verdict is not run again unless asked to; what could not run is; the page is written each time."""
    ran: list[tuple[str, int]] = []
    fate = {"ours/dledger/kill/python-1s": "valid", "4.9.7/dledger/kill/python-1s": NOT_RUN}

    def play(cell: Cell, turn: int, out: Path, show: object = None) -> Result:
        ran.append((cell.name, turn))
        return result(cell.name, turn=turn, verdict=fate[cell.name])

    monkeypatch.setattr(program, "run_cell", play)
    monkeypatch.setattr(program, "machine", lambda: MACHINE)
    path = tmp_path / "compared.md"
    words = ["--page", str(path), *(word for name in fate for word in ("--only", name))]
    done = CliRunner().invoke(program.main, words)
    assert done.exit_code == ExitCode.SETUP_FAILED, done.output  # one of them could not run
    assert ran == [(name, 0) for name in fate]
    assert "**valid**" in path.read_text()
    fate["4.9.7/dledger/kill/python-1s"] = "unknown"
    assert CliRunner().invoke(program.main, words).exit_code == 0
    assert ran[2:] == [("4.9.7/dledger/kill/python-1s", 0)]
    assert CliRunner().invoke(program.main, [*words, "--runs", "2"]).exit_code == 0
    assert ran[3:] == [(name, 1) for name in fate]
    assert CliRunner().invoke(program.main, [*words, "--again"]).exit_code == 0
    assert ran[5:] == [(name, 0) for name in fate]
    assert len(read_results(path.with_suffix(".json"))) == 4


def test_an_interrupted_run_ends_the_comparison_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would stand in the table for what the system does, and the next one would begin at once."""
    ran: list[str] = []

    def play(cell: Cell, turn: int, out: Path, show: object = None) -> Result:
        ran.append(cell.name)
        return result(cell.name, why=("all of it was there", INTERRUPTED))

    monkeypatch.setattr(program, "run_cell", play)
    monkeypatch.setattr(program, "machine", lambda: MACHINE)
    path = tmp_path / "new" / "compared.md"
    done = CliRunner().invoke(program.main, ["--only", "ours/dledger/kill/*", "--page", str(path)])
    assert done.exit_code == ExitCode.SETUP_FAILED
    assert "was interrupted and is not kept" in done.output
    assert len(ran) == 1
    assert read_results(path.with_suffix(".json")) == ()


def test_a_wrong_pattern_is_a_usage_error(tmp_path: Path) -> None:
    """One line, and nothing is written."""
    done = CliRunner().invoke(program.main, ["--only", "nobody/*", "--page", str(tmp_path / "compared.md")])
    assert done.exit_code == ExitCode.USAGE
    assert "--only 'nobody/*' matches no cell; known: {ours," in done.output
    assert len(done.output) < 500  # not all of their names
    assert not list(tmp_path.iterdir())
