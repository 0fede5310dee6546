"""The compiled modules are the same program, and are used only while they are made of the sources that are there."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BUILD = "from appliance.compiled.__main__ import build; build(level='0')"  # what -O changes is only the time it takes
WHERE = "import appliance.session.core as c; print(c.__file__)"
TESTS = [  # of each part that is compiled, those that see the most of it; all together in ten seconds
    *(f"tests/session/test_{name}.py" for name in ("fast", "kept", "rigid", "session")),
    *(f"tests/wire/http/test_{name}.py" for name in ("http", "known", "leaves")),
    *(f"tests/facts/http/test_{name}.py" for name in ("documents", "http", "kept")),
    *(f"tests/session/test_fast_{name}.py" for name in ("http", "mysql", "redis")),
    *(f"tests/wire/{name}/test_dialogues.py" for name in ("mysql", "redis")),
    "tests/wire/test_dialogues.py",
    "tests/wire/test_masks.py",
    "tests/record/test_log.py",
    "tests/relay/test_relay.py",
    *(f"tests/record/test_{name}.py" for name in ("intake", "walk")),
    "tests/relay/test_limits.py",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


def run(tree: Path, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a tree."""
    path = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tree), "PYTHONPATH": str(tree)}
    return subprocess.run([sys.executable, *words], cwd=tree, env={**path, **env}, capture_output=True, text=True, timeout=600)


def where(tree: Path, **env: str) -> str:
    done = run(tree, "-c", WHERE, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the sources with its own compiled modules."""
    tree = tmp_path_factory.mktemp("compiled")
    for name in ("appliance", "tests", "rules"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "made-of", "node_modules")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)
    done = run(tree, "-c", BUILD)
    assert done.returncode == 0, done.stderr[-4000:]
    yield tree


def test_the_tests_of_sessions_and_wires_pass(tree: Path) -> None:
    assert where(tree).endswith(".so")
    done = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_source_that_was_changed_since_makes_all_of_them_plain(tree: Path) -> None:
    other = tree / "appliance/wire/http/leaves.py"
    was = other.read_bytes()
    try:
        other.write_bytes(was + b"\n")
        assert where(tree) == str(tree / "appliance/session/core.py")
    finally:
        other.write_bytes(was)
    assert where(tree).endswith(".so")


def test_a_module_that_is_missing_makes_all_of_them_plain(tree: Path) -> None:
    (one,) = (tree / "appliance/compiled").glob("appliance.wire.http.leaves.*.so")
    aside = one.rename(tree / "aside")
    try:
        assert where(tree).endswith("core.py")
    finally:
        aside.rename(one)


def test_plain_can_be_asked_for(tree: Path) -> None:
    assert where(tree, VENDORGATE_PLAIN="1").endswith("core.py")


def test_clear_takes_them_away(tree: Path) -> None:
    """The last of these tests: it ends the tree."""
    done = run(tree, "-m", "appliance.compiled", "--clear")
    assert done.returncode == 0, done.stderr
    assert not list((tree / "appliance/compiled").glob("*.so"))
    assert where(tree).endswith("core.py")
