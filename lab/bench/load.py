"""A process of bench clients: `python -m lab.bench.load NAME_SERVER TOPIC CLIENTS SECONDS`.

A client is one outstanding unbatched send of 300 bytes; all clients of the process share its connections, as the
threads of a Java producer do. Prints one JSON object when it is done.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Final

import click
import uvloop

from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.messages import Outgoing
from nodes.client.producer import Producer
from nodes.client.results import SendFailed, SendStatus

BODY: Final = b"x" * 300
WARM_SHARE: Final = 0.25
FILL_BATCH: Final = 32


async def _one_client(producer: Producer, topic: str, until: float, counts: dict[str, int], waits: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        try:
            result = await producer.send(topic, BODY, timeout_s=10.0)
        except SendFailed:
            counts["failed"] += 1
            continue
        counts["acked" if result.status is SendStatus.SEND_OK else "weak"] += 1
        waits.append(time.perf_counter() - began)


async def measure(name_server: str, topic: str, clients: int, seconds: float) -> dict[str, float]:
    """Acknowledged sends per second of so many clients, after a warm-up that is not counted."""
    client = Client(ClientConfig(name_servers=(name_server,), retries=0))
    await client.start()
    producer = Producer(client, "bench")
    for phase in ("warm", "measured"):
        counts = {"acked": 0, "weak": 0, "failed": 0}
        waits: list[float] = []
        cpu, began = time.process_time(), time.perf_counter()
        until = began + seconds * (WARM_SHARE if phase == "warm" else 1.0)
        await asyncio.gather(*(_one_client(producer, topic, until, counts, waits) for _ in range(clients)))
        took = time.perf_counter() - began
    waits.sort()
    cpu_s = time.process_time() - cpu
    await producer.close()
    await client.close()
    return {
        "acks_per_s": counts["acked"] / took,
        "weak": counts["weak"],
        "failed": counts["failed"],
        "p50_ms": waits[len(waits) // 2] * 1000 if waits else 0.0,
        "cpu_share": cpu_s / took,
    }


async def fill(name_server: str, topic: str, messages: int) -> dict[str, float]:
    """Send so many messages in batches, to see what a broker weighs afterwards."""
    client = Client(ClientConfig(name_servers=(name_server,), retries=0))
    await client.start()
    producer = Producer(client, "bench")
    sent = 0
    while sent < messages:
        await producer.send_batch(topic, [Outgoing(BODY)] * FILL_BATCH, timeout_s=10.0)
        sent += FILL_BATCH
    await producer.close()
    await client.close()
    return {"sent": sent}


def main(argv: list[str]) -> None:
    """Entry of the process."""
    gc.freeze()
    name_server, topic, clients, amount = argv
    work = (
        fill(name_server, topic, int(amount))
        if clients == "fill"
        else measure(name_server, topic, int(clients), float(amount))
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        click.echo(json.dumps(runner.run(work)))


if __name__ == "__main__":
    main(sys.argv[1:])
