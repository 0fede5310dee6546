"""Both sides of the border to bpf/ agree. The sizes in the header are asserted by its compiler."""

import re
from pathlib import Path

import pytest

from appliance.kernel import layout
from appliance.kernel.layout import Executed, Judgement, Opened, Reason, Way
from appliance.model import Address

HEADER = (Path(__file__).parents[2] / "bpf/vendorgate.h").read_text()
SIZES = {name: int(size) for name, size in re.findall(r"sizeof\(struct (\w+)\) == (\d+)", HEADER)}
DEFINED = {name: int(value, 0) for name, value in re.findall(r"#define VG_(\w+)\s+(\w+)", HEADER) if value[0].isdigit()}
ENUMS = {
    name: [re.sub(r"\s*=.*", "", item.strip()) for item in re.sub(r"/\*.*?\*/", "", body, flags=re.S).split(",") if item.strip()]
    for name, body in re.findall(r"enum (\w+) \{(.*?)\};", HEADER, re.S)
}

PYTHON = {
    "vg_process": layout.PROCESS.size,
    "vg_address": layout.ADDRESS.size,
    "vg_flow": layout.FLOW.size,
    "vg_socket": layout.SOCKET.size,
    "vg_peer": layout.PEER.size,
    "vg_opened": 16,  # the fence's alone
    "vg_prefix": layout.PREFIX.size,
    "vg_range": layout.RANGE.size,
    "vg_ranges": layout.RANGES_HEAD.size + layout.RANGES * layout.RANGE.size,
    "vg_settings": layout.SETTINGS.size,
    "vg_image_key": layout.IMAGE_KEY.size,
    "vg_image": layout.IMAGE.size,
    "vg_event": layout.EVENT.size,
    "vg_kept": layout.KEPT.size,
    "vg_inode": layout.INODE.size,
    "vg_unix": layout.UNIX.size,
    "vg_coverage": layout.COVERAGE.size,
    "vg_speaker": layout.SPEAKER.size,
    "vg_share": layout.SHARED.size,
    "vg_passage": layout.PASSAGE.size,
}


def test_sizes_are_those_of_the_header() -> None:
    assert PYTHON == SIZES


def test_constants_are_those_of_the_header() -> None:
    for name in ("LAYOUT", "STEER_MARK", "EXE", "ARGV", "PARENTS", "RANGES", "PEERS", "RATE", "SCOPES", "PREFIXES", "LEDGER", "LEVELS", "REASON_ROOM",
                 "QUEUE_MARK", "QUEUE_TAG", "QUEUE_DIRECT", "QUEUE_SLOT", "QUEUE_TURN", "QUEUES", "SPEAKERS", "SHARE", "LINGER"):
        assert getattr(layout, name) == DEFINED[name], name
    assert layout.SPEAKER.size - layout.FLOW.size == layout.SPEAKER_HEAD


def test_enumerations_are_those_of_the_header() -> None:
    assert [f"VG_{r.name}" for r in Reason] == ENUMS["vg_reason"][:-1]
    assert [f"VG_JUDGE_{j.name}" for j in Judgement] == ENUMS["vg_judgement"]
    assert [f"VG_WAY_{w.name}" for w in Way] == ENUMS["vg_way"][:-1]
    for name, value in re.findall(r"VG_FLAG_(\w+) = (\d+)", HEADER):
        assert getattr(layout, name) == int(value)


def process(argv: bytes = b"psql\0-c\0select 1\0", flags: int = 0, parents: bytes = b"/bin/sh\0/sbin/init\0") -> bytes:
    return layout.PROCESS.pack(
        5, 42, 1, 1000, flags, len(argv), 8, 99, 7, 4096, 3, 1, 42, b"/usr/bin/psql", b"/", argv, len(parents), 0, parents
    )  # fmt: skip


def test_a_process_is_read() -> None:
    who = Executed.unpack(process())
    assert (who.pid, who.started, who.uid, who.exe) == (42, 5, 1000, "/usr/bin/psql")
    assert who.argv == ("psql", "-c", "select 1")
    assert who.parents == ("/bin/sh", "/sbin/init")


@pytest.mark.parametrize(("argv", "flags", "words"), [
    (b"a\0\0b\0", 0, ("a", "", "b")),
    (b"a\0b", 0, ("a", "b")),  # a process that wrote over its own
    (b"a\0long", layout.ARGV_CUT, ("a", "…")),
    (b"", 0, ()),
    (b"a\0", layout.ARGV_UNKNOWN, ()),
    (b"\xff\0", 0, ("\udcff",)),
])  # fmt: skip
def test_argv(argv: bytes, flags: int, words: tuple[str, ...]) -> None:
    assert Executed.unpack(process(argv, flags)).argv == words


@pytest.mark.parametrize(("parents", "flags", "exes"), [
    (b"", 0, ()),
    (b"/a\0/b\0", 0, ("/a", "/b")),
    (b"/a\0/b", 0, ("/a",)),  # cut within a name: never half a name
    (b"/a\0", layout.PARENTS_CUT, ("/a", "")),
    (b"\0/b\0", 0, ("", "/b")),
])  # fmt: skip
def test_parents(parents: bytes, flags: int, exes: tuple[str, ...]) -> None:
    assert Executed.unpack(process(parents=parents, flags=flags)).parents == exes


def test_a_flow_without_lineage_has_no_process() -> None:
    to = layout.ADDRESS.pack(bytes([10, 0, 0, 1]), (5432).to_bytes(2, "big"), layout.INET, 6)
    flow = Opened.unpack(layout.FLOW.pack(7, 1, 2, 3, 5, 9, 1000, 42, to, bytes(layout.PROCESS.size)))
    assert flow.process is None and flow.to == Address("10.0.0.1", 5432) and flow.cookie == 7
    assert (flow.sequence, flow.epoch) == (5, 9)


def test_peer_keys_are_by_family() -> None:
    v4, v6 = (layout.peer_key(1, Address(host, 80)) for host in ("1.2.3.4", "102:304::"))
    assert v4 != v6 and len(v4) == len(v6) == layout.PEER.size
