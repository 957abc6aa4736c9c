"""Every fault, from asking to proven healing; and every lie of a lever, caught by the proof."""

import asyncio
from dataclasses import replace

import pytest

from nemesis.catalogue import SHAPES, parse
from nemesis.fault import Action, Incident, Record, UnsupportedError, Verified
from nemesis.flaws import ELECTED_INJECTIONS, HEALINGS, INJECTIONS, LeverFlaw, numb
from nemesis.world import Matrix, NodeState, Pair, Patience, Role
from tests.unit.nemesis.fake_world import HOSTS, FakeWorld

SPECS = (
    "kill:master",
    "kill:all",
    "kill:namesrvs",
    "destroy:master",
    "destroy:slave,rejoin=yes",
    "promote:slave",
    "pause:one",
    *(f"partition:{shape}" for shape in SHAPES),
    "partition:isolate-master,clients=split,namesrvs=with",
    "partition:[[broker-a-0,client-1],[broker-a-1,client-2]]",
)


def incident(fake: FakeWorld, spec: str, fault_id: str = "f1", flaws: tuple[LeverFlaw, ...] = ()) -> Incident:
    return Incident(fault_id, parse(spec).fault(), numb(fake.world, flaws))


def run(fake: FakeWorld, spec: str, flaws: tuple[LeverFlaw, ...] = ()) -> tuple[Record, Record]:
    async def both() -> tuple[Record, Record]:
        one = incident(fake, spec, flaws=flaws)
        return await one.inject(), await one.heal()

    return asyncio.run(both())


@pytest.mark.parametrize("spec", SPECS)
def test_a_fault_is_proven_when_injected_and_when_healed(spec: str) -> None:
    injected, healed = run(FakeWorld(), spec)
    assert injected.verified is Verified.TRUE, injected.evidence
    assert injected.targets
    assert healed.verified is Verified.TRUE, healed.evidence
    assert injected.t_done_ns < healed.t_done_ns


@pytest.mark.parametrize("spec", SPECS)
def test_after_healing_the_world_is_as_before(spec: str) -> None:
    fake = FakeWorld()
    run(fake, spec)
    assert fake.network.lost() == frozenset()
    assert fake.world.ledger.intended() == frozenset()
    if not parse(spec).permanent:
        assert set(fake.processes.states.values()) == {NodeState.RUNNING}
        assert fake.world.ledger.active() == []


LIES = [
    ("kill:master", LeverFlaw.NO_KILL, Action.INJECT),
    ("kill:master", LeverFlaw.NO_START, Action.HEAL),
    ("destroy:master", LeverFlaw.NO_DESTROY, Action.INJECT),
    ("destroy:master", LeverFlaw.KILL_WITHOUT_DESTROY, Action.INJECT),
    ("destroy:slave,rejoin=yes", LeverFlaw.NO_START, Action.HEAL),
    ("promote:slave", LeverFlaw.NO_PROMOTE, Action.INJECT),
    ("transfer:broker-a-1", LeverFlaw.NO_TRANSFER, Action.INJECT),
    ("add:broker-a", LeverFlaw.NO_ADD, Action.INJECT),
    ("add:broker-a,back=yes", LeverFlaw.NO_REMOVE, Action.HEAL),
    ("remove:broker-a/follower", LeverFlaw.NO_REMOVE, Action.INJECT),
    ("remove:broker-a/follower,back=yes", LeverFlaw.NO_ADD, Action.HEAL),
    ("blackhole:leader", LeverFlaw.NO_CUT, Action.INJECT),
    ("blackhole:leader", LeverFlaw.NO_RESTORE, Action.HEAL),
    ("pause:one", LeverFlaw.NO_PAUSE, Action.INJECT),
    ("pause:one", LeverFlaw.NO_RESUME, Action.HEAL),
    *((f"partition:{shape}", LeverFlaw.NO_CUT, Action.INJECT) for shape in SHAPES),
    *((f"partition:{shape}", LeverFlaw.NO_RESTORE, Action.HEAL) for shape in SHAPES),
    ("partition:halves", LeverFlaw.HALF_CUT, Action.INJECT),
    ("partition:halves", LeverFlaw.HALF_RESTORE, Action.HEAL),
]


