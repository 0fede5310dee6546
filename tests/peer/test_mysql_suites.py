"""The drivers' own public test suites give through vendorgate what they give direct: MySQL and MariaDB.

mysqlclient's and PyMySQL's come from their source packages (PyMySQL's since 1.0 have no tests but of the login: so the
last one before that, driver and tests). MariaDB's C client is tested by its own authors' program, of Debian's package
mariadb-test: over 300 tests, most of prepared statements. mysql2 (Node) publishes no tests in its package; it is in
test_mysql_clients.py. Each suite runs twice, direct and through an allow-all rule that records everything, on a server
of its own each, at the same time; the outcome of every single test must be the same.
"""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.lab.servers import MariaDB
from appliance.model import Address
from tests.conftest import maria
from tests.gate import Gate
from tests.peer.test_driver_suites import unlike

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]
SUITE_LIMIT = 400  # seconds a run; they took 10 to 40
# Some tests race with themselves, direct as well. What differs runs again, and what differs every time is a difference.
AGAIN = 5
CLIENT_TEST = Path(__file__).parents[2] / "build/mariadb-test/usr/bin/mariadb-client-test"

Outcomes = dict[str, str]
Run = Callable[[int, Iterable[str]], Outcomes]
"""Runs a suite, or some tests of it, against a port."""


def same(run: Run, least: int) -> None:
    """Run a suite direct and through the gate; fail if a test ends otherwise, or fewer than `least` pass."""
    with maria() as one, maria() as other, Gate(Address("127.0.0.1", other.port), protocol="mysql") as gate:
        for server in (one, other):
            prepare(server)
        with ThreadPoolExecutor(2) as pool:
            direct, through = pool.map(lambda port: run(port, ()), (one.port, gate.port))
        for _ in range(AGAIN):
            differ = sorted(unlike(direct, through))
            if differ:
                direct |= run(one.port, differ)
                through |= run(gate.port, differ)
        assert gate.of("message"), "nothing went through the gate"
        incidents = [note.text for note in gate.of("incident")]
    passed = sum(outcome == "passed" for outcome in direct.values())
    print(f"{len(direct)} tests, {passed} passed direct; incidents: {incidents}")
    assert passed >= least
    assert unlike(direct, through) == {}


def prepare(server: MariaDB) -> None:
    server.admin("create database test; create database test1; create database test2")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a fresh environment."""
    home = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", home / "env"], check=True)
    pip(home / "env/bin/python", "install", "pytest", "setuptools>=77", "wheel")
    return home / "env/bin/python"


def pip(python: Path, *words: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "-q", "--disable-pip-version-check", *words], check=True, capture_output=True)


def source(python: Path, home: Path, package: str, version: str) -> Path:
    """Return the folder of a source package."""
    words = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "-d", home, f"{package}=={version}"]
    pip(python, "download", *words)
    (found,) = home.glob("*.tar.gz")
    (home / "source").mkdir()
    subprocess.run(["tar", "-xzf", found, "-C", home / "source"], check=True)
    (folder,) = (home / "source").iterdir()
    return folder


def pytest_of(python: Path, folder: Path, tests: str, port: int, only: Iterable[str], **variables: str) -> Outcomes:
    """Run pytest; return the outcome of each test."""
    report = folder / f"report-{port}.xml"
    words = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *(only or (tests,))]
    own = [f"--basetemp={folder}/tmp-{port}", f"--rootdir={folder}"]
    subprocess.run([*words, *own], cwd=folder, env={**os.environ, **variables}, capture_output=True, timeout=SUITE_LIMIT)
    found: Outcomes = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        worst = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[node(folder, str(case.get("classname")), str(case.get("name")))] = worst[0] if worst else "passed"
    return found


def node(folder: Path, module: str, name: str) -> str:
    """Return what pytest calls a test that its report has under a module or class."""
    if not module:  # a file that is skipped whole
        return str(Path(*name.split(".")).with_suffix(".py"))
    parts = module.split(".")
    for i in range(len(parts), 0, -1):
        file = Path(*parts[:i]).with_suffix(".py")
        if (folder / file).exists():
            return "::".join([str(file), *parts[i:], name])
    raise AssertionError(module)


def test_mysqlclient(python: Path, tmp_path: Path) -> None:
    original = source(python, tmp_path, "mysqlclient", "2.3.1")
    pip(python, "install", "--no-build-isolation", original)
    folder = tmp_path / "run"  # beside the source, that would be imported for the driver
    folder.mkdir()
    (original / "tests").rename(folder / "tests")

    def run(port: int, only: Iterable[str]) -> Outcomes:
        config = tmp_path / f"{port}.cnf"
        lines = ["[MySQLdb-tests]", "host=127.0.0.1", f"port={port}", "user=tester", "password=secret", "database=test"]
        config.write_text("\n".join([*lines, "default-character-set=utf8mb4", ""]))
        return pytest_of(python, folder, "tests", port, only, TESTDB=str(config))

    same(run, 150)


def test_pymysql(python: Path, tmp_path: Path) -> None:
    original = source(python, tmp_path, "PyMySQL", "0.10.1")

    def run(port: int, only: Iterable[str]) -> Outcomes:
        folder = tmp_path / str(port)  # the suite reads where the server is from its own folder
        if not folder.exists():
            subprocess.run(["cp", "-r", original, folder], check=True)
        given = {"host": "127.0.0.1", "port": port, "user": "tester", "passwd": "secret"}
        both = [{**given, "db": "test1", "use_unicode": True, "local_infile": True}, {**given, "db": "test2"}]
        (folder / "pymysql/tests/databases.json").write_text(json.dumps(both))
        return pytest_of(python, folder, "pymysql/tests", port, only)

    same(run, 145)


def test_the_c_client(tmp_path: Path) -> None:
    listed = subprocess.run([CLIENT_TEST, "--no-defaults", "--show-tests"], capture_output=True, text=True, check=True)
    words = [line.split()[0] for line in listed.stdout.splitlines()[1:] if line.strip()]
    # test_change_user waits for a server that slows down logins that fail; test_logs needs the server's files.
    names = [word for word in words if word.startswith(("test_", "client_")) and word != "test_change_user"]

    def one(port: int, name: str) -> str:
        where = ["-h127.0.0.1", f"-P{port}", "-utester", "-psecret", f"--vardir={tmp_path}"]
        command = [CLIENT_TEST, "--no-defaults", *where, "-s", "-s", "-c", name]
        try:
            done = subprocess.run(command, capture_output=True, timeout=30, cwd=tmp_path)
        except subprocess.TimeoutExpired:
            return "no end"
        return "passed" if done.returncode == 0 else "failure"

    def run(port: int, only: Iterable[str]) -> Outcomes:
        return {name: one(port, name) for name in only or names}

    same(run, 260)
