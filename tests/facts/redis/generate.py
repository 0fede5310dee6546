"""Writes the table of commands in appliance/facts/redis from what a server says of its own:

    python -m tests.facts.redis.generate [FOLDER]

It starts a Redis of its own. What it writes: a line a command, its parts between bars:

    name | arity | flags | categories | where its keys are

where its keys are: one entry a specification, between semicolons: access flags, where to begin, which keys from there.
`i1` begins at argument 1, `kSTORE,6` after the word STORE looked for from argument 6 on (below 0 from the end backwards),
`?` is not said. `r0,1,0` is a range: last key counted from the first, step, limit; `n0,1,1` is a number of keys at 0 from
the beginning, the first key at 1, step.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.lab.redis import Redis
from tests.ports import free_port

PLACE = Path(__file__).parents[3] / "appliance/facts/redis"
LONG = "  # noqa: E501"
HEAD = '''"""{what} of Redis {version}, as the server tells of them by COMMAND. Data.

Made by tests/facts/redis/generate.py, which says what a line means; `commands` reads it.
"""

VERSION = "{version}"

LINES = """\\
{lines}
"""{end}
'''


def asked(server: Redis, *words: str) -> Any:
    """Return what a command answers, as JSON."""
    done = subprocess.run([*server.client, "--json", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def line(command: list[Any]) -> str:
    """Return the line of one command."""
    name, arity, flags, _, _, _, categories, _, specs, _ = command
    words = (c[1:] for c in categories if c not in ("@fast", "@slow"))
    parts = (name, str(arity), ",".join(sorted(flags)), ",".join(sorted(words)), ";".join(map(spec, specs)))
    return "|".join(parts)


def spec(of: dict[str, Any]) -> str:
    begin, find = of["begin_search"], of["find_keys"]
    begins = {
        "index": lambda s: f"i{s['index']}",
        "keyword": lambda s: f"k{s['keyword']},{s['startfrom']}",
        "unknown": lambda s: "?",
    }
    finds = {
        "range": lambda s: f"r{s['lastkey']},{s['keystep']},{s['limit']}",
        "keynum": lambda s: f"n{s['keynumidx']},{s['firstkey']},{s['keystep']}",
        "unknown": lambda s: "?",
    }
    return f"{','.join(of['flags'])} {begins[begin['type']](begin['spec'])} {finds[find['type']](find['spec'])}"


def tables(server: Redis) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the files."""
    commands = sorted(asked(server, "COMMAND"))
    version = asked(server, "HELLO")["version"]
    subs = [sub for command in commands for sub in sorted(command[9])]
    for name, what, rows in (("table", "Commands", commands), ("subtable", "Subcommands", subs)):
        lines = "\n".join(map(line, rows))
        yield f"{name}.py", HEAD.format(what=what, version=version, lines=lines, end=LONG if max(map(len, lines.splitlines())) > 120 else "")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    with tempfile.TemporaryDirectory() as home, Redis(Path(home) / "redis", free_port(), listen="127.0.0.1") as server:
        for name, text in tables(server):
            (folder / name).write_text(text)


if __name__ == "__main__":
    main()
