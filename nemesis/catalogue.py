"""The words in which plans ask for faults, and the faults they mean. Pure.

A spec is ``kind:what`` with options behind commas:

    kill:master   kill:namesrvs   destroy:broker-a/master   destroy:slave,rejoin=yes   promote:slave   pause:one
    partition:halves              partition:isolate-master,clients=split     partition:replication
    partition:one-way-in:master   partition:namesrvs                         partition:[[a,b],[c,client-1]]

In groups that elect their leader also

    kill:leader   kill:majority   kill:leader-minority   partition:isolate-leader-minority,clients=split
    transfer:follower             add   add:broker-a     remove:follower   remove:leader,back=yes

and at the worst moment of an election, for which the fault waits

    kill:voter    kill:elected,after=200ms      partition:isolate-elected    partition:halves,when=voter
    remove:follower,by=elected                  asks the new leader before it has committed anything

``blackhole:leader`` is a partition around its target under a name of its own: all packets from and to it are lost.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nemesis.fault import Fault
from nemesis.membership import Add, Remove, Transfer
from nemesis.moments import AtMoment
from nemesis.partition import Partition, Shape, Stand
from nemesis.process import Destroy, Kill, Pause
from nemesis.promote import Promote
from nemesis.targets import MOMENT_WORDS, ROLE_WORDS, SHARE_WORDS, WORDS
from nemesis.world import Moment

KINDS = ("kill", "destroy", "pause", "promote", "partition", "blackhole", "transfer", "add", "remove")
"""All kinds of faults."""

SHAPES = (
    "halves",
    "isolate-one",
    "isolate-master",
    "isolate-slave",
    "isolate-client",
    "ring",
    "bridge",
    "one-way-in:master",
    "one-way-out:master",
    "namesrvs",
    "replication",
)
"""The partition shapes without names in them, as specs write them behind ``partition:``."""

_PLAIN_SHAPES = {
    "halves": Shape.HALVES,
    "ring": Shape.RING,
    "majorities-ring": Shape.RING,
    "bridge": Shape.BRIDGE,
    "namesrvs": Shape.NAME_SERVERS,
    "replication": Shape.REPLICATION,
}
_TARGETED_SHAPES = {
    "isolate": Shape.ISOLATE,
    "one-way-in": Shape.ONE_WAY_IN,
    "one-way-out": Shape.ONE_WAY_OUT,
}
_FREE_BY_DEFAULT = (Shape.RING, Shape.BRIDGE)
ELECTED_KINDS = ("transfer", "add", "remove")
"""Kinds that need groups which elect their leader."""

_DEFAULT_WORDS = {
    "kill": "one",
    "destroy": "master",
    "pause": "one",
    "promote": "slave",
    "blackhole": "leader",
    "transfer": "follower",
    "remove": "follower",
}
_OPTIONS = {
    "kill": (),
    "destroy": ("rejoin",),
    "pause": (),
    "promote": (),
    "partition": ("clients", "namesrvs"),
    "blackhole": (),
    "transfer": (),
    "add": ("back",),
    "remove": ("back", "stop", "by"),
}
_WAITING_KINDS = ("kill", "destroy", "pause", "partition", "blackhole")
"""Kinds whose target may be one to whom something is yet to happen."""
_WHEN = ("when", "after")
"""Options of every kind: at which moment of an election, and how long after it."""


_AFTER = re.compile(r"(\d{1,6})(ms|s)")


class CatalogueError(ValueError):
    """A spec that means nothing; the message names the word and the nearest one that does."""


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A checked request for a fault; every ``fault()`` is a fresh one, used once."""

    text: str
    kind: str
    asked: str
    names: tuple[str, ...]  # nodes, hosts and groups that it names, to check against the topology
    permanent: bool
    make: Callable[[], Fault] = field(repr=False, compare=False)

    def fault(self) -> Fault:
        """A fault to inject once."""
        return self.make()

    def check_names(self, nodes: Iterable[str], groups: Iterable[str]) -> None:
        """Refuse names that the topology does not have. Raises CatalogueError."""
        if self.kind == "add":  # what is added is a node that nobody has started yet, and its group decides which
            known, words = [*groups], []
        else:
            known, words = [*nodes, *groups], [*WORDS]
        for name in self.names:
            if name not in known:
                raise CatalogueError(f"{self.text}: unknown target {name}{_nearest(name, [*known, *words])}")


def kind_of(text: str) -> str:
    """The word that a spec begins with; options may follow it at once (``add,back=yes``)."""
    return text.strip().split(":")[0].split(",")[0]


