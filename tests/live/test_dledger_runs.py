"""Whole runs of groups that elect: mixed faults on three and five replicas, membership under load, planted flaws."""

from pathlib import Path

import pytest

from lab.flawtable import FIRST_SEED, read_flaws
from lab.planfile import write_plan
from tests.live.judged import lab

pytestmark = pytest.mark.live

SHORT = ("--time-limit", "14s")


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("replicas", [3, 5])
def test_a_group_survives_mixed_faults(replicas: int, seed: int, tmp_path: Path) -> None:
    """Drawn with the seed, as in the soak: nothing is lost, and there is progress whenever a quorum can be reached."""
    options = ("--replicas", str(replicas), "--seed", str(seed), *SHORT)
    judged = lab(tmp_path, "run", "plans/soak-dledger.toml", *options)
    assert judged.code == 0, f"seed {seed}, {replicas} replicas\n{judged}"
    assert judged.record("C15")["valid"] is True
    assert f"synced to the disks of {replicas // 2 + 1} of {replicas} replicas" in judged.out


def test_a_group_grows_and_shrinks_under_load(tmp_path: Path) -> None:
    """A fourth and a fifth replica are added and two removed, the leader among them; the outage is in the report."""
    judged = lab(tmp_path, "scenario", "run", "M1", "--config", "dledger3")
    assert judged.code == 0, str(judged)
    service = judged.record("C14")["details"]["service"]
    assert len(service) == 4
    assert all(row["rto"][1] is not None for row in service.values()), service


@pytest.mark.flaws
@pytest.mark.parametrize("flaw", ["ack-before-quorum", "forget-term", "old-offsets-on-switch"])
def test_a_planted_flaw_is_caught(flaw: str, tmp_path: Path) -> None:
    """By what the table demands, at the first seed; the report names the flaw. `make flaws` tries all of them."""
    row = next(row for row in read_flaws() if row.name == flaw)
    plan = tmp_path / "plan.toml"
    plan.write_text(write_plan(row.plan(FIRST_SEED)))
    judged = lab(tmp_path / "runs", "run", str(plan))
    assert judged.code == 1, str(judged)
    found = {f"{one['checker']} {kind}" for one in judged.verdict["records"] for kind, n in one["counts"].items() if n}
    assert any(found.issuperset((one,) if isinstance(one, str) else one) for one in row.caught_by), str(judged)
    assert f"flaws:   {row.name} (planted" in judged.out
    assert row.name in (judged.run / "report.html").read_text()
