"""How the core's events are logged: names for machines, and RocketMQ's own lines where there is one. Pure."""

from __future__ import annotations

from nodes.replication.raft.orders import Event

__all__ = ["TEXTS", "logged"]

TEXTS = {
    "elected as leader": "Elected as leader, term={term}",
    "follows": "Append as follower, term={term}, leader={leader}",
    "asks for votes": "Request vote from {member}, term={term}",
    "asks for pre-votes": "Request pre-vote from {member}, term={term}",
    "grant vote": "Grant vote to {candidate}, term={term}",
}
"""Lines that people look for in the log of a DLedger broker, letter by letter."""


def logged(event: Event, member: str) -> tuple[str, dict[str, object]]:
    """Name and fields of the line in the log of this member."""
    fields = dict(event.fields)
    text = TEXTS.get(event.name)
    if text is not None:
        fields["text"] = text.format_map({**fields, "member": member})
    name = event.name.replace(":", "").replace(" ", "-")
    return f"raft-{name}", fields
