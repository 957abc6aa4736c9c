"""Growing, shrinking, handing over; members that do not belong; disks that fail; logs that begin late."""

import asyncio
import contextlib
import dataclasses
import errno
import shutil
from pathlib import Path

import pytest

from nodes.broker.broker import Broker, StartRefused
from nodes.broker.group_roles import GroupRoles
from nodes.dledger.state import GroupFiles
from nodes.dledger.wire import VERSION, Envelope, Hello, encode_hello
from nodes.log import EventLog
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command
from nodes.replication.raft.messages import Heartbeat
from nodes.replication.raft.orders import Role
from nodes.store.disk import RealDisk
from tests.unit.nodes.broker_support import ASYNC, GatedDisk, running, settings, until
from tests.unit.nodes.group_support import Group, group
from tests.unit.nodes.test_raft_node_group import bodies, run, same_logs


async def change(cluster: Group, leader: str, action: str, member: str) -> Command:
    address = cluster.peers([member])[0].address if action == "add" else ""
    ext = {"action": action, "member": member, "address": address}
    return await cluster.nodes[leader].ask(RequestCode.GROUP_CHANGE_MEMBER, ext)


def test_a_group_grows_to_five_and_shrinks_to_three_while_it_serves(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            for number in range(120):
                await cluster.send_ok(b"%d" % number + b"x" * 900)
            await cluster.start("n3", "n4")
            for number, member in enumerate(("n3", "n4")):
                answer = await change(cluster, leader, "add", member)
                assert answer.code == 0, answer.remark
                assert await cluster.send_ok(b"grown") == 120 + number
            assert answer.ext["voters"] == "n0;n1;n2;n3;n4"
            await cluster.agree()
            same_logs(cluster)
            gone = next(name for name in ("n0", "n1", "n2") if name != leader)
            for member in (gone, leader):  # the leader too
                now = (await cluster.leader()) if leader in cluster.nodes else leader
                answer = await change(cluster, now, "remove", member)
                assert answer.code == 0, answer.remark
                await until(lambda gone=member: gone not in cluster.masters, "it leads no more")  # type: ignore[misc]
                await cluster.leader()
                await cluster.kill(member)
            second = await cluster.leader()
            assert len(cluster.member(second).raft.membership.voters) == 3
            assert await cluster.send_ok(b"shrunk") == 122
            await cluster.kill(second)
            third = await cluster.leader()
            assert await cluster.send_ok(b"still") == 123
            await cluster.kill(third)
            last = next(iter(cluster.nodes))
            await cluster.start(third)
            await cluster.agree()
            members = set(cluster.member(last).raft.membership.names)
            assert {"n3", "n4"} < members, "a restart knows the members from the log"
            assert not {gone, leader} & members

    run(story())


def test_changes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            follower = next(name for name in cluster.nodes if name != leader)
            wrong = await change(cluster, follower, "remove", leader)
            assert wrong.code == ResponseCode.SERVICE_NOT_AVAILABLE
            assert wrong.ext["leader"] == cluster.nodes[leader].address
            assert "no member" in str((await change(cluster, leader, "remove", "n9")).remark)
            assert "unknown action" in str((await change(cluster, leader, "bless", "n1")).remark)
            ask = cluster.nodes[leader].ask
            assert "address" in str(
                (await ask(RequestCode.GROUP_CHANGE_MEMBER, {"action": "add", "member": "n7"})).remark
            )
            never = {"action": "add", "member": "n7", "address": f"{cluster.host}:1", "timeoutMillis": "300"}
            assert "a learner, not a voter yet" in str((await ask(RequestCode.GROUP_CHANGE_MEMBER, never)).remark)
            assert (await change(cluster, leader, "remove", "n7")).code == 0

    run(story())


def test_the_leadership_goes_to_whom_it_is_handed(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            await cluster.send_ok(b"one")
            for wanted in (name for name in ("n0", "n1", "n2", "n0")):
                answer = await cluster.nodes[leader].ask(RequestCode.GROUP_TRANSFER, {"member": wanted})
                assert answer.code == 0, answer.remark
                await until(lambda wanted=wanted: cluster.masters == [wanted], f"{wanted} leads")  # type: ignore[misc]
                leader = wanted
            assert await cluster.send_ok(b"two") == 1
            refused = await cluster.nodes[leader].ask(RequestCode.GROUP_TRANSFER, {"member": "n9"})
            assert refused.code == ResponseCode.SYSTEM_ERROR

    run(story())


def test_the_preferred_leader_leads_when_it_can(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, preferred_leader_ids=("n2",)) as cluster:
            await until(lambda: cluster.masters == ["n2"], "n2 leads")
            await cluster.send_ok(b"one")
            await cluster.kill("n2")
            await cluster.leader(other_than="n2")
            await cluster.start("n2")
            await until(lambda: cluster.masters == ["n2"], "n2 leads again")
            assert await cluster.send_ok(b"two") == 1

    run(story())


def test_who_does_not_belong_is_turned_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            port = cluster.peers([leader])[0].port
            good = Hello(VERSION, "broker-a", "n9", leader, 64 * 1024, "", "")
            for greeting in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\xff" * 64,
                encode_hello(good)[:-1] + b"\x00",
                encode_hello(_with(good, group="other")),
                encode_hello(_with(good, to="n8")),
                encode_hello(_with(good, sender=leader)),
                encode_hello(_with(good, segment_size=1 << 30)),
                encode_hello(_with(good, version=99)),
                encode_hello(good) + b"\x00\x00\x00\x20" + b"garbage" * 10,
            ):
                reader, writer = await asyncio.open_connection(cluster.host, port)
                writer.write(greeting)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 20) == b"", "the connection is closed"
                writer.close()
            assert await cluster.send_ok(b"undisturbed") == 0
            assert cluster.masters == [leader]

    run(story())


