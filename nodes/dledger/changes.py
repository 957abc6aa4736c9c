"""What an operator asks of a group: growing, shrinking, handing over. Each returns when it is done, or says why not."""

from __future__ import annotations

import asyncio

from nodes.dledger.node import GroupNode
from nodes.dledger.settings import GroupError
from nodes.replication.raft.membership import AddLearner, Change, Member, MembershipError, Promote
from nodes.replication.raft.orders import Role

__all__ = ["GroupChanges"]

_RETRY_S = 0.05


class GroupChanges:
    """Changes through the member that leads."""

    def __init__(self, member: GroupNode) -> None:
        self._member = member
        self._loop = asyncio.get_running_loop()

    async def hand_over(self, to: str = "", patience_s: float = 2.0) -> bool:
        """Give leadership to another member, or to `to`; returns when the new leader has been heard, or after a while.

        True if this member leads no more. Raises GroupError.
        """
        member, raft = self._member, self._member.raft
        if not self._leads:
            return True
        if len(raft.membership.voters) < 2:
            return False
        try:
            member.settle()
            member.put(raft.transfer, to, self._loop.time())
        except MembershipError as error:
            raise GroupError(str(error)) from None
        try:
            async with asyncio.timeout(patience_s):
                while not self._led_by_another:
                    await member.waiting.news()
        except TimeoutError:
            pass  # what has come of it is told below
        return not self._leads

    @property
    def _leads(self) -> bool:
        return self._member.raft.role is Role.LEADER

    @property
    def _led_by_another(self) -> bool:
        raft = self._member.raft
        return not self._leads and raft.leader not in ("", self._member.name)

    async def change(self, change: Change, patience_s: float) -> None:
        """Carry out one membership change; returns when it is committed. Raises GroupError.

        One that makes sense but cannot be made now (another one is pending, a learner has not caught up) is tried for
        `patience_s`.
        """
        member, raft = self._member, self._member.raft
        deadline = self._loop.time() + patience_s
        while True:
            try:
                member.settle()
                raft.membership.changed(change)
            except MembershipError as error:
                raise GroupError(str(error)) from None
            try:
                member.put(raft.change, change, self._loop.time())
                break
            except MembershipError as error:
                if not self._leads or self._loop.time() >= deadline:
                    raise GroupError(str(error)) from None
            await asyncio.sleep(_RETRY_S)
        await member.committed_to(raft.end)

    async def add(self, new: Member, patience_s: float) -> None:
        """Make a new node a voter: a learner first, a voter once it has caught up. Raises GroupError.

        May be called again after an error: what has been done is not done twice.
        """
        raft = self._member.raft
        deadline = self._loop.time() + patience_s
        found = raft.membership.find(new.name)
        if found is None:
            await self.change(AddLearner(new), patience_s)
        elif found.address != new.address and new.address:
            raise GroupError(f"{new.name} is a member at {found.address}; remove it first")
        if not raft.membership.is_voter(new.name):
            try:
                await self.change(Promote(new.name), deadline - self._loop.time())
            except GroupError as error:
                raise GroupError(f"{new.name} is a learner, not a voter yet: {error}") from None
