"""Lies told one at a time about a legal run: each must be seen, by the checkers that are there for it; and other truths
about it, which must pass.

The run is that of `raft.py` (a node killed, cut off or stopped under load) with the dumps of its three replicas; told
truly it is valid. A lie changes a copy of its events or of its dumps, at a place drawn with a seed.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from checkers.compose import judge
from checkers.event import Event, EventType
from checkers.history import LineWriter
from checkers.verdict import Record, Validity, Verdict
from tests.unit.checkers.raft import ADDRESS, THREE, RaftPretend, raft_run
from tests.unit.checkers.story import GROUP, QUEUE

SIZE = 100
SEEDS = (3, 8)
GATES = {"send_ok": 100, "deliveries": 100, "warm_send_ok": 20, "recovered_send_ok": 20, "attempts_per_fault": 20}


@dataclass
class Told:
    """A run as it is told: its events, and what each replica is said to hold."""

    events: list[Event]
    dumps: dict[str, list[dict[str, Any]]]
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def of(self, f: str, *kinds: str) -> list[Event]:
        """Return the events of one kind, with one of these types."""
        return [event for event in self.events if event.f == f and (not kinds or event.type in kinds)]

    def acks(self) -> list[Event]:
        """Return the promises given under load."""
        return [event for event in self.of("send", "ok") if not event.sentinel]

    def ack(self) -> Event:
        """Return one of them, from the middle of the run."""
        acks = self.acks()
        return acks[self.chance.randrange(len(acks) // 4, 3 * len(acks) // 4)]

    def keep(self, wanted: Callable[[Event], bool]) -> None:
        """Drop all other events."""
        self.events = [event for event in self.events if wanted(event)]

    def unread(self, value: Any, *functions: str, rounds: Iterable[int] = (1, 2)) -> None:
        """Take a value out of what reads returned."""
        for event in self.events:
            if event.f in functions and isinstance(event.value, dict) and (event.round or 1) in rounds:
                event.value = {queue: [one for one in got if one[1] != value] for queue, got in event.value.items()}

    def undumped(self, value: Any, nodes: Iterable[str] = THREE) -> None:
        """Make it another record in the logs of these nodes."""
        for node in nodes:
            for line in self.dumps[node]:
                if line["v"] == value:
                    line.update(v=None, d="0")

    def faults(self, action: str) -> list[Event]:
        """Return the events that end an injection or a healing."""
        return [e for e in self.events if str(e.process).startswith("nemesis") and e.value["action"] == action
                and "verified" in e.value]  # fmt: skip

    def window(self, kinds: Iterable[str]) -> tuple[str, int, int, str]:
        """Return a fault of these kinds: its id, when it was injected, when its healing began, and its target."""
        begun = next(event for event in self.faults("inject") if event.f in kinds)
        name = begun.value["id"]
        ended = next(e for e in self.events if str(e.process).startswith("nemesis") and e.value["id"] == name
                     and e.value["action"] == "heal")  # fmt: skip
        return name, begun.time, ended.time, begun.value["targets"][0]

    def judged(self, folder: Path) -> Verdict:
        """Write the dumps and judge."""
        for number, event in enumerate(self.events):
            event.index = number
        for node, lines in self.dumps.items():
            with LineWriter(folder / f"{node}.jsonl") as out:
                out.write_all(lines)
        return judge(self.events, folder)


@cache
def _run(seed: int) -> Told:
    events = raft_run(RaftPretend(seed=seed, seconds=15, rate=25, faults=1, gates=GATES))
    events[0].value["not_applicable"] = {}
    drained = next(event for event in events if event.f == "drain" and event.type == "ok")
    terms = {event.value: event.epoch for event in events if event.f == "send" and event.type == "ok"}
    leaders = {event.epoch: event.node for event in events if event.f == "send" and event.type == "ok"}
    lines = [
        {"o": offset * SIZE, "s": SIZE, "d": f"{offset:x}", "t": terms[value], "q": QUEUE, "k": offset, "v": value,
         "x": True}
        for offset, value in drained.value[QUEUE]
    ]  # fmt: skip
    table: list[list[Any]] = []
    for line in lines:
        if not table or table[-1][0] != line["t"]:
            leader = next(node for node, address in ADDRESS.items() if address == leaders[line["t"]])
            table.append([line["t"], leader, line["o"]])
    end = len(lines) * SIZE
    last = events.pop()
    for node in THREE:
        dump = {"group": GROUP, "node": node, "file": f"{node}.jsonl", "begin": 0, "end": end, "commit": end,
                "epochs": copy.deepcopy(table), "complete": True}  # fmt: skip
        events.append(Event(0, last.time, "lab", "info", "dump", dump))
    events.append(last)
    return Told(events, dict.fromkeys(THREE, lines))


def told(seed: int) -> Told:
    """Return a run of one's own to lie about."""
    found = copy.deepcopy(_run(seed))
    found.dumps = {node: [dict(line) for line in lines] for node, lines in found.dumps.items()}
    found.chance = random.Random(seed)
    return found


