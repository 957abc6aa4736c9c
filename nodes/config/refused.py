"""Genuine keys whose usual value is fine and whose other values would change a promise that is not kept here. Pure."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BROKER_REFUSED", "NAMESRV_REFUSED", "Refusal"]


class Refusal(NamedTuple):
    """`harmless` are the accepted values in lower case; any other is refused because of `reason`."""

    harmless: tuple[str, ...]
    reason: str


_OFF = ("false",)
_EMPTY = ("",)
_TLS = "this program speaks plain text only"
_FIND = "name servers are found by namesrvAddr only"
_AUTH = "requests are not authenticated here"

_COMMON = {
    "tls.server.mode": Refusal(("disabled", "permissive"), _TLS),
    "tls.enable": Refusal(_OFF, _TLS),
    "useTLS": Refusal(_OFF, _TLS),
}

BROKER_REFUSED: dict[str, Refusal] = {
    **_COMMON,
    "transientStorePoolEnable": Refusal(_OFF, "messages would be acknowledged from memory before they are written"),
    "enableControllerMode": Refusal(_OFF, "there is no controller that could elect a master"),
    "enableSlaveActingMaster": Refusal(_OFF, "a slave never acts as master here"),
    "enableRemoteEscape": Refusal(_OFF, "messages are not escaped to other groups"),
    "duplicationEnable": Refusal(_OFF, "the log is not duplicated"),
    "readOnlyCommitLogStorePaths": Refusal(_EMPTY, "there is one folder for the commit log"),
    "messageStorePlugIn": Refusal(_EMPTY, "store plug-ins are not supported"),
    "storeType": Refusal(("default",), "only the file store is supported"),
    "configManagerVersion": Refusal(("v1",), "tables are kept as JSON files"),
    "enabledAppendPropCRC": Refusal(_OFF, "properties carry no checksum of their own"),
    "forceVerifyPropCRC": Refusal(_OFF, "properties carry no checksum of their own"),
    "enableLmq": Refusal(_OFF, "light queues are not supported"),
    "enableMultiDispatch": Refusal(_OFF, "a message is dispatched to one queue"),
    "allAckInSyncStateSet": Refusal(_OFF, "set inSyncReplicas to the number of copies instead"),
    "minInSyncReplicas": Refusal(("1",), "set inSyncReplicas to the number of copies instead"),
    "enableAutoInSyncReplicas": Refusal(_OFF, "the number of promised copies is never lowered silently"),
    "asyncLearner": Refusal(_OFF, "every slave acknowledges"),
    "syncFromLastFile": Refusal(_OFF, "an empty slave is always filled from offset 0"),
    "readUnCommitted": Refusal(_OFF, "what may still be lost is not given to consumers"),
    "lockInStrictMode": Refusal(_OFF, "queue locks are kept by the master alone"),
    "enablePropertyFilter": Refusal(_OFF, "SQL92 filters are not supported"),
    "recallMessageEnable": Refusal(_OFF, "timer messages are not supported"),
    "defaultMessageRequestMode": Refusal(("pull",), "POP consumption is not supported"),
    "rejectPullConsumerEnable": Refusal(_OFF, "pull consumers would not be rejected"),
    "disableConsumeIfConsumerReadSlowly": Refusal(_OFF, "slow consumers would not be stopped"),
    "startAcceptSendRequestTimeStamp": Refusal(("0",), "sends would be accepted before that time"),
    "aclEnable": Refusal(_OFF, _AUTH),
    "authenticationEnabled": Refusal(_OFF, _AUTH),
    "authorizationEnabled": Refusal(_OFF, _AUTH),
    "fetchNamesrvAddrByAddressServer": Refusal(_OFF, _FIND),
    "fetchNameSrvAddrByDnsLookup": Refusal(_OFF, _FIND),
}

NAMESRV_REFUSED: dict[str, Refusal] = {
    **_COMMON,
    "supportActingMaster": Refusal(_OFF, "a slave is never shown as a master"),
    "enableControllerInNamesrv": Refusal(_OFF, "there is no controller"),
    "clusterTest": Refusal(_OFF, "routes of another environment are not fetched"),
}
