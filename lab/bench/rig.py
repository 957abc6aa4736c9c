"""A small cluster on loopback with its logs on ext4 images in memory: steady everywhere, and honest about syncs."""

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psutil

from lab.bench.java_load import JavaLoad
from lab.bench.ports import HA_PORT, RAFT_PORT, free_ports
from lab.bench.sides import Ours, Side
from lab.cluster.disks import DiskError, Disks
from lab.cluster.keeper import Keeper
from lab.errors import SetupError
from nodes.client.admin import AdminClient
from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.producer import Producer
from nodes.client.results import SendStatus
from nodes.client.routes import MASTER_ID

IMAGE_MB: Final = 3072
READY_SEND_S: Final = 3.0
LOAD_PATIENCE_S: Final = 600.0
TOPIC: Final = "bench"
QUEUES: Final = 4
GROUP: Final = "broker-a"

DLEDGER_ROLE: Final = "DLEDGER"
"""As a role: a group that elects its leader."""
CONFIGURATIONS: Final = (("ASYNC_MASTER", "ASYNC_FLUSH"), ("SYNC_MASTER", "SYNC_FLUSH"), (DLEDGER_ROLE, "SYNC_FLUSH"))


class Rig:
    """Name server and brokers as processes: a master with a slave for SYNC_MASTER, or a DLedger group."""

    def __init__(self, role: str, flush: str, replicas: int = 3, side: Side | None = None) -> None:
        self._side = side or Ours()
        self._role = role
        self._replicas = replicas if role == DLEDGER_ROLE else 2 if role == "SYNC_MASTER" else 1
        self._flush = flush
        self._keeper = Keeper()
        self._folder = Path(tempfile.mkdtemp(prefix="brokerlab-bench-"))
        self._disks = Disks(self._keeper, self._folder / "images")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.on_image = True
        self.name_server = ""
        self.started_s = 0.0  # from the first process to the first SEND_OK

    def __enter__(self) -> "Rig":
        try:
            asyncio.run(self._start())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the nodes, unmount, remove the folder."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        try:
            asyncio.run(self._disks.close())
        finally:
            self._keeper.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def load(self, clients: int, seconds: float) -> dict[str, Any]:
        """Acknowledged sends per second of so many clients in up to two processes, with everybody's CPU meanwhile."""
        processes = min(2, clients)
        usage, began = self._cpu(), time.monotonic()
        answers = self._run([[str(clients // processes), str(seconds)]] * processes)
        took = time.monotonic() - began
        return {
            "acks_per_s": sum(answer["acks_per_s"] for answer in answers),
            "weak": sum(answer["weak"] for answer in answers),
            "failed": sum(answer["failed"] for answer in answers),
            "p50_ms": statistics.median(answer["p50_ms"] for answer in answers),
            "client_cpu": [answer["cpu_share"] for answer in answers],
            "nodes_cpu": {name: (now - usage[name]) / took for name, now in self._cpu().items()},
        }

    def fill(self, messages: int) -> None:
        """Store so many messages, sent in batches."""
        self._run([["fill", str(messages)]])

    def _run(self, jobs: list[list[str]]) -> list[dict[str, Any]]:
        start = [sys.executable, "-m", "lab.bench.load", self.name_server, TOPIC]
        return [json.loads(text) for text in self._outputs([[*start, *job] for job in jobs])]

    def _outputs(self, commands: list[list[str]]) -> list[str]:
        """What these programs print, run at the same time. Raises SetupError if one fails, or does not end."""
        running = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for argv in commands]
        texts = []
        try:
            for process in running:
                out, err = process.communicate(timeout=LOAD_PATIENCE_S)
                if process.returncode:
                    raise SetupError(f"bench clients failed: {err.decode()[-500:]}")
                texts.append(out.decode())
        except subprocess.TimeoutExpired:
            raise SetupError(f"bench clients did not end within {LOAD_PATIENCE_S:.0f} s") from None
        finally:
            for process in running:
                process.kill()
                process.wait()
        return texts

    def java_load(self, load: JavaLoad, clients: Sequence[int], seconds: float) -> list[dict[str, Any]]:
        """The same with the Java client: one program, all numbers of clients in turn."""
        usage, began = self._cpu(), time.monotonic()
        (text,) = self._outputs([load.argv(self.name_server, TOPIC, clients, seconds, self._folder)])
        took = time.monotonic() - began
        shares = {name: (now - usage[name]) / took for name, now in self._cpu().items()}
        return [{**json.loads(line), "nodes_cpu": shares} for line in text.splitlines()]

    def rss_mb(self, node: str) -> float:
        """Resident memory of a node."""
        return float(psutil.Process(self._processes[node].pid).memory_info().rss) / 1e6

    def memory_mb(self) -> float:
        """Resident memory of all nodes together."""
        return sum(self.rss_mb(node) for node in self._processes)

    async def _start(self) -> None:
        began = time.monotonic()
        named, *ports = free_ports(1 + self._replicas)
        self.name_server = f"127.0.0.1:{named}"
        self._spawn("namesrv", "namesrv", {"listenPort": named})
        common: dict[str, object] = {
            "brokerClusterName": "bench-cluster",
            "brokerName": GROUP,
            "brokerIP1": "127.0.0.1",
            "brokerIP2": "127.0.0.1",
            "namesrvAddr": self.name_server,
            "registerNameServerPeriod": 10_000,
            "flushDiskType": self._flush,
        }
        elects = self._role == DLEDGER_ROLE
        nodes = [f"n{number}" for number in range(self._replicas)] if elects else ["master", "slave"][: self._replicas]
        peers = ";".join(f"n{number}-127.0.0.1:{port + RAFT_PORT}" for number, port in enumerate(ports))
        for broker_id, (node, port) in enumerate(zip(nodes, ports, strict=True)):
            store = self._folder / node
            try:
                await self._disks.add(node, store, size_mb=IMAGE_MB)
            except DiskError:
                self.on_image = False
                store = self._folder / f"{node}-plain"
                store.mkdir(parents=True)
            part: dict[str, object] = {"listenPort": port, "storePathRootDir": store / "store"}
            part |= {"storePathCommitLog": store / "store" / "commitlog"}
            if elects:
                part |= {"enableDLegerCommitLog": "true", "dLegerGroup": GROUP, "dLegerPeers": peers}
                part |= {"dLegerSelfId": node}
            else:
                part |= {"brokerId": broker_id, "brokerRole": self._role if broker_id == 0 else "SLAVE"}
                part |= {"haListenPort": port + HA_PORT}
            self._spawn(node, "broker", {**common, **part})
        client = Client(ClientConfig(name_servers=(self.name_server,), retries=0))
        await client.start()
        try:
            await self._serving(client)
        finally:
            await client.close()
        self.started_s = time.monotonic() - began

    async def _serving(self, client: Client) -> None:
        """Until a message was answered SEND_OK, for which a SYNC_MASTER must have its slave."""
        admin, producer = AdminClient(client), Producer(client, "bench")
        deadline = time.monotonic() + self._side.ready_s
        while True:
            try:
                leader = (await admin.cluster_info()).brokers.get(GROUP, {}).get(MASTER_ID)
                if leader is None:
                    raise SetupError("the name server knows no master")
                await admin.create_topic(leader, TOPIC, read_queues=QUEUES, write_queues=QUEUES)
                status = (await producer.send(TOPIC, b"ready?", timeout_s=READY_SEND_S)).status
                if status is SendStatus.SEND_OK:
                    return
                last: object = f"a send was answered {status}"
            except Exception as error:  # not up yet; the last reason is told when patience ends
                last = error
            for name, process in self._processes.items():
                if process.poll() is not None:
                    words = (self._folder / f"{name}.err").read_text()[-400:]
                    raise SetupError(f"bench node {name} ended with {process.returncode}: {words}")
            if time.monotonic() > deadline:
                raise SetupError(f"the bench cluster did not come up: {last}")
            await asyncio.sleep(0.05)

    def _spawn(self, name: str, kind: str, settings: Mapping[str, object]) -> None:
        self._folder.mkdir(exist_ok=True)
        program = self._side.program(kind, name, self._folder, settings)
        # from the keeper's thread, whose mount namespace holds the images
        with (self._folder / f"{name}.err").open("wb") as err:
            self._processes[name] = self._keeper.call(
                subprocess.Popen[bytes], program.argv, stdout=err, stderr=err, stdin=subprocess.DEVNULL, env=program.env
            )

    def _cpu(self) -> dict[str, float]:
        times = {name: psutil.Process(process.pid).cpu_times() for name, process in self._processes.items()}
        return {name: spent.user + spent.system for name, spent in times.items()}
