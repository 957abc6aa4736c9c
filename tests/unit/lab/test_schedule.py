"""Faults happen at their times, and last as long as the plan says."""

import asyncio
import json
import random
import time
from pathlib import Path

from lab.generator.faults import FaultPlan
from lab.journal import Journal
from lab.schedule import FaultRecorder, Schedule
from lab.workloads.pace import Pace
from nemesis.world import Patience, World
from tests.unit.nemesis.fake_world import FakeWorld

MS = 1_000_000


def test_a_fault_that_had_to_wait_lasts_as_long_as_another(tmp_path: Path) -> None:
    """A pause of a node that starts slowly was healed as soon as it was proven, and counted as survived."""
    journal = Journal(tmp_path / "lab.jsonl", time.monotonic_ns())
    fake = FakeWorld()
    fake.processes.starting["broker-a-0"] = 25  # refuses so many questions before it serves
    world = World(
        network=fake.network,
        processes=fake.processes,
        roles=fake.role_reports,
        rng=random.Random(1),
        now_ns=journal.now,
        patience=Patience(),
    )
    lasting = 300 * MS
    fault = FaultPlan("f1", "pause:broker-a-0", 10 * MS, 10 * MS + lasting)
    schedule = Schedule((fault,), world, FaultRecorder(journal, tmp_path / "faults.jsonl"))
    asyncio.run(schedule.run(Pace(time.monotonic_ns())))
    journal.close()
    events = [json.loads(line) for line in (tmp_path / "lab.jsonl").read_text(encoding="utf-8").splitlines()]
    asked, done, healing, _ = events
    assert done["value"]["verified"] is True
    assert done["value"]["t_done"] - asked["time"] > lasting, "it had to wait for longer than it lasts"
    assert healing["time"] - done["value"]["t_done"] >= lasting
