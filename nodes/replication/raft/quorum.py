"""Counting. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["held_by_majority", "majority"]


def majority(voters: int) -> int:
    """How many of so many voters any two decisions share one of."""
    return voters // 2 + 1


def held_by_majority(positions: Iterable[int]) -> int:
    """The largest position that a majority has reached, one position for each voter; 0 without voters."""
    ordered = sorted(positions, reverse=True)
    return ordered[majority(len(ordered)) - 1] if ordered else 0
