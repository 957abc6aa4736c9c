"""Specs mean what they say; misspelt ones are refused with the nearest word."""

import pytest

from nemesis.catalogue import KINDS, SHAPES, CatalogueError, parse
from tests.unit.nemesis.fake_world import HOSTS

GROUPS = ("broker-a", "broker-b")


@pytest.mark.parametrize(
    "text",
    [
        *(kind for kind in KINDS if kind != "partition"),
        *(f"partition:{shape}" for shape in SHAPES),
        "kill:master",
        "kill:namesrvs",
        "kill:broker-a/master+client-1",
        "destroy:slave,rejoin=yes",
        "promote:broker-a/slave",
        "kill:leader-minority",
        "kill:broker-a/leader-majority",
        "partition:isolate-leader-minority,clients=split",
        "blackhole:broker-a/leader",
        "transfer:broker-a-1",
        "add:broker-a",
        "add,back=yes",
        "destroy,rejoin=yes",
        "remove:leader,back=yes",
        "pause:minority",
        "partition:isolate:broker-a/master,clients=split,namesrvs=free",
        "partition:one-way-in",
        "partition:replication:broker-a",
        "partition:halves,clients=free",
        "partition:[[broker-a-0,client-1],[broker-a-1, client-2]]",
        'partition:[["broker-a-0"],["broker-a-1"]]',
    ],
)
def test_valid_specs(text: str) -> None:
    spec = parse(text)
    spec.check_names(HOSTS, GROUPS)
    assert spec.fault().kind == spec.kind
    assert spec.fault() is not spec.fault()
    assert spec.fault().permanent is spec.permanent


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kil:master", "unknown fault kil; did you mean kill?"),
        ("", "unknown fault"),
        ("blackhole:broker-a/leder", "unknown target leder; did you mean leader?"),
        ("remove:follower,bak=yes", "did you mean back?"),
        ("add:broker-a,back=maybe", "back is yes or no"),
        ("partition:halfs", "did you mean halves?"),
        ("partition", "unknown partition"),
        ("partition:isolate-mastr", "did you mean isolate-master?"),
        ("partition:halves:master", "takes no target"),
        ("partition:halves,clients=with", "needs a partition around a target"),
        ("partition:isolate-master,clients=splt", "did you mean split?"),
        ("partition:isolate-master,client=split", "did you mean clients?"),
        ("partition:replication,clients=free", "have no options"),
        ("partition:[[a,b]]", "two components"),
        ("partition:[[a,b],[]]", "two components"),
        ("partition:[a,b]", "written as"),
        ("kill:master,rejoin=yes", "unknown option rejoin of kill"),
        ("destroy:master,rejoin=maybe", "rejoin is yes or no"),
        ("kill:broker-a/mastr", "did you mean master?"),
        ("kill:master+", "an empty target"),
    ],
)
def test_invalid_specs_name_the_nearest(text: str, message: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kill:mastr", "unknown target mastr; did you mean master?"),
        ("kill:broker-a-7", "unknown target broker-a-7; did you mean broker-a-"),
        ("kill:broker-c/master", "unknown target broker-c; did you mean broker-"),
        ("partition:[[broker-a-0],[klient-1]]", "did you mean client-1?"),
        ("partition:replication:broker-x", "unknown target broker-x; did you mean broker-"),
        ("add:broker-a-1", "unknown target broker-a-1; did you mean broker-a?"),
        ("add:follower", "unknown target follower; known: broker-a"),
    ],
)
def test_unknown_names_are_refused_before_the_run(text: str, message: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        parse(text).check_names(HOSTS, GROUPS)
    assert message in str(caught.value)


def test_destroy_and_promote_last_and_the_others_heal() -> None:
    lasting = [kind for kind in KINDS if parse(f"{kind}:{'halves' if kind == 'partition' else 'one'}").permanent]
    assert lasting == ["destroy", "promote", "transfer", "add", "remove"]
    assert not parse("add:one,back=yes").permanent
    assert not parse("remove:one,back=yes").permanent
    assert not parse("destroy:slave,rejoin=yes").permanent
