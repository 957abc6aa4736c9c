"""C15: who owes progress when, which stalls are caught, and what is nobody's fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from checkers.conditions import Needs, State, possible_leaders, tolerable
from checkers.facts import gather
from checkers.progress import check_progress, obligations
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import CLIENT, SERVERS, THREE, A, B, C, RaftStory, apart
from tests.unit.checkers.story import GROUP


def c15(story: RaftStory) -> Record:
    return check_progress(gather(story.history()))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


class Load:
    """Sends a message every fifth of a second, and answers as told."""

    def __init__(self, story: RaftStory) -> None:
        self.story = story
        self.count = 0

    def until(self, seconds: float, answer: str = "ok") -> Load:
        while self.story.now < seconds * 1e9:
            self.story.now += 200_000_000
            name = str(self.count)
            self.story.tell(f"{self.count}>s({name})")
            self.story.tell(f"{self.count}<s({name})@{self.count}" if answer == "ok" else f"{self.count}xs({name})")
            self.count += 1
        return self


def run(
    play: Callable[[RaftStory, Load], Any],
    *,
    rules: dict[str, bool] | None = None,
    excluded: tuple[str, ...] = (),
    **meta: Any,
) -> RaftStory:
    story = RaftStory(**meta)
    load = Load(story)
    play(story, load)
    story.drain("[]", rules=rules, excluded=excluded)
    return story


def test_a_group_that_always_answers_is_valid() -> None:
    record = c15(run(lambda story, load: load.until(10)))
    assert record.valid is Validity.VALID, record.reasons
    assert record.metrics["satisfied"] == 1.0
    assert record.counts["obligations"] == 1


def test_a_stall_without_any_fault_is_caught() -> None:
    record = c15(run(lambda story, load: load.until(5).until(8, "fail").until(10)))
    assert types(record) == {"stall"}
    assert "answered none of" in record.anomalies[0].text
    assert record.anomalies[0].core
    satisfied = record.metrics["satisfied"]
    assert isinstance(satisfied, float)
    assert 0 < satisfied < 1


def starving(shares: dict[str, float], **more: Any) -> Record:
    """Nobody answers from 5 s to 8 s, and these nodes have no CPU for so much of that time."""

    def play(story: RaftStory, load: Load) -> None:
        load.until(4.8)
        for node in THREE:
            story.status(node, starved_ns=1_000_000_000)
        load.until(5).until(8, "fail").until(8.4)
        for node in THREE:
            told = 1_000_000_000 + round(shares.get(node, 0.0) * 3.6e9)
            story.status(node, **{"starved_ns": told, **more})
        load.until(12)

    return c15(run(play))


def test_a_stall_of_nodes_that_had_no_cpu_is_undecided() -> None:
    """Two of three stood in the queue of an overloaded machine: no quorum could have served."""
    record = starving({A: 0.95, C: 0.9})
    assert types(record, Severity.UNDECIDED) == {"stall"}
    assert record.valid is Validity.UNKNOWN
    assert re.search(r"broker-a-0 for 9\d% of it, broker-a-2 for \d\d% of it, though", record.anomalies[0].text)
    silent = starving({A: 0.95, C: 0.9}, answered=False)
    assert types(silent, Severity.UNDECIDED) == {"stall"}, "told of who does not answer, too"


@pytest.mark.parametrize(
    ("shares", "more"),
    [
        ({}, {}),  # all had a CPU, and did nothing with it
        ({A: 0.95}, {}),  # two others could have served
        ({A: 0.7, B: 0.7, C: 0.7}, {}),  # a busy machine is no excuse yet
        ({A: 0.95, B: 0.95, C: 0.95}, {"starved_ns": "drop"}),  # not known afterwards
        ({A: 0.95, B: 0.95, C: 0.95}, {"incarnation": 2}),  # of another process
    ],
)
def test_a_stall_of_nodes_that_had_a_cpu_is_one(shares: dict[str, float], more: dict[str, Any]) -> None:
    assert types(starving(shares, **more)) == {"stall"}


def test_a_pause_shorter_than_the_window_passes() -> None:
    assert c15(run(lambda story, load: load.until(5).until(5.6, "fail").until(10))).valid is Validity.VALID


def test_a_pause_a_little_longer_than_the_window_is_a_stall() -> None:
    assert types(c15(run(lambda story, load: load.until(5).until(6.4, "fail").until(10)))) == {"stall"}


def killed(outage: float) -> Callable[[RaftStory, Load], Any]:
    def play(story: RaftStory, load: Load) -> None:
        load.until(5)
        story.fault("k", "kill", targets=[A])
        load.until(5 + outage, "fail").until(15)
        story.fault("k", "kill", "heal", targets=[A])
        load.until(22)

    return play


def test_a_failover_within_the_grace_period_passes_and_a_longer_one_is_a_stall() -> None:
    """Planted: an election that needs one reply too many never ends while one of three is down."""
    assert c15(run(killed(2.5))).valid is Validity.VALID
    record = c15(run(killed(9)))
    assert types(record) == {"stall"}
    assert record.anomalies[0].fault == "k"


def faulty(*faults: tuple[str, list[str]], cut: list[tuple[str, str]] | None = None) -> Callable[..., Any]:
    """Faults from 5 s to 15 s during which nothing is answered."""

    def play(story: RaftStory, load: Load) -> None:
        load.until(5)
        for number, (kind, targets) in enumerate(faults):
            story.fault(f"f{number}", kind, targets=targets)
        if cut is not None:
            story.cut("c", cut)
        load.until(15, "fail")
        for number, (kind, targets) in enumerate(faults):
            story.fault(f"f{number}", kind, "heal", targets=targets)
        if cut is not None:
            story.cut("c", None, "heal")
        load.until(22)

    return play


EXCUSED: list[Callable[..., Any]] = [
    faulty(("kill", [A, B])),  # no quorum runs
    faulty(("kill", [A]), ("pause", [C])),
    faulty(cut=apart([A], [B], [C])),  # nobody reaches anybody
    faulty(cut=apart([CLIENT], [*THREE, *SERVERS])),  # the client reaches nobody
    faulty(cut=apart([A, B, CLIENT], SERVERS)),  # no name server is reached
    faulty(("kill", SERVERS)),
    faulty(cut=[(A, B), (B, C), (C, A)]),  # each pair is cut one way, so no pair works
    faulty(cut=apart([CLIENT], [C])),  # C may lead, and the client cannot reach it
]


@pytest.mark.parametrize("play", EXCUSED, ids=range(len(EXCUSED)))
def test_where_no_quorum_can_be_reached_nothing_is_owed(play: Callable[..., Any]) -> None:
    record = c15(run(play))
    assert record.valid is Validity.VALID, record.reasons


OWED: list[Callable[..., Any]] = [
    faulty(("kill", [B])),
    faulty(("pause", [A])),
    faulty(cut=apart([A], [B, C, CLIENT, *SERVERS])),
    faulty(cut=apart([A, B], [C])),  # replicas only; all lead-worthy ones are reached
    faulty(("kill", [SERVERS[0]])),
    faulty(cut=[(B, C)]),  # A reaches both
]


@pytest.mark.parametrize("play", OWED, ids=range(len(OWED)))
def test_where_a_quorum_can_be_reached_progress_is_owed(play: Callable[..., Any]) -> None:
    assert types(c15(run(play))) == {"stall"}


def test_a_blackhole_cuts_what_it_says_and_excuses_no_more() -> None:
    """It is a partition under another name: the other two are a quorum, and a leader that they elect must serve."""

    def silent(pairs: list[tuple[str, str]]) -> Callable[[RaftStory, Load], Any]:
        def play(story: RaftStory, load: Load) -> None:
            load.until(5)
            story.cut("b", pairs, kind="blackhole", targets=[A])
            load.until(15, "fail")
            story.cut("b", None, "heal", kind="blackhole", targets=[A])
            load.until(22)

        return play

    assert types(c15(run(silent(apart([A], [B, C, CLIENT, *SERVERS]))))) == {"stall"}
    assert c15(run(silent(apart([A, B], [C, CLIENT, *SERVERS])))).valid is Validity.VALID


def test_a_slow_link_excuses_as_long_as_it_lasts() -> None:
    assert c15(run(faulty(("delay", [A])))).valid is Validity.VALID


def test_deliveries_are_owed_where_messages_wait() -> None:
    def play(readers: Iterable[float]) -> Callable[[RaftStory, Load], Any]:
        def inner(story: RaftStory, load: Load) -> None:
            last = 0
            for moment in readers:
                load.until(moment)
                batch = ",".join(f"{n}:{n}" for n in range(last, load.count))
                story.tell(f"900>poll 900<poll=[{batch}]")
                last = load.count
            load.until(12)

        return inner

    assert c15(run(play([n / 2 for n in range(1, 25)]))).valid is Validity.VALID
    record = c15(run(play([1, 2, 3, 4, 5, 9, 10, 11, 12])))
    assert types(record) == {"stall"}
    assert "messages waited" in record.anomalies[0].text


def test_a_load_that_asked_for_nothing_leaves_it_unknown() -> None:
    def play(story: RaftStory, load: Load) -> None:
        load.until(4)
        story.at(9)
        load.until(10)

    record = c15(run(play))
    assert record.valid is Validity.UNKNOWN
    assert any("nobody asked for any" in reason for reason in record.reasons)


def test_a_load_that_ends_long_before_its_time_leaves_it_unknown() -> None:
    def play(story: RaftStory, load: Load, until: float) -> None:
        load.until(10)
        story.at(until)

    assert c15(run(lambda story, load: play(story, load, 14))).valid is Validity.VALID, "it waited for last answers"
    record = c15(run(lambda story, load: play(story, load, 20)))
    assert record.valid is Validity.UNKNOWN
    assert any("of the load" in reason for reason in record.reasons)


def test_a_group_that_never_becomes_ready_after_healing_never_recovered() -> None:
    record = c15(run(lambda story, load: load.until(10), rules={"D4": False}))
    assert types(record) == {"never-recovered"}
    record = c15(run(lambda story, load: load.until(10), rules={"D4": False, "D2": False}))
    assert types(record, Severity.UNDECIDED) == {"never-recovered"}
    assert record.valid is Validity.UNKNOWN


def test_a_cluster_that_grew_is_judged_by_its_new_quorum() -> None:
    def play(story: RaftStory, load: Load) -> None:
        load.until(5)
        story.add("lab", "info", "membership", {"group": GROUP, "voters": [A, B], "learners": [], "quorum": 2})
        faulty(("kill", [B]))(story, load)

    assert c15(run(play)).valid is Validity.VALID, "two voters, one of them down: no quorum"


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"clients": []}, "does not name its client hosts"),
        ({"name_servers": []}, "does not name its client hosts"),
        ({"groups": {}}, "names no broker group"),
        ({"progress": {"grace_s": 30}}, "hides stalls"),
        ({"progress": {"window_s": 0}}, "must be positive"),
    ],
)
def test_missing_input_is_unknown_never_valid(meta: dict[str, Any], words: str) -> None:
    record = c15(run(lambda story, load: load.until(10), **meta))
    assert record.valid is Validity.UNKNOWN
    assert any(words in reason for reason in record.reasons), record.reasons


def test_a_longer_grace_period_that_is_explained_is_taken() -> None:
    progress = {"grace_s": 9, "because": "followers wait six seconds", "window_s": 1}
    assert c15(run(lambda story, load: load.until(20), progress=progress)).valid is Validity.VALID


def drained_late(*looks: dict[str, dict[str, Any]], named: str | None = A, every: float = 1.0) -> Record:
    """A group that was not ready at the deadline; each look asks all three, who lead, follow and hold as told."""

    story = RaftStory()

    def wait() -> None:
        for look in looks:
            story.now += round(every * 1e9)
            for node in THREE:
                said = {"leader": A, "end": 100, "commit": 100, **look.get(node, {})}
                role = said.pop("role", "leader" if node == A else "follower")
                story.status(node, role, said.pop("term", 1), **said)
            for server in SERVERS:
                story.route(server, named)

    Load(story).until(10)
    story.drain("[]", rules={"D4": False}, waits=wait)
    return c15(story)


def c_at(end: int, commit: int | None = None, **more: Any) -> dict[str, dict[str, Any]]:
    return {C: {"end": end, "commit": end if commit is None else commit, **more}}


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([c_at(50), c_at(50), c_at(60)], "lacked 40 bytes and had got 10 of them"),
        ([c_at(100, 90), c_at(100, 95)], "committed 95 of 100"),
        ([c_at(100), {C: {"answered": False}}, c_at(100)], "too late"),
    ],
)
def test_a_group_that_is_only_late_is_undecided(looks: list[dict[str, dict[str, Any]]], words: str) -> None:
    """It serves, and its follower comes nearer: nobody promises how soon it has caught up."""
    record = drained_late(*looks)
    assert types(record, Severity.UNDECIDED) == {"never-recovered"}
    assert record.valid is Validity.UNKNOWN
    assert words in record.anomalies[0].text


@pytest.mark.parametrize(
    "looks",
    [
        [c_at(50), c_at(50), c_at(50)],  # frozen for ever
        [c_at(50)],
        [c_at(100)] * 3,  # equal, and not ready all the same: the members disagree about who belongs to the group, say
        [c_at(50), c_at(60), c_at(55)],  # cut back and filled again
        [c_at(50), c_at(120)],  # beyond its leader
        [c_at(100, 50), c_at(100, 50)],
        [c_at(100), c_at(100, leader=B)],
        [c_at(100), c_at(100, leader=None, role="candidate")],
        [c_at(100), c_at(100, role="failed")],
        [c_at(100), c_at(100, term=2)],  # it rejoins no term
        [{C: {"answered": False}}, {C: {"answered": False}}],  # silent
        [{A: {"role": "follower"}}, {A: {"role": "follower"}}],  # nobody leads
        [{}, {A: {"role": "follower"}, B: {"role": "leader"}}],
        [{A: {"term": 1}}, {node: {"term": 2} for node in THREE}],  # elections without end
        [{A: {"serving": False}}] * 2,
        [c_at(50) | {A: {"commit": 90}}, c_at(60) | {A: {"commit": 90}}],  # no quorum gets there
    ],
)
def test_a_group_that_hangs_never_recovered(looks: list[dict[str, dict[str, Any]]]) -> None:
    """Planted: what stands still, goes astray or is silent is no catching up."""
    assert types(drained_late(*looks)) == {"never-recovered"}


def test_only_the_last_answers_show_that_a_follower_comes_nearer() -> None:
    """One that stopped long before the deadline hangs, and so does a group that a name server does not know."""
    moving = [c_at(50), c_at(60)]
    assert types(drained_late(*moving, *[c_at(60)] * 4, every=6)) == {"never-recovered"}
    assert types(drained_late(*moving, named=None)) == {"never-recovered"}
    assert types(drained_late(*moving, named=B)) == {"never-recovered"}


def test_readers_that_were_given_nothing_since_the_beginning_are_waiting() -> None:
    record = c15(run(lambda story, load: load.until(10), consumer_groups=["g"]))
    assert types(record) == {"stall"}
    assert "nothing was delivered" in record.anomalies[0].text
    assert c15(run(lambda story, load: load.until(10))).valid is Validity.VALID, "nobody was meant to read"


def test_a_group_without_a_quorum_of_disks_cannot_recover_and_need_not() -> None:
    def play(*lost: str) -> Callable[[RaftStory, Load], Any]:
        def destroyed(story: RaftStory, load: Load) -> None:
            load.until(5)
            for number, node in enumerate(lost):
                story.fault(f"f{number}", "destroy", targets=[node])
            load.until(12, "fail")

        return destroyed

    never = {"D4": False}
    record = c15(run(play(A, B), rules=never, excluded=(A, B)))
    assert types(record, Severity.UNDECIDED) == {"never-recovered"}
    assert "no quorum of 2 is left" in record.anomalies[0].text
    assert record.valid is Validity.UNKNOWN
    one = c15(run(play(A), rules=never, excluded=(A,)))
    assert "never-recovered" in types(one), "two of three can agree"
    back = c15(run(play(A, B), rules=never, excluded=(A,)))
    assert "never-recovered" in types(back), "one of the two came back with an empty disk"


@pytest.mark.parametrize(("verified", "blamed"), [(True, True), (False, False)])
def test_who_was_not_added_as_planned_is_nobodys_fault(verified: bool, blamed: bool) -> None:
    """A spare that the lab started, and could not have added, is no member: its group is never equal."""

    def play(story: RaftStory, load: Load) -> None:
        load.until(5)
        story.fault("f1", "add", targets=["broker-a-3"], verified=verified)
        story.events[-1].value["permanent"] = True
        load.until(12)

    record = c15(run(play, rules={"D4": False}))
    found = [one.severity for one in record.anomalies if one.type == "never-recovered"]
    assert found == [Severity.VIOLATION if blamed else Severity.UNDECIDED]


def test_an_undescribed_or_unproven_fault_makes_it_unknown() -> None:
    def play(story: RaftStory, load: Load) -> None:
        load.until(5)
        story.cut("c", None)
        load.until(12)

    assert c15(run(play)).valid is Validity.UNKNOWN

    def unproven(story: RaftStory, load: Load) -> None:
        load.until(5)
        story.fault("k", "kill", targets=[B], verified=False)
        load.until(12)

    assert c15(run(unproven)).valid is Validity.UNKNOWN


def test_a_run_too_short_to_owe_anything_stands_on_its_recovery() -> None:
    record = c15(run(lambda story, load: load.until(2)))
    assert record.valid is Validity.VALID, record.reasons
    story = RaftStory()
    Load(story).until(2)
    story.finish()
    assert c15(story).valid is Validity.UNKNOWN


def test_the_picture_of_the_matrix_tells_what_was_cut() -> None:
    def play(story: RaftStory, load: Load) -> None:
        load.until(5)
        story.fault("c", "partition", targets=[A])
        hosts = [*THREE, CLIENT, *SERVERS]
        rows = ["".join("-" if a == b else "0" if A in (a, b) else "1" for b in hosts) for a in hosts]
        story.events[-1].value["evidence"] = {"hosts": hosts, "new_flows": rows}
        load.until(15, "fail")
        story.fault("c", "partition", "heal")
        load.until(20)

    story = run(play)
    assert types(c15(story)) == {"stall"}
    spans = [(one.begin / 1e9, one.end / 1e9) for one in obligations(gather(story.history()), GROUP)]
    assert len(spans) == 3


def state(down: Iterable[str] = (), cut: Iterable[tuple[str, str]] = ()) -> State:
    return State(0, 1, frozenset(down), frozenset(cut), ())


def test_in_a_ring_of_five_nobody_is_pairwise_connected() -> None:
    facts = gather(RaftStory().history())
    five = tuple(f"n{n}" for n in range(5))
    ring = [(a, b) for i, a in enumerate(five) for j, b in enumerate(five) if min((i - j) % 5, (j - i) % 5) > 1]
    parts = Needs(five, 3, (CLIENT,), tuple(SERVERS))
    assert possible_leaders(facts, state(cut=ring), parts) == []
    assert not tolerable(facts, state(cut=ring), parts)
    bridge = apart(["n0", "n1"], ["n3", "n4"])
    assert possible_leaders(facts, state(cut=bridge), parts) == list(five)
    assert tolerable(facts, state(cut=bridge), parts)
    assert not tolerable(facts, state(cut=[*bridge, (CLIENT, "n4")]), parts)
    assert tolerable(facts, state(down=["n3", "n4"]), parts)
    assert not tolerable(facts, state(down=["n2", "n3", "n4"]), parts)
