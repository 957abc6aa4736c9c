"""What SEND_OK promises where a controller appoints masters out of the replicas in sync (RocketMQ 5.x), in words. Pure.

Which settings decide it: allAckInSyncStateSet, inSyncReplicas, minInSyncReplicas and flushDiskType of the brokers,
enableElectUncleanMaster of the controllers (RocketMQ docs/en/controller/deploy.md; classes CommitLog,
GroupTransferService, DefaultElectPolicy).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lab.plan import Plan
from lab.topology import guaranteed, truth

ROLE: Final = "CONTROLLER"
TRUE: Final = "true"


@dataclass(frozen=True, slots=True)
class InSyncPromise:
    """The settings that decide what a master of one group promises."""

    replicas: int
    every: bool  # allAckInSyncStateSet: all replicas in sync must have a message
    needed: int  # inSyncReplicas: how many copies are enough without it
    least: int  # minInSyncReplicas: how small the set may get before sends are refused
    unclean: bool  # enableElectUncleanMaster: a replica out of sync may become master
    copies: int  # that are sure before SEND_OK
    synced: bool  # on the master's disk

    @property
    def partial(self) -> bool:
        """Whether a replica in sync, which may be appointed, need not hold what was acknowledged."""
        return not self.every and self.needed < self.replicas

    def group_value(self) -> dict[str, Any]:
        """What a history says of such a group beside its nodes, copies and flushing."""
        return {"role": ROLE, "elects": "in-sync", "unclean": self.unclean, "partial": self.partial}

    def words(self) -> str:
        """The promise, with the settings it follows from."""
        if self.every:
            who = f"every replica in sync, at least {self.least} of {self.replicas}"
            why = f"allAckInSyncStateSet=true, minInSyncReplicas={self.least}, inSyncReplicas has no effect"
        else:
            who = f"{self.needed} of {self.replicas} replicas"
            why = f"allAckInSyncStateSet=false, inSyncReplicas={self.needed}, minInSyncReplicas={self.least}"
        unclean = f"enableElectUncleanMaster={truth(self.unclean)}"
        disk = (
            "the master's is on disk (fsync), the others' in the page cache"
            if self.synced
            else "in the page cache (ASYNC_FLUSH): weaker, a loss of power may take it"
        )
        return f"SEND_OK: written by {who} ({why}, {unclean}); {disk}"

    def weakened(self) -> list[str]:
        """What of these settings lets an acknowledged message be lost without any disk lost, each with how."""
        found = []
        if self.partial:
            copy = "copy is" if self.needed == 1 else "copies are"
            found.append(
                f"allAckInSyncStateSet=false: {self.needed} {copy} enough, and another replica in sync, which need not "
                "hold the message, may be appointed"
            )
        if self.unclean:
            found.append(
                "enableElectUncleanMaster=true: a replica out of sync may be appointed, and what it lacks is lost"
            )
        return found


def in_sync_promise(plan: Plan, settings: Mapping[str, str]) -> InSyncPromise:
    """What the plan's settings of a master, as `settings_of` gives them, promise."""
    copies, flush = guaranteed(plan, settings)
    return InSyncPromise(
        replicas=plan.cluster.replicas,
        every=settings.get("allAckInSyncStateSet", "false").lower() == TRUE and plan.load.wait_store_msg_ok,
        needed=int(settings.get("inSyncReplicas", "1")) if plan.load.wait_store_msg_ok else 1,
        least=int(settings.get("minInSyncReplicas", "1")),
        unclean=truth(plan.namesrv.get("enableElectUncleanMaster", False)).lower() == TRUE,
        copies=copies,
        synced=flush == "SYNC_FLUSH",
    )
