"""Compile the modules on the path of every message: python -m appliance.compiled

Needs a C compiler and mypy (mypyc is part of it), in a checkout. The service needs neither.

Which modules: those in which a profile of a PostgreSQL flow finds the time, as far as they hold no msgspec structs
(already machine code) and no class whose base is not ours. A class that is not compiled cannot have a base that is, so
what they inherit from each other goes together.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from appliance.compiled import HERE, LIST, PLAIN, digest, source

MODULES = [
    *(
        f"appliance.facts.{name}"
        for name in ("entry", "names", "parameters", "postgres", "settings", "shapes", "store", "traffic")
    ),
    "appliance.facts.sql.alike",
    *(f"appliance.facts.http.{name}" for name in ("body", "documents", "hosts", "paths", "reader", "request")),
    "appliance.policy.masks",
    "appliance.record.log",
    *(f"appliance.record.{name}" for name in ("parts", "runs", "tree", "walk")),
    *(f"appliance.record.index.{name}" for name in ("intake", "kept", "words")),
    *(
        f"appliance.relay.{name}"
        for name in (
            "alarm", "end", "gate", "gather", "joined", "layer", "linger", "pipe", "room", "securing", "upstream",
            "valve",
        )
    ),
    "appliance.service.book",
    *(
        f"appliance.session.{name}"
        for name in (
            "core", "encryption", "ground", "level", "line", "meter", "onlooker", "plans", "released", "rigid",
            "scribe", "secret", "told", "wait",
        )
    ),
    *(f"appliance.facts.mysql.{name}" for name in ("reader", "settings", "shape", "statements", "store")),
    *(f"appliance.facts.redis.{name}" for name in ("effects", "reader", "reading", "text")),
    "appliance.wire.inbox",
    *(
        f"appliance.wire.mysql.{name}"
        for name in (
            "cells", "client", "columns", "compression", "connection", "flow", "packets", "parameters", "refusals",
            "results", "rows", "server",
        )
    ),
    *(
        f"appliance.wire.redis.{name}"
        for name in ("answers", "connection", "frames", "ledger", "passed", "replies", "requests", "short", "small")
    ),
    *(
        f"appliance.wire.http.{name}"
        for name in ("answers", "body", "connection", "content", "head", "leaves", "reply", "upgrade", "upward")
    ),
    *(
        f"appliance.wire.postgres.{name}"
        for name in (
            "cells", "client", "columns", "connection", "flow", "frames", "injected", "masks", "server", "tags",
        )
    ),
]  # fmt: skip
SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
level, *files = sys.argv[3:]
del sys.argv[3:]
setup(name="compiled", ext_modules=mypycify(["--config-file=pyproject.toml", *files], opt_level=level), packages=[])
"""


def build(folder: Path = HERE, level: str = "3") -> None:
    """Compile into `folder`; what was there is replaced when all is done. `level` is the C compiler's -O."""
    root = HERE.parent.parent
    files = [str(source(module).relative_to(root)) for module in MODULES]
    with tempfile.TemporaryDirectory() as place:
        made = Path(place, "made")
        words = [sys.executable, "-c", SETUP, "build_ext", f"--build-lib={made}", level, *files]
        env = {**os.environ, PLAIN: "1", "MYPY_CACHE_DIR": str(Path(place, "cache"))}
        tree = _copy(root, Path(place, "tree"))
        made_of = [f"{digest(tree / file)} {module}\n" for module, file in zip(MODULES, files, strict=True)]
        subprocess.run(words, check=True, cwd=tree, env=env, stdout=sys.stderr.fileno())
        clear(folder)
        folder.mkdir(exist_ok=True)
        for file in made.rglob(f"*{EXTENSION_SUFFIXES[0]}"):
            shutil.copy(file, folder / ".".join(file.relative_to(made).parts))
    (folder / LIST).write_text("".join(made_of))


def clear(folder: Path = HERE) -> None:
    """Take away what was compiled: the list first, so that what is half there is not used."""
    (folder / LIST).unlink(missing_ok=True)
    for file in folder.glob("*.so"):
        file.unlink()


def _copy(root: Path, tree: Path) -> Path:
    """Return a copy of the sources: what the compiler writes is not to lie among them."""
    shutil.copytree(root / "appliance", tree / "appliance", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(root / "pyproject.toml", tree)
    return tree


if __name__ == "__main__":
    clear() if "--clear" in sys.argv else build()
