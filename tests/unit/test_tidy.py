"""Rules of the house that neither ruff nor mypy can hold: banned calls, module sizes, words."""

import ast
import gc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("nodes", "nemesis", "checkers", "lab")
LINES_MAX = 600
BANNED_IN_NODES = {
    "time.time": "the wall clock comes from nodes.clock",
    "time.sleep": "a node never blocks its loop",
    "random.random": "randomness comes from an injected random.Random",
    "random.choice": "randomness comes from an injected random.Random",
    "os.system": "a node starts no programs",
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError")


def modules(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    """The module's tree, made while no garbage is collected: a finalizer that logs a traceback parses too, which
    CPython 3.11 takes for a fault of the parse under way."""
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_nodes_take_time_and_chance_as_arguments() -> None:
    """No node module calls the wall clock, sleeps or draws from the global generator."""
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {dotted(call.func)}: {BANNED_IN_NODES[dotted(call.func)]}"
        for path in modules("nodes")
        for call in ast.walk(parsed(path))
        if isinstance(call, ast.Call) and dotted(call.func) in BANNED_IN_NODES
    ]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_stay_one_room(package: str) -> None:
    """A module beyond the limit has outgrown its room and wants a wall."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in modules(package)
        if (count := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert long == {}


def test_nothing_is_left_unfinished() -> None:
    """Code says what it does today; promises to do it later belong elsewhere."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in modules(*PACKAGES)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    """The docstring of a module is the first thing that its next owner reads."""
    silent = [
        str(path.relative_to(ROOT))
        for path in modules(*PACKAGES)
        if path.read_text().strip() and not ast.get_docstring(parsed(path))
    ]
    assert silent == []
