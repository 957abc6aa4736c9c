"""What the documentation says about keys and requests is what the code does."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from nodes.config import BrokerConfig, NamesrvConfig
from nodes.config.genuine import BROKER_GENUINE, NAMESRV_GENUINE
from nodes.config.refused import BROKER_REFUSED, NAMESRV_REFUSED
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.namesrv.kv import KvConfig
from nodes.namesrv.processor import CHANGEABLE, Processor
from nodes.namesrv.routes import Routes
from nodes.store.disk import RealDisk

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "compatibility.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next one of the same or a higher level."""
    [begin] = [found for found in re.finditer(r"^(#+) (.+)$", TEXT, re.MULTILINE) if found[2] == title]
    rest = TEXT[begin.end() :]
    end = re.search(rf"^#{{1,{len(begin[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


@pytest.mark.parametrize(
    ("title", "kind"),
    [("Broker: keys with an effect", BrokerConfig), ("Name server: keys with an effect", NamesrvConfig)],
)
def test_every_effective_key_is_documented(title: str, kind: type[BrokerConfig] | type[NamesrvConfig]) -> None:
    documented = set(re.findall(r"^\| `([^`]+)`", section(title), re.MULTILINE))
    assert documented == {field.metadata["key"] for field in dataclasses.fields(kind)}


def test_every_refused_and_every_ignored_key_is_documented() -> None:
    documented = set(re.findall(r"`([^`\s]+)`", section("Configuration files")))
    for keys in (BROKER_REFUSED, NAMESRV_REFUSED, BROKER_GENUINE, NAMESRV_GENUINE):
        assert set(keys) - documented == set()


def test_every_request_of_the_name_server_is_documented() -> None:
    documented = {
        int(code)
        for cell in re.findall(r"^\| ([\d /]+) \|", section("Name server"), re.MULTILINE)
        for code in cell.split("/")
    }
    processor = Processor(NamesrvConfig(), Routes(), KvConfig(RealDisk(), "/nowhere/kv.json"), EventLog("n"), lambda: 0)
    assert documented == set(processor.codes)


def test_changeable_keys_are_effective_keys() -> None:
    assert set(CHANGEABLE) <= {field.metadata["key"] for field in dataclasses.fields(NamesrvConfig)}


@pytest.mark.parametrize(
    ("kind", "folders"),
    [(BrokerConfig, ("nodes/broker", "nodes/replication", "nodes/store")), (NamesrvConfig, ("nodes/namesrv",))],
)
def test_a_key_is_effective_only_if_some_code_reads_it(
    kind: type[BrokerConfig] | type[NamesrvConfig], folders: tuple[str, ...]
) -> None:
    """A key that nothing reads belongs among those that are accepted without effect."""
    read = {
        node.attr
        for folder in (*folders, "nodes/config")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert {field.name for field in dataclasses.fields(kind)} - read == set()


def test_every_flaw_is_planted_somewhere() -> None:
    """A flaw that no code looks at would make the test that plants it pass for the wrong reason."""
    planted = {
        node.attr
        for path in sorted((ROOT / "nodes").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Flaw"
    }
    assert planted == {flaw.name for flaw in Flaw}
