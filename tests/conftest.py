"""What holds for every test: hypothesis draws the same examples in every run, and no machine is too slow for it.

``make test`` runs three tests at a time, for those that build labs mostly wait. Tests that look at all that a machine
has of loop devices, rules and mounts run one after the other; those that run labs by plans do, too, in two groups of
about the same length, and so do those with Java programs on loopback. A file's tests stay together for the fixtures
that they share.
"""

import pytest
from hypothesis import HealthCheck, settings
from xdist.dsession import LoadScopeScheduling

settings.register_profile(
    "same-everywhere", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same-everywhere")

ONE_BY_ONE = {  # the start of a test's name -> tests that never run side by side; the longest come first
    "tests/live/test_judged_runs.py": "judged runs",
    "tests/live/test_dledger_runs.py": "runs",
    "tests/live/test_partition_matrix.py": "runs",
    "tests/live/test_run_workloads.py": "runs",
    "tests/interop/test_java_worker.py": "runs",
    "tests/interop/test_lab_run.py": "runs",
    "tests/live/": "machine",
    "tests/interop/": "java",
}


def _place(nodeid: str) -> tuple[int, str]:
    for place, (start, group) in enumerate(ONE_BY_ONE.items()):
        if nodeid.startswith(start):
            return place, group
    return len(ONE_BY_ONE), nodeid.split("::")[0]


class SideBySide(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types
    """Gives each process whole groups of tests, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return _place(nodeid)[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> SideBySide:
    """The scheduler of ``-n 3``."""
    config.option.loadscopereorder = False
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups that take longest come first, so that nothing long is left for the end."""
    items.sort(key=lambda item: _place(item.nodeid)[0])