# ---- other truths


def outcome_nobody_knows(run: Told) -> None:
    found = run.ack()
    found.type, found.status, found.offset = "info", None, None


def answer_that_never_came(run: Told) -> None:
    found = run.ack()
    run.keep(lambda event: event is not found)


def weaker_status(run: Told) -> None:
    found = run.ack()
    found.status, found.ack = "FLUSH_DISK_TIMEOUT", "weak"


def answer_without_its_place(run: Told) -> None:
    run.ack().offset = None


def answers_without_their_term(run: Told) -> None:
    for event in run.of("send", "ok"):
        event.epoch = None


def some_answers_about_the_nodes_missing(run: Told) -> None:
    dropped = run.of("status")[::7]
    run.keep(lambda event: event not in dropped)


def another_reader_from_the_beginning(run: Told) -> None:
    got = next(event.value[QUEUE] for event in run.of("poll", "ok") if event.value[QUEUE])
    place = run.events.index(run.acks()[-1])
    time = run.events[place].time
    run.events[place + 1 : place + 1] = [
        Event(0, time, 6000, "invoke", "poll", None, queue=QUEUE, mode="assign", seek={QUEUE: 0}),
        Event(0, time, 6000, "ok", "poll", {QUEUE: got}, queue=QUEUE, mode="assign", seek={QUEUE: 0}),
    ]


def handlers_that_took_what_was_read(run: Told) -> None:
    """Each batch goes to a handler at once; a group commits behind it, and finds that again."""
    told: list[Event] = []
    for event in run.events:
        told.append(event)
        if event.f == "poll" and event.type == "ok" and event.value[QUEUE]:
            got, after = {QUEUE: event.value[QUEUE]}, event.value[QUEUE][-1][0] + 1
            told.append(Event(0, event.time, 7000, "invoke", "handle", got))
            told.append(Event(0, event.time, 7000, "ok", "handle", got))
            for f, asked in (("commit", after), ("fetch-offset", None)):
                told.append(Event(0, event.time, 7000, "invoke", f, asked, queue=QUEUE, group="g"))
                told.append(Event(0, event.time, 7000, "ok", f, after, queue=QUEUE, group="g"))
    for before, event in pairwise(told):
        event.time = max(event.time, before.time + 1)
    run.events = told


def message_that_was_sent_back(run: Told) -> None:
    """A second copy of it stands in a retry topic, written much later."""
    value = run.ack().value
    for node, lines in run.dumps.items():
        last = lines[-1]
        lines.append({**last, "o": last["o"] + SIZE, "d": "5e", "q": f"%RETRY%g/{GROUP}/0", "k": 0, "v": value})
        dump = next(event for event in run.of("dump") if event.value["node"] == node)
        dump.value.update(end=dump.value["end"] + SIZE, commit=dump.value["commit"] + SIZE)


def replica_that_was_dumped_before(run: Told) -> None:
    node, mark = THREE[0], run.events.index(next(event for event in run.of("phase") if event.value == "load-end"))
    whole = next(event for event in run.of("dump") if event.value["node"] == node)
    run.dumps["before"] = run.dumps[node][:-1]  # the sentinel came later
    end = len(run.dumps["before"]) * SIZE
    value = {**whole.value, "file": "before.jsonl", "end": end, "commit": end}
    run.events.insert(mark, Event(0, run.events[mark].time, "lab", "info", "dump", value))


