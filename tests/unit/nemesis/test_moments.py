"""Faults that wait for a moment of an election: whom they hit, and what they say when nothing happens."""

import asyncio
import dataclasses

import pytest

from nemesis.catalogue import CatalogueError, parse
from nemesis.fault import Incident, Record, Verified
from nemesis.world import Election, Moment, NodeState
from tests.unit.nemesis.fake_world import FakeWorld

VOTED = (Moment.VOTER, Election("broker-a-1", "broker-a", 7))
ELECTED = (Moment.ELECTED, Election("broker-b-1", "broker-b", 9))


def run(fake: FakeWorld, spec: str) -> tuple[Record, Record]:
    async def story() -> tuple[Record, Record]:
        incident = Incident("f1", parse(spec).fault(), fake.world)
        return await incident.inject(), await incident.heal()

    return asyncio.run(story())


def test_the_next_voter_is_killed_and_returns() -> None:
    """Whoever gives its vote next; the record says in which term."""
    fake = FakeWorld()
    fake.elections.coming = [ELECTED, VOTED]
    injected, healed = run(fake, "kill:voter")
    assert (injected.verified, healed.verified) == (Verified.TRUE, Verified.TRUE)
    assert injected.targets == healed.targets == ("broker-a-1",)
    assert injected.evidence["elections"] == [{"node": "broker-a-1", "term": 7}]
    assert fake.processes.incarnations["broker-a-1"] == 2
    assert fake.elections.coming == [ELECTED]


def test_the_next_leader_is_cut_off() -> None:
    """Of the asked group; the cut is the one around that node."""
    fake = FakeWorld()
    fake.elections.coming = [ELECTED]
    injected, _ = run(fake, "partition:isolate:broker-b/elected")
    assert fake.elections.asked == [(Moment.ELECTED, "broker-b")]
    assert injected.verified is Verified.TRUE
    assert injected.targets == ("broker-b-1",)
    assert all("broker-b-1" in pair for pair in injected.cut)


@pytest.mark.parametrize("kind", ["kill", "destroy", "pause", "blackhole"])
def test_each_kind_that_waits_takes_its_time(kind: str) -> None:
    """Whom it hits, and that the record tells how it was asked."""
    fake = FakeWorld()
    fake.elections.coming = [VOTED]
    injected, _ = run(fake, f"{kind}:voter,after=1ms")
    assert injected.verified is Verified.TRUE
    assert injected.targets == ("broker-a-1",)
    assert (injected.kind, injected.asked) == (kind, "voter,after=1ms")


def test_one_word_waits_and_another_does_not() -> None:
    """Named nodes go with it."""
    fake = FakeWorld()
    fake.elections.coming = [VOTED]
    injected, _ = run(fake, "pause:voter+broker-b-0,after=1ms")
    assert injected.targets == ("broker-a-1", "broker-b-0")
    assert injected.asked == "voter+broker-b-0,after=1ms"


def test_any_fault_comes_at_such_a_moment() -> None:
    """Whomever it hits; it is healed like the fault that it is."""
    fake = FakeWorld()
    fake.elections.coming = [VOTED]
    injected, healed = run(fake, "partition:[[broker-a-0],[broker-b-0]],when=voter,after=1ms")
    assert (injected.verified, healed.verified) == (Verified.TRUE, Verified.TRUE)
    assert injected.cut == {("broker-a-0", "broker-b-0"), ("broker-b-0", "broker-a-0")}
    assert injected.asked == "[[broker-a-0],[broker-b-0]],when=voter,after=1ms"
    assert fake.network.cuts == {}


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ("remove:broker-a-0", ("broker-a-0", True, "")),
        ("remove:broker-a-0,stop=no,by=elected", ("broker-a-0", False, "broker-a-1")),
    ],
)
def test_a_new_leader_is_asked_before_it_has_committed_anything(spec: str, left: tuple[str, bool, str]) -> None:
    """The wish goes to whoever is elected next; the one taken out may go on."""
    fake = FakeWorld()
    fake.elections.coming = [(Moment.ELECTED, Election("broker-a-1", "broker-a", 8))]
    injected, _ = run(fake, spec)
    assert injected.verified is Verified.TRUE
    assert injected.asked == spec.removeprefix("remove:")
    assert fake.members.left == [left]


@pytest.mark.parametrize(
    ("spec", "words"), [("kill:voter", "gave its vote"), ("partition:isolate-elected", "won an election")]
)
def test_a_moment_that_does_not_come_is_no_proof(spec: str, words: str) -> None:
    """Nothing was hurt, and the record says why."""
    fake = FakeWorld()
    injected, _ = run(fake, spec)
    assert injected.verified is Verified.FALSE
    assert words in str(injected.evidence["reason"])
    assert set(fake.processes.states.values()) == {NodeState.RUNNING}
    assert fake.network.cuts == {}


def test_where_nobody_elects_nothing_is_waited_for() -> None:
    """Such a world has no such moments."""
    fake = FakeWorld()
    fake.world = dataclasses.replace(fake.world, elections=None)
    assert run(fake, "kill:elected")[0].verified is Verified.UNSUPPORTED


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("kill:leader,after=1s", "after counts from a moment"),
        ("kill:elected,after=soon", "no time such as 200ms"),
        ("partition:halves,after=1s", "after counts from a moment"),
        ("partition:halves,when=later", "when=later"),
        ("remove:follower,by=somebody", "by=somebody"),
        ("remove:elected", "remove waits for nobody to be elected"),
        ("transfer:broker-a/voter", "transfer waits for nobody"),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: str, words: str) -> None:
    """With the option and a right way."""
    with pytest.raises(CatalogueError, match=words):
        parse(spec)
