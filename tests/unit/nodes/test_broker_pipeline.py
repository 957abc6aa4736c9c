"""The broker's pipeline on the loop that production uses."""

import asyncio
from typing import cast

import uvloop

from nodes.broker.acknowledgement import Rule
from nodes.broker.pipeline import Pipeline, Reply
from nodes.log import EventLog
from nodes.remoting.connection import Connection
from nodes.store.store import MessageStore


class StillStore:
    """Written and flushed up to nowhere; the pipeline only looks at positions here."""

    written_end = 0
    flushed_end = 0


def test_a_deadline_that_has_passed_can_be_armed_again_on_uvloop() -> None:
    """uvloop turns a timer of the past into a plain handle, which does not know when it rings."""

    async def play() -> list[object]:
        loop = asyncio.get_running_loop()
        troubles: list[object] = []
        loop.set_exception_handler(lambda _, context: troubles.append(context))
        pipeline = Pipeline(cast(MessageStore, StillStore()), EventLog("test"), flush_interval_s=3600.0, waiting_max=10)
        pipeline._pending.rule = Rule(True, 1, flush_timeout_s=0.0)
        nobody = Reply(cast(Connection, None), 0, b"")  # nothing is answered here
        pipeline._pending.add(1, nobody, loop.time() - 1.0, replicas_usable=False)
        pipeline._arm()
        pipeline._arm()
        for timer in (pipeline._background, pipeline._deadline):
            assert timer is not None
            timer.cancel()
        return troubles

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(play()) == []
