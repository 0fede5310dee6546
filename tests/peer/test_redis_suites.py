"""redis-py's own public test suite gives through vendorgate what it gives direct.

It comes from the driver's source package at test time, and runs in both versions of the protocol, direct and through an
allow-all rule that records everything, all at once and each on a server of its own. The outcome of every single test must
be the same. Left out: tests that need a cluster, modules or TLS, or a server that writes files, and those of what happens
without a server. node-redis publishes no tests in its package; it is in test_redis_clients.py.
"""

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.lab.redis import Redis
from appliance.model import Address
from tests.gate import Gate
from tests.peer.test_driver_suites import Suite, fetch, unlike
from tests.ports import free_port

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]
SUITE_LIMIT = 400  # seconds a run; they took 50
SUITE = Suite("redis", "8.1.0", ("pytest", "pytest-asyncio", "pytest-timeout"))
FILES = [f"tests/test_{name}.py" for name in ("commands", "pipeline", "pubsub", "scripting", "encoding", "function", "lock", "monitor")]
LEFT_OUT = (
    "tests/test_commands.py::TestRedisCommands::test_sync", "tests/test_commands.py::TestRedisCommands::test_psync",
    "tests/test_pubsub.py::TestPubSubRedisDown",
)  # fmt: skip
CONFIG = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
# Some tests race with themselves, direct as well. What differs runs again, and what differs every time is a difference.
AGAIN = 5
LEAST = 600  # tests that pass direct, of each version

Outcomes = dict[str, str]


def outcomes(python: Path, folder: Path, port: int, protocol: int, only: Iterable[str] = ()) -> Outcomes:
    """Run the suite, or some tests of it, against a port; return the outcome of each test."""
    report = folder / f"report-{port}.xml"
    words = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", "--timeout=60", f"--junit-xml={report}"]
    words += ["-m", "not onlycluster and not redismod and not ssl", f"--redis-url=redis://127.0.0.1:{port}/9", f"--protocol={protocol}"]
    chosen = list(only)
    words += chosen or [*FILES, *(f"--deselect={name}" for name in LEFT_OUT)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SUITE_LIMIT)
    assert report.exists(), done.stdout + done.stderr
    found: Outcomes = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        worst = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        folder_name, file, *names = str(case.get("classname")).split(".")
        found["::".join([f"{folder_name}/{file}.py", *names, str(case.get("name"))])] = worst[0] if worst else "passed"
    return found


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The python and the folder of the suite."""
    python, folder = fetch(SUITE, tmp_path_factory.mktemp("redis-py"))
    (folder / "pytest.ini").write_text(CONFIG)
    return python, folder


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Redis]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Redis(tmp_path_factory.mktemp("redis"), free_port())) for _ in range(4)]


def test_suite_gives_what_it_gives_direct(suite: tuple[Path, Path], servers: list[Redis]) -> None:
    python, folder = suite
    with ExitStack() as stack:
        gates = [stack.enter_context(Gate(Address("127.0.0.1", server.port), protocol="redis")) for server in servers[2:]]
        ports = [servers[0].port, servers[1].port, gates[0].port, gates[1].port]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda of: outcomes(python, folder, *of), zip(ports, (2, 3, 2, 3), strict=True)))
        for protocol, direct, through, port, gate in ((2, found[0], found[2], ports[0], ports[2]), (3, found[1], found[3], ports[1], ports[3])):
            for _ in range(AGAIN):
                differ = sorted(unlike(direct, through))
                if differ:
                    direct.update(outcomes(python, folder, port, protocol, differ))
                    through.update(outcomes(python, folder, gate, protocol, differ))
            passed = sum(outcome == "passed" for outcome in direct.values())
            print(f"RESP{protocol}: {len(direct)} tests, {passed} passed direct")
            assert unlike(direct, through) == {}
            assert passed >= LEAST
        for one in gates:
            assert len(one.of("message")) > 10_000, "hardly anything went through the gate"
            print([note.text for note in one.of("incident")])
