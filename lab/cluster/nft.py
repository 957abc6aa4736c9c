"""Partitions by nftables: one set of ordered pairs in the switch namespace, one transaction a change.

libnftables is called in this process; a change takes under a millisecond and takes effect for all pairs at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from lab.cluster.netns import inside
from nemesis.world import LeverError

TABLE = "lab"

_SET_UP = f"""table ip {TABLE} {{
 set cut {{
  type ipv4_addr . ipv4_addr;
 }}
 chain forward {{
  type filter hook forward priority 0; policy accept;
  ip saddr . ip daddr @cut drop
 }}
}}
"""


class NftError(Exception):
    """nftables refused a command; the message is its own."""


class Nft:
    """libnftables, bound for life to the network namespace in which it was made. One call is one transaction."""

    def __init__(self, netns_fd: int) -> None:
        try:
            self._library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise NftError(f"libnftables is missing ({error}); on Debian: apt install nftables") from None
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        with inside(netns_fd):
            self._context: ctypes.c_void_p | None = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> str:
        """Run the commands as one transaction and return what they print. Raises NftError; then nothing changed."""
        if self._context is None:
            raise NftError("closed")
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context).decode()
        error = self._library.nft_ctx_get_error_buffer(self._context).decode()
        if failed:
            raise NftError(error.strip() or f"nft refused: {commands[:200]}")
        return str(output)

    def close(self) -> None:
        """Free the handle; the rules stay as long as their namespace."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None


class NftLever:
    """Cuts ordered pairs of addresses where the switch forwards."""

    name = "nft"

    def __init__(self, switch_fd: int) -> None:
        self._nft = Nft(switch_fd)
        self._nft.run(_SET_UP)

    def apply(self, pairs: Sequence[tuple[str, str]]) -> str:
        """Make the lost pairs exactly these (source, destination) addresses. Blocking, < 1 ms. Raises LeverError."""
        commands = f"flush set ip {TABLE} cut\n"
        if pairs:
            elements = ", ".join(f"{source} . {destination}" for source, destination in sorted(pairs))
            commands += f"add element ip {TABLE} cut {{ {elements} }}\n"
        try:
            self._nft.run(commands)
        except NftError as error:
            raise LeverError(f"nft: {error}") from error
        return f"nft set of {len(pairs)} ordered pairs in the switch"

    def close(self) -> None:
        """Free the handle."""
        self._nft.close()


def rules(listing: str) -> list[str]:
    """The lines of a ruleset that can lose a packet: tables, empty chains and accepting policies are left out."""
    found = []
    for raw in listing.splitlines():
        line = " ".join(raw.split())
        if line.startswith("#") or line in ("", "}") or line.endswith("{"):
            continue
        if line.startswith("type ") and ("policy accept" in line or "hook" not in line):
            continue
        found.append(line)
    return found
