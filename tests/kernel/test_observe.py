"""What programs with TLS of their own write and read is seen, and nobody else's."""

import json
import re
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.cli import main, screen
from appliance.cli import observe as command
from appliance.control.desk import Order
from appliance.kernel import observe, symbols
from appliance.kernel.observe import Observer, Plain
from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.model import HostError
from appliance.service.authority import Authority
from appliance.service.containment import Containment
from tests.kernel.programs import PYTHON, Seen, wait_for

pytestmark = pytest.mark.kernel

SOURCE = (Path(__file__).parents[2] / "bpf/observe.bpf.c").read_text()
RULES = """
identities:
  acme: {cgroup: acme.service}
rules: []
"""
# Answers in the namespace of the lab's host, where clients are.
SERVER = """
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 4433))
print("up", flush=True)
def serve(raw):
    try:
        with raw, context.wrap_socket(raw, server_side=True) as sock:
            while sock.recv(65536):
                sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 12\\r\\n\\r\\nplain answer")
    except OSError: pass
while True: threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""
PYTHON_CLIENT = """
import http.client, ssl, sys
sys.stdin.readline()
link = http.client.HTTPSConnection("127.0.0.1", 4433, context=ssl._create_unverified_context())
link.request("GET", "/asked-by-" + sys.argv[1])
print(link.getresponse().read().decode())
"""
NODE_CLIENT = """
process.stdin.once('data', () => {
  require('https').get({host: '127.0.0.1', port: 4433, path: '/asked-by-' + process.argv[1], rejectUnauthorized: false, agent: false},
    answer => answer.on('data', data => { console.log(String(data)); process.exit(0) }))
})
"""
# Both ends of TLS in one process, without a network: each line of stdin, JSON, is written and read, in a thread.
INSIDE = """
import json, ssl, sys, threading
a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain(sys.argv[1])
ends = ssl._create_unverified_context().wrap_bio(a, b), server.wrap_bio(b, a, server_side=True)
for _ in range(4):
    for end in ends:
        try: end.do_handshake()
        except ssl.SSLWantReadError: pass
print("up", flush=True)
def say(data, times):
    for _ in range(times):
        left = data.encode()
        while left: left = left[ends[0].write(left):]
        got = 0
        while got < len(data.encode()): got += len(ends[1].read(65536))
for line in sys.stdin:
    thread = threading.Thread(target=say, args=json.loads(line)); thread.start(); thread.join()
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tls")
    pem = home / "server.pem"
    pem.write_text(Authority(home).certify(("IP:127.0.0.1",)))
    return pem