def _with(hello: Hello, **changes: object) -> Hello:
    values = {name: getattr(hello, name) for name in Hello.__struct_fields__}
    return Hello(**{**values, **changes})


def test_a_master_whose_disk_fails_hands_over_and_stops_answering_for_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, started=False) as cluster:
            for name in cluster.initial:
                cluster.disks[name] = GatedDisk()
            await cluster.start()
            first = await cluster.leader()
            await cluster.send_ok(b"one")
            await cluster.agree()
            disk = cluster.disks[first]
            assert isinstance(disk, GatedDisk)
            disk.broken = True
            answer = await cluster.nodes[first].send(b"unsure")
            assert answer.code in (0, ResponseCode.SYSTEM_ERROR), "the others may have it in time"
            second = await cluster.leader(other_than=first)
            assert cluster.member(first).raft.role is Role.FAILED
            status = await cluster.nodes[first].status()
            assert status["state"] == "failed"
            assert "Input/output error" in status["failed"]
            assert (await cluster.nodes[first].send(b"no")).code == ResponseCode.SERVICE_NOT_AVAILABLE
            await cluster.send_ok(b"two")
            found = await bodies(cluster, second)
            assert (found[0], found[-1]) == (b"one", b"two")

    run(story())


def test_a_master_that_cannot_read_what_is_committed_hands_over(tmp_path: Path) -> None:
    """Its tables would stay behind for ever while its heartbeats keep everybody else from leading."""

    async def story() -> None:
        async with group(tmp_path) as cluster:
            first = await cluster.leader()
            await cluster.send_ok(b"one")

            def unreadable(end: int) -> None:
                raise OSError(errno.EIO, "Input/output error")

            cluster.member(first).on_committed = unreadable
            await cluster.nodes[first].send(b"unsure")
            second = await cluster.leader(other_than=first)
            assert cluster.member(first).raft.role is Role.FAILED
            assert "Input/output error" in (await cluster.nodes[first].status())["failed"]
            await cluster.send_ok(b"two")
            found = await bodies(cluster, second)
            assert (found[0], found[-1]) == (b"one", b"two")

    run(story())


