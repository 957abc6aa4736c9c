"""Where the members of a group are: as the group says, as configured, and as they say themselves. Pure."""

from __future__ import annotations

from nodes.dledger.settings import GroupSettings
from nodes.dledger.wire import VERSION, Hello
from nodes.replication.raft.membership import Membership

__all__ = ["AddressBook"]

_MET_MAX = 64


class AddressBook:
    """One member's knowledge of where the others are."""

    def __init__(self, settings: GroupSettings, segment_size: int) -> None:
        self.brokers = {settings.name: settings.broker}
        """Where clients reach the members that have introduced themselves."""
        self._settings = settings
        self._segment_size = segment_size
        self._met: dict[str, str] = {}

    def hello(self, to: str) -> Hello:
        """How this member introduces itself."""
        settings = self._settings
        own = settings.members.get(settings.name, "")
        return Hello(VERSION, settings.group, settings.name, to, self._segment_size, own, settings.broker)

    def met(self, hello: Hello) -> bool:
        """Somebody has introduced himself. True if where he is was news."""
        if len(self.brokers) < _MET_MAX or hello.sender in self.brokers:
            self.brokers[hello.sender] = hello.broker
        if not hello.address or self._met.get(hello.sender) == hello.address or len(self._met) >= _MET_MAX:
            return False
        self._met[hello.sender] = hello.address
        return True

    def others(self, membership: Membership) -> dict[str, str]:
        """Name to host:port of whom this member should be able to speak to.

        Whoever calls is answered, a member or not: a new node is told that it has no vote, and one that was removed
        may not know it yet.
        """
        settings = self._settings
        found = {} if membership.find(settings.name) is not None else dict(settings.members)
        found.update(self._met)
        for member in (*membership.voters, *membership.learners):
            address = member.address or settings.members.get(member.name, "")
            if address:
                found[member.name] = address
        found.pop(settings.name, None)
        return found