@pytest.fixture(scope="module")
def server(lab: Lab, pem: Path) -> None:
    process = lab.popen([PYTHON, "-SEc", SERVER, str(pem)], cgroup="elsewhere", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout and process.stdout.readline()


@pytest.fixture
def watch(lab: Lab) -> Iterator[Callable[..., Observer]]:
    made: list[Observer] = []

    def watch(cgroup: str = "acme.service", pid: int = 0) -> Observer:
        made.append(Observer([lab.cgroup(cgroup)], pid))
        made[-1].look()
        return made[-1]

    yield watch
    for observer in made:
        observer.close()


class Inside:
    """A process that speaks TLS with itself, when it is told what."""

    def __init__(self, lab: Lab, pem: Path, cgroup: str = "acme.service") -> None:
        self.process = lab.popen(
            [PYTHON, "-SEc", INSIDE, str(pem)], cgroup=cgroup, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "up\n"

    def say(self, text: str, times: int = 1) -> None:
        self.process.stdin.write(json.dumps([text, times]) + "\n")
        self.process.stdin.flush()
        assert self._line() == "done\n"

    def _line(self) -> str:
        return str(self.process.stdout.readline())


def taken(observer: Observer) -> list[Plain]:
    found: list[Plain] = []
    while some := observer.consume():
        found += some
    return found


def start(lab: Lab, argv: Sequence[str], cgroup: str) -> "subprocess.Popen[Any]":
    return lab.popen(argv, cgroup=cgroup, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


CURL = ["sh", "-c", 'read _; exec curl -sk https://127.0.0.1:4433/asked-by-"$0"']
CLIENTS = {"python": [PYTHON, "-SEc", PYTHON_CLIENT], "curl": CURL, "node": ["node", "-e", NODE_CLIENT]}


@pytest.mark.parametrize("name", CLIENTS)
def test_what_a_program_writes_and_reads_is_seen_and_not_what_another_does(
    name: str, lab: Lab, server: None, watch: Callable[..., Observer]
) -> None:
    programs = [start(lab, [*CLIENTS[name], who], cgroup) for who, cgroup in (("one", "acme.service/worker"), ("other", "b.service"))]
    if name == "node":  # it has OpenSSL built in, so it has to be there when we look
        wait_for(lambda: all(Path(f"/proc/{program.pid}/exe").resolve().name.startswith("node") for program in programs))
    observer = watch()
    for program in programs:
        assert program.communicate("go\n", timeout=60)[0].strip() == "plain answer"
    found = taken(observer)
    assert {plain.pid for plain in found} == {programs[0].pid}
    sent, read = (b"".join(plain.data for plain in found if plain.sent is sent) for sent in (True, False))
    assert b"GET /asked-by-one HTTP/1.1\r\n" in sent and b"plain answer" not in sent
    assert b"plain answer" in read
    assert all(plain.name and plain.connection and abs(plain.when - time.time()) < 300 for plain in found)
    assert observer.lost() == 0 and not observer.refused


def test_one_process_of_a_cgroup(lab: Lab, pem: Path, watch: Callable[..., Observer]) -> None:
    one, other = Inside(lab, pem), Inside(lab, pem)
    observer = watch(pid=one.process.pid)
    other.say("not this")
    one.say("this")
    assert [(plain.data, plain.sent) for plain in taken(observer)] == [(b"this", True), (b"this", False)]


def test_a_library_of_its_own_that_comes_later(lab: Lab, pem: Path, watch: Callable[..., Observer], tmp_path: Path) -> None:
    """As in a container: another file than the host's, and it is deleted while it runs."""
    observer = watch()
    of_host = next(name for _, _, _, name in observe._mapped(observe.os.getpid()) if name.endswith("/libssl.so.3"))
    copy = tmp_path / "libssl.so.3"
    copy.write_bytes(Path(of_host).read_bytes())
    code = f"import ctypes\nctypes.CDLL({str(copy)!r}, ctypes.RTLD_GLOBAL)\n" + INSIDE
    process = lab.popen([PYTHON, "-SEc", code, str(pem)], cgroup="acme.service", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdin and process.stdout.readline() == "up\n"
    copy.unlink()
    [file] = observer.look()
    assert file.path.startswith(str(copy)) and set(file.functions) == set(observe.FUNCTIONS)
    assert observer.look() == [] and not observer.refused
    print('["inside", 1]', file=process.stdin, flush=True)
    assert process.stdout.readline() == "done\n"
    assert b"inside" in [plain.data for plain in taken(observer)]


def test_nothing_is_seen_once_it_is_stopped(lab: Lab, pem: Path, watch: Callable[..., Observer]) -> None:
    inside, observer = Inside(lab, pem), watch()
    inside.say("before")
    observer.stop()
    inside.say("after")
    assert {plain.data for plain in taken(observer)} == {b"before"}


# -- limits -----------------------------------------------------------------------------------------------------------


def test_constants_and_layout_are_those_of_the_object() -> None:
    defined = {name: eval(value) for name, value in re.findall(r"#define (\w+)\s+(\(?\d[\d <]*\)?)", SOURCE)}
    assert defined["COPIED"] == observe.COPIED
    assert defined["RING"] >= observe.MAX_CALLS * observe.COPIED // 2
    assert f"sizeof(struct plain) == {observe.HEAD.size}" in SOURCE
    assert f"LOST_KINDS = {observe.LOST}" in SOURCE


def test_what_one_record_holds_is_copied_whole(lab: Lab, pem: Path, watch: Callable[..., Observer]) -> None:
    """Of all three sizes that room is taken by, and a byte about them."""
    inside, observer = Inside(lab, pem), watch()
    for size in (1, 256, 257, 2048, 2049, 16383, 16384):
        inside.say("x" * (size - 1) + "y")
        assert [plain.data for plain in taken(observer)] == [b"x" * (size - 1) + b"y"] * 2


def test_a_longer_call_is_copied_up_to_the_limit_and_its_size_told(lab: Lab, pem: Path, watch: Callable[..., Observer]) -> None:
    inside, observer = Inside(lab, pem), watch()
    inside.say("z" * 100_000)
    written = next(plain for plain in taken(observer) if plain.sent)
    assert (written.size, len(written.data)) == (100_000, observe.COPIED)


def test_what_has_no_room_is_counted(lab: Lab, pem: Path, watch: Callable[..., Observer]) -> None:
    inside, observer = Inside(lab, pem), watch()
    inside.say("w" * 16384, 300)  # 600 calls; the ring holds 255
    found = taken(observer)
    assert observer.lost() > 0 and len(found) + observer.lost() == 600
    inside.say("again")
    assert [plain.data for plain in taken(observer)] == [b"again"] * 2


def test_so_many_calls_are_taken_at_once(lab: Lab, pem: Path, watch: Callable[..., Observer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MAX_CALLS", 3)
    inside, observer = Inside(lab, pem), watch()
    inside.say("v", 2)
    assert [len(observer.consume()) for _ in range(3)] == [3, 1, 0]


def test_so_many_files_get_probes(lab: Lab, pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MAX_FILES", 0)
    Inside(lab, pem)
    with Observer([lab.cgroup("acme.service")]) as observer:
        assert observer.look() == []


def test_so_many_processes_are_looked_at(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MAX_PROCESSES", 0)
    asked: list[int] = []
    monkeypatch.setattr(observe, "_mapped", lambda pid: iter(asked.append(pid) or ()))
    with Observer([lab.slice_path]) as observer:
        observer.look()
    assert asked == [observe.os.getpid()]


def test_so_much_of_the_mappings_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(observe._mapped(observe.os.getpid()))
    monkeypatch.setattr(observe, "MAX_MAPPINGS", 10)
    assert not list(observe._mapped(observe.os.getpid()))


def test_a_cgroup_that_is_gone_is_named(lab: Lab) -> None:
    with pytest.raises(HostError, match=r"gone\.service: No such file"):
        Observer([lab.slice_path / "gone.service"])


def test_a_kernel_without_probes_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "UPROBES", Path("/nowhere"))
    with pytest.raises(HostError, match=r"no probes in user programs(?s:.)*CONFIG_UPROBE_EVENTS"):
        Observer([lab.slice_path])


# -- files that are not what they should be -------------------------------------------------------------------------------


def of(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        return symbols.functions(file.fileno(), observe.FUNCTIONS)


def library() -> bytes:
    name = next(name for _, _, _, name in observe._mapped(observe.os.getpid()) if name.endswith("/libssl.so.3"))
    assert ssl.OPENSSL_VERSION
    return Path(name).read_bytes()


def test_a_file_cut_anywhere_has_none_or_the_same(tmp_path: Path) -> None:
    whole, path = library(), tmp_path / "cut"
    path.write_bytes(whole)
    expected = of(path)
    assert set(expected) == set(observe.FUNCTIONS)
    for size in (0, 1, 63, 64, 1000, len(whole) // 2, len(whole) - 65, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert of(path) == {}


def test_every_field_of_the_header_may_lie(tmp_path: Path) -> None:
    whole, path = library(), tmp_path / "lies"
    for at in range(16, 64):
        path.write_bytes(whole[:at] + b"\xff" * min(8, 64 - at) + whole[max(at + 8, 64) if at + 8 > 64 else at + 8 :])
        assert set(of(path)) <= set(observe.FUNCTIONS)


def test_a_table_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "library"
    path.write_bytes(library())
    monkeypatch.setattr(symbols, "MAX_TABLE", 1000)
    assert of(path) == {}


def test_32_bit_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "library"
    path.write_bytes(b"\x7fELF\x01" + library()[5:])
    assert of(path) == {} and struct.calcsize("P") == 8


# -- the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def appliance(rights: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with Lab() as lab, Appliance(lab, tmp_path_factory.mktemp("appliance"), {"a.yaml": RULES}) as appliance:
        yield appliance


class Command:
    """`vendorgate observe` while it runs."""

    def __init__(self, appliance: Appliance, *words: str) -> None:
        argv = [sys.executable, "-m", "appliance.cli", "--config", str(appliance.config), "observe", *words]
        self._out, self._err = appliance.home / "observe.out", appliance.home / "observe.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = appliance.lab.popen(argv, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def test_by_identity_it_is_on_record_and_secrets_and_escapes_are_harmless(appliance: Appliance, pem: Path) -> None:
    inside, seen = Inside(appliance.lab, pem), Seen(appliance)
    running = Command(appliance, "acme", "--reason", "ticket 4713")
    wait_for(lambda: "watching" in running.err)
    inside.say("GET / HTTP/1.1\r\nAuthorization: Bearer abcdef\r\n\r\n\x1b[2Jé\u202e")
    wait_for(lambda: "reads" in running.out)
    assert running.end() == 0
    assert "GET / HTTP/1.1\n" in running.out and "é" in running.out
    assert "abcdef" not in running.out and "Authorization: ********" in running.out
    assert "\x1b" not in running.out and "\u202e" not in running.out and "\\x1b[2J" in running.out
    assert "2 calls seen, 0 lost" in running.err
    shown = appliance.cli("show", seen.one()["id"]).stdout
    assert "observed by root: acme.service, 1 processes (acme: ticket 4713, for 1m)" in shown


def test_by_process_as_json_until_it_ends(appliance: Appliance, pem: Path) -> None:
    inside, seen = Inside(appliance.lab, pem), Seen(appliance)
    running = Command(appliance, "--pid", str(inside.process.pid), "--json")
    wait_for(lambda: '"file"' in running.out)
    inside.say("hello\x9b\n")
    wait_for(lambda: "read" in running.out)
    inside.process.kill()
    assert running.process.wait(60) == 0
    assert "\x9b" not in running.out and "the process has ended" in running.err
    lines = [json.loads(line) for line in running.out.splitlines()]
    calls = [line for line in lines if line["event"] == "call"]
    assert [(call["direction"], call["text"], call["size"], call["connection"]) for call in calls] == [
        ("write", "hello\x9b\n", 8, 1), ("read", "hello\x9b\n", 8, 2)
    ]  # fmt: skip
    assert lines[-1] == {"event": "end", "calls": 2, "lost": 0, "files": 1}
    assert f"process {inside.process.pid}" in appliance.cli("show", seen.one()["id"]).stdout


def test_it_ends_by_itself_and_says_when_there_was_nothing(appliance: Appliance) -> None:
    appliance.lab.cgroup("idle.service")
    done = appliance.cli("observe", "idle.service", "--for", "1s")
    assert done.stdout == "" and "0 calls seen, 0 lost" in done.stderr


@pytest.mark.parametrize(("words", "status", "text"), [
    (["observe"], 2, "names nobody"),
    (["observe", "acme", "--pid", "1"], 2, "names nobody, or both"),
    (["observe", "who.service"], 1, "there is no identity and no cgroup `who.service`"),
    (["observe", "--pid", "1"], 1, "process 1 is not in"),
    (["observe", "--pid", "2000000000"], 3, "is it still running?"),
    (["observe", "acme", "--for", "long"], 2, "is no length of time"),
])  # fmt: skip
def test_nobody_is_refused(appliance: Appliance, words: list[str], status: int, text: str) -> None:
    appliance.lab.cgroup("acme.service")
    done = appliance.cli(*words, check=False)
    assert done.returncode == status and text in done.stderr


def test_who_cannot_be_recorded_is_not_observed(lab: Lab, tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.write_text("no directory")
    hub = SimpleNamespace(place=lab.place(), stores=SimpleNamespace(records=records))
    with pytest.raises(HostError, match=r"cannot be written(?s:.)*nobody is observed"):
        Containment(hub).order(Order("observe", "acme.service", pid=7), "root")  # type: ignore[arg-type]


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command.os, "geteuid", lambda: 1000)
    assert main(["observe", "acme"]) == 3
    assert "only root" in capsys.readouterr().err


def site(lab: Lab, home: Path) -> list[str]:
    """Return words for an appliance that does not run."""
    config = home / "vendorgate.yaml"
    config.write_text(json.dumps({"slice": lab.slice, "cgroup_root": str(lab.cgroup_root), "runtime_dir": str(home / "run")}))
    return ["--config", str(config)]


def test_without_a_hub_only_cgroups_are_known_and_it_says_that_nothing_is_recorded(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.cgroup("quiet.service")
    assert main([*site(lab, tmp_path), "observe", "quiet.*", "--for", "0s"]) == 0
    assert "is not recorded" in capsys.readouterr().err
    assert main([*site(lab, tmp_path), "observe", "acme", "--for", "0s"]) == 1
    assert "identities are known only while vendorgate runs" in capsys.readouterr().err


class Replayed:
    """An observer that saw something, endlessly."""

    fd, refused = 0, ()

    def __init__(self, size: int = 3) -> None:
        self._plain = Plain(0.0, 7, "p", 1, True, size, b"abc")

    def consume(self) -> list[Plain]:
        return [self._plain]

    def look(self) -> list[observe.File]:
        return []

    def lost(self) -> int:
        return 9

    def stop(self) -> None:
        pass


def test_so_many_calls_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "MAX_SHOWN", 4)
    command._Show(Replayed(), False).run(60, -1)  # type: ignore[arg-type]
    found = capsys.readouterr()
    assert found.out.count("writes") == 4
    assert "ended after 4 calls" in found.err and "4 calls seen, 9 lost" in found.err


def test_so_many_connections_have_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_CONNECTIONS", 2)
    show = command._Show(Replayed(), True)  # type: ignore[arg-type]
    for pid in range(5):
        show._call(Plain(0.0, pid, "p", 1, True, 0, b""))
    assert len(show._numbers) <= 2


def test_what_was_not_copied_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    command._Show(Replayed(), False)._call(Plain(0.0, 7, "p\x1b", 1, True, 1003, b"abc"))  # type: ignore[arg-type]
    assert "1,000 more bytes are not shown" in capsys.readouterr().out
    assert screen.visible("\x1b") == "\\x1b"