def test_a_member_that_meets_the_impossible_stops_and_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            first = await cluster.leader()
            await cluster.send_ok(b"one")
            await cluster.agree()
            member = cluster.member(first)
            other = next(name for name in cluster.nodes if name != first)
            member.received(other, [Envelope(Heartbeat(other, first, member.raft.term, 0), b"")])
            assert "both lead term" in str(member.failed)
            second = await cluster.leader(other_than=first)
            assert (await cluster.nodes[first].send(b"no")).code == ResponseCode.SERVICE_NOT_AVAILABLE
            assert (await cluster.nodes[first].status())["state"] == "failed"
            assert await cluster.send_ok(b"two") == 1
            assert await bodies(cluster, second) == [b"one", b"two"]

    run(story())


def test_a_member_behind_the_first_file_gets_the_tables_and_the_rest(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(
            tmp_path, delete_when=tuple(range(24)), file_reserved_time=0, clean_resource_interval=3_600_000
        ) as cluster:
            leader = await cluster.leader()
            late = next(name for name in cluster.nodes if name != leader)
            node = cluster.nodes[leader]
            await cluster.send_ok(b"first", topic="Old")
            assert (await node.commit(1, topic="Old")).code == 0
            await cluster.kill(late)
            for number in range(300):
                await cluster.send_ok(b"%d" % number + b"x" * 900)
            others = list(cluster.nodes)
            for name in others:
                broker = cluster.nodes[name].broker
                assert isinstance(broker.roles, GroupRoles)
                await cluster.agree()
                await broker.roles.maintain(broker._clock.now_ms() + 3_600_000)
                assert broker.store.min_offset > 0
            await cluster.start(late)
            await cluster.agree()
            same_logs(cluster)
            filled = cluster.nodes[late]
            assert filled.broker.store.min_offset == node.broker.store.min_offset
            assert filled.broker.core.tables.topics.get("Old") is not None, "a topic whose record is deleted"
            assert filled.broker.core.tables.offsets.get("g", "Old", 0) == 1
            assert (await bodies(cluster, late))[-1].startswith(b"299x")
            for name in list(cluster.nodes):
                await cluster.kill(name)
            await cluster.start()
            await cluster.leader()
            await cluster.agree()
            assert await cluster.send_ok(b"on") == 300
            assert cluster.nodes[late].broker.core.tables.offsets.get("g", "Old", 0) == 1
            # an emptied disk is brought to the same state
            gone = next(name for name in cluster.nodes if name not in cluster.masters)
            await cluster.kill(gone)
            shutil.rmtree(tmp_path / gone)
            await cluster.start(gone)
            await cluster.agree()
            same_logs(cluster)

    run(story())


def test_a_re_seed_that_a_crash_interrupted_begins_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(
            tmp_path, delete_when=tuple(range(24)), file_reserved_time=0, clean_resource_interval=3_600_000
        ) as cluster:
            leader = await cluster.leader()
            late = next(name for name in cluster.nodes if name != leader)
            await cluster.send_ok(b"first", topic="Old")
            await cluster.agree()
            await cluster.kill(late)
            for number in range(150):
                await cluster.send_ok(b"%d" % number + b"x" * 900)
            await cluster.agree()
            for name in cluster.nodes:
                broker = cluster.nodes[name].broker
                assert isinstance(broker.roles, GroupRoles)
                await broker.roles.maintain(broker._clock.now_ms() + 3_600_000)
            begin = cluster.nodes[leader].broker.store.min_offset
            assert begin > 0
            # the crash came when the promise and the head were written, and the old log was still there
            disk = RealDisk()
            theirs = GroupFiles(disk, str(tmp_path / leader), "broker-a", leader).load_head()
            files = GroupFiles(disk, str(tmp_path / late), "broker-a", late)
            hard = files.load_state()
            assert hard is not None
            assert theirs is not None
            files.save_state(dataclasses.replace(hard, joined=False))
            files.save_head(theirs)
            disk.close()
            await cluster.start(late)
            await cluster.agree()
            same_logs(cluster)
            assert cluster.nodes[late].broker.store.min_offset == begin
            assert cluster.nodes[late].broker.core.tables.topics.get("T") is not None, "the tables came again"
            await until(lambda: cluster.member(late).raft.status().joined, "it has joined")

    run(story())


def test_a_member_that_has_not_joined_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the note and the deletion would look like a re-seed under way, and cost the whole log."""

    async def story() -> None:
        async with group(
            tmp_path, delete_when=tuple(range(24)), file_reserved_time=0, clean_resource_interval=3_600_000
        ) as cluster:
            leader = await cluster.leader()
            for number in range(150):
                await cluster.send_ok(b"%d" % number + b"x" * 900)
            await cluster.agree()
            broker, member = cluster.nodes[leader].broker, cluster.member(leader)
            assert isinstance(broker.roles, GroupRoles)
            files = GroupFiles(RealDisk(), str(tmp_path / leader), "broker-a", leader)
            told = type(member.raft).status
            with monkeypatch.context() as patched:
                patched.setattr(type(member.raft), "status", lambda raft: dataclasses.replace(told(raft), joined=False))
                await broker.roles.maintain(broker._clock.now_ms() + 3_600_000)
                assert broker.store.min_offset == 0
                assert files.load_head() is None
            await broker.roles.maintain(broker._clock.now_ms() + 3_600_000)
            assert broker.store.min_offset > 0

    run(story())


def test_a_store_of_the_other_mode_or_of_another_member_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path, "n0", broker_role=ASYNC)) as master:
            assert (await master.send(b"x")).code == 0
        cluster = Group(tmp_path)
        with pytest.raises(StartRefused, match="was written by a master or slave"):
            await Broker(cluster.config("n0"), EventLog("n0")).open()
        async with group(tmp_path, 1, started=False) as one:
            one.initial = ["n1"]
            await one.start("n1")
            await one.leader()
            await one.kill("n1")
            with pytest.raises(StartRefused, match="belongs to a member of a DLedger group"):
                await Broker(settings(tmp_path, "n1", broker_role=ASYNC), EventLog("n1")).open()
            other = one.config("n2", store_path_root_dir=str(tmp_path / "n1"))
            with pytest.raises(StartRefused, match="belongs to n1 of the group broker-a, not to n2"):
                await Broker(other, EventLog("n2")).open()
            (tmp_path / "n1" / "dledger" / "state.json").unlink()
            with pytest.raises(StartRefused, match="votes are lost"):
                await Broker(one.config("n1"), EventLog("n1")).open()

    run(story())


class CrowdedDisk(RealDisk):
    """A disk that can become full."""

    ratio = 0.1

    def used_ratio(self, path: str) -> float:
        return self.ratio


def test_a_master_whose_disk_is_nearly_full_lets_another_one_lead(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, started=False) as cluster:
            cluster.disks = {name: CrowdedDisk() for name in cluster.initial}
            await cluster.start()
            first = await cluster.leader()
            await cluster.send_ok(b"one")
            await cluster.agree()
            crowded, node = cluster.disks[first], cluster.nodes[first]
            assert isinstance(crowded, CrowdedDisk)
            assert isinstance(node.broker.roles, GroupRoles)
            crowded.ratio = 0.95
            await node.broker._maintain()
            assert (await node.send(b"no room")).code == ResponseCode.SERVICE_NOT_AVAILABLE
            await cluster.leader(other_than=first)
            assert await cluster.send_ok(b"two") == 1
            await cluster.agree()
            assert await bodies(cluster, first) == [b"one", b"two"], "it goes on copying while it can"

    run(story())
