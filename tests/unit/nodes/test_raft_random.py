"""Raft groups in storms: random loss, repetition, reordering, crashes that forget what was not synced, partitions of
every shape, pauses, hand-overs, membership changes, retention, slow disks. The invariants of `raft_invariants` hold
after every step, and within 12 virtual seconds after the heal there is a leader and all logs are equal.

Every planted flaw of the core is caught within a bounded number of seeds, and the core without it passes the same ones.
`RAFT_SEEDS=1000 pytest tests/unit/nodes/test_raft_random.py` plays that many seeds of each story instead of a few.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from nodes.flaws import Flaw
from nodes.replication.raft.orders import RaftError
from tests.unit.nodes.raft_storm import Storm, Story

SEEDS = int(os.environ.get("RAFT_SEEDS", "0"))

STORIES = {
    "three": (Story(), 20),
    "three-long": (Story(seconds=60.0), 3),
    "four": (Story(voters=4, member=6), 15),
    "five": (Story(voters=5), 15),
    "one-and-learners": (Story(voters=1, member=10), 10),
    "leaders-fall": (Story(churn=0.5, commit_crash=0.5, member=1, pace=0.4), 25),
    "votes-and-crashes": (Story(vote_crash=0.5, in_step=True, isolate_leader=8), 15),
    "members-come-and-go": (Story(voters=3, member=25, crash=2, churn=0.2, eager=0.3), 8),
    "emptied-disks": (Story(wipe=6, member=0, power_all=0), 12),
    "emptied-disks-of-five": (Story(voters=5, wipe=6, member=1, retain=6), 6),
    "retention": (Story(retain=25, member=1), 15),
    "slow-disks": (Story(slow_disks=True), 5),
    "async-flush-and-kills": (Story(async_flush=True, power=0.0, power_all=0, crash=8), 12),
    "async-flush-of-five": (Story(voters=5, async_flush=True, power=0.0, power_all=0, crash=8, churn=0.3), 6),
}

_POWER = Story(
    async_flush=True, power=1.0, power_all=2, crash=8, partition=6, isolate_leader=6, member=0, retain=0, pace=0.4
)
_FIGURE_8 = Story(
    seconds=10.0,
    churn=0.3,
    commit_crash=0.9,
    member=0,
    retain=0,
    power_all=0,
    transfer=0,
    crash=1,
    pace=0.4,
    rough=False,
)
_VOTES = Story(vote_crash=0.5, in_step=True, member=0, isolate_leader=8, retain=0, seconds=10)
_SCHISM = Story(
    voters=4, seconds=15.0, settled=True, eager=0.95, commit_crash=1.0, member=0, retain=0, power_all=0, crash=0,
    transfer=0, one_way=0, isolate_leader=0, partition=0, heal=0, pause=1, restart=1, pace=1.0,
)  # fmt: skip
_TWO = Story(
    voters=5, seconds=15.0, eager=0.95, commit_crash=0.7, member=0, retain=0, power_all=0, crash=0, transfer=0,
    one_way=0, isolate_leader=0, partition=0, heal=0, pause=1, restart=1, pace=1.0,
)  # fmt: skip

ASYNC_FLAWS = {
    Flaw.FORGET_VOTE: (replace(_VOTES, async_flush=True), 60),
    Flaw.FORGET_TERM: (_POWER, 30),
    Flaw.ACK_BEFORE_QUORUM: (STORIES["async-flush-and-kills"][0], 5),
}
"""What must hold with ASYNC_FLUSH too; the first two under loss of power."""

FLAWS = {
    Flaw.ACK_BEFORE_QUORUM: (Story(), 5),
    Flaw.ACK_BEFORE_FSYNC: (Story(), 5),
    Flaw.COMMIT_OLD_TERM: (_FIGURE_8, 60),
    Flaw.FORGET_VOTE: (_VOTES, 60),
    Flaw.FORGET_TERM: (Story(), 30),
    Flaw.DEPOSED_LEADER_ACKS: (Story(), 5),
    Flaw.KEEP_CONFLICTING_TAIL: (Story(), 10),
    Flaw.EARLY_MEMBERSHIP_CHANGE: (_SCHISM, 20),
    Flaw.TWO_MEMBERSHIP_CHANGES: (_TWO, 60),
}


@pytest.mark.random
@pytest.mark.parametrize("name", STORIES)
def test_a_storm_passes(name: str) -> None:
    """Safety after every step, progress after the heal."""
    story, seeds = STORIES[name]
    led = agreed = 0
    for seed in range(SEEDS or seeds):
        storm = Storm(seed, story)
        try:
            storm.play()
        except (AssertionError, RaftError) as error:
            raise AssertionError(f"story {name}, seed {seed}: {error}") from error
        led += len(storm.world.invariants.leaders)
        agreed += storm.world.invariants.agreed_end
    assert led > 2 * (SEEDS or seeds), "nothing has happened"
    assert agreed > 200 * (SEEDS or seeds), "nothing has happened"


@pytest.mark.random
def test_lost_power_under_async_flush_takes_what_was_committed_but_never_elects_two() -> None:
    """Votes and terms are synced all the same: one vote and one leader a term, no term twice, whatever is lost."""
    losses = stopped = 0
    for seed in range(SEEDS or 80):
        if not SEEDS and seed >= 15 and losses and stopped:
            break
        storm = Storm(seed, _POWER)
        try:
            storm.play()
        except (AssertionError, RaftError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        losses += storm.world.invariants.losses
        stopped += storm.world.stopped
    assert losses > 0, "nothing was lost: this storm tries nothing that SYNC_FLUSH does not"
    assert stopped > 0, "nobody has met a leader without what it holds as committed"


@pytest.mark.flaws
@pytest.mark.parametrize(
    ("flaw", "story", "seeds"),
    [
        pytest.param(flaw, story, seeds, id=f"{flaw.value}{'-async' if story.async_flush else ''}")
        for table in (FLAWS, ASYNC_FLAWS)
        for flaw, (story, seeds) in table.items()
    ],
)
def test_a_planted_flaw_is_caught(flaw: Flaw, story: Story, seeds: int) -> None:
    """Within so many seeds an invariant breaks; without the flaw none does in the same seeds."""
    caught = ""
    for seed in range(seeds):
        try:
            Storm(seed, story, frozenset({flaw})).play()
        except (AssertionError, RaftError) as error:
            caught = f"seed {seed}: {error}"
        Storm(seed, story).play()
        if caught:
            break
    assert caught, f"{flaw} was not caught in {seeds} seeds"
