"""Which network namespaces are served, how many, and what is let go: with namespaces of the test's own."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.kernel import cgroups, fence
from appliance.kernel.libbpf import Map
from appliance.lab.hosts import Lab
from appliance.service import nested
from appliance.service.nested import AGAIN_S, GONE_LOOKS, SHARE, TABLES, Nested
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


class Hosted:
    """A fence, what serves containers, and processes in namespaces of their own."""

    def __init__(self, lab: Lab, inside: Inside) -> None:
        self.lab, self.incidents = lab, list[str]()
        self.fence = inside(fence.up, lab.place())
        self.nested = inside(lambda: Nested(lab.slice_path, 15001, self.fence.namespaces, self.incidents.append))
        self.boxes: list[subprocess.Popen[bytes]] = []

    def box(self, cgroup: str = "acme.service", count: int = 1) -> list["subprocess.Popen[bytes]"]:
        enter = 'echo $$ >"$0/cgroup.procs" && exec unshare --net sh -c "ip link set lo up; echo; exec sleep 1000"'
        words = ["sh", "-c", enter, str(self.lab.cgroup(cgroup))]
        made = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(count)]
        for box in made:
            assert box.stdout and box.stdout.readline()
        self.boxes += made
        return made

    def end(self, boxes: list["subprocess.Popen[bytes]"]) -> None:
        for box in boxes:
            box.kill()
            box.wait()
            if box.stdout:
                box.stdout.close()

    def close(self) -> None:
        self.end(self.boxes)
        self.nested.close()
        self.fence.close()


@pytest.fixture
def hosted(lab: Lab) -> Iterator[Hosted]:
    inside = Inside(lab.host)
    hosted = Hosted(lab, inside)
    yield hosted
    hosted.close()
    inside.close()


def served(hosted: Hosted) -> int:
    return len(list(Map(hosted.fence.namespaces)))


def table(box: "subprocess.Popen[bytes]") -> str:
    words = ["nsenter", f"--net=/proc/{box.pid}/ns/net", "nft", "list", "ruleset"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_fence_is_told_when_all_is_ready_and_told_again_when_it_is_gone(hosted: Hosted) -> None:
    boxes = hosted.box()
    assert served(hosted) == 0
    hosted.nested.look()
    assert served(hosted) == hosted.nested.count == 1
    assert "redirect to" in table(boxes[0])
    hosted.end(boxes)
    for _ in range(GONE_LOOKS):
        hosted.nested.look()
    assert served(hosted) == 1, "one may just be starting"
    hosted.nested.look()
    assert served(hosted) == hosted.nested.count == 0


def test_share_is_the_most_of_one_vendor_and_others_still_find_room(hosted: Hosted) -> None:
    hosted.box("greedy.service/inner", SHARE + 2)
    hosted.box("other.service")
    hosted.nested.look()
    hosted.nested.look()
    assert served(hosted) == SHARE + 1
    assert len([text for text in hosted.incidents if "greedy.service has more" in text]) >= 1


def test_a_changed_table_is_put_back_tables_at_a_time(hosted: Hosted) -> None:
    boxes = hosted.box(count=TABLES + 1)
    hosted.nested.look()
    for box in boxes:
        subprocess.run(["nsenter", f"--net=/proc/{box.pid}/ns/net", "nft", "flush", "ruleset"], check=True)
    hosted.nested.look()
    assert sum("redirect to" in table(box) for box in boxes) == TABLES
    hosted.nested.look()
    assert all("redirect to" in table(box) for box in boxes)


def test_one_that_cannot_be_served_is_tried_again_after_again_s(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not keep others from it."""
    (bad,) = hosted.box("bad.service")
    enter = f"nsenter --net=/proc/{bad.pid}/ns/net"
    code = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 15001)); s.listen(); print(flush=True); time.sleep(1000)"
    thief = subprocess.Popen([*enter.split(), "/usr/bin/python3", "-c", code], stdout=subprocess.PIPE)
    assert thief.stdout and thief.stdout.readline()
    hosted.box("good.service")
    with pytest.raises(Exception, match=r"bad\.service cannot be served: listen on"):
        hosted.nested.look()
    assert served(hosted) == 1
    hosted.nested.look()
    thief.kill()
    thief.communicate()
    hosted.nested.look()
    assert served(hosted) == 1
    now = time.monotonic()
    monkeypatch.setattr(nested.time, "monotonic", lambda: now + AGAIN_S + 1)
    hosted.nested.look()
    assert served(hosted) == 2


def test_what_an_earlier_hub_told_the_fence_is_void(hosted: Hosted) -> None:
    Map(hosted.fence.namespaces).update((12345).to_bytes(8, "little"), nested.YES)
    Nested(hosted.lab.slice_path, 15001, hosted.fence.namespaces, print)
    assert served(hosted) == 0


def test_processes_that_are_gone_meanwhile_are_no_fault(hosted: Hosted) -> None:
    assert cgroups.processes(hosted.lab.slice_path) == []
    boxes = hosted.box(count=5)
    for box in boxes:
        box.kill()
    with suppress(ProcessLookupError):
        os.kill(boxes[0].pid, 0)
    hosted.nested.look()
    hosted.end(boxes)


def test_the_map_of_namespaces_is_as_large_as_the_header_says() -> None:
    header = (Path(__file__).parents[2] / "bpf/vendorgate.h").read_text()
    assert f"#define VG_NAMESPACES {nested.NAMESPACES} " in header
