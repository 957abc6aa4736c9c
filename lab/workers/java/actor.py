"""Logical client threads whose library is the Java client."""

from __future__ import annotations

import asyncio

from lab.workers.java.client import JavaClient, JavaClients
from lab.workloads.actor import Actor, Scene
from lab.workloads.classify import Completion


class JavaActor(Actor):
    """A thread of the history with a Java client.

    After an unknown outcome the process number is retired as ever, but the client is kept: so does an application, and
    a new one would ask for the route at once, which would hide how long a client goes on with an old one. Nothing in
    a producer, or in a consumer that is told its positions, ties later operations to the earlier one. ``fresh`` actors
    (late clients, the drain) do get a new client, after any failure.
    """

    guard_s = 6.0  # a connection that does not come about takes the Java client 3 s, whatever its timeout is
    roams = True

    def __init__(self, scene: Scene, thread: int, clients: JavaClients, *, fresh: bool = False) -> None:
        super().__init__(scene, thread)
        self._clients = clients
        self._fresh = fresh
        self._java: JavaClient | None = None

    async def producer(self, *, inherit: bool = True) -> JavaClient:
        """The present client, opened if need be."""
        del inherit  # no Java client is handed a route
        if self._java is None:
            self._java = await self._clients.open()
        return self._java

    async def puller(self, *, inherit: bool = True) -> JavaClient:
        """The same client: it has a consumer too."""
        return await self.producer(inherit=inherit)

    def complete(self, f: str, value: object, completion: Completion, **extras: object) -> None:
        """Journal how the operation ended; a fresh actor's client is replaced unless all went well."""
        super().complete(f, value, completion, **extras)
        if self._fresh and completion.kind != "ok":
            self.drop_client()

    def retire(self) -> None:
        """Leave this process behind, and keep the client."""
        self.process += self.scene.threads
        self.retired += 1

    def drop_client(self) -> None:
        """Close the client in the background."""
        old, self._java = self._java, None
        if old is not None:
            task = asyncio.get_running_loop().create_task(old.close())
            self.scene.closing.add(task)
            task.add_done_callback(self.scene.closing.discard)
