"""`mqadmin`: one subcommand for each question, with RocketMQ's names and options.

Exit codes: 0 answered, 1 a server refused, 2 usage, 4 no server answered.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from nodes.client.admin import AdminClient, ClusterInfo
from nodes.client.queues import RETRY_PREFIX
from nodes.client.results import CommandFailed
from nodes.client.routes import MASTER_ID, route_to_object
from nodes.clock import SystemClock
from nodes.commands import tables
from nodes.commands.asking import do, name_servers_option
from nodes.commands.members import MEMBER_COMMANDS

__all__ = ["mqadmin"]


def _echo(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def mqadmin() -> None:
    """Ask and change a running cluster."""


@mqadmin.command("clusterList")
@name_servers_option
@click.option("-c", "cluster", metavar="NAME", help="This cluster only.")
def cluster_list(name_servers: str, cluster: str | None) -> None:
    """List the brokers of all clusters."""

    async def work(admin: AdminClient) -> list[tables.BrokerRow]:
        info = await admin.cluster_info()
        wanted = [row for row in info.addresses() if cluster is None or row[0] == cluster]

        async def runtime(address: str) -> dict[str, str] | None:
            try:
                return await admin.broker_runtime(address)
            except CommandFailed:
                return None

        found = await asyncio.gather(*(runtime(row[3]) for row in wanted))
        return [(*row, values) for row, values in zip(wanted, found, strict=True)]

    _echo(tables.cluster_lines(do(name_servers, work), SystemClock().now_ms()))


@mqadmin.command("topicRoute")
@name_servers_option
@click.option("-t", "topic", required=True, metavar="TOPIC", help="The topic.")
def topic_route(name_servers: str, topic: str) -> None:
    """Print the route of a topic as JSON."""
    route = do(name_servers, lambda admin: admin.topic_route(topic))
    click.echo(msgspec.json.format(msgspec.json.encode(route_to_object(route), order="sorted"), indent=2).decode())


@mqadmin.command("topicList")
@name_servers_option
def topic_list(name_servers: str) -> None:
    """List all topics."""
    _echo(list(do(name_servers, lambda admin: admin.topics())))


@mqadmin.command("updateTopic")
@name_servers_option
@click.option("-t", "topic", required=True, metavar="TOPIC", help="The topic.")
@click.option("-b", "broker", metavar="ADDR|NAME", help="On this broker.")
@click.option("-c", "cluster", metavar="NAME", help="On all masters of this cluster.")
@click.option("-r", "read_queues", type=click.IntRange(1, 65535), default=8, show_default=True, help="For reads.")
@click.option(
    "-w", "write_queues", type=click.IntRange(1, 65535), default=8, show_default=True, help="Queues to write to."
)
@click.option("-p", "perm", type=click.Choice(["2", "4", "6"]), default="6", show_default=True, help="2 W, 4 R, 6 RW.")
@click.option("-o", "order", type=bool, default=False, help="Whether the topic is ordered.")
def update_topic(
    name_servers: str,
    topic: str,
    broker: str | None,
    cluster: str | None,
    read_queues: int,
    write_queues: int,
    perm: str,
    order: bool,
) -> None:
    """Create a topic, or change it."""
    if (broker is None) == (cluster is None):
        raise click.UsageError("name either a broker (-b) or a cluster (-c)")

    async def work(admin: AdminClient) -> list[str]:
        info = await admin.cluster_info() if broker is None or not _is_address(broker) else None
        if cluster is not None:
            assert info is not None, "a cluster was asked for without looking it up"
            if cluster not in info.clusters:
                known = ", ".join(sorted(info.clusters)) or "none"
                raise click.UsageError(f"no cluster {cluster!r}; known: {known}")
            targets = [
                info.brokers[name][MASTER_ID]
                for name in info.groups(cluster)
                if MASTER_ID in info.brokers.get(name, {})
            ]
            if not targets:
                raise click.ClickException(f"cluster {cluster} has no master to create the topic on")
        else:
            assert broker is not None, "neither broker nor cluster was given"
            targets = [_address(broker, info)]
        for address in targets:
            await admin.create_topic(
                address, topic, read_queues=read_queues, write_queues=write_queues, perm=int(perm), order=order
            )
        return targets

    for address in do(name_servers, work):
        click.echo(f"create topic to {address} success.")
    click.echo(
        f"TopicConfig [topicName={topic}, readQueueNums={read_queues}, writeQueueNums={write_queues},"
        f" perm={_perm(perm)}, topicFilterType=SINGLE_TAG, topicSysFlag=0, order={str(order).lower()}]"
    )


@mqadmin.command("topicStatus")
@name_servers_option
@click.option("-t", "topic", required=True, metavar="TOPIC", help="The topic.")
def topic_status(name_servers: str, topic: str) -> None:
    """Print the offsets of every queue of a topic."""
    _echo(tables.topic_lines(do(name_servers, lambda admin: admin.topic_stats(topic))))


@mqadmin.command("brokerStatus")
@name_servers_option
@click.option("-b", "broker", metavar="ADDR|NAME[:ID]", help="This broker: its address, or its name and id.")
@click.option("-c", "cluster", metavar="NAME", help="All masters of this cluster.")
def broker_status(name_servers: str, broker: str | None, cluster: str | None) -> None:
    """Print the runtime information of brokers."""
    if (broker is None) == (cluster is None):
        raise click.UsageError("name either a broker (-b) or a cluster (-c)")

    async def work(admin: AdminClient) -> list[tuple[str, dict[str, str]]]:
        info = await admin.cluster_info() if broker is None or not _is_address(broker) else None
        if broker is not None:
            address = _address(broker, info)
            return [(address, await admin.broker_runtime(address))]
        assert info is not None, "a cluster was asked for without looking it up"
        masters = [info.brokers[name][MASTER_ID] for name in info.groups(cluster) if MASTER_ID in info.brokers[name]]
        return [(address, await admin.broker_runtime(address)) for address in masters]

    found = do(name_servers, work)
    for address, runtime in found:
        lines = tables.status_lines(runtime)
        _echo(lines if broker is not None else [f"{address:<24} {line}" for line in lines])


@mqadmin.command("consumerProgress")
@name_servers_option
@click.option("-g", "group", metavar="GROUP", help="This group only, queue by queue.")
@click.option("-t", "topic", metavar="TOPIC", help="Of this topic only.")
def consumer_progress(name_servers: str, group: str | None, topic: str | None) -> None:
    """Print how far consumer groups are."""
    if group is not None:
        name = group
        _echo(tables.consume_lines(do(name_servers, lambda admin: admin.consume_stats(name, topic))))
        return

    async def work(admin: AdminClient) -> list[tuple[str, int, str, str, int]]:
        retries = [topic for topic in await admin.topics() if topic.startswith(RETRY_PREFIX)]
        return [await _group_row(admin, topic.removeprefix(RETRY_PREFIX)) for topic in retries]

    _echo(tables.group_lines(do(name_servers, work)))


async def _group_row(admin: AdminClient, group: str) -> tuple[str, int, str, str, int]:
    """One group; what cannot be learnt, such as the members of a group that is offline, counts as nothing."""
    try:
        lag = sum(row.lag for row in await admin.consume_stats(group))
    except CommandFailed:
        lag = 0
    members, kind, model = 0, "OFFLINE", ""
    try:
        route = await admin.topic_route(RETRY_PREFIX + group)
        for addresses in route.brokers.values():
            if addresses:
                address = addresses.get(MASTER_ID) or addresses[min(addresses)]
                found = await admin.consumer_connections(address, group)
                members = max(members, len(found.get("connectionSet") or ()))
                kind = {"CONSUME_PASSIVELY": "PUSH", "CONSUME_ACTIVELY": "PULL"}.get(found.get("consumeType", ""), "")
                model = str(found.get("messageModel", ""))
    except CommandFailed:
        pass
    return group, members, kind, model, lag


@mqadmin.command("queryMsgById")
@name_servers_option
@click.option("-i", "message_id", required=True, metavar="ID", help="The broker's id of the message.")
@click.option("-o", "body_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the body to this file.")
def query_by_id(name_servers: str, message_id: str, body_file: Path | None) -> None:
    """Print the message that an id names."""
    message = do(name_servers, lambda admin: admin.message_by_id(message_id))
    _echo(tables.message_lines(message))
    if body_file is not None:
        body_file.write_bytes(message.body)


@mqadmin.command("queryMsgByKey")
@name_servers_option
@click.option("-t", "topic", required=True, metavar="TOPIC", help="The topic.")
@click.option("-k", "key", required=True, metavar="KEY", help="A key, or the producer's id of the message.")
@click.option(
    "-m", "max_num", type=click.IntRange(1, 4096), default=64, show_default=True, help="List at most so many."
)
def query_by_key(name_servers: str, topic: str, key: str, max_num: int) -> None:
    """List the messages with a key."""
    _echo(tables.key_lines(do(name_servers, lambda admin: admin.messages_by_key(topic, key, max_num=max_num))))


@mqadmin.command("changeRole")
@name_servers_option
@click.option("-b", "broker", required=True, metavar="ADDR|NAME[:ID]", help="The broker.")
@click.option("-i", "broker_id", type=click.IntRange(0), required=True, help="Its new id: 0 makes it the master.")
@click.option(
    "-r",
    "role",
    type=click.Choice(["SYNC_MASTER", "ASYNC_MASTER", "SLAVE"]),
    required=True,
    help="Its new role. Promote one broker only, and only when the old master is stopped or made a slave.",
)
def change_role(name_servers: str, broker: str, broker_id: int, role: str) -> None:
    """Promote a slave, or make a master a slave, without a restart (our own brokers only)."""
    if (broker_id == 0) != (role != "SLAVE"):
        raise click.UsageError("a master has id 0, and a slave has not")

    async def work(admin: AdminClient) -> str:
        info = None if _is_address(broker) else await admin.cluster_info()
        address = _address(broker, info)
        await admin.lab_change_role(address, broker_id, role)
        return address

    click.echo(f"{do(name_servers, work)} is {role} with id {broker_id} now.")


for _command in MEMBER_COMMANDS:
    mqadmin.add_command(_command)


def _is_address(text: str) -> bool:
    """Whether it can only be host:port; a group's name with an id, like broker-a:1, is no address."""
    host, colon, port = text.rpartition(":")
    return bool(colon) and port.isdigit() and ("." in host or host == "localhost" or host.endswith("]"))


def _address(text: str, info: ClusterInfo | None) -> str:
    """The address of a broker given by address, by name (its master), or by name and id."""
    if info is None:
        return text
    name, colon, number = text.rpartition(":")
    if not colon:
        name, number = text, str(MASTER_ID)
    if name in info.brokers and number.isdigit():
        address = info.brokers[name].get(int(number))
        if address is None:
            known = ", ".join(str(i) for i in sorted(info.brokers[name]))
            raise click.UsageError(f"broker {name} has no id {number}; known ids: {known or 'none'}")
        return address
    if colon and number.isdigit():
        return text
    raise click.UsageError(f"no broker {text!r}; known: {', '.join(sorted(info.brokers)) or 'none'}")


def _perm(perm: str) -> str:
    value = int(perm)
    return ("R" if value & 4 else "-") + ("W" if value & 2 else "-") + "-"


if __name__ == "__main__":
    mqadmin(prog_name="mqadmin")
