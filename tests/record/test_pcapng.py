"""Wireshark reads what is exported as PostgreSQL, and has nothing to complain about."""

import io
import json
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import dpkt
import msgspec
import pytest

from appliance.model import Address, Flow, Note
from appliance.record import tcp
from appliance.record.export import pcapng
from appliance.record.frame import Frame
from appliance.record.log import kept
from appliance.record.pcapng import ABOUT, MAX_COMMENT, RAW_IP
from appliance.record.tcp import Connection, checksum
from tests.record import dialogue as d
from tests.record.samples import NO_DROP, PSQL, C, S, T, asked, closed, flow, opened, rows

V6 = Flow("f6", T, Address.of("fd77::5", 40001), Address.of("fd77::2", 5432), PSQL)
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def frames(notes: Iterable[Note], of: Flow | None = None, step: float = 0.001) -> list[Frame]:
    of = of or flow()
    return [
        Frame(number, of.opened + number * step, of.id, note, flow=of if number == 1 else None)
        for number, note in enumerate(notes, 1)
    ]


def export(path: Path, found: Iterable[Frame]) -> Path:
    with path.open("wb") as out:
        assert pcapng(found, out) == out.tell()
    return path


def tshark(path: Path, *args: str) -> str:
    checks = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run(["tshark", "-n", "-r", path, *checks, *args], capture_output=True, text=True, check=True)
    return done.stdout


def fields(path: Path, *names: str, only: str = "", port: int = 5432) -> list[list[str]]:
    args = ["-T", "fields", "-E", "separator=|", *(f"-e{name}" for name in names)]
    args += ["-Y", only] if only else []
    args += ["-d", f"tcp.port=={port},pgsql"] if port != 5432 else []
    return [line.split("|") for line in tshark(path, *args).splitlines()]


def complaints(path: Path, *args: str) -> str:
    """What Wireshark finds worth a note or more: retransmissions, lost segments, bad checksums, malformed data."""
    bad = "_ws.malformed || tcp.analysis.flags || _ws.unreassembled || _ws.expert.severity >= 0x400000"
    # Every FIN is worth a note to Wireshark and every RST a warning: they are the end we mean to show.
    return tshark(path, *args, "-Y", f"({bad}) && !(!tcp.analysis.flags && (tcp.flags.fin == 1 || tcp.flags.reset == 1))")


@needs_tshark
@pytest.mark.parametrize("of", [flow(), V6], ids=["ipv4", "ipv6"])
def test_a_whole_session_is_postgresql_without_a_complaint(tmp_path: Path, of: Flow) -> None:
    path = export(tmp_path / "f.pcapng", frames(d.whole(), of))
    assert complaints(path) == ""
    types = [one for line in fields(path, "pgsql.type", only="pgsql") for one in line[0].split(",")]
    for name in ("Startup message", "Simple query", "Parse", "Bind", "Execute", "Sync", "Termination"):
        assert name in types
    assert types.count("Data row") == 2 + 1 + 201
    assert types.count("Ready for query") == 6
    assert types.count("Error") == 1
    checks = fields(path, "tcp.checksum.status", "ip.checksum.status")
    assert {one for line in checks for one in line} <= {"1", ""}


@needs_tshark
def test_the_bytes_are_those_of_the_client(tmp_path: Path) -> None:
    """Also those of a refused request, and the refusal."""
    path = export(tmp_path / "f.pcapng", frames(d.whole()))
    out = tshark(path, "-q", "-z", "follow,tcp,raw,0")
    lines = [line for line in out.splitlines() if line and set(line.strip()) <= set("0123456789abcdef")]
    for side, prefix in ((C, ""), (S, "\t")):
        shown = [bytes.fromhex(line.strip()) for line in lines if line.startswith("\t") == bool(prefix)]
        assert b"".join(shown) == b"".join(n.raw for n in d.whole() if n.side is side)


