"""Measures who reaches whom, one direction at a time, for new flows, established flows and new connections.

The lab owns one UDP socket and one TCP listener on the echo port of every host, and one TCP connection between every
two hosts, opened while the network was whole. A measurement needs no program on the hosts and never touches the nodes'
ports, so client statistics do not see it. Three looks at each ordered pair:

* a datagram from a fresh socket, with the round's number in it: it arrives or it does not, in that direction;
* a packet on the established connection. Data would not do: once one direction is lost, TCP waits with growing pauses
  and both directions look dead. Leaving the repair mode of a socket makes the kernel send one window probe at once,
  and the peer's counter of received segments says whether it arrived;
* a new connection, which needs both directions.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Sequence

from lab.cluster.hosts import Hosts
from nemesis.world import Matrix, Pair

PROBE_PORT = 7
"""The echo service's own port, on hosts where nothing else has it."""

GRACE_S = 0.02
"""A lost packet is believed lost when it has not arrived this long after it was sent; arriving takes microseconds."""

PATIENCE_S = 0.25
"""How long one measurement waits for packets that are expected and have not arrived yet (a starved machine)."""

OPEN_S = 10.0
"""For opening the permanent connections at the start."""

_TCP_INFO = 11
_TCP_REPAIR = 19
_SEGMENTS_IN = struct.Struct("I")
_SEGMENTS_IN_OFFSET = 140  # tcpi_segs_in of struct tcp_info, since Linux 4.2
_LINGER_RESET = struct.pack("ii", 1, 0)
_IN_PROGRESS = (0, errno.EINPROGRESS)


