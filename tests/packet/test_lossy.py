"""Real connections over links that lose, reorder and duplicate: what we read at either end is what its kernel gave."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dpkt
import msgspec
import pytest

from appliance.lab.hosts import Lab
from appliance.model import Side
from appliance.packet.decode import decode
from appliance.packet.events import Began, Choices, Gap, Happening, Odd, Over, Run
from appliance.packet.tracker import Tracker
from tests.packet.link import ADDRESSES, Told
from tests.packet.lossy import text

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]
ROLES = ("server", "client")
PORT, COUNT, SIZE = 7100, 4, 150_000


@pytest.fixture(scope="module", params=["4", "6"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both ends read, and the packets at either end."""
    home = tmp_path_factory.mktemp("lossy")
    converse(home, request.param)
    return home


def converse(home: Path, version: str, *words: str) -> Told:
    """Let the ends talk; return what the link says."""
    with Lab() as lab:
        link = subprocess.Popen(
            [sys.executable, "-m", "tests.packet.link", lab.host, lab.target, version, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert link.stdin and link.stdout and link.stdout.readline() == b"up\n"
        rest = [str(home), ADDRESSES[1][version == "6"], str(PORT), str(COUNT), str(SIZE)]
        end = [sys.executable, "-m", "tests.packet.lossy"]
        server = lab.popen([*end, "server", *rest], "target", stdout=subprocess.PIPE, cwd=ROOT)
        assert server.stdout.readline() == b"listens\n"
        assert lab.run([*end, "client", *rest], "host", cwd=ROOT).returncode == 0
        assert server.wait(120) == 0
        told, _ = link.communicate(timeout=60)
        assert link.returncode == 0
    return msgspec.json.decode(told, type=Told)


def ports(home: Path) -> list[int]:
    found = [int(path.name.split("-")[1]) for path in home.glob("server-*")]
    assert len(found) == COUNT
    return found


def read(home: Path) -> list[bytes]:
    return sorted((home / f"{one}-{port}").read_bytes() for port in ports(home) for one in ROLES)


def replay(path: Path, choices: Choices) -> tuple[list[Happening], Counter[str], Tracker]:
    tracker, events, places = Tracker(choices), list[Happening](), Counter[str]()
    with path.open("rb") as file:
        now = 0.0
        for number, (now, data) in enumerate(dpkt.pcap.Reader(file), 1):
            taken = tracker.take(decode(data), now, number)
            places[taken.place] += 1
            events += taken.events
    return events + tracker.end(now), places, tracker


def streams(events: list[Happening]) -> dict[tuple[int, Side], bytes]:
    found: dict[tuple[int, Side], bytes] = {}
    for event in events:
        if isinstance(event, Run):
            key = (event.flow, event.side)
            assert event.offset == len(found.get(key, b""))
            found[key] = found.get(key, b"") + event.data
    return found


@pytest.mark.parametrize("role", ["server", "client"])
def test_what_is_read_is_what_the_kernel_gave(folder: Path, role: str) -> None:
    events, places, tracker = replay(folder / f"{role}.pcap", Choices())
    said = sorted(streams(events).values())
    assert said == read(folder) == sorted(text(one, port, SIZE) for port in ports(folder) for one in ROLES)
    assert not [event for event in events if isinstance(event, Gap | Odd)]
    flows = {event.flow for event in events if isinstance(event, Began) and event.transport == "tcp"}  # hosts also look
    whys = Counter(event.why for event in events if isinstance(event, Over) and event.flow in flows)  # for neighbours
    assert whys["finished"] + whys["end"] == whys.total() == COUNT  # a FIN may be lost until the capture was over
    assert places["early"] and places["old"]  # the links did lose and reorder
    assert tracker.memory == 0


def test_inline_what_is_let_by_is_what_the_kernel_gave(tmp_path: Path) -> None:
    """Each packet goes on by the word of a tracker, or not at all: no connection is refused, and none is hurt."""
    told = converse(tmp_path, "4", "inline")
    assert sorted(told.streams) == read(tmp_path) == sorted(text(one, port, SIZE) for port in ports(tmp_path) for one in ROLES)
    assert told.places["early"] and told.places["old"]
    assert not [why for why in told.counters if why.startswith("odd") or why == "over: refused"]


def test_tshark_reads_the_same(folder: Path) -> None:
    events, _, _ = replay(folder / "server.pcap", Choices())
    words = ["tshark", "-n", "-r", str(folder / "server.pcap"), "-q"]
    for number in range(COUNT):
        words += ["-z", f"follow,tcp,raw,{number}"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
    assert sorted(streams(events).values()) == sorted(followed(told))


def followed(told: str) -> list[bytes]:
    """What tshark says of each stream and direction: hexadecimal lines, those of the second node behind a tab."""
    found: list[bytes] = []
    for part in told.split("Node 1:")[1:]:
        lines = re.findall(r"^\t?[0-9a-f]+$", part, re.MULTILINE)
        found.append(b"".join(bytes.fromhex(line) for line in lines if not line.startswith("\t")))
        found.append(b"".join(bytes.fromhex(line) for line in lines if line.startswith("\t")))
    return found
