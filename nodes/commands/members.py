"""`mqadmin` on DLedger groups: who belongs to one, who leads it, and how to change both."""

from __future__ import annotations

from typing import Any

import click

from nodes.client.admin import AdminClient
from nodes.client.outcomes import LocalCode
from nodes.client.results import CommandFailed, Outcome
from nodes.client.routes import MASTER_ID
from nodes.commands.asking import do, name_servers_option
from nodes.remoting.codes import ResponseCode

__all__ = ["MEMBER_COMMANDS"]

_ATTEMPTS = 5


async def _master(admin: AdminClient, group: str) -> str:
    info = await admin.cluster_info()
    if group not in info.brokers:
        raise click.UsageError(f"no group {group!r}; known: {', '.join(sorted(info.brokers)) or 'none'}")
    address = info.brokers[group].get(MASTER_ID)
    if address is None:
        reason = "no master is registered now; ask again when one is elected"
        raise CommandFailed(f"master of {group}", "", LocalCode.BROKER_UNKNOWN, reason, Outcome.FAIL)
    return address


@click.command("groupStatus")
@name_servers_option
@click.option("-g", "group", required=True, metavar="NAME", help="The group's brokerName.")
def group_status(name_servers: str, group: str) -> None:
    """Print members, roles, terms and positions of a DLedger group."""

    async def work(admin: AdminClient) -> list[tuple[str, dict[str, Any] | str]]:
        info = await admin.cluster_info()
        if group not in info.brokers:
            raise click.UsageError(f"no group {group!r}; known: {', '.join(sorted(info.brokers)) or 'none'}")
        found: list[tuple[str, dict[str, Any] | str]] = []
        for _, address in sorted(info.brokers[group].items()):
            try:
                status = await admin.lab_status(address)
            except CommandFailed as error:
                found.append((address, error.reason))
            else:
                found.append((address, status.get("dledger") or "is no member of a DLedger group"))
        return found

    head = ("#Member", "#Broker", "#Role", "#Term", "#Leader", "#Begin", "#End", "#Durable", "#Committed")
    rows: list[tuple[str, ...]] = [head]
    members = ""
    for address, one in do(name_servers, work):
        if isinstance(one, str):
            rows.append(("?", address, one))
            continue
        numbers = [str(one[key]) for key in ("begin", "end", "durable", "committed")]
        rows.append((one["self"], address, one["role"], str(one["term"]), one["leader"] or "-", *numbers))
        if one["role"] == "leader":
            learners = f", learners {' '.join(one['learners'])}" if one["learners"] else ""
            members = f"voters {' '.join(one['voters'])}{learners}"
    widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(len(head))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
    click.echo(members or "no member leads")


def _change(name_servers: str, group: str, action: str, member: str, address: str) -> None:
    async def work(admin: AdminClient) -> dict[str, str]:
        return await admin.change_member(await _master(admin, group), action, member, address)

    found = do(name_servers, work)
    learners = f", learners {found['learners'].replace(';', ' ')}" if found.get("learners") else ""
    click.echo(f"{group}: voters {found.get('voters', '').replace(';', ' ')}{learners}")


@click.command("addMember")
@name_servers_option
@click.option("-g", "group", required=True, metavar="NAME", help="The group's brokerName.")
@click.option("-m", "member", required=True, metavar="ID", help="The new member's dLegerSelfId.")
@click.option("-a", "address", default="", metavar="HOST:PORT", help="Where other members reach it (dLegerPeers).")
def add_member(name_servers: str, group: str, member: str, address: str) -> None:
    """Let a started broker join a DLedger group; returns when it has caught up and votes."""
    _change(name_servers, group, "add", member, address)


@click.command("removeMember")
@name_servers_option
@click.option("-g", "group", required=True, metavar="NAME", help="The group's brokerName.")
@click.option("-m", "member", required=True, metavar="ID", help="The member's dLegerSelfId.")
def remove_member(name_servers: str, group: str, member: str) -> None:
    """Take a member out of a DLedger group; a leader hands over."""
    _change(name_servers, group, "remove", member, "")


@click.command("transferLeadership")
@name_servers_option
@click.option("-g", "group", required=True, metavar="NAME", help="The group's brokerName.")
@click.option("-m", "member", default="", metavar="ID", help="Who is to lead; the best follower if not said.")
def transfer_leadership(name_servers: str, group: str, member: str) -> None:
    """Let the leader of a DLedger group hand over."""

    async def work(admin: AdminClient) -> str:
        address = await _master(admin, group)
        for attempt in range(_ATTEMPTS):
            try:
                return await admin.transfer_leadership(address, member)
            except CommandFailed as error:
                # the name server's word may be a moment old: another member leads by now
                if error.code != ResponseCode.SERVICE_NOT_AVAILABLE or attempt == _ATTEMPTS - 1:
                    raise
                address = await _master(admin, group)
        raise AssertionError("every attempt returns or raises")

    leader = do(name_servers, work)
    click.echo(f"{group}: {leader or 'another member'} leads now.")


MEMBER_COMMANDS = (group_status, add_member, remove_member, transfer_leadership)
