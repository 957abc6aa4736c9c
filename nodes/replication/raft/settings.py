"""Timers and bounds of a Raft node, each with its meaning, unit and default. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits", "Settings", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds.

    heartbeat: how often a leader speaks when it has nothing to say (heartBeatTimeIntervalMs).
    election_min, election_max: a follower campaigns when it has not heard a leader for a time drawn from this range;
        a vote is refused while a leader was heard within election_min; a leader that has not heard a quorum for
        election_max steps down.
    retry_min, retry_max: how long a campaign waits before it begins anew (minVoteIntervalMs, maxVoteIntervalMs).
    early_min, early_max: how soon a follower asks for pre-votes when its connection to the leader was closed.
    """

    heartbeat: float = 0.1
    election_min: float = 0.5
    election_max: float = 1.0
    retry_min: float = 0.1
    retry_max: float = 0.3
    early_min: float = 0.005
    early_max: float = 0.06

    def __post_init__(self) -> None:
        for kind in ("election", "retry", "early"):
            low, high = getattr(self, kind + "_min"), getattr(self, kind + "_max")
            if not 0 < low <= high:
                raise ValueError(f"{kind}_min={low} must be above 0 and not above {kind}_max={high}")
        if not 0 < self.heartbeat < self.election_min:
            raise ValueError(f"heartbeat={self.heartbeat} must be above 0 and below election_min={self.election_min}")


@dataclass(frozen=True, slots=True)
class Limits:
    """batch_bytes: about how much one Append carries. window_bytes: unacknowledged bytes under way to one follower.

    promote_lag_bytes: a learner further behind than this is not made a voter, nor a preferred voter the leader.
    members_max: voters and learners of a group.
    """

    batch_bytes: int = 256 * 1024
    window_bytes: int = 4 * 1024 * 1024
    promote_lag_bytes: int = 1024 * 1024
    members_max: int = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """preferred: names that should lead when they can, best first (preferredLeaderIds)."""

    timing: Timing = Timing()
    limits: Limits = Limits()
    preferred: tuple[str, ...] = ()