@pytest.mark.flaws
@pytest.mark.parametrize(("spec", "flaw", "half"), LIES)
def test_a_lever_that_lies_is_caught(spec: str, flaw: LeverFlaw, half: Action) -> None:
    injected, healed = run(FakeWorld(), spec, flaws=(flaw,))
    assert {Action.INJECT: injected, Action.HEAL: healed}[half].verified is Verified.FALSE
    if half is Action.HEAL:
        assert injected.verified is Verified.TRUE


@pytest.mark.flaws
def test_every_no_op_is_among_the_lies() -> None:
    assert {flaw for _, flaw, _ in LIES} == set(LeverFlaw)
    assert {*INJECTIONS, *ELECTED_INJECTIONS, *HEALINGS} < set(LeverFlaw)


@pytest.mark.flaws
def test_a_cut_that_only_new_connections_feel_is_not_proven() -> None:
    fake = FakeWorld()
    fake.network.established_leak = frozenset((a, b) for a in HOSTS for b in HOSTS if a != b)
    injected, _ = run(fake, "partition:halves")
    assert injected.verified is Verified.FALSE
    mismatches = injected.evidence["mismatches"]
    assert isinstance(mismatches, list)
    assert mismatches
    assert all("established flow: passes" in text for text in mismatches)


@pytest.mark.parametrize("how", ["lasts", "lapses", "cannot be seen"])
def test_a_cut_that_did_not_last_is_not_proven(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody emptied the filter meanwhile: what the run survived was no partition. It is healed all the same."""

    async def story(fake: FakeWorld) -> Record:
        one = incident(fake, "partition:isolate-master")
        assert (await one.inject()).verified is Verified.TRUE
        if how == "lapses":
            fake.network.cuts.clear()
        measure = fake.network.matrix
        looks = 0

        async def blind(expected_cut: frozenset[Pair]) -> Matrix:
            nonlocal looks
            looks += 1
            if looks == 1:
                raise OSError("no more descriptors")
            return await measure(expected_cut)

        if how == "cannot be seen":
            monkeypatch.setattr(fake.network, "matrix", blind)
        return await one.heal()

    fake = FakeWorld()
    healed = asyncio.run(story(fake))
    assert healed.verified is (Verified.TRUE if how == "lasts" else Verified.FALSE)
    assert bool(healed.evidence.get("lapsed")) is (how == "lapses")
    assert fake.network.lost() == frozenset()
    assert fake.world.ledger.intended() == frozenset()


@pytest.mark.flaws
def test_one_direction_that_stays_lost_is_named() -> None:
    fake = FakeWorld()
    fake.network.stuck = frozenset({("broker-a-0", "client-1")})
    _, healed = run(fake, "partition:isolate:broker-a-0")
    assert healed.verified is Verified.FALSE
    assert "broker-a-0 -> client-1 new flow: lost" in str(healed.evidence["mismatches"])


@pytest.mark.flaws
def test_a_rule_left_behind_is_a_failed_healing() -> None:
    fake = FakeWorld()
    fake.network.left_rules = ["+ broker-a-0: -A INPUT -s 10.0.0.1 -j DROP"]
    _, healed = run(fake, "partition:halves")
    assert healed.verified is Verified.FALSE
    assert healed.evidence["mismatches"] == fake.network.left_rules


@pytest.mark.flaws
def test_a_promotion_without_a_new_epoch_is_not_proven() -> None:
    fake = FakeWorld()
    fake.role_reports.forgets_epoch = True
    injected, _ = run(fake, "promote:broker-a/slave")
    assert injected.verified is Verified.FALSE
    assert injected.evidence["broker-a-1"] == {"role": "master", "epoch": 1}


@pytest.mark.parametrize(
    ("spec", "state", "reason"),
    [
        ("kill:broker-a-0", NodeState.DEAD, "broker-a-0 is not running"),
        ("pause:broker-a-0", NodeState.PAUSED, "broker-a-0 is paused"),
        ("pause:broker-a-0", NodeState.DEAD, "broker-a-0 is dead"),
        ("destroy:broker-a-0", NodeState.DESTROYED, "broker-a-0 is destroyed already"),
        ("promote:broker-a-1", NodeState.RUNNING, ""),
        ("promote:broker-a-0", NodeState.RUNNING, "broker-a-0 is a master, not a slave"),
        ("kill:client-1", NodeState.RUNNING, "client-1 is not a process of this lab"),
        ("kill:broker-a/minority", NodeState.RUNNING, "2 brokers have no minority"),
    ],
)
def test_what_cannot_be_done_is_unverified_with_its_reason(spec: str, state: NodeState, reason: str) -> None:
    fake = FakeWorld()
    fake.processes.states["broker-a-0"] = state
    injected, healed = run(fake, spec)
    assert injected.verified is (Verified.FALSE if reason else Verified.TRUE)
    assert reason in str(injected.evidence.get("reason", ""))
    assert healed.verified is Verified.TRUE
    assert fake.processes.states["broker-a-0"] is state


def test_of_several_targets_the_refused_one_is_named_and_the_others_are_hit() -> None:
    fake = FakeWorld()
    fake.processes.states["broker-a-0"] = NodeState.DEAD
    injected, healed = run(fake, "kill:broker-a-0+broker-b-0")
    assert injected.verified is Verified.FALSE
    assert injected.targets == ("broker-b-0",)
    assert injected.evidence["refused"] == {"broker-a-0": "broker-a-0 is not running"}
    assert healed.targets == ("broker-b-0",)
    assert healed.verified is Verified.TRUE


def test_overlapping_partitions_heal_one_by_one() -> None:
    async def story() -> None:
        fake = FakeWorld()
        first = incident(fake, "partition:isolate:broker-a-0", "f1")
        second = incident(fake, "partition:isolate:broker-a-1", "f2")
        for half in (first.inject, second.inject):
            assert (await half()).verified is Verified.TRUE
        assert (await first.heal()).verified is Verified.TRUE
        assert ("broker-a-0", "client-1") not in fake.network.lost()
        assert ("broker-a-0", "broker-a-1") in fake.network.lost()
        assert (await second.heal()).verified is Verified.TRUE
        assert fake.network.lost() == frozenset()

    asyncio.run(story())


def test_a_node_that_a_later_fault_destroyed_is_not_started_by_the_healing_of_the_first() -> None:
    async def story() -> None:
        fake = FakeWorld()
        first, second = incident(fake, "kill:broker-a-0", "f1"), incident(fake, "destroy:broker-a-0", "f2")
        assert (await first.inject()).verified is Verified.TRUE
        assert (await second.inject()).verified is Verified.TRUE
        healed = await first.heal()
        assert healed.verified is Verified.TRUE
        assert healed.evidence["broker-a-0"] == "left to f2"
        assert fake.processes.states["broker-a-0"] is NodeState.DESTROYED

    asyncio.run(story())


@pytest.mark.parametrize("pause_heals_first", [True, False])
def test_a_node_that_was_paused_and_then_killed_is_started_by_the_later_fault(pause_heals_first: bool) -> None:
    async def story() -> None:
        fake = FakeWorld()
        pause, kill = incident(fake, "pause:broker-a-0", "f1"), incident(fake, "kill:broker-a-0", "f2")
        assert (await pause.inject()).verified is Verified.TRUE
        assert (await kill.inject()).verified is Verified.TRUE
        order = (pause, kill) if pause_heals_first else (kill, pause)
        healed = {one: await one.heal() for one in order}
        assert [healed[one].verified for one in order] == [Verified.TRUE, Verified.TRUE]
        if pause_heals_first:
            assert healed[pause].evidence["broker-a-0"] == "left to f2"
        else:
            assert healed[pause].done == "broker-a-0 was killed and started again meanwhile"
        assert fake.processes.states["broker-a-0"] is NodeState.RUNNING
        assert fake.world.ledger.active() == []

    asyncio.run(story())


@pytest.mark.parametrize("spec", ["kill:broker-a-0", "pause:broker-a-0"])
def test_a_second_healing_proves_again_instead_of_believing_the_first(spec: str) -> None:
    async def story() -> None:
        fake = FakeWorld()
        one = incident(fake, spec)
        assert (await one.inject()).verified is Verified.TRUE
        answering, fake.processes.deaf = fake.processes.deaf, ["broker-a-0"]
        assert (await one.heal()).verified is Verified.FALSE
        assert (await one.heal()).verified is Verified.FALSE
        fake.processes.deaf = answering
        assert (await one.heal()).verified is Verified.TRUE

    asyncio.run(story())


def test_a_node_that_has_just_been_started_is_paused_once_it_serves() -> None:
    async def story() -> None:
        fake = FakeWorld()
        fake.world = replace(fake.world, patience=Patience())
        fake.processes.starting["broker-a-0"] = 3
        injected = await incident(fake, "pause:broker-a-0").inject()
        assert injected.verified is Verified.TRUE, injected.evidence

    asyncio.run(story())


def test_a_pause_of_a_node_that_never_serves_is_not_proven() -> None:
    async def story() -> None:
        fake = FakeWorld()
        fake.processes.starting["broker-a-0"] = 1_000_000
        injected = await incident(fake, "pause:broker-a-0").inject()
        assert injected.verified is Verified.FALSE, injected.evidence

    asyncio.run(story())


def test_targets_are_resolved_when_the_fault_happens() -> None:
    async def story() -> None:
        fake = FakeWorld()
        kill = incident(fake, "kill:broker-a/master")
        fake.role_reports.of["broker-a-0"] = (Role.SLAVE, 2)
        fake.role_reports.of["broker-a-1"] = (Role.MASTER, 2)
        assert (await kill.inject()).targets == ("broker-a-1",)

    asyncio.run(story())


def test_a_world_without_the_lever_says_unsupported_and_a_broken_one_does_not_raise() -> None:
    async def story() -> None:
        fake = FakeWorld()

        async def no_lever(fault_id: str, pairs: object) -> str:
            raise UnsupportedError("no nftables here")

        async def broken(fault_id: str, pairs: object) -> str:
            raise OSError("boom")

        for lever, verified in ((no_lever, Verified.UNSUPPORTED), (broken, Verified.FALSE)):
            fake.network.cut = lever  # type: ignore[method-assign]
            record = await incident(fake, "partition:halves").inject()
            assert record.verified is verified
            assert record.value()["verified"] == verified.value
            assert fake.world.ledger.intended() == frozenset()

    asyncio.run(story())


def test_the_record_holds_what_the_history_needs() -> None:
    fake = FakeWorld()
    kill = incident(fake, "kill:broker-a-0")
    start = kill.start_value(Action.INJECT)
    assert start == {"id": "f1", "action": "inject", "kind": "kill", "asked": "broker-a-0"}
    value = asyncio.run(kill.inject()).value()
    assert value.items() >= start.items()
    keys = "id action kind asked targets done t_done verified permanent evidence"
    assert list(value) == keys.split()
    assert value["targets"] == ["broker-a-0"]
    assert kill.open


def test_healing_what_was_never_injected_and_injecting_twice_are_refused() -> None:
    async def story() -> None:
        kill = incident(FakeWorld(), "kill:broker-a-0")
        assert (await kill.heal()).verified is Verified.FALSE
        assert (await kill.inject()).verified is Verified.TRUE
        assert (await kill.inject()).verified is Verified.FALSE

    asyncio.run(story())


def test_the_same_seed_hurts_the_same() -> None:
    records = [run(FakeWorld(seed), "partition:halves")[0] for seed in (5, 5, 6)]
    assert records[0].evidence["sides"] == records[1].evidence["sides"]
    assert records[0].evidence["sides"] != records[2].evidence["sides"]
