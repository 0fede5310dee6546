"""What a capture says besides packets: an interface for each identity, names of servers. And no protocol in it."""

import json
import shutil
import subprocess
from pathlib import Path

import dpkt
import msgspec
import pytest

from appliance.model import Address, Flow, Note
from appliance.record import pcapng
from appliance.record.frame import Frame
from tests.record import dialogue as d
from tests.record.samples import NO_DROP, PSQL, C, S, T, asked, closed, flow, opened, rows
from tests.record.test_pcapng import complaints, export, fields, frames, tshark

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")

# Protocol of a target -> port, layer of tshark, a request and an answer. A new protocol is a line here, and no edit
# of the exports.
SPOKEN = {
    "postgres": (5432, "pgsql", d.query("select 1"), d.complete("SELECT 1") + d.READY),
    "mysql": (3306, "mysql", bytes.fromhex("0900000003") + b"select 1", bytes.fromhex("0700000100000002000000")),
    "redis": (6379, "resp", b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    "http": (80, "http", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    "": (9, "data", b"anything at all", b"something"),
}
GREETINGS = {"mysql": bytes.fromhex("4a0000000a352e352e35002a0000005c49564f6c6e3f6a00fff7080200ff8115000000000000000000006c") + b"y" * 12 + b"\0mysql_native_password\0"}


def spoken(protocol: str) -> list[Note]:
    _, _, request, answer = SPOKEN[protocol]
    greeting = [Note("message", side=S, message="greeting", raw=GREETINGS[protocol])] if protocol in GREETINGS else []
    asks = [Note("message", "x", C, "query", request), Note("decision", "x", decision=NO_DROP, id="f1-1")]
    return [opened(), *greeting, *asks, Note("message", side=S, message="answer", raw=answer), closed()]


@pytest.mark.parametrize("protocol", SPOKEN)
def test_tshark_knows_each_protocol_by_its_port(tmp_path: Path, protocol: str) -> None:
    port, layer, _, _ = SPOKEN[protocol]
    of = msgspec.structs.replace(flow(), server=Address.of("10.0.3.2", port))
    path = export(tmp_path / "f.pcapng", frames(spoken(protocol), of))
    assert tshark(path, "-Y", "_ws.malformed || tcp.analysis.flags") == ""
    protocols = [line[0] for line in fields(path, "frame.protocols", only="tcp.len > 0")]
    assert protocols and all(layer in found.split(":") for found in protocols), protocols
    ((comment,),) = fields(path, "frame.comment", only=f"frame.comment && tcp.dstport == {port} && tcp.len > 0")
    assert "verdict: block" in comment and "rule: no-drop" in comment


SSL_REQUEST = Note("message", "", C, "ssl-request", bytes.fromhex("0000000804d2162f"))


def test_what_was_said_inside_tls_is_shown_as_if_it_had_not_been(tmp_path: Path) -> None:
    turns = [
        SSL_REQUEST,
        Note("message", "S", S, "tls", b"S"),
        Note("message", "TLS hello for db.internal", C, "tls"),
        Note("message", "TLS opened: db.internal, TLSv1.3", S, "tls"),
    ]
    path = export(tmp_path / "f.pcapng", frames([opened(), *turns, *d.whole()[1:]]))
    assert complaints(path) == ""
    protocols = {line[0] for line in fields(path, "frame.protocols", only="tcp.len > 0")}
    assert not [one for one in protocols if "tls" in one]
    kinds = [one for line in fields(path, "pgsql.type", only="pgsql") for one in line[0].split(",")]
    assert kinds.count("Startup message") == 1 and kinds.count("Ready for query") == 6
    comments = tshark(path, "-T", "fields", "-e", "frame.comment")
    assert "TLS opened: db.internal, TLSv1.3: what is inside follows as it was said" in comments


def test_tls_that_was_refused_is_shown_as_it_was(tmp_path: Path) -> None:
    refused = [SSL_REQUEST, Note("message", "N", S, "ssl-answer", b"N")]
    path = export(tmp_path / "f.pcapng", frames([opened(), *refused, *d.whole()[1:]]))
    assert complaints(path) == ""
    sent = [bytes.fromhex(line[0]) for line in fields(path, "tcp.payload", only="tcp.len > 0")]
    assert sent[:2] == [SSL_REQUEST.raw, b"N"]
    kinds = [one for line in fields(path, "pgsql.type", only="pgsql") for one in line[0].split(",")]
    assert "Simple query" in kinds and kinds.count("Ready for query") == 6


def test_a_session_that_ends_after_a_short_message_has_it(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", frames([opened(), SSL_REQUEST]))
    assert [line[0] for line in fields(path, "tcp.payload", only="tcp.len > 0")] == [SSL_REQUEST.raw.hex()]


def three() -> list[Frame]:
    """Sessions of two identities and of a process that is none, mixed."""
    v6 = Flow("f3", T, Address.of("fd77::5", 40003), Address.of("fd77::2", 5432), PSQL)
    found = [
        *frames([opened("acme", "orders-db"), *d.LOGIN, *d.READ, *d.BYE], flow("f1")),
        *frames([opened("zeta", "logs-db"), *d.LOGIN, *d.DROP, *d.BYE], flow("f2", port=40002)),
        *frames([opened("", "orders-db"), *d.LOGIN, *d.BYE], v6),
        *frames([opened("acme", "orders-db"), *d.LOGIN, *d.BYE], flow("f4", T + 1, port=40004)),
        *frames([opened("", ""), closed()], flow("f5", T + 1, port=40005, process=None)),
    ]
    return sorted(found, key=lambda frame: frame.time)


def test_an_interface_for_each_identity(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", three())
    found = {tuple(line) for line in fields(path, "tcp.srcport", "frame.interface_name", only="tcp.flags.syn == 1 && tcp.flags.ack == 0")}
    assert found == {
        ("40001", "acme"),
        ("40002", "zeta"),
        ("40003", "acme.service"),
        ("40004", "acme"),
        ("40005", "not identified"),
    }
    ids = {tuple(line) for line in fields(path, "frame.interface_id", "frame.interface_name")}
    assert len(ids) == 4
    per_stream = {tuple(line) for line in fields(path, "tcp.stream", "frame.interface_id")}
    assert len(per_stream) == 5, "every packet of a session is on the interface of its identity"
    done = subprocess.run(["capinfos", path], capture_output=True, text=True, check=True)
    assert "Number of interfaces in file: 4" in done.stdout
    assert "governed processes known as zeta" in done.stdout
    assert complaints(path) == ""


def test_servers_are_called_by_their_targets(tmp_path: Path) -> None:
    """tshark resolves with what is in the file, and with nothing else."""
    path = export(tmp_path / "f.pcapng", three())
    words = ["tshark", "-r", path, "-N", "n", "-T", "fields", "-e", "ip.dst_host", "-Y", "tcp.flags == 0x002"]
    hosts = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "orders-db" in hosts
    listed = subprocess.run(["tshark", "-r", path, "-q", "-z", "hosts"], capture_output=True, text=True, check=True).stdout
    assert "10.0.3.2\torders-db" in listed or "10.0.3.2\tlogs-db" in listed
    assert "fd77::2\torders-db" in listed


def test_a_target_called_by_its_address_is_no_name(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", frames([opened("acme", "10.0.3.2:5432"), closed()]))
    assert blocks(path).count(4) == 0


def blocks(path: Path) -> list[int]:
    """Return the types of the blocks of a file."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, size = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4))
        assert size % 4 == 0 and data[at + size - 4 : at + size] == data[at + 4 : at + 8]
        found.append(kind)
        at += size
    return found


def test_blocks_come_before_what_refers_to_them(tmp_path: Path) -> None:
    found = blocks(export(tmp_path / "f.pcapng", three()))
    assert found[:4] == [0x0A0D0D0A, 1, 4, 6]
    assert (found.count(1), found.count(4)) == (4, 3), "a name is said once"
    assert blocks(export(tmp_path / "empty.pcapng", [])) == [0x0A0D0D0A, 1]


def test_max_interfaces_bounds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pcapng.MAX_INTERFACES == 1_000
    monkeypatch.setattr(pcapng, "MAX_INTERFACES", 2)
    path = export(tmp_path / "f.pcapng", three())
    assert {line[0] for line in fields(path, "frame.interface_name")} == {"acme", "zeta", "others"}


def test_max_names_bounds_what_is_remembered_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pcapng.MAX_NAMES == 10_000
    monkeypatch.setattr(pcapng, "MAX_NAMES", 1)
    assert blocks(export(tmp_path / "f.pcapng", three())).count(4) == 1


def test_max_over_bounds_the_sessions_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pcapng.MAX_OVER == 65_536
    monkeypatch.setattr(pcapng, "MAX_OVER", 1)
    found = [f for n in range(3) for f in frames([opened(), closed()], flow(f"f{n}", T + n, port=n + 1))]
    late = frames([opened(), closed(), closed("internal error")], flow("f2", T + 2, port=3))[2]
    assert len(list(pcapng.packets([*found, late]))) == len(list(pcapng.packets(found)))


def test_another_reader_takes_it(tmp_path: Path) -> None:
    with export(tmp_path / "f.pcapng", three()).open("rb") as file:
        packets = list(dpkt.pcapng.Reader(file))
    assert len(packets) == len(list(pcapng.packets(three())))


def test_everything_said_of_a_process_and_a_decision_is_in_comments(tmp_path: Path) -> None:
    process = msgspec.structs.replace(PSQL, sha256="ab" * 32, script="/opt/a.py", unit="acme.service", container="c0ffee")
    path = export(tmp_path / "f.pcapng", frames([opened(), *asked("drop table t", NO_DROP), rows(b"x", 2, 1, ("hide",)), closed()], flow(process=process)))
    comments = json.dumps(json.loads(tshark(path, "-T", "json", "-Y", "frame.comment")))
    for part in ("sha256: " + "ab" * 32, "script: /opt/a.py", "unit: acme.service", "container: c0ffee", "verdict: block", "masked: 1 cells by hide"):
        assert part in comments, part
