"""Replication stories as scripts: tests/scripts/replication/*.txt hold commands and exactly what they print.

A line that begins with `> ` is a command, what follows up to the next one is its output, `#` lines tell the story.
`REWRITE_SCRIPTS=1 pytest ...` writes the present output into the files; the reviewer reads the difference.
Every message is a record of 4 + its length bytes, so offsets can be computed by eye.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.flaws import Flaw
from nodes.replication.frames import TableKind
from tests.unit.nodes.replication_world import Node, PowerCut, World

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "replication"
PROGRESS = "t@g"


class Stage:
    """Carries out the commands of one script."""

    def __init__(self) -> None:
        self.world = World("ABC")
        self.noted = 0

    def do(self, line: str) -> list[str]:
        command, *words = line.split()
        method: Callable[..., list[str] | None] = getattr(self, "do_" + command.replace("-", "_"))
        return [*(method(*words) or []), *self.notes()]

    def notes(self) -> list[str]:
        new, self.noted = self.world.notes[self.noted :], len(self.world.notes)
        return ["  " + re.sub(r" (store|peer)=\S+", "", note) for note in new]

    def node(self, name: str) -> Node:
        return self.world.nodes[name]

    # Roles and failures.

    def do_flaw(self, name: str) -> None:
        """Plant a flaw in every node started from now on."""
        self.world.flaws = frozenset({Flaw(name)})

    def do_lead(self, name: str) -> list[str]:
        """Start as primary."""
        if self.node(name).up:
            self.world.crash(name, power=False)
        self.node(name).lead()
        primary = self.node(name).primary
        assert primary is not None
        return [f"epoch {primary.epoch.number} from {primary.epoch.start_offset}"]

    def do_serve(self, name: str) -> None:
        """Start as replica."""
        if self.node(name).up:
            self.world.crash(name, power=False)
        self.node(name).serve()

    def do_kill(self, name: str) -> None:
        """kill -9: what was written stays."""
        self.world.crash(name, power=False)

    def do_power_cut(self, name: str) -> None:
        """What was not synced is lost."""
        self.world.crash(name, power=False)
        log = self.node(name).log
        del log.data[max(0, log.synced - log.base) :]

    def do_wipe(self, name: str) -> None:
        """An empty disk."""
        self.node(name).wipe()

    def do_fuse(self, name: str, steps: str) -> None:
        """The node loses power after this many durable steps."""
        node = self.node(name)
        node.log.fuse.steps = int(steps)
        node.disk.fuse = node.log.fuse

    # Logs.

    def do_append(self, name: str, *messages: str) -> list[str]:
        for message in messages:
            end = self.world.append(name, message.encode())
        return [f"end {end}"]

    def do_sync(self, name: str) -> None:
        self.node(name).log.sync()

    def do_retain(self, name: str, offset: str) -> None:
        """Delete what lies below."""
        self.node(name).log.delete_below(int(offset))

    # The network.

    def do_follow(self, replica: str, primary: str) -> None:
        self.world.follow(replica, primary)

    def do_hello(self, replica: str) -> None:
        """Deliver only the newest HELLO of this replica."""
        link = max((link for link in self.world.links.values() if link.replica.name == replica), key=lambda k: k.number)
        self.world.deliver_up(link)
        self.world.check(link.primary)

    def do_settle(self) -> None:
        try:
            self.world.settle()
        except PowerCut:
            for name, node in self.world.nodes.items():
                if node.log.fuse.steps == 0:
                    self.world.note(f"{name} loses power")
                    self.do_power_cut(name)
            self.world.settle()

    def do_wait(self, seconds: str) -> None:
        self.world.tick(float(seconds))

    # Tables.

    def do_topics(self, name: str, *topics: str) -> list[str] | None:
        tables = self.node(name).tables
        if not topics:
            return [" ".join(sorted(tables.topics)) or "none"]
        tables.topics = dict.fromkeys(topics, 4)
        tables.touch(TableKind.TOPICS)
        primary = self.node(name).primary
        if primary is not None:
            self.world._primary_does(self.node(name), primary.tables_changed(self.world.now))
        return None

    def do_queue_end(self, name: str, end: str) -> None:
        self.node(name).tables.queue_ends[PROGRESS, 0] = int(end)

    def do_commit(self, name: str, offset: str) -> None:
        """A consumer commits its progress at this node."""
        node = self.node(name)
        node.tables.offsets = {PROGRESS: {0: int(offset)}}
        node.tables.touch(TableKind.CONSUMER_OFFSETS)
        if node.replica is not None:
            node.replica.marks.commit(PROGRESS, 0, int(offset))

    def do_reset(self, name: str, offset: str) -> None:
        """An operator sets the offset at the primary."""
        node = self.node(name)
        node.tables.offsets = {PROGRESS: {0: int(offset)}}
        node.tables.touch(TableKind.CONSUMER_OFFSETS)
        assert node.primary is not None
        self.world._primary_does(node, node.primary.reset(node.tables.offsets, self.world.now))

    def do_progress(self, name: str) -> list[str]:
        return [str(self.node(name).tables.offsets.get(PROGRESS, {}).get(0, "none"))]

    # Looking.

    def do_show(self, *names: str) -> list[str]:
        lines = []
        for name in names or ("A", "B"):
            node = self.node(name)
            epochs = " ".join(f"{epoch.number}@{epoch.start_offset}" for epoch in node.claims()) or "no epochs"
            records = " ".join(item.decode() for item in node.log.records()) or "empty"
            lines.append(f"{name} {node.log.base}..{node.log.written_end} [{epochs}] {records}")
        return lines

    def do_acked(self, name: str, copies: str = "2") -> list[str]:
        primary = self.node(name).primary
        assert primary is not None
        return [f"{primary.acked(int(copies))}", *self.world.untrue]


def play(text: str) -> str:
    stage = Stage()
    lines = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            lines.append(line)
        elif line.startswith("> "):
            lines += [line, *stage.do(line[2:])]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    text = path.read_text()
    played = play(text)
    if os.environ.get("REWRITE_SCRIPTS"):
        path.write_text(played)
    assert played == text


def test_there_are_scripts() -> None:
    assert len(list(SCRIPTS.glob("*.txt"))) >= 10