TRUTHS = [
    outcome_nobody_knows, answer_that_never_came, weaker_status, answer_without_its_place, answers_without_their_term,
    some_answers_about_the_nodes_missing, another_reader_from_the_beginning, handlers_that_took_what_was_read,
    message_that_was_sent_back, replica_that_was_dumped_before,
]  # fmt: skip


# ---- lies


def lost_everywhere(run: Told) -> None:
    value = run.ack().value
    run.unread(value, "poll", "drain")
    run.undumped(value)


def lost_from_reads(run: Told) -> None:
    run.unread(run.ack().value, "poll", "drain")


def lost_after_it_was_read(run: Told) -> None:
    run.unread(run.ack().value, "drain")


def lost_from_one_drain(run: Told) -> None:
    run.unread(run.ack().value, "drain", rounds=(2,))


def lost_from_the_logs(run: Told) -> None:
    run.undumped(run.ack().value)


def lost_from_two_logs(run: Told) -> None:
    run.undumped(run.ack().value, run.chance.sample(THREE, 2))


def lost_from_one_log(run: Told) -> None:
    run.undumped(run.ack().value, [run.chance.choice(THREE)])


def last_ones_cut_off_everywhere(run: Told) -> None:
    for lines in run.dumps.values():
        del lines[-20:]
    for event in run.of("dump"):
        event.value.update(end=event.value["end"] - 20 * SIZE, commit=event.value["commit"] - 20 * SIZE)


def read_in_the_end_and_in_no_log(run: Told) -> None:
    """Nobody promised it, but what readers are shown stands in a log."""
    found = run.ack()
    found.type, found.status, found.offset = "info", None, None
    run.undumped(found.value)


def record_missing(run: Told) -> None:
    del run.dumps[run.chance.choice(THREE)][run.chance.randrange(50)]


def records_exchanged_everywhere(run: Told) -> None:
    place = run.chance.randrange(50)
    for lines in run.dumps.values():
        lines[place]["k"], lines[place + 1]["k"] = lines[place + 1]["k"], lines[place]["k"]


def record_in_another_queue(run: Told) -> None:
    place = run.chance.randrange(50)
    for lines in run.dumps.values():
        lines[place]["q"] = "t/broker-a/9"


def record_of_another_term(run: Told) -> None:
    run.dumps[run.chance.choice(THREE)][run.chance.randrange(50)]["t"] += 1


def records_of_a_later_term_everywhere(run: Told) -> None:
    for event in run.of("dump"):
        event.value["epochs"][1][2] -= 3 * SIZE
        place, term = event.value["epochs"][1][2] // SIZE, event.value["epochs"][1][0]
        for line in run.dumps[event.value["node"]][place : place + 3]:
            line["t"] = term


def first_term_led_by_two(run: Told) -> None:
    table = run.of("dump")[0].value["epochs"]
    table[0][1] = next(node for node in THREE if node != table[0][1])


def index_not_told(run: Told) -> None:
    for line in run.dumps[THREE[1]]:
        line["x"] = None


def replica_not_dumped(run: Told) -> None:
    gone = run.chance.choice(run.of("dump"))
    run.keep(lambda event: event is not gone)


def dump_not_whole(run: Told) -> None:
    run.chance.choice(run.of("dump")).value["complete"] = False


def offsets_exchanged(run: Told) -> None:
    one, other = run.chance.sample(run.acks(), 2)
    one.offset, other.offset = other.offset, one.offset


def term_of_an_answer_changed(run: Told) -> None:
    last = next(event for event in run.acks() if event.epoch == 2)
    last.epoch = 1


def answered_by_a_deposed_leader(run: Told) -> None:
    first = next(event for event in run.acks() if event.epoch == 1)
    late = run.acks()[-1]
    late.node, late.epoch = first.node, 1


def failure_that_happened(run: Told) -> None:
    found = run.ack()
    found.type, found.status = "fail", None


def promise_recorded_as_unknown(run: Told) -> None:
    found = run.acks()[-1]
    found.type = "info"
    run.unread(found.value, "poll")
    for event in run.events:
        if event.process == found.process and event.index > found.index:
            event.process = 99_999


