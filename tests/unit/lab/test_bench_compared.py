"""The comparison with a release: medians beside each other, what is missing named, and the same plan for both sides."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checkers.compose import INTERRUPTED
from lab.bench.compared import WARM_WINDOWS_MAX, Samples, factor_of, figures, warm, write
from lab.bench.compared_rto import RTO_CLIENTS, figure_name, measure_rto, rows_of, rto_plan
from lab.bench.figures import table
from lab.bench.java_load import JavaLoad
from lab.bench.sides import Apache, Ours
from lab.errors import LabError
from lab.plan import Plan
from lab.planfile import plan_tables
from lab.rundir import RunDir
from lab.systems.rocketmq.release import Release
from lab.topology import topology_of
from lab.validate import validate


def samples(ours: list[float], theirs: list[float], *, name: str = "sends", more: bool = True) -> Samples:
    made = Samples()
    for side, values in (("ours", ours), ("theirs", theirs)):
        for value in values:
            made.add(name, side, value, "acks/s" if more else "s", more_is_better=more)
    return made


def test_medians_stand_beside_each_other() -> None:
    """One wild run moves neither, and the other side's median is the goal."""
    (row,) = figures(samples([10, 500, 12], [8, 9, 1]), "ours", "theirs", factor_of)
    assert (row.value, row.goal, row.met) == (12, 8, True)
    assert row.compared_to == "theirs: 8 acks/s; ours 1.50 times as good (3 and 3 runs)"
    (slower,) = figures(samples([4], [8]), "ours", "theirs", factor_of)
    assert (slower.met, "0.50 times" in slower.compared_to) == (False, True)
    assert "NOT MET" in table([slower])


def test_recovery_is_to_be_five_times_as_quick_unless_the_poll_bounds_both() -> None:
    """There both are printed, and it is said."""
    name = figure_name("kill", "java-1s")
    (row,) = figures(samples([1.0], [4.0], name=name, more=False), "ours", "theirs", factor_of)
    assert (row.goal, row.met) == (0.8, False)
    (row,) = figures(samples([0.5], [4.0], name=name, more=False), "ours", "theirs", factor_of)
    assert row.met is True
    bounded = figure_name("kill", "java-30s")
    assert "bounds both sides" in bounded
    (row,) = figures(samples([20.0], [22.0], name=bounded, more=False), "ours", "theirs", factor_of)
    assert (row.goal, row.met) == (22.0, True)


def test_an_interrupted_measurement_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It drained the run under way, called it not measured, and went on with the next one."""
    verdict = SimpleNamespace(to_json=lambda: {"why": [INTERRUPTED], "records": [], "headline": "unknown"})
    monkeypatch.setattr("lab.bench.compared_rto.carry_out", lambda *_, **__: SimpleNamespace(verdict=verdict))
    said: list[str] = []
    with pytest.raises(LabError, match="interrupted"):
        list(measure_rto("5.3.3", "5.3.3", ["python"], 5, False, said.append))
    assert said == ["RTO, run 1 of 5, client python: ours"]


@pytest.mark.parametrize(("word", "kept"), [("valid", False), ("invalid", True)])
def test_a_run_that_is_not_valid_is_kept_to_be_looked_at(
    word: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release lost messages in a measurement, and nobody could say how."""
    said: list[str] = []

    def carried(plan: Plan, folder: Path, show: object) -> SimpleNamespace:
        (folder / "run").mkdir()
        told = {"why": [], "records": [], "headline": f"{word} — order"}
        return SimpleNamespace(verdict=SimpleNamespace(to_json=lambda: told), folder=RunDir(folder / "run"))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("lab.bench.compared_rto.carry_out", carried)
    list(measure_rto("5.3.3", "5.3.3", ["python"], 1, False, said.append))
    assert len(list(tmp_path.iterdir())) == (2 if kept else 0)
    assert sum("kept to be looked at" in words for words in said) == (2 if kept else 0)


def test_a_side_that_could_not_be_measured_has_no_figure(tmp_path: Path) -> None:
    """It is no zero, and no goal that is met."""
    made = samples([10], [])
    made.notes.append("sends, theirs: it did not come up")
    found = figures(made, "ours", "theirs", factor_of)
    assert [(row.goal, row.met, row.compared_to) for row in found] == [(None, None, "theirs: not available")]
    assert figures(samples([], [8]), "ours", "theirs", factor_of) == []
    write(tmp_path / "out.json", made, found, {"cpus": 2})
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["notes"] == ["sends, theirs: it did not come up"]
    assert told["samples"] == {"sends": {"ours": [10]}}


