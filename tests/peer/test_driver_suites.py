"""The drivers' own public test suites give through vendorgate what they give direct.

The suites come from the drivers' source packages at test time. Each runs twice, direct and through an allow-all rule
that records everything; the outcome of every single test must be the same. (psycopg 3 publishes no tests in its
package; psycopg2, by the same authors and over the same libpq, does.)
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from appliance.lab.servers import Postgres
from appliance.model import Address
from tests.gate import Gate

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]
SUITE_LIMIT = 400  # seconds a run; they took 27 to 40
# Some tests must end within 100 ms, count how much was written before an error came back, or race with a pool that
# closes: they fail now and then, direct as well. Those that differ run again, each alone, and what differs every
# time is a difference.
AGAIN = 10


class Suite(msgspec.Struct, frozen=True):
    package: str
    version: str
    needs: tuple[str, ...]
    folder: str = "tests"
    races: tuple[str, ...] = ()  # tests that may end otherwise through a gate


# It passes when the server's error is back before 4 MB are written, of which the second row is wrong. The sockets of two
# connections hold twice what those of one do, so the client may have written all by then.
EARLY = "tests.test_execute.TestExecuteMany.test_executemany_server_failure_during_writes"
SUITES = {
    "asyncpg": Suite("asyncpg", "0.32.0", ("distro", "uvloop", "pytest"), races=(EARLY,)),
    "psycopg2": Suite("psycopg2", "2.9.13", ("pytest",)),
}


def fetch(suite: Suite, home: Path) -> tuple[Path, Path]:
    """Return the python of a fresh environment with the driver installed, and a folder that holds its tests."""
    python = home / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", home / "env"], check=True)
    wheel = f"{suite.package}{'-binary' if suite.package == 'psycopg2' else ''}=={suite.version}"
    subprocess.run([python, "-m", "pip", "install", "-q", wheel, *suite.needs], check=True)
    source = ["download", "-q", "--no-deps", "--no-binary", suite.package, "-d", home]
    done = subprocess.run([python, "-m", "pip", *source, f"{suite.package}=={suite.version}"], capture_output=True)
    # Its metadata may need a compiler and libpq; the package itself is there all the same.
    found = list(home.glob("*.tar.gz"))
    assert found, done.stderr.decode()
    (home / "source").mkdir()
    subprocess.run(["tar", "-xzf", found[0], "-C", home / "source"], check=True)
    (home / "run").mkdir()
    (tests,) = (home / "source").glob(f"*/{suite.folder}")
    tests.rename(home / "run/tests")
    return python, home / "run"


def outcomes(python: Path, folder: Path, port: int, database: str, only: Iterable[str] = ("tests",)) -> dict[str, str]:
    """Run the suite, or files of it, against a port; return the outcome of each test."""
    report = folder / f"report-{port}.xml"
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "tester",
        "PGPASSWORD": "secret",
        "PGDATABASE": database,
        "PSYCOPG2_TESTDB": database,
    }
    words = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *only]
    subprocess.run(words, cwd=folder, env=environment, capture_output=True, timeout=SUITE_LIMIT)
    found: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        worst = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}.{case.get('name')}"] = worst[0] if worst else "passed"
    return found


def node(test: str) -> str:
    """Return what pytest calls a test that its report calls tests.file.Class.name."""
    folder, file, *names = test.split(".")
    return "::".join([f"{folder}/{file}.py", *names])


def unlike(
    direct: dict[str, str], through: dict[str, str], races: Iterable[str] = ()
) -> dict[str, tuple[str | None, str | None]]:
    """Return the tests whose outcomes are not the same, with both."""
    pairs = {test: (direct.get(test), through.get(test)) for test in (direct.keys() | through.keys()).difference(races)}
    return {test: pair for test, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("name", SUITES)
def test_suite_gives_what_it_gives_direct(name: str, postgres: Postgres, tmp_path: Path) -> None:
    suite = SUITES[name]
    python, folder = fetch(suite, tmp_path)
    postgres.admin(f"create database {name}_direct owner tester; create database {name}_gate owner tester")
    direct = outcomes(python, folder, postgres.port, f"{name}_direct")
    with Gate(Address("127.0.0.1", postgres.port)) as gate:
        through = outcomes(python, folder, gate.port, f"{name}_gate")
        for _ in range(AGAIN):
            differ = unlike(direct, through, suite.races)
            only = sorted(map(node, differ))
            for known, port, way in ((direct, postgres.port, "direct"), (through, gate.port, "gate")):
                again = outcomes(python, folder, port, f"{name}_{way}", only) if only else {}
                known |= {test: again[test] for test in differ if test in again}
        assert set(suite.races) <= through.keys(), "no such test"
        assert gate.of("message"), "nothing went through the gate"
    passed = sum(outcome == "passed" for outcome in direct.values())
    print(f"{name}: {len(direct)} tests, {passed} passed direct")
    assert passed > 250
    assert unlike(direct, through, suite.races) == {}