def status_nobody_knows(run: Told) -> None:
    run.ack().status = "PUT_OK"


def completion_of_another_value(run: Told) -> None:
    run.ack().value = "r/0/0"


def body_nobody_could_read(run: Told) -> None:
    read = run.chance.choice([event for event in run.of("poll", "ok") if event.value[QUEUE]])
    read.value[QUEUE][0][1] = None


def read_before_it_was_sent(run: Told) -> None:
    polls = [event for event in run.of("poll", "ok") if event.value[QUEUE]]
    later = run.acks()[-1]
    polls[3].value[QUEUE].append([later.offset, later.value])


def read_that_was_taken_back(run: Told) -> None:
    reads = [event for event in run.of("poll", "ok") if event.value[QUEUE]]
    reads[-1].value[QUEUE][-1][1] = "r/7/999999"


def read_again(run: Told) -> None:
    polls = [event for event in run.of("poll", "ok") if event.value[QUEUE]]
    polls[5].value = polls[4].value


def read_that_began_beyond_its_offset(run: Told) -> None:
    another_reader_from_the_beginning(run)
    last = next(event for event in run.events if event.process == 6000 and event.type == "ok")
    last.value = {QUEUE: last.value[QUEUE][1:]}


def handled_and_then_gone(run: Told) -> None:
    """Only a handler was given it, and nobody had promised it."""
    lost = run.acks()[-1]
    handlers_that_took_what_was_read(run)
    lost.type, lost.status, lost.offset = "info", None, None
    run.unread(lost.value, "poll", "drain")
    run.undumped(lost.value)
    for event in run.events:
        if event.process == lost.process and event is not lost and event.index > lost.index:
            event.process = 99_999


def offset_found_before_any_commit(run: Told) -> None:
    handlers_that_took_what_was_read(run)
    place = next(number for number, event in enumerate(run.events) if event.f == "commit")
    both: list[tuple[EventType, Any]] = [("ok", 7), ("invoke", None)]
    for kind, value in both:
        run.events.insert(place, Event(0, run.events[place].time, 7001, kind, "fetch-offset", value, queue=QUEUE,
                                       group="g"))  # fmt: skip


def injection_without_proof(run: Told) -> None:
    del run.chance.choice(run.faults("inject")).value["verified"]


def healing_without_proof(run: Told) -> None:
    del run.chance.choice(run.faults("heal")).value["verified"]


def healing_without_injection(run: Told) -> None:
    name, *_ = run.window(("kill", "pause", "partition"))
    run.keep(lambda e: not (isinstance(e.value, dict) and e.value.get("id") == name and e.value["action"] == "inject"))


def injection_without_healing(run: Told) -> None:
    name, *_ = run.window(("kill", "pause", "partition"))
    run.keep(lambda e: not (isinstance(e.value, dict) and e.value.get("id") == name and e.value["action"] == "heal"))


def fault_without_effect(run: Told) -> None:
    """The victim goes on answering as before."""
    _, begun, healed, victim = run.window(("kill", "pause"))
    before = [e for e in run.of("status") if e.value["node"] == victim and e.time < begun][-1]
    for event in run.of("status"):
        if event.value["node"] == victim and begun < event.value["t_asked"] and event.time < healed:
            said = {"t_asked": event.value["t_asked"], "role": "follower", "serving": False}
            event.value = {**before.value, **said}


def victim_that_answered_clients(run: Told) -> None:
    _, begun, healed, victim = run.window(("kill", "pause"))
    asked = next(number for number, event in enumerate(run.events) if begun < event.time < healed)
    both: list[tuple[EventType, Any]] = [("ok", {QUEUE: []}), ("invoke", None)]
    for kind, value in both:
        run.events.insert(asked, Event(0, run.events[asked].time, 6001, kind, "poll", value, queue=QUEUE,
                                       mode="assign", node=ADDRESS[victim]))  # fmt: skip
    run.events[asked].time -= 1


def fault_on_a_node_of_another_run(run: Told) -> None:
    for event in run.faults("inject"):
        event.value["targets"] = ["broker-z-0"]


