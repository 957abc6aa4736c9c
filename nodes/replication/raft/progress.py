"""How far a leader is with one follower. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Progress", "Way"]


class Way(StrEnum):
    """PROBE: ask where the logs agree. REPLICATE: pipeline. RESEED: its place in the log was deleted here."""

    PROBE = "probe"
    REPLICATE = "replicate"
    RESEED = "reseed"


@dataclass(slots=True)
class Progress:
    """match: durable there and equal to the leader's log. next: up to where bytes were sent or are known to be there.

    heard: when it last answered in this term. moved: when match or way last changed, or bytes were first sent after
    everything was acknowledged: the clock by which lost messages are noticed. patience doubles with every fruitless
    repetition, so a slow disk is not flooded.
    """

    next: int
    heard: float
    moved: float
    match: int = 0
    way: Way = Way.PROBE
    reading: bool = False
    patience: int = 1
    joined: bool = False
    """It said last that it has joined: unlike an empty disk, or one that is being re-seeded, it votes for anybody."""
    leaving_until: float | None = None
    """Set for a member that was removed: until when it is still told, infinity before the removal is committed."""

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged as durable."""
        return max(0, self.next - self.match)

    def probe(self, position: int, now: float) -> None:
        """Ask whether the logs agree at `position`."""
        self.way = Way.PROBE
        self.next = position
        self.moved = now

    def replicate(self, position: int, now: float) -> None:
        """They agree up to `position`: pipeline from there."""
        self.way = Way.REPLICATE
        self.next = max(position, self.match)
        self.moved = now
