"""Every shape of partition, with ASYNC_MASTER and SYNC_MASTER, ends with the verdict that the matrix names."""

from pathlib import Path

import pytest

from lab.matrix import Case, read_matrix
from lab.planfile import write_plan
from tests.live.judged import EXIT, ROOT, lab

MATRIX = read_matrix(ROOT / "plans" / "partition-matrix.toml")


@pytest.mark.live
@pytest.mark.partition
@pytest.mark.parametrize("case", MATRIX, ids=lambda case: case.name)
def test_the_matrix_holds(case: Case, tmp_path: Path) -> None:
    """The fault is proven, and what was promised is there after it unless the cell says that it cannot be."""
    plan = tmp_path / "plan.toml"
    plan.write_text(write_plan(case.plan))
    judged = lab(tmp_path / "runs", "run", str(plan))
    assert judged.code == EXIT[case.expect], str(judged)