def parse(text: str) -> FaultSpec:
    """Read a spec. Raises CatalogueError."""
    kind = kind_of(text)
    rest = text.strip()[len(kind) :].removeprefix(":")
    if kind not in KINDS:
        raise CatalogueError(f"{text}: unknown fault {kind}{_nearest(kind, KINDS)}")
    asked, options = _options(text, kind, rest)
    when = {key: options.pop(key) for key in _WHEN if key in options}
    after_s = _after(text, asked, when)
    said = ",".join(f"{key}={value}" for key, value in when.items())
    if "when" not in when:
        return _spec(text, kind, asked, options, after_s, said)
    if when["when"] not in MOMENT_WORDS:
        raise CatalogueError(f"{text}: when={when['when']}{_nearest(when['when'], MOMENT_WORDS)}")
    inner = _spec(text, kind, asked, options)
    moment = Moment(when["when"])
    described = ",".join(filter(None, (inner.asked, said)))
    return dataclasses.replace(inner, asked=described, make=lambda: AtMoment(inner.make(), moment, after_s, said))


def _spec(
    text: str, kind: str, asked: str, options: Mapping[str, str], after_s: float = 0.0, said: str = ""
) -> FaultSpec:
    """The fault without the moment that it may wait for; ``after_s`` and its words are of a target that waits."""
    if kind == "partition":
        return _partition(text, asked, options, after_s, said)
    if kind == "add":
        back = _yes(text, "back", options.get("back", "no"))
        return FaultSpec(text, kind, asked, (asked,) if asked else (), not back, lambda: Add(asked, back=back))
    word = asked or _DEFAULT_WORDS[kind]
    names = _names_in(text, word)
    described = ",".join(filter(None, (word, said)))
    if kind == "blackhole":
        return FaultSpec(
            text, kind, described, names, False,
            lambda: Partition(described, Shape.ISOLATE, kind=kind, word=word, after_s=after_s),
        )  # fmt: skip
    if kind not in _WAITING_KINDS and any(part.rpartition("/")[2] in MOMENT_WORDS for part in word.split("+")):
        raise CatalogueError(f"{text}: {kind} waits for nobody to be {word}; only {', '.join(_WAITING_KINDS)} do")
    if kind == "transfer":
        return FaultSpec(text, kind, word, names, True, lambda: Transfer(word))
    if kind == "remove":
        back, stop = _yes(text, "back", options.get("back", "no")), _yes(text, "stop", options.get("stop", "yes"))
        by = options.get("by", "")
        if by not in ("", Moment.ELECTED):
            raise CatalogueError(f"{text}: by={by}{_nearest(by, [Moment.ELECTED.value])}")
        described = ",".join([word, *(f"{key}={value}" for key, value in options.items())])
        return FaultSpec(
            text, kind, described, names, not back,
            lambda: Remove(described, word=word, back=back, stop=stop, by_elected=bool(by)),
        )  # fmt: skip
    if kind == "destroy":
        rejoin = _yes(text, "rejoin", options.get("rejoin", "no"))
        return FaultSpec(
            text, kind, described, names, not rejoin,
            lambda: Destroy(described, word=word, after_s=after_s, rejoin=rejoin),
        )  # fmt: skip
    if kind == "promote":
        return FaultSpec(text, kind, word, names, True, lambda: Promote(word))
    make = Kill if kind == "kill" else Pause
    return FaultSpec(text, kind, described, names, False, lambda: make(described, word=word, after_s=after_s))


def _partition(text: str, asked: str, options: Mapping[str, str], after_s: float, said: str) -> FaultSpec:
    shape, word, components = _shape(text, asked)
    default = Stand.FREE if shape in _FREE_BY_DEFAULT else Stand.MEMBER
    stands = {key: _stand(text, key, options[key]) if key in options else default for key in ("clients", "namesrvs")}
    if shape in (Shape.NAMED, Shape.NAME_SERVERS, Shape.REPLICATION) and options:
        raise CatalogueError(f"{text}: {shape.value} partitions have no options")
    if shape in (Shape.HALVES, *_FREE_BY_DEFAULT):
        for key, stand in stands.items():
            if stand not in (Stand.MEMBER, Stand.FREE):
                raise CatalogueError(f"{text}: {key}={stand.value} needs a partition around a target")
    names = tuple(dict.fromkeys(name for component in components for name in component))
    if shape is Shape.REPLICATION and word:
        names = (word,)
    elif word:
        names = _names_in(text, word)
    described = ",".join([asked, *(f"{key}={value}" for key, value in options.items()), *filter(None, [said])])

    def make() -> Fault:
        return Partition(
            described,
            shape,
            word=word,
            components=components,
            clients=stands["clients"],
            name_servers=stands["namesrvs"],
            after_s=after_s,
        )

    return FaultSpec(text, "partition", described, names, False, make)


