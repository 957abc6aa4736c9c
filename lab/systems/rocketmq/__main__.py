"""``python -m lab.systems.rocketmq VERSION``: bring a release into the cache; exit 4 says what is missing."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from lab.systems.rocketmq.release import PARTS, ReleaseMissing, resolve

EXIT_SETUP = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Resolve every part that was asked for; the first one missing ends it."""
    parser = ArgumentParser(prog="python -m lab.systems.rocketmq", description=__doc__)
    parser.add_argument("version", help="such as 5.3.3")
    parser.add_argument("--part", choices=sorted(PARTS), action="append", help="by default all")
    given = parser.parse_args(arguments)
    for part in given.part or sorted(PARTS):
        try:
            found = resolve(given.version, part)
        except ReleaseMissing as missing:
            sys.stderr.write(f"{missing}\n")
            return EXIT_SETUP
        jars = sum(1 for _ in found.lib.glob("*.jar"))
        sys.stdout.write(f"RocketMQ {found.version} {part}: {jars} jars in {found.lib}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
