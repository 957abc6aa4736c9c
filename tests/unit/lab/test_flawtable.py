"""The table of planted flaws: every flaw of the nodes is caught somewhere, and what the table says is possible."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.commands import planted
from lab.flawtable import main, read_flaws
from lab.topology import topology_of
from lab.validate import validate
from lab.workloads.flaws import ClientFlaw
from nemesis.flaws import LeverFlaw
from nodes.flaws import Flaw

ROOT = Path(__file__).resolve().parents[3]
ROWS = read_flaws()
NO_RUN_SHOWS = {
    # Needs loss of power: the Disk double that forgets what was not synced.
    Flaw.REPLY_BEFORE_FSYNC,
    Flaw.ACK_BEFORE_FSYNC,
    Flaw.IGNORE_FSYNC_ERROR,
    Flaw.SKIP_CRC,
    # Of a master and its slaves.
    Flaw.SPLICE_DIVERGED,
    Flaw.STALE_ACK_OFFSET,
    Flaw.FORGET_EPOCH,
    Flaw.DOUBLE_COUNT_REPLICA,
    Flaw.LOSE_CONSUMER_OFFSETS,
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_names_a_flaw_and_a_possible_run(row: object) -> None:
    """With the flaw and without it, by checkers that exist."""
    from checkers.compose import CHECKERS

    assert isinstance(row, type(ROWS[0]))
    assert row.name in {*Flaw, *LeverFlaw, *ClientFlaw}
    assert {finding.split()[0] for finding in row.findings} <= {checker.name for checker in CHECKERS}
    for flawed in (True, False):
        plan = row.plan(1, flawed=flawed)
        validate(plan, topology_of(plan))
        assert planted(plan) == ((row.name,) if flawed else ())


def test_every_flaw_is_in_the_table_or_shown_by_a_test_of_its_own() -> None:
    """No flaw is planted for nothing: those that no run brings to light are named in tests of the nodes."""
    in_table = {row.name for row in ROWS}
    assert in_table.isdisjoint(flaw.value for flaw in NO_RUN_SHOWS)
    assert {flaw.value for flaw in Flaw} == (in_table & {*Flaw}) | {flaw.value for flaw in NO_RUN_SHOWS}
    told = "".join(path.read_text() for path in sorted((ROOT / "tests" / "unit" / "nodes").glob("test_*.py")))
    silent = [flaw.value for flaw in NO_RUN_SHOWS if f"Flaw.{flaw.name}" not in told and f'"{flaw.value}"' not in told]
    assert silent == []


def test_the_documents_tell_of_every_flaw() -> None:
    """By its name, with what finds it."""
    told = (ROOT / "docs" / "flaws.md").read_text()
    assert [flaw.value for flaw in (*Flaw, *ClientFlaw) if f"`{flaw.value}`" not in told] == []
    assert [row.name for row in ROWS if f"`{row.name}`" not in told] == []


def test_a_name_that_no_row_has_is_refused_with_the_nearest() -> None:
    """Before anything runs."""
    told = CliRunner().invoke(main, ["forget-votes"])
    assert told.exit_code == 2
    assert "did you mean 'forget-vote'?" in told.output