def _shape(text: str, asked: str) -> tuple[Shape, str, tuple[tuple[str, ...], ...]]:
    if asked.startswith("["):
        return Shape.NAMED, "", _components(text, asked)
    name, _, word = asked.partition(":")
    if name in _PLAIN_SHAPES:
        shape = _PLAIN_SHAPES[name]
        if word and shape is not Shape.REPLICATION:
            raise CatalogueError(f"{text}: {name} takes no target")
        return shape, word, ()
    if name in _TARGETED_SHAPES:
        return _TARGETED_SHAPES[name], word or "master", ()
    head, dash, tail = name.partition("-")
    if head == "isolate" and dash and tail in WORDS:
        return Shape.ISOLATE, tail, ()
    known = [*SHAPES, *_PLAIN_SHAPES, *_TARGETED_SHAPES]
    raise CatalogueError(f"{text}: unknown partition {name or '(none)'}{_nearest(name, known)}")


def _components(text: str, asked: str) -> tuple[tuple[str, ...], ...]:
    """Read ``[[a,b],[c,d]]``; quotes and blanks are allowed and mean nothing."""
    compact = "".join(letter for letter in asked if letter not in " \t\"'")
    if not (compact.startswith("[[") and compact.endswith("]]")):
        raise CatalogueError(f"{text}: a split is written as [[a,b],[c,d]]")
    components = tuple(tuple(part.split(",")) for part in compact[2:-2].split("],["))
    members = [name for component in components for name in component]
    if len(components) < 2 or not all(members) or any(set(name) & set("[]") for name in members):
        raise CatalogueError(f"{text}: a split is written as [[a,b],[c,d]], two components at least")
    return components


def _options(text: str, kind: str, rest: str) -> tuple[str, dict[str, str]]:
    """Split the word from its options; commas inside brackets belong to the word."""
    end = rest.rfind("]") + 1
    word, *parts = (rest[end:]).split(",")
    options = {}
    for part in parts:
        key, equals, value = part.strip().partition("=")
        known = (*_OPTIONS[kind], *_WHEN)
        if key not in known or not equals:
            raise CatalogueError(f"{text}: unknown option {key} of {kind}{_nearest(key, known)}")
        options[key] = value
    return (rest[:end] + word).strip(), options


def _names_in(text: str, word: str) -> tuple[str, ...]:
    """The nodes and groups that a target word names."""
    names: list[str] = []
    for part in word.split("+"):
        group, slash, last = part.strip().rpartition("/")
        if slash:
            names.append(group)
            if last not in WORDS:
                raise CatalogueError(f"{text}: unknown target {last}{_nearest(last, WORDS)}")
        elif not last:
            raise CatalogueError(f"{text}: an empty target")
        elif last not in WORDS:
            names.append(last)
    return tuple(dict.fromkeys(names))


def _stand(text: str, key: str, value: str) -> Stand:
    try:
        return Stand(value)
    except ValueError:
        raise CatalogueError(f"{text}: {key}={value}{_nearest(value, [stand.value for stand in Stand])}") from None


def _after(text: str, asked: str, when: Mapping[str, str]) -> float:
    """The option ``after`` in seconds: so long after the moment of an election the fault strikes."""
    said = when.get("after")
    if said is None:
        return 0.0
    parts = asked.replace("isolate-", "/").replace(":", "/").split("+")
    if "when" not in when and not any(part.rpartition("/")[2] in MOMENT_WORDS for part in parts):
        raise CatalogueError(f"{text}: after counts from a moment of an election: {' or '.join(MOMENT_WORDS)}")
    found = _AFTER.fullmatch(said)
    if found is None:
        raise CatalogueError(f"{text}: after={said} is no time such as 200ms or 1s")
    return int(found[1]) * (0.001 if found[2] == "ms" else 1.0)


def _yes(text: str, key: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise CatalogueError(f"{text}: {key} is yes or no")
    return value == "yes"


def _nearest(word: str, known: Sequence[str]) -> str:
    """The nearest known word, as the end of a message; or all of them if none is near."""
    if near := difflib.get_close_matches(word, known, n=1, cutoff=0.5):
        return f"; did you mean {near[0]}?"
    return f"; known: {', '.join(dict.fromkeys(known))}" if known else "; it takes none"


assert set(_DEFAULT_WORDS.values()) <= {*SHARE_WORDS, *ROLE_WORDS}