@needs_tshark
def test_comments_say_who_and_what_was_decided(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", frames(d.whole()))
    found = json.loads(tshark(path, "-T", "json", "-Y", "frame.comment"))
    comments = []
    for packet in found:
        layers = packet["_source"]["layers"]
        comment = layers["pkt_comment"]["frame.comment"]
        comments.append((layers, comment if isinstance(comment, str) else "\n".join(comment)))
    syn, said = comments[0]
    assert syn["tcp"]["tcp.flags"] == "0x0002"
    for part in (
        "pid: 4242",
        "exe: /usr/bin/psql",
        "argv: psql -h db shop",
        "cgroup: acme.service",
        "uid: 1000",
        "package: postgresql-client-15",
        "identity: acme-psql",
        "target: orders-db",
    ):
        assert part in said.split("\n")
    (dropped,) = [said for layers, said in comments if "drop table users" in json.dumps(layers.get("pgsql", ""))]
    assert "verdict: block" in dropped
    assert "rule: no-drop (10-db.yaml @r1): destructive statements are not allowed" in dropped
    assert "id: f1-3" in dropped
    (held,) = [said for layers, said in comments if "alter table" in json.dumps(layers.get("pgsql", ""))]
    assert "held for approval" in held and "verdict: approve" in held
    everything = "\n".join(said for _, said in comments)
    assert "answered by eve: approved: fine" in everything
    assert "masked: 1 cells by hide-ssn" in everything
    assert everything.count("not recorded: auth of the client") == 2
    last, said = comments[-1]
    assert last["tcp"]["tcp.flags"] == "0x0011" and "closed: ended" in said


@needs_tshark
def test_a_decision_on_a_long_request_is_where_wireshark_shows_it(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", frames([opened(), *d.BIG]))
    ((comment, kind),) = fields(path, "frame.comment", "pgsql.type", only="frame.comment && tcp.dstport == 5432 && tcp.len > 0")
    assert kind == "Simple query" and "id: f1-8" in comment


@needs_tshark
def test_addresses_and_times_are_the_real_ones(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", frames(d.whole()))
    first, *_, last = fields(path, "frame.time_epoch", "ip.src", "ip.dst", "tcp.srcport", "tcp.dstport")
    assert float(first[0]) == T
    assert first[1:] == ["10.0.3.5", "10.0.3.2", "40001", "5432"]
    assert float(last[0]) == pytest.approx(T + len(d.whole()) * 0.001, abs=1e-6)


@needs_tshark
def test_another_port_is_dissected_when_told(tmp_path: Path) -> None:
    of = msgspec.structs.replace(flow(), server=Address.of("10.0.3.2", 6543))
    path = export(tmp_path / "f.pcapng", frames(d.whole(), of))
    assert complaints(path, "-d", "tcp.port==6543,pgsql") == ""
    assert len(fields(path, "pgsql.type", only="pgsql", port=6543)) > 10


@needs_tshark
def test_many_sessions_mixed_and_a_port_used_again(tmp_path: Path) -> None:
    mixed: list[Frame] = []
    for number in range(5):
        of = flow(f"s{number}", T + number, port=40001 + number % 3)
        mixed += frames(d.whole(), of, 0.01)
    for frame, other in zip(mixed, frames(d.whole(), flow("late", T + 90), 0.02), strict=False):
        mixed.append(msgspec.structs.replace(other, time=frame.time + 100))
    mixed.sort(key=lambda f: f.time)
    path = export(tmp_path / "f.pcapng", mixed)
    flags = "tcp.analysis.flags && !tcp.analysis.reused_ports"
    assert tshark(path, "-Y", f"_ws.malformed || ({flags}) || _ws.expert.severity >= 0x600000") == ""
    streams = {line[0] for line in fields(path, "tcp.stream", only="pgsql.type == Termination || pgsql")}
    assert len(streams) == 6


@needs_tshark
def test_a_reset_when_the_session_was_aborted(tmp_path: Path) -> None:
    refused = [opened(), Note("decision", "connect to x", decision=NO_DROP, id="f1-1"), Note("closed", "refused at connect", message="abort")]
    path = export(tmp_path / "f.pcapng", frames(refused))
    *_, last = fields(path, "ip.src", "tcp.flags", "frame.comment")
    assert last[:2] == ["10.0.3.2", "0x0014"]
    assert "verdict: block" in last[2] and "closed: refused at connect" in last[2]
    assert complaints(path) == ""


@needs_tshark
@pytest.mark.parametrize(("side", "source"), [(None, "10.0.3.5"), (C, "10.0.3.5"), (S, "10.0.3.2")])
def test_who_left_first_sends_the_first_fin(tmp_path: Path, side: object, source: str) -> None:
    path = export(tmp_path / "f.pcapng", frames([opened(), Note("closed", "ended", side=side)]))  # type: ignore[arg-type]
    assert fields(path, "ip.src", only="tcp.flags.fin == 1")[0] == [source]
    assert complaints(path) == ""


@needs_tshark
def test_a_session_without_an_end_has_no_fin_and_keeps_its_comments(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", frames([opened(), *d.LOGIN, Note("incident", "upstream lost")]))
    assert fields(path, "ip.src", only="tcp.flags.fin == 1 || tcp.flags.reset == 1") == []
    assert "incident: upstream lost" in tshark(path, "-T", "fields", "-e", "frame.comment")
    assert complaints(path) == ""


@needs_tshark
@pytest.mark.parametrize("level", ["requests", "metadata"])
def test_bytes_that_were_not_recorded_are_packets_cut_short(tmp_path: Path, level: str) -> None:
    found = []
    for frame in frames(d.whole()):
        note, dropped = kept(frame.note, level)  # type: ignore[arg-type]
        found.append(msgspec.structs.replace(frame, note=note, dropped=dropped))
    path = export(tmp_path / "f.pcapng", found)
    assert tshark(path, "-Y", "tcp.analysis.flags || _ws.expert.severity >= 0x600000") == ""
    assert sum(int(line[0]) for line in fields(path, "tcp.len")) == sum(f.size for f in found)
    answer = fields(path, "frame.cap_len", "frame.len", only="tcp.srcport == 5432 && tcp.len > 0")
    assert all(int(taken) == 40 < int(size) for taken, size in answer)
    queries = fields(path, "pgsql.query", only="pgsql.query")
    assert (["drop table users"] in queries) == (level == "requests")


@needs_tshark
def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", [])
    done = subprocess.run(["capinfos", path], capture_output=True, text=True, check=True)
    assert ABOUT in done.stdout
    assert "vendorgate" in done.stdout


# -- without Wireshark ------------------------------------------------------------------------------------------


def read_back(found: Sequence[Frame]) -> list[tuple[float, bytes]]:
    out = io.BytesIO()
    pcapng(found, out)
    out.seek(0)
    reader = dpkt.pcapng.Reader(out)
    assert reader.datalink() == RAW_IP
    return list(reader)


def test_another_reader_takes_the_file() -> None:
    packets = [dpkt.ip.IP(data) for _, data in read_back(frames(d.whole()))]
    assert [p.data.flags for p in packets[:3]] == [tcp.SYN, tcp.SYN | tcp.ACK, tcp.ACK]
    sent = b"".join(p.data.data for p in packets if p.data.dport == 5432)
    assert sent == b"".join(n.raw for n in d.whole() if n.side is C)


def test_mtu_bounds_a_packet() -> None:
    for of in (flow(), V6):
        sizes = [len(data) for _, data in read_back(frames(d.whole(), of))]
        assert max(sizes) == tcp.MTU == 1500


def test_unanswered_bounds_what_is_on_its_way() -> None:
    connection = Connection(flow().client, flow().server, "x")
    connection.open(T)
    packets = list(connection.say(S, T, bytes(1460 * 7)))
    answers = [dpkt.ip.IP(p.data).data.sport == 40001 for p in packets]
    assert answers == [False, False, True] * 3 + [False]
    assert tcp.UNANSWERED == 2
    assert tcp.WINDOW == 64_240 > 3 * 1460


def test_a_session_that_begins_in_the_middle_says_so() -> None:
    out = io.BytesIO()
    pcapng(frames([rows(b"x")]), out)
    assert b"the beginning of this session is no longer in the record" in out.getvalue()


ODD = [None, *(msgspec.structs.replace(flow(), client=Address(*end)) for end in (("x", 1), ("10.0.0.1", -1), ("::1", 1 << 16)))]


@pytest.mark.parametrize("of", ODD)
def test_frames_that_say_no_addresses_are_between_none(of: Flow | None) -> None:
    """Only a worker that was taken over writes them; what others wrote is in the same export."""
    out = io.BytesIO()
    pcapng([Frame(1, T, "f1", rows(b"said"), flow=of), *frames([opened(), closed()])], out)
    assert bytes(4) + bytes(4) in out.getvalue()
    assert b"said" in out.getvalue()


def test_what_is_said_after_the_end_is_no_packet() -> None:
    notes = [opened(), closed()]
    assert len(read_back(frames([*notes, closed("internal error")]))) == len(read_back(frames(notes)))


def test_a_request_and_its_decision_with_another_session_between() -> None:
    """The comment goes on a later packet of its own session, not on the other's."""
    one = frames([opened(), *asked("drop table t", NO_DROP), closed()])
    two = frames([opened(), closed()], flow("f2", port=40002))
    out = io.BytesIO()
    pcapng([*one[:2], two[0], one[2], two[1], one[3]], out)
    packets = out.getvalue().split(struct.pack("<II", 0, RAW_IP))
    assert out.getvalue().count(b"rule: no-drop") == 1
    assert packets


def test_max_comment_bounds_a_comment_and_control_characters_are_escaped() -> None:
    argv = ("psql", "\x1b[2J\u202e", "x" * 100_000)
    out = io.BytesIO()
    pcapng(frames([opened()], flow(process=msgspec.structs.replace(PSQL, argv=argv))), out)
    assert MAX_COMMENT == 8192
    assert len(out.getvalue()) < MAX_COMMENT + 1000
    assert b"\x1b" not in out.getvalue()
    assert b"\\x1b[2J\\u202e" in out.getvalue()


def test_addresses_of_two_families_are_written_as_ipv6() -> None:
    of = msgspec.structs.replace(flow(), server=Address.of("fd77::2", 5432))
    (_, first), *_ = read_back(frames([opened()], of))
    assert dpkt.ip6.IP6(first).src[-4:] == bytes((10, 0, 3, 5))


def test_a_sequence_number_may_pass_its_end() -> None:
    connection = Connection(flow().client, flow().server, "x")
    connection._next[C] = 0xFFFFFFFF
    packets = [*connection.open(T), *connection.say(C, T, b"abc")]
    assert [dpkt.ip.IP(p.data).data.seq for p in packets if dpkt.ip.IP(p.data).data.sport == 40001] == [0xFFFFFFFF, 0, 0]


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xff", b"\xff\xff\xff\xff", b"abc", bytes(range(256)) * 9])
def test_the_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    mine = checksum(data)
    assert mine == ~total & 0xFFFF or (total == 0 and mine in (0, 0xFFFF))


@needs_tshark
@pytest.mark.parametrize("fault", ["byte", "order", "twice", "length"])
def test_the_checks_above_see_a_fault(tmp_path: Path, fault: str) -> None:
    found = frames([opened(), *d.LOGIN, *d.READ, *d.BYE])
    path = export(tmp_path / "f.pcapng", found)
    data = path.read_bytes()
    if fault == "byte":
        data = data.replace(b"select name", b"select game")
    elif fault == "length":
        bad = msgspec.structs.replace(d.READ[2], raw=d.row("Ada").replace(b"\0\1", b"\0\7"))
        data = export(path, frames([opened(), *d.LOGIN, *d.READ[:2], bad, *d.BYE])).read_bytes()
    else:
        blocks, offset = [], 0
        while offset < len(data):
            size = struct.unpack_from("<I", data, offset + 4)[0]
            blocks.append(data[offset : offset + size])
            offset += size
        if fault == "order":
            blocks[-6], blocks[-8] = blocks[-8], blocks[-6]
        else:
            blocks.insert(-5, blocks[-6])
        data = b"".join(blocks)
    path.write_bytes(data)
    bad_sums = {line[0] for line in fields(path, "tcp.checksum.status")} - {"1", ""}
    assert complaints(path) or bad_sums
