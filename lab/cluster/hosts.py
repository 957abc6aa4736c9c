"""Hosts: places with an address, made of anonymous network namespaces on a routed star.

Every host has one veth into the switch namespace and a /32 address; the switch forwards. All traffic between hosts
passes one hook there, which is where partitions are cut.

    hosts = Hosts.build(["namesrv-1", "broker-a-0", "client-1"])
    hosts.address("broker-a-0")            # 10.77.0.2
    with hosts.run_inside("client-1"):     # this thread, this block
        socket.create_connection(...)
    hosts.close()
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.cluster.netns import in_user_namespace, inside, interface_up, new_netns, open_netlink, setns

if TYPE_CHECKING:
    from pyroute2 import IPRoute

HOSTS_MAX = 250
"""Named bound: last octet of the addresses."""

NETWORK = "10.77.0"
GATEWAY = "169.254.1.1"
"""Next hop of every host; a link-local address that the switch answers to on every port."""

CONGESTION_CONTROLS = ("cubic", "reno")
"""The first that the kernel allows in a namespace is set: loss must mean the same on every machine (some default to
bbr, which ignores most of it)."""

FAST_HEAL = (("net/ipv4/tcp_rto_max_ms", "1000"), ("net/ipv4/tcp_retries2", "100"))


@dataclass(frozen=True, slots=True)
class Host:
    """One place: its name, its address, and the descriptor that keeps its namespace alive."""

    name: str
    address: str
    fd: int
    port: str  # name of its veth's end in the switch namespace


class Hosts:
    """All hosts of one lab, in the order in which they were made."""

    def __init__(self, switch_fd: int, *, fast_heal: bool = True) -> None:
        self.switch_fd = switch_fd
        self.fast_heal = fast_heal
        self.without_effect: list[str] = []  # sysctls that this kernel does not have: a run says so
        self.congestion_control = "inherited"
        self._hosts: dict[str, Host] = {}
        self._closed = False

    @classmethod
    def build(cls, names: Sequence[str], *, fast_heal: bool = True) -> Hosts:
        """Make the switch and one host for each name. Blocking, < 100 ms for 12; call it from any thread.

        ``fast_heal``: TCP waits at most one second between retransmissions and does not give up during a cut, so
        that the time to recover after healing is the nodes' and not TCP's back-off. Raises NamespaceError.
        """
        (switch_fd,) = new_netns(1)
        hosts = cls(switch_fd, fast_heal=fast_heal)
        try:
            hosts.add(names)
        except BaseException:
            hosts.close()
            raise
        return hosts

    def add(self, names: Sequence[str]) -> None:
        """Make more hosts on the same star. Raises ValueError for a name that exists, NamespaceError."""
        for name in names:
            if name in self._hosts or names.count(name) > 1:
                raise ValueError(f"two hosts are called {name}")
        if len(self._hosts) + len(names) > HOSTS_MAX:
            raise ValueError(f"more than {HOSTS_MAX} hosts")
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._add(names)
            except BaseException as error:
                failures.append(error)

        # pyroute2 runs an event loop of its own inside, which must not meet the caller's running one.
        builder = threading.Thread(target=work, name="host-builder")
        builder.start()
        builder.join()
        if failures:
            raise failures[0]

    def names(self) -> list[str]:
        """Names of all hosts, in the order of their making."""
        return list(self._hosts)

    def address(self, name: str) -> str:
        """The host's IPv4 address. Raises KeyError for an unknown host."""
        return self._hosts[name].address

    def name_at(self, address: str) -> str | None:
        """The host with this address, or None."""
        return next((host.name for host in self._hosts.values() if host.address == address), None)

    def fd(self, name: str) -> int:
        """Descriptor of the host's network namespace; stays owned by this object."""
        return self._hosts[name].fd

    @contextmanager
    def run_inside(self, name: str) -> Iterator[None]:
        """Run the body in the host's network namespace: this thread only, never across an ``await``."""
        with inside(self._hosts[name].fd):
            yield

    def enter(self, name: str) -> None:
        """Move the calling thread into the host for good (client workers do this right after their fork)."""
        setns(self._hosts[name].fd)

    def socket_factory(self, name: str) -> Callable[[], socket.socket]:
        """A maker of non-blocking TCP sockets that live in this host, whoever uses them."""
        return lambda: self.socket_in(name, socket.SOCK_STREAM)

    def socket_in(self, name: str, kind: socket.SocketKind) -> socket.socket:
        """A new non-blocking IPv4 socket that lives in this host for good."""
        with inside(self._hosts[name].fd):
            made = socket.socket(socket.AF_INET, kind)
        made.setblocking(False)
        return made

    def exec_argv(
        self, name: str, argv: Sequence[str], *, mounts_of: int | None = None, by_other: bool = False
    ) -> list[str]:
        """The command that runs ``argv`` inside the host, while this process lives.

        ``mounts_of``: a thread of this process (the keeper's ``native_id``) whose mounts the command shall see too.
        ``by_other``: it will be run by another process of the same user, and not by this one or a child of it.
        """
        lab = f"/proc/{os.getpid()}"
        options = [f"--net={lab}/fd/{self._hosts[name].fd}"]
        if mounts_of is not None:
            options.append(f"--mount={lab}/task/{mounts_of}/ns/mnt")
        if by_other and in_user_namespace():
            options += [f"--user={lab}/ns/user", "--preserve-credentials"]
        return ["nsenter", *options, "--", *argv]

    def close(self) -> None:
        """Let all namespaces go; the kernel takes the links down in the background. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for host in self._hosts.values():
            os.close(host.fd)
        os.close(self.switch_fd)

    def _add(self, names: Sequence[str]) -> None:
        fds = new_netns(len(names))
        switch = open_netlink(self.switch_fd)
        try:
            if not self._hosts:
                self._set_up_switch(switch)
            for name, fd in zip(names, fds, strict=True):
                number = len(self._hosts) + 1
                host = Host(name, f"{NETWORK}.{number}", fd, f"p{number}")
                self._hosts[name] = host
                self._wire(switch, host)
        finally:
            switch.close()
            known = [host.fd for host in self._hosts.values()]
            for fd in fds:
                if fd not in known:
                    os.close(fd)

    def _set_up_switch(self, switch: IPRoute) -> None:
        with inside(self.switch_fd):
            interface_up("lo")
            _sysctl("net/ipv4/ip_forward", "1")
        # On the loopback once: the switch answers ARP for any address of its own on every port.
        switch.addr("add", index=1, address=GATEWAY, prefixlen=32)

    def _wire(self, switch: IPRoute, host: Host) -> None:
        peer = {"ifname": "eth0", "net_ns_fd": host.fd}
        switch.link("add", ifname=host.port, kind="veth", state="up", peer=peer)
        with inside(self.switch_fd):  # an ioctl, much cheaper than asking over netlink
            port = socket.if_nametoindex(host.port)
        with inside(host.fd):
            eth0 = socket.if_nametoindex("eth0")
            interface_up("lo")
            interface_up("eth0")
            self._tune()
        inner = open_netlink(host.fd)
        try:
            inner.addr("add", index=eth0, address=host.address, prefixlen=32)
            inner.route("add", dst="0.0.0.0/0", gateway=GATEWAY, oif=eth0, flags=["onlink"])
        finally:
            inner.close()
        switch.route("add", dst=f"{host.address}/32", oif=port)

    def _tune(self) -> None:
        self.congestion_control = next(
            (name for name in CONGESTION_CONTROLS if _sysctl("net/ipv4/tcp_congestion_control", name)), "inherited"
        )
        if self.fast_heal:
            for key, value in FAST_HEAL:
                if not _sysctl(key, value) and key not in self.without_effect:
                    self.without_effect.append(key)


def _sysctl(key: str, value: str) -> bool:
    """Set a sysctl of the calling thread's network namespace; False if this kernel does not have or allow it."""
    try:
        Path("/proc/sys", key).write_text(value)
    except OSError:
        return False
    return True
