"""The folder of one run: every stage leaves a file here, so that each stage can be done again alone."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.errors import SetupError

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of a run's files."""

    path: Path

    @classmethod
    def create(cls, out: Path, name: str, now: datetime | None = None) -> "RunDir":
        """Make ``out/name/UTC-start`` (with a number behind if taken) and point ``out/latest`` to it."""
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        try:
            out = out.absolute()  # nodes run in folders of their own and must find their files by these paths
            parent = out / name
            parent.mkdir(parents=True, exist_ok=True)
            path = _fresh(parent, stamp)
            for below in ("journals", "nodes", "replicas"):
                (path / below).mkdir()
            _point(out / LATEST, path)
        except OSError as error:
            raise SetupError(f"cannot make the run's folder in {out}: {error}") from None
        return cls(path)

    @property
    def plan(self) -> Path:
        """The resolved plan."""
        return self.path / "plan.toml"

    @property
    def manifest(self) -> Path:
        """All that was created outside this folder, for clean-up."""
        return self.path / "manifest.json"

    @property
    def journals(self) -> Path:
        """One journal a worker, and the lab's own."""
        return self.path / "journals"

    def journal(self, writer: str) -> Path:
        """What one writer saw: a client host's worker, or the lab."""
        return self.journals / f"{writer}.jsonl"

    @property
    def written(self) -> Path:
        """How many bytes each writer wrote to its journal, as far as it could tell in the end: a JSON object."""
        return self.journals / "written.json"

    @property
    def history(self) -> Path:
        """The merged history."""
        return self.path / "history.jsonl.zst"

    @property
    def faults(self) -> Path:
        """Fault records as they happened: asked, done, proof."""
        return self.path / "faults.jsonl"

    @property
    def replicas(self) -> Path:
        """Dumps of every replica."""
        return self.path / "replicas"

    @property
    def metrics(self) -> Path:
        """Memory and CPU of every node, sampled."""
        return self.path / "metrics.jsonl"

    @property
    def verdict(self) -> Path:
        """The verdict with all its records."""
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """Log records of the lab and its workers."""
        return self.path / "lab.log"

    @property
    def socket(self) -> Path:
        """Control socket of a cluster that was brought up by hand."""
        return self.path / "control.sock"

    @property
    def nodes(self) -> Path:
        """A folder for each node."""
        return self.path / "nodes"

    def node(self, name: str) -> Path:
        """The folder of one node: config, log.jsonl, stderr, store."""
        return self.nodes / name

    def client(self, host: str) -> Path:
        """What the foreign clients of one client host write."""
        return self.path / "clients" / host

    def write_plan(self, text: str) -> None:
        """Store the resolved plan."""
        self.plan.write_text(text, encoding="utf-8")


def _fresh(parent: Path, stamp: str) -> Path:
    for attempt in range(1000):
        path = parent / (stamp if attempt == 0 else f"{stamp}-{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise SetupError(f"{parent} holds a thousand runs of this second")


def _point(link: Path, target: Path) -> None:
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(os.path.relpath(target, link.parent))
    beside.replace(link)
