"""Leadership handed over, replicas added and removed: what is a proof and what is not."""

import asyncio
import dataclasses
from collections.abc import Mapping

import pytest

from nemesis.catalogue import parse
from nemesis.fault import Incident, Record, Verified
from nemesis.world import NodeState, Role, RoleReport
from tests.unit.nemesis.fake_world import FakeWorld


def run(fake: FakeWorld, spec: str) -> tuple[Record, Record]:
    async def story() -> tuple[Record, Record]:
        incident = Incident("f1", parse(spec).fault(), fake.world)
        return await incident.inject(), await incident.heal()

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("spec", "voters", "after"),
    [
        ("add:broker-a", "broker-a-0 broker-a-1 broker-a-2", "broker-a-0 broker-a-1 broker-a-2"),
        ("add:broker-a,back=yes", "broker-a-0 broker-a-1 broker-a-2", "broker-a-0 broker-a-1"),
        ("remove:broker-a/follower", "broker-a-0", "broker-a-0"),
        ("remove:broker-a/leader,back=yes", "broker-a-1", "broker-a-0 broker-a-1"),
    ],
)
def test_a_changed_membership_is_proven_by_its_members(spec: str, voters: str, after: str) -> None:
    """Injection and healing, each by the word of every member."""
    fake = FakeWorld()
    injected, healed = run(fake, spec)
    assert (injected.verified, healed.verified) == (Verified.TRUE, Verified.TRUE)
    said = injected.evidence["configurations"]
    assert isinstance(said, dict)
    assert {" ".join(one["voters"]) for one in said.values()} == {voters}
    assert " ".join(sorted(fake.members.voters)) == after


def test_a_member_that_reports_the_old_configuration_disproves_it() -> None:
    """All that answer must have heard of it."""
    fake = FakeWorld()
    fake.members.behind = {"broker-a-1": frozenset({"broker-a-0", "broker-a-1"})}
    assert run(fake, "add:broker-a")[0].verified is Verified.FALSE


def test_a_configuration_that_is_not_committed_proves_nothing() -> None:
    """It could still be taken back."""
    fake = FakeWorld()
    fake.members.uncommitted = ["broker-a-0"]
    assert run(fake, "add:broker-a")[0].verified is Verified.FALSE


def test_too_few_members_that_answer_prove_nothing() -> None:
    """A minority may agree on anything."""
    fake = FakeWorld()
    fake.processes.states |= {"broker-a-0": NodeState.DEAD, "broker-a-1": NodeState.DEAD}
    assert run(fake, "add:broker-a")[0].verified is Verified.FALSE


def test_what_cannot_be_meant_is_refused() -> None:
    """No spare left, several nodes at once, a node that does not vote, a leader that shall become leader."""
    fake = FakeWorld()
    fake.members.spares = []
    for spec, words in (
        ("add:broker-a", "no spare node left"),
        ("remove:broker-a/brokers", "means 2 nodes"),
        ("remove:broker-b-0", "no voter"),
        ("transfer:broker-a/leader", "is a master, no follower"),
    ):
        injected, _ = run(fake, spec)
        assert injected.verified is Verified.FALSE
        assert words in str(injected.evidence["reason"])


def test_groups_that_do_not_elect_have_no_such_levers() -> None:
    """Unsupported, which is refused before a run or makes it unknown."""
    fake = FakeWorld()
    fake.world = dataclasses.replace(fake.world, members=None)
    for spec in ("add:broker-a", "remove:follower", "transfer:follower"):
        assert run(fake, spec)[0].verified is Verified.UNSUPPORTED


def test_a_transfer_is_proven_by_a_new_term_of_the_target() -> None:
    """The target leads, in a term above the one before."""
    injected, healed = run(FakeWorld(), "transfer:broker-a/follower")
    assert (injected.verified, healed.verified) == (Verified.TRUE, Verified.TRUE)
    assert injected.targets == ("broker-a-1",)
    assert injected.value()["permanent"] is True


def test_a_fault_of_the_leader_waits_for_the_end_of_an_election() -> None:
    """Between two leaders the word fits nobody; where masters are appointed nobody waits."""
    fake = FakeWorld()
    fake.role_reports.of["broker-a-0"] = (Role.SLAVE, 1)
    fake.world = dataclasses.replace(fake.world, patience=dataclasses.replace(fake.world.patience, elect_s=5.0))
    looks = 0
    ask = fake.role_reports.roles

    async def elected_at_the_third_look() -> Mapping[str, RoleReport]:
        nonlocal looks
        looks += 1
        if looks == 3:
            fake.role_reports.of["broker-a-1"] = (Role.MASTER, 2)
        return await ask()

    fake.role_reports.roles = elected_at_the_third_look  # type: ignore[method-assign]
    injected, _ = run(fake, "kill:broker-a/leader")
    assert injected.targets == ("broker-a-1",)
    appointed = FakeWorld()
    appointed.role_reports.of["broker-a-0"] = (Role.SLAVE, 1)
    appointed.world = dataclasses.replace(appointed.world, members=None)
    assert "nobody is broker-a/leader now" in str(run(appointed, "kill:broker-a/leader")[0].evidence["reason"])