class Prober:
    """The lab's probe sockets in all hosts. Blocking methods, for one thread at a time."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._names: list[str] = []
        self._datagrams: dict[str, socket.socket] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._flows: dict[Pair, socket.socket] = {}  # (a, b): a's end of the connection between a and b
        self._round = 0

    def open(self) -> None:
        """Make sockets and connections for all hosts that have none yet; call it while the network is whole.

        Raises TimeoutError, with the pair, if a connection does not open.
        """
        fresh = [name for name in self._hosts.names() if name not in self._names]
        for name in fresh:
            self._datagrams[name] = self._bound(name, socket.SOCK_DGRAM)
            self._listeners[name] = self._bound(name, socket.SOCK_STREAM)
            self._listeners[name].listen(512)
        for name in fresh:
            for other in self._names:
                self._connect_flow(name, other)
            self._names.append(name)

    def close(self) -> None:
        """Close everything."""
        for made in (*self._datagrams.values(), *self._listeners.values(), *self._flows.values()):
            made.close()

    def pairs(self) -> tuple[Pair, ...]:
        """All ordered pairs of hosts."""
        return tuple((a, b) for a in self._names for b in self._names if a != b)

    def measure(self, expected_cut: frozenset[Pair], pairs: Sequence[Pair] | None = None) -> Matrix:
        """Look once at all ordered pairs (or these); ends early if all is as expected and had time to differ."""
        pairs = self.pairs() if pairs is None else tuple(pairs)
        begin = time.perf_counter()
        self._round += 1
        up = [pair for pair in pairs if pair not in expected_cut]
        cut = [pair for pair in pairs if pair in expected_cut]
        connectable = [pair for pair in up if pair[::-1] not in expected_cut]
        datagrams: set[Pair] = set()
        flows: set[Pair] = set()
        connects: set[Pair] = set()
        before = {pair: self._segments_received(pair) for pair in pairs}
        self._send_datagrams(pairs)
        self._poke_flows(pairs)
        attempts = self._begin_connects(pairs)
        sent = time.perf_counter()
        try:
            while True:
                self._collect_datagrams(pairs, datagrams)
                flows.update(pair for pair in pairs if pair not in flows and self._moved(pair, before[pair]))
                self._collect_connects(attempts, connects)
                waited = time.perf_counter() - sent
                arrived = datagrams.issuperset(up) and flows.issuperset(up) and connects.issuperset(connectable)
                if (arrived and (not cut or waited >= GRACE_S)) or waited >= PATIENCE_S:
                    break
                self._wait(attempts)
        finally:
            for attempt in attempts.values():
                attempt.close()
            self._drop_accepted()
        took = (time.perf_counter() - begin) * 1000
        return Matrix(pairs, frozenset(datagrams), frozenset(flows), frozenset(connects), round(took, 3))

    # --- established flows

    def _connect_flow(self, a: str, b: str) -> None:
        near = self._hosts.socket_in(a, socket.SOCK_STREAM)
        near.connect_ex((self._hosts.address(b), PROBE_PORT))
        deadline = time.monotonic() + OPEN_S
        while True:
            select.select([self._listeners[b]], [], [], max(0.0, deadline - time.monotonic()))
            try:
                far, peer = self._listeners[b].accept()
            except BlockingIOError:
                near.close()
                raise TimeoutError(f"no probe connection from {a} to {b} within {OPEN_S:g} s") from None
            if peer == near.getsockname():
                break
            far.close()
        far.setblocking(False)
        self._flows[a, b], self._flows[b, a] = near, far

    def _segments_received(self, pair: Pair) -> int:
        """Segments that the second host of the pair has received from the first on their connection."""
        info = self._flows[pair[1], pair[0]].getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 192)
        return int(_SEGMENTS_IN.unpack_from(info, _SEGMENTS_IN_OFFSET)[0])

    def _moved(self, pair: Pair, before: int) -> bool:
        return self._segments_received(pair) != before

    def _poke_flows(self, pairs: Sequence[Pair]) -> None:
        for pair in pairs:
            flow = self._flows[pair]
            with contextlib.suppress(OSError):  # a dead connection shows as lost
                flow.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
                flow.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 0)

    # --- datagrams of new flows

    def _send_datagrams(self, pairs: Sequence[Pair]) -> None:
        for source in dict.fromkeys(pair[0] for pair in pairs):
            with self._hosts.socket_in(source, socket.SOCK_DGRAM) as fresh:
                for pair in pairs:
                    if pair[0] == source:
                        text = f"{self._round} {source}".encode()
                        with contextlib.suppress(OSError):  # a local refusal shows as lost
                            fresh.sendto(text, (self._hosts.address(pair[1]), PROBE_PORT))

    def _collect_datagrams(self, pairs: Sequence[Pair], seen: set[Pair]) -> None:
        for destination in dict.fromkeys(pair[1] for pair in pairs):
            while True:
                try:
                    text = self._datagrams[destination].recv(256)
                except OSError:
                    break
                number, _, source = text.decode().partition(" ")
                if number == str(self._round):  # a late one of an older round proves nothing about now
                    seen.add((source, destination))

    # --- new connections

    def _begin_connects(self, pairs: Sequence[Pair]) -> dict[Pair, socket.socket]:
        attempts = {}
        for a, b in pairs:
            made = self._hosts.socket_in(a, socket.SOCK_STREAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)  # leaves nothing in TIME_WAIT
            if made.connect_ex((self._hosts.address(b), PROBE_PORT)) in _IN_PROGRESS:
                attempts[a, b] = made
            else:
                made.close()
        return attempts

    @staticmethod
    def _collect_connects(attempts: dict[Pair, socket.socket], seen: set[Pair]) -> None:
        for pair, attempt in list(attempts.items()):
            try:
                attempt.getpeername()
            except OSError:
                continue
            seen.add(pair)
            attempts.pop(pair).close()

    def _drop_accepted(self) -> None:
        for listener in self._listeners.values():
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    break
                accepted.close()

    # --- sockets

    def _bound(self, name: str, kind: socket.SocketKind) -> socket.socket:
        made = self._hosts.socket_in(name, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self._hosts.address(name), PROBE_PORT))
        return made

    def _wait(self, attempts: dict[Pair, socket.socket]) -> None:
        """Wait a little for anything to arrive; established flows cannot be waited for, so never long."""
        poll = select.poll()
        for made in (*self._datagrams.values(), *attempts.values()):
            poll.register(made, select.POLLIN if made in self._datagrams.values() else select.POLLOUT)
        poll.poll(2)
