"""Stands in for `Worker.java` on the line protocol: answers what its arguments say, or misbehaves on request.

Arguments: VERB=JSON, the members of each answer to that verb; `mute=VERB` answers it never; `die=VERB` ends instead;
`babble=VERB` answers with a line that is no JSON; `swap=VERB` answers each pair of them in the opposite order;
`tell=JSON` is a list of lines that it tells by itself once it has answered `join`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    heard = Path("heard").open("a", encoding="ascii")  # noqa: SIM115 - open as long as the program lives
    held: list[str] = []
    say({"ready": True})
    for line in sys.stdin:
        heard.write(line)
        heard.flush()
        number, verb = line.split()[:2]
        if verb == given.get("die"):
            sys.stderr.write("out of memory\n")
            sys.exit(7)
        if verb == given.get("mute"):
            continue
        if verb == given.get("babble"):
            sys.stdout.write("no JSON\n")
            sys.stdout.flush()
            continue
        if verb == given.get("swap"):
            held.append(number)
            if len(held) == 2:
                for one in reversed(held):
                    say({"id": int(one), "ok": {"answers": int(one)}, "calls": []})
                held.clear()
            continue
        say({"id": int(number), "calls": [], **json.loads(given.get(verb, '{"ok": {}}'))})
        if verb == "join":
            for told in json.loads(given.get("tell", "[]")):
                say(told)


def say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
