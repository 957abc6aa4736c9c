"""Ports for programs on loopback: free with all that a broker opens beside them, and given once."""

from __future__ import annotations

import pytest

from lab.bench import ports
from lab.bench.ports import FAST_PORT, HA_PORT, PORTS, RAFT_PORT, STEP, free_ports
from lab.errors import SetupError


@pytest.mark.parametrize("beside", [FAST_PORT, 0, HA_PORT, RAFT_PORT])
def test_a_port_is_free_with_its_neighbours_and_given_once(beside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: somebody listens at the first of three places, or beside it."""
    places = range(PORTS.start, PORTS.start + 3 * STEP)
    monkeypatch.setattr(ports, "PORTS", places)
    monkeypatch.setattr(ports, "_given", set())
    monkeypatch.setattr(ports, "_free", lambda port: port != places.start + beside)
    assert sorted(free_ports(1) + free_ports(1)) == [places.start + STEP, places.start + 2 * STEP]
    with pytest.raises(SetupError, match="no 1 ports"):
        free_ports(1)
