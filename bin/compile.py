"""Compiles the hot path of the nodes with mypyc into nodes/_compiled; without it they run from their sources.

Run by bin/setup, with the Python of the virtual environment. Does nothing if what is there fits the sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))

from nodes.compiled import FOLDER, MODULES, SETTING, SOURCES, STAMP, digest  # noqa: E402

FAILED = FOLDER / "failed"
TRIED = f"""
import sys, {", ".join(MODULES)}
assert all(sys.modules[name].__file__.endswith(".so") for name in {MODULES!r})
"""


def sources() -> list[str]:
    """The files of the modules. Raises SystemExit for one that cannot be compiled."""
    paths = [name.replace(".", "/") + ".py" for name in MODULES]
    for path in paths:
        if "msgspec.Struct" in Path(path).read_text(encoding="utf-8"):
            sys.exit(f"{path} defines a msgspec struct, whose options mypyc would drop: move it to a module of its own")
    return paths


def build(folder: Path) -> Path:
    """The compiled modules, in a folder below this one. Raises whatever mypyc and the C compiler do."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    target = folder / "c"
    target.mkdir()
    modules = mypycify(sources(), opt_level="2", debug_level="0", multi_file=True, target_dir=str(target))
    command: Any = build_ext(Distribution({"name": "brokerlab-nodes", "ext_modules": modules}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
    command.ensure_finalized()
    build_all = command.build_extensions

    def side_by_side() -> None:
        one = command.compiler.compile

        def several(files: list[str], *more: Any, **named: Any) -> list[str]:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                return [made for batch in pool.map(lambda file: one([file], *more, **named), files) for made in batch]

        command.compiler.compile = several
        build_all()

    command.build_extensions = side_by_side
    command.run()
    return folder / "lib"


def main() -> None:
    """Compile if need be. A failure is remembered until the sources change: it costs a minute to find out."""
    wanted = digest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    if FAILED.exists() and FAILED.read_text() == wanted:
        sys.exit(f"compiling them has failed before; remove {FAILED.relative_to(ROOT)} to try again")
    os.environ[SETTING] = SOURCES
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    FAILED.write_text(wanted)
    try:
        with tempfile.TemporaryDirectory(prefix="brokerlab-compile-") as folder:
            built = build(Path(folder))
            for path in built.rglob("*.so"):
                shutil.copyfile(path, FOLDER / ".".join(path.relative_to(built).parts))  # named as the modules are
    except KeyboardInterrupt:
        FAILED.unlink()
        raise
    if digest() != wanted:
        FAILED.unlink()
        sys.exit("the sources have changed while they were compiled; the next time compiles them again")
    STAMP.write_text(wanted)
    del os.environ[SETTING]
    if subprocess.run([sys.executable, "-c", TRIED], check=False).returncode:
        STAMP.unlink()
        sys.exit("the compiled modules cannot be imported")
    FAILED.unlink()


if __name__ == "__main__":
    main()
