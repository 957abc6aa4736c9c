"""Small Java programs of the lab, compiled against a release's client and kept beside it in the cache."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lab.systems.rocketmq.release import Release, ReleaseMissing, cache_folder, javac

COMPILE_TIMEOUT_S: Final = 300.0


def compiled(release: Release, program: Path, *parts: Path) -> Path:
    """The folder of the classes of a program and its parts; compiled once for each version of them and of the release.

    Raises ReleaseMissing without a compiler, or if this release's client lacks what the source uses.
    """
    sources = (program, *parts)
    content = b"".join(source.name.encode() + b"\0" + source.read_bytes() for source in sources)
    digest = hashlib.sha256(content + f"{release.version} {release.lib}".encode()).hexdigest()[:16]
    folder = cache_folder() / "classes" / f"{program.stem}-{release.version}-{digest}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{program.stem}-", dir=folder.parent) as scratch:
        argv = [javac(), "-nowarn", "-encoding", "UTF-8", "-cp", release.classpath, "-d", f"{scratch}/classes"]
        try:
            done = subprocess.run(
                [*argv, *map(str, sources)], capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise ReleaseMissing("javac", f"{program.name} did not compile in {COMPILE_TIMEOUT_S:.0f} s") from None
        if done.returncode != 0:
            raise ReleaseMissing(
                "javac",
                f"{program.name} does not compile with RocketMQ {release.version}: {done.stderr.strip()[-800:]}",
            )
        try:
            Path(scratch, "classes").rename(folder)
        except OSError:
            if not folder.is_dir():  # somebody else was faster, with the same classes
                raise
    return folder
