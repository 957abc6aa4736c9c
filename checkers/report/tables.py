"""Tables that several checkers add to both reports: terms, what each level promised, owed progress, latency, routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from checkers.verdict import Verdict

LATENCY_COLUMNS: Final = ("p50", "p95", "p99", "p999", "max")


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of words. `right` numbers the columns that hold figures, `bad` the rows that show something wrong;
    `brief` tells that a terminal should show it too."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    bad: frozenset[int] = frozenset()
    note: str = ""
    brief: bool = True


def tables(verdict: Verdict) -> list[Table]:
    """Return the tables of a verdict that have rows."""
    found = (
        _durability(_details(verdict, "C10")),
        _terms(_details(verdict, "C8")),
        _obligations(_details(verdict, "C15")),
        _latency(_details(verdict, "C17")),
        _taken_over(_details(verdict, "C16")),
        _offsets(_details(verdict, "C11")),
        _departures(verdict),
        _staleness(_details(verdict, "C18")),
        _disagreements(_details(verdict, "C18")),
    )
    return [table for table in found if table.rows]


def _details(verdict: Verdict, checker: str) -> Mapping[str, Any]:
    record = verdict.record(checker)
    return record.details if record is not None else {}


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _span(pair: Sequence[float | None]) -> str:
    low, high = pair
    return f"{low:.2f}–{'∞' if high is None else f'{high:.2f}'} s"


def _durability(details: Mapping[str, Any]) -> Table:
    rows: Iterable[Mapping[str, Any]] = details.get("durability", ())
    made: list[tuple[str, ...]] = []
    bad: set[int] = set()
    telling = False
    for row in rows:
        causes = ", ".join(f"{count} by {kind}" for kind, count in row["lost by fault"].items())
        if row["lost"] or row["undecided"]:
            bad.add(len(made))
        telling = telling or bool(row["lost"] or row["undecided"]) or row["level"].startswith("replicated")
        made.append(
            (row["group"], row["level"], row["promise"], str(row["acknowledged"]), str(row["survived"]),
             str(row["lost"]), str(row["undecided"]), causes or "–")
        )  # fmt: skip
    return Table(
        "What each level of acknowledgement promised",
        ("group", "level", "promise", "given", "survived", "lost", "undecided", "lost by"),
        tuple(made), (3, 4, 5, 6), frozenset(bad),
        "A loss that was not promised to survive is a loss all the same: losing a SEND_OK is always invalid (C1).",
        brief=telling,
    )  # fmt: skip


def _terms(details: Mapping[str, Any]) -> Table:
    overlaps = {(row["group"], row["terms"][1]): row["overlap"] for row in details.get("overlaps", ())}
    made: list[tuple[str, ...]] = []
    bad: set[int] = set()
    for row in details.get("terms", ()):
        overlap = overlaps.get((row["group"], row["term"]))
        if ", " in row["leader"]:
            bad.add(len(made))
        made.append(
            (row["group"], str(row["term"]), row["leader"], _seconds(row["first"]), _seconds(row["last"]),
             str(row["acknowledged"]), _span(overlap) if overlap is not None and overlap != [0.0, 0.0] else "–")
        )  # fmt: skip
    return Table(
        "Who led which term",
        ("group", "term", "leader", "first seen", "last seen", "acknowledged", "two at once"),
        tuple(made), (1, 3, 4, 5), frozenset(bad),
        "“Two at once” is how long the former leader still called itself one, from proven to not excluded.",
    )  # fmt: skip


def _obligations(details: Mapping[str, Any]) -> Table:
    made: list[tuple[str, ...]] = []
    bad: set[int] = set()
    for row in details.get("obligations", ()):
        stalls = [f"{what} {low:.2f}–{high:.2f} s" for what, low, high in row["stalls"]]
        if any(what != "idle" for what, _, _ in row["stalls"]):
            bad.add(len(made))
        made.append(
            (
                row["group"],
                _span((row["from"], row["to"])),
                f"{row['to'] - row['from']:.2f} s",
                ", ".join(stalls) or "–",
            )
        )
    return Table(
        "When progress was owed",
        ("group", "owed", "for", "without progress"), tuple(made), (2,), frozenset(bad),
        "Owed is what remains after the grace period while a quorum ran and could be reached.",
    )  # fmt: skip


def _figure(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):  # at least so much: some never came; after nothing, none did
        return f"> {value[0]:g}" if value[0] else "never"
    return f"{value:g}"


def _latency(details: Mapping[str, Any]) -> Table:
    made = [
        (row["what"], row["phase"], str(row["count"]), *(_figure(row[name]) for name in LATENCY_COLUMNS),
         str(row["censored"]) if row["censored"] else "–")
        for row in details.get("quantiles ms", ())
    ]  # fmt: skip
    head = ("latency, ms", "phase", "count", *LATENCY_COLUMNS, "never came")
    return Table("Latency", head, tuple(made), (2, 3, 4, 5, 6, 7, 8))


def _taken_over(details: Mapping[str, Any]) -> Table:
    made = [
        (row["group"], str(row["term"]), _span(row["at"]), row["fault"], str(row["lost"]))
        for row in details.get("taken over", ())
    ]
    head = ("group", "term", "began", "fault", "lost")
    note = "Which change of leader took over the log that the lost messages were in; weaker answers are counted too."
    return Table("What changes of leader cost", head, tuple(made), (1, 4), frozenset(range(len(made))), note)


def _offsets(details: Mapping[str, Any]) -> Table:
    rows = details.get("after faults", ())
    made = [
        (row["fault"], row["group"], row["queue"], str(row["asked"]), str(row["not right"]),
         ", ".join(row["by"]) or "–", _span(row["right after"]))
        for row in rows
    ]  # fmt: skip
    bad = frozenset(number for number, row in enumerate(rows) if row["right after"][1] is None)
    head = ("fault", "consumers", "queue", "asked", "not right", "by", "right after")
    title = "When consumers found their offsets again"
    note = "Whoever got no answer, or a wrong one, asked in vain; consumers ask only when they begin anew."
    return Table(title, head, tuple(made), (3, 4), bad, note, brief=any(row["not right"] for row in rows))


def _disagreements(details: Mapping[str, Any]) -> Table:
    made = [
        (row["group"], row["topic"], " and ".join(row["name servers"]), row["from"], " / ".join(row["told"]),
         _seconds(row["since"]), _span(row["lasted"]))
        for row in details.get("disagreements", ())
    ]  # fmt: skip
    head = ("group", "topic", "name servers", "asked from", "told", "since", "lasted")
    return Table("When name servers told different things", head, tuple(made), (5,), brief=False)


def _departures(verdict: Verdict) -> Table:
    titles = {str(fault["id"]): str(fault["title"]) for fault in verdict.faults}
    made = [
        (titles.get(row["fault"], row["fault"]), row["node"], row["name server"], _span(row["listed"]))
        for row in _details(verdict, "C14").get("departures", ())
    ]
    head = ("fault", "broker that was away", "name server", "listed it for")
    note = "∞: until the fault was healed."
    return Table("How long name servers listed who was away", head, tuple(made), note=note, brief=False)


def _staleness(details: Mapping[str, Any]) -> Table:
    made = [
        (row["group"], str(row["term"]), row["name server"], row["from"], _span(row["stale"]))
        for row in details.get("staleness", ())
    ]
    head = ("group", "term", "name server", "asked from", "told of the former leader for")
    return Table("How long routes were stale", head, tuple(made), (1,), brief=False)