@pytest.mark.parametrize("client", RTO_CLIENTS)
def test_both_sides_are_hurt_by_the_same_plan(client: str) -> None:
    """But for the nodes: same seed, load, faults and times."""
    ours, theirs = (plan_tables(rto_plan(version, client, "5.3.3", 2)) for version in ("", "5.3.3"))
    assert {key for key in ours if ours[key] != theirs[key]} == {"name", "cluster"}
    assert {key for key, value in ours["cluster"].items() if value != theirs["cluster"][key]} == {"system", "version"}
    plan = rto_plan("", client, "5.3.3", 2)
    validate(plan, topology_of(plan))
    assert [(fault.kind, fault.target) for fault in plan.fault] == [("kill:leader", ""), ("blackhole:leader", "")]
    limit = plan.load.route_poll.s if client == "java-30s" else 20
    assert all(fault.lasting is not None and fault.lasting.s > limit for fault in plan.fault)


def verdict(**service: Any) -> dict[str, Any]:
    return {
        "headline": "unknown — order",
        "why": ["C6 order: 3 faults\nand more", "C7"],
        "records": [{"checker": "C1", "details": {}}, {"checker": "C14", "details": {"service": service}}],
    }


def test_what_was_not_measured_is_said_and_is_no_recovery() -> None:
    """The verdict stands beside it, whatever it is."""
    kill = {"state": "recovered", "rto": [1.18, 2.34]}
    censored = {"state": "censored", "rto": [8.4, None]}
    good, bad = rows_of(verdict(kill=kill, blackhole=censored), "python", ours=True)
    about = "the run is unknown: C6 order: 3 faults"
    assert (good.upper_s, good.verdict, good.words) == (2.34, "unknown", about)
    assert (bad.upper_s, bad.words) == (None, f"did not end before the next fault (censored); {about}")
    assert [row.words for row in rows_of(verdict(), "python", ours=True)] == [f"was not measured; {about}"] * 2
    nothing = {"headline": "invalid", "why": [], "records": []}
    assert [(row.upper_s, row.words) for row in rows_of(nothing, "python", ours=False)] == [
        (None, "was not measured; the run is invalid")
    ] * 2
    valid = verdict(kill=kill, blackhole=kill) | {"headline": "valid"}
    assert [row.words for row in rows_of(valid, "python", ours=True)] == ["", ""]


def test_a_release_promises_what_ours_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SYNC_MASTER of 5.x waits for its slave only when it is told to; one of 4.9 always does."""
    monkeypatch.setattr("lab.bench.sides.translated", lambda release, kind, settings: dict(settings))
    monkeypatch.setattr("lab.systems.rocketmq.programs.java", lambda: "java")
    for version, waits in (("5.3.3", True), ("4.9.7", False)):
        folder = tmp_path / version
        folder.mkdir()
        program = Apache(Release(version, Path("/jars"))).program(
            "broker", "master", folder, {"brokerRole": "SYNC_MASTER", "listenPort": 1}
        )
        conf = (folder / "master-files" / "broker.conf").read_text()
        assert ("inSyncReplicas=2" in conf) is waits
        assert "brokerRole=SYNC_MASTER" in conf
        assert program.argv[0] == "java"
    ours = Ours().program("namesrv", "namesrv", tmp_path, {"listenPort": 7})
    assert ours.argv[1:4] == ["-m", "nodes", "namesrv"]
    assert (tmp_path / "namesrv.conf").read_text() == "listenPort=7\nbindAddress=127.0.0.1\n"


def test_java_bench_clients_are_told_whom_and_how_long(tmp_path: Path) -> None:
    """All numbers of clients in one program, after one warm-up."""
    load = JavaLoad(Release("5.3.3", Path("/jars")), Path("/classes"), "java")
    argv = load.argv("127.0.0.1:1", "bench", (1, 16), 2.5, tmp_path)
    assert argv[argv.index("Load") :] == ["Load", "127.0.0.1:1", "bench", "2.5", "10.0", "1", "16"]


@pytest.mark.parametrize(
    ("windows", "used"),
    [
        ([1000.0, 2500.0, 4300.0, 5200.0, 4600.0, 4500.0], 6),
        ([9000.0, 9100.0, 8900.0], 3),
        ([9000.0, 8000.0, 9900.0, 9000.0, 9500.0], 5),
        ([100.0 * 2**n for n in range(20)], WARM_WINDOWS_MAX),
    ],
)
def test_a_side_is_loaded_until_it_gives_no_more(windows: list[float], used: int) -> None:
    """The first case is what a release's group in DLedger mode gave in windows of eight seconds."""
    given = iter(windows)
    assert warm(lambda: next(given)) == used