def quorum_of_one(run: Told) -> None:
    value = {"group": GROUP, "voters": THREE, "learners": [], "quorum": 1, "node": THREE[0], "term": 1}
    run.events.insert(5, Event(0, run.events[4].time, "lab", "info", "membership", value))


def fault_that_hit_nothing(run: Told) -> None:
    for event in run.faults("inject"):
        event.value["targets"] = []


def fault_after_the_sentinel(run: Told) -> None:
    last = run.events.pop()
    value = {"id": "late", "action": "inject", "kind": "kill", "asked": "one"}
    done = {**value, "targets": [THREE[0]], "done": "killed", "verified": True, "evidence": {"probe": "gone"}}
    for number, one in enumerate((value, done, {**value, "action": "heal"}, {**done, "action": "heal"})):
        run.events.append(Event(0, last.time + number, "nemesis/late", "info", "kill", one))
    last.time += 10
    run.events.append(last)


def load_that_stopped(run: Told) -> None:
    """The last send lies long before the load is said to have ended."""
    end = next(number for number, event in enumerate(run.events) if event.f == "phase" and event.value == "load-end")
    for event in run.events[end:]:
        event.time += 20_000_000_000


def history_cut_off(run: Told) -> None:
    del run.events[3 * len(run.events) // 4 :]


def worker_died(run: Told) -> None:
    """Its journal ends, and what it had been answered since is gone with it."""
    sent = run.ack()
    run.keep(lambda event: not (event.process == sent.process and event.f == "send" and event.type == "invoke"))


def completion_missing_and_process_goes_on(run: Told) -> None:
    done = run.chance.choice(run.of("poll", "ok")[:-1])
    run.keep(lambda event: event is not done)


def clock_that_went_back(run: Told) -> None:
    for event in run.events[len(run.events) // 2 :]:
        event.time -= 2_000_000_000


def drain_that_was_not_ended(run: Told) -> None:
    run.keep(lambda event: not (event.f == "phase" and event.value == "drain-end"))


def load_without_an_end(run: Told) -> None:
    run.keep(lambda event: not (event.f == "phase" and event.value == "load-end"))


def load_that_ended_early(run: Told) -> None:
    """Of what comes after its end less is asked: progress, and who led when."""
    mark = next(event for event in run.events if event.f == "phase" and event.value == "load-end")
    run.keep(lambda event: event is not mark)
    place = len(run.events) // 3
    mark.time = run.events[place].time
    run.events.insert(place + 1, mark)


def second_account_of_the_run(run: Told) -> None:
    run.events.insert(9, Event(0, run.events[8].time, "lab", "info", "meta", {**run.events[0].value, "seed": 9}))


def queue_nobody_read(run: Told) -> None:
    run.events[0].value["topics"] = {"t": {GROUP: 2}}
    run.keep(lambda event: event.f != "route")  # which would tell of another number of queues


def group_nobody_wrote_to(run: Told) -> None:
    run.events[0].value["groups"]["broker-b"] = {"nodes": ["b-0", "b-1", "b-2"], "copies": 2}


def readers_that_were_given_nothing(run: Told) -> None:
    run.keep(lambda event: event.f != "poll")


def sentinel_from_before_the_end_of_the_load(run: Told) -> None:
    marks = {"load-end", "drain-begin"}
    moved = [event for event in run.events if event.f == "phase" and event.value in marks]
    run.keep(lambda event: event not in moved)
    place = max(number for number, event in enumerate(run.events) if event.f == "send") + 1
    for event in moved:
        event.time = run.events[place - 1].time
    run.events[place:place] = moved


def drain_before_its_sentinel(run: Told) -> None:
    """Readers were asked before the sentinel was answered, and answered after it."""
    asked = run.of("drain", "invoke")
    run.keep(lambda event: event not in asked)
    place = next(number for number, event in enumerate(run.events) if event.sentinel)
    for event in asked:
        event.time = run.events[place].time
    run.events[place:place] = asked


def node_nobody_asked(run: Told) -> None:
    run.keep(lambda event: not (event.f == "status" and event.value["node"] == THREE[1]))


def status_names_two_leaders(run: Told) -> None:
    found = next(event for event in run.of("status") if event.value.get("serving"))
    found.value["node"] = next(node for node in THREE if node != found.value["node"])


def commit_that_went_back(run: Told) -> None:
    found = [event for event in run.of("status") if event.value.get("serving")]
    found[5].value.update(commit=0)


def node_that_ended_by_itself(run: Told) -> None:
    run.events.insert(50, Event(0, run.events[49].time, "lab", "info", "node-exit", {"node": THREE[0], "code": 1}))


LIES: list[tuple[Callable[[Told], None], Validity, dict[str, set[str]]]] = [
    (lost_everywhere, Validity.INVALID,
     {"C1": {"lost"}, "C6": {"lost-write"}, "C7": {"under-replicated"}, "C10": {"lost-promised"}}),
    (lost_from_reads, Validity.INVALID, {"C1": {"lost"}, "C7": {"stranded"}}),
    (lost_after_it_was_read, Validity.INVALID, {"C1": {"vanished"}, "C12": {"vanished-read"}}),
    (lost_from_one_drain, Validity.INVALID, {"C1": {"unstable-drain"}}),
    (lost_from_the_logs, Validity.INVALID, {"C7": {"under-replicated"}}),
    (lost_from_two_logs, Validity.INVALID, {"C7": {"under-replicated", "matching-violation"}}),
    (lost_from_one_log, Validity.INVALID, {"C7": {"matching-violation", "committed-divergence"}}),
    (last_ones_cut_off_everywhere, Validity.INVALID, {"C7": {"under-replicated"}}),
    (read_in_the_end_and_in_no_log, Validity.INVALID, {"C7": {"index-mismatch"}}),
    (record_missing, Validity.INVALID, {"C7": {"hole"}}),
    (records_exchanged_everywhere, Validity.INVALID, {"C7": {"index-mismatch"}}),
    (record_in_another_queue, Validity.INVALID, {"C7": {"index-mismatch"}}),
    (record_of_another_term, Validity.INVALID, {"C7": {"term-table-mismatch"}}),
    (records_of_a_later_term_everywhere, Validity.INVALID, {"C7": {"ack-before-record"}}),
    (first_term_led_by_two, Validity.INVALID, {"C7": {"term-table-mismatch"}, "C8": {"two-leaders-one-term"}}),
    (index_not_told, Validity.UNKNOWN, {"C7": set()}),
    (replica_not_dumped, Validity.UNKNOWN, {"C7": set()}),
    (dump_not_whole, Validity.UNKNOWN, {"C7": set()}),
    (offsets_exchanged, Validity.INVALID, {"C6": {"inconsistent-offsets", "duplicate"}}),
    (term_of_an_answer_changed, Validity.INVALID, {"C8": {"two-leaders-one-term"}}),
    (answered_by_a_deposed_leader, Validity.INVALID, {"C8": {"stale-ack"}}),
    (failure_that_happened, Validity.INVALID, {"C1": {"revived"}, "C6": {"G1a"}}),
    (promise_recorded_as_unknown, Validity.UNKNOWN, {"C0": set()}),
    (status_nobody_knows, Validity.UNKNOWN, {"C0": set()}),
    (completion_of_another_value, Validity.UNKNOWN, {"C0": {"broken-history"}}),
    (body_nobody_could_read, Validity.INVALID, {"C1": {"unexpected"}}),
    (read_before_it_was_sent, Validity.INVALID, {"C5": {"order"}, "C6": {"future-read"}}),
    (read_that_was_taken_back, Validity.INVALID, {"C1": {"unexpected"}, "C12": {"unacked-dirty-read"}}),
    (read_again, Validity.INVALID, {"C6": {"nonmonotonic-poll"}}),
    (read_that_began_beyond_its_offset, Validity.INVALID, {"C6": {"poll-skip"}}),
    (handled_and_then_gone, Validity.INVALID, {"C12": {"unacked-vanished-read"}}),
    (offset_found_before_any_commit, Validity.INVALID, {"C11": {"from-nowhere"}}),
    (injection_without_proof, Validity.UNKNOWN, {"C19": {"unproven-injection"}}),
    (healing_without_proof, Validity.UNKNOWN, {"C19": {"unproven-heal"}, "C1": {"undecidable"}}),
    (healing_without_injection, Validity.UNKNOWN, {"C19": {"unknown-injection"}}),
    (injection_without_healing, Validity.UNKNOWN, {"C19": {"unhealed"}, "C1": {"undecidable"}}),
    (fault_without_effect, Validity.UNKNOWN, {"C19": {"no-effect"}}),
    (fault_that_hit_nothing, Validity.UNKNOWN, {"C19": {"no-target"}}),
    (fault_on_a_node_of_another_run, Validity.UNKNOWN, {"C19": {"no-target"}}),
    (victim_that_answered_clients, Validity.UNKNOWN, {"C19": {"no-effect"}}),
    (quorum_of_one, Validity.UNKNOWN, {"C8": set(), "C9": set()}),
    (fault_after_the_sentinel, Validity.UNKNOWN, {"C1": {"undecidable"}}),
    (load_that_stopped, Validity.UNKNOWN, {"C0": set(), "C15": set()}),
    (history_cut_off, Validity.UNKNOWN, {"C0": set(), "C1": {"undecidable"}}),
    (worker_died, Validity.UNKNOWN, {"C0": {"broken-history"}}),
    (completion_missing_and_process_goes_on, Validity.UNKNOWN, {"C0": {"broken-history"}}),
    (clock_that_went_back, Validity.UNKNOWN, {"C0": {"broken-history"}}),
    (drain_that_was_not_ended, Validity.UNKNOWN, {"C0": set()}),
    (load_without_an_end, Validity.UNKNOWN, {"C0": set()}),
    (load_that_ended_early, Validity.UNKNOWN, {"C0": set()}),
    (second_account_of_the_run, Validity.UNKNOWN, {"C0": set()}),
    (queue_nobody_read, Validity.UNKNOWN, {"C1": set()}),
    (group_nobody_wrote_to, Validity.UNKNOWN, {"C0": {"insufficient-activity"}, "C7": set()}),
    (readers_that_were_given_nothing, Validity.UNKNOWN, {"C0": {"insufficient-activity"}}),
    (sentinel_from_before_the_end_of_the_load, Validity.UNKNOWN, {"C1": {"undecidable"}}),
    (drain_before_its_sentinel, Validity.UNKNOWN, {"C1": {"undecidable"}}),
    (node_nobody_asked, Validity.UNKNOWN, {"C8": set(), "C9": set()}),
    (status_names_two_leaders, Validity.INVALID, {"C8": {"two-leaders-one-term"}}),
    (commit_that_went_back, Validity.INVALID, {"C9": {"commit-decrease"}}),
    (node_that_ended_by_itself, Validity.INVALID, {"C20": {"unexpected-exit"}}),
]  # fmt: skip
"""Each lie, the verdict it must have, and by which checkers it must be seen: as which findings, or just as a doubt."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_told_truly_is_valid(seed: int, tmp_path: Path) -> None:
    verdict = told(seed).judged(tmp_path)
    assert verdict.valid is Validity.VALID, verdict.why


@pytest.mark.parametrize("truth", TRUTHS, ids=[truth.__name__ for truth in TRUTHS])
def test_another_truth_about_it_is_valid(truth: Callable[[Told], None], tmp_path: Path) -> None:
    run = told(SEEDS[len(truth.__name__) % len(SEEDS)])
    truth(run)
    verdict = run.judged(tmp_path)
    assert verdict.valid is Validity.VALID, verdict.why


@pytest.mark.parametrize(("lie", "must_be", "seen_by"), LIES, ids=[lie.__name__ for lie, _, _ in LIES])
def test_a_lie_is_seen(
    lie: Callable[[Told], None], must_be: Validity, seen_by: dict[str, set[str]], tmp_path: Path
) -> None:
    run = told(SEEDS[len(lie.__name__) % len(SEEDS)])
    lie(run)
    verdict = run.judged(tmp_path)
    assert verdict.valid is must_be, verdict.why
    for checker, kinds in seen_by.items():
        record = verdict.record(checker)
        assert isinstance(record, Record), checker
        assert record.valid is not Validity.VALID, checker
        assert kinds <= {anomaly.type for anomaly in record.anomalies}, (checker, record.reasons)
