"""`vendorgate exec`: what it refuses; and in a lab, that the command is governed, bare, and its own master."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.model import HostError
from appliance.policy.rule import Identity
from appliance.service import confined, identities
from tests.evasion.host import PYTHON, Scene, until

RULES = """
identities:
  ci: {{cgroup: "ci-*.scope", exe: ["/usr/bin/python3*", "/usr/bin/*"]}}
  acme: {{cgroup: acme.service}}
  number: {{uid: 4711}}
  box: {{container: "0123456789ab"}}
targets:
  echo: {{address: ["{ip}:7"]}}
rules:
  - {{id: echo, who: [ci, acme], to: echo, do: allow, inspect: false}}
"""
SAYS = """
import json, os, socket, sys
found = {"cgroup": open("/proc/self/cgroup").read().splitlines()[-1], "uid": os.getuid(), "groups": os.getgroups()}
found["held"] = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd", "NoNewPrivs"))]
found["files"] = sorted(os.listdir("/proc/self/fd"))[:3]
found["variables"] = {key: os.environ.get(key) for key in ("HOME", "USER", "NOTIFY_SOCKET", "KEPT")}
for port in (7, 8):
    try:
        with socket.create_connection((sys.argv[1], port), 5) as sock:
            sock.sendall(b"hello")
            found[str(port)] = sock.recv(100).decode()
    except OSError as error:
        found[str(port)] = type(error).__name__
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("identity", "path"),
    [
        (Identity("a", cgroup=("ci-*.scope",)), "ci-T.scope"),
        (Identity("a", cgroup=("ci/*/x-*",)), "ci/T/x-T"),
        (Identity("a", cgroup=("acme.service", "b")), "acme.service/T"),
        (Identity("a", unit=("acme@*.service",)), "acme@T.service"),
        (Identity("a", exe=("/usr/bin/psql",)), "a-T.scope"),
        (Identity("a", uid=(1,)), "a-T.scope"),
    ],
)
def test_a_cgroup_is_that_of_the_identity(identity: Identity, path: str) -> None:
    assert identities.cgroup(identity, "T") == path


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    (tmp_path / "rules.d").mkdir()
    (tmp_path / "rules.d/10.yaml").write_text(RULES.format(ip="192.0.2.1"))
    path = tmp_path / "vendorgate.yaml"
    path.write_text(f"slice: vg-exec-none.slice\nrules: {tmp_path}/rules.d\nruntime_dir: {tmp_path}/run\n")
    return ["--config", str(path), "exec"]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--identity", "acne", "true"], 2, "have no such identity\nhint: did you mean `acme`?\n"),
        (["--identity", "ci", "--user", "no-such-user", "true"], 2, "--user no-such-user: is no account of this host\nhint: adduser makes one\n"),
        (["--identity", "number", "--user", "nobody", "true"], 2, "identity number: is uid 4711, and the command would run as nobody (65534)\nhint: name that account with --user\n"),
        (["--identity", "box", "true"], 2, "identity box: is a container, and the command would run in none\nhint: name an identity with a cgroup\n"),
        (["--identity", "ci", "true"], 3, "the fence of vg-exec-none.slice is not up: the command would be free\nhint: systemctl start vendorgate, or vendorgate fence up\n"),
    ],
)  # fmt: skip
def test_what_is_refused(config: list[str], words: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*config, *words]) == status
    assert capsys.readouterr().err.endswith(text)


def test_no_root(config: list[str], tmp_path: Path) -> None:
    """Run as nobody, whose message names what to do."""
    code = "import sys, os; from appliance.cli import main; import appliance.cli.exec; os.setresuid(65534, 65534, 65534); sys.exit(main(sys.argv[1:]))"
    Path(config[1]).chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of"):
            break
    done = subprocess.run([sys.executable, "-c", code, *config, "--identity", "ci", "true"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "only root can put a process into vg-exec-none.slice\nhint: sudo vendorgate exec ...\n")


# -- in a lab --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)


@pytest.fixture(scope="module")
def appliance(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with Appliance(scene.lab, tmp_path_factory.mktemp("exec"), {"10.yaml": RULES.format(ip=scene.lab.target_ip)}) as live:
        yield live


def said_by(appliance: Appliance, *words: str, **variables: str) -> dict[str, object]:
    env = {**os.environ, **variables}
    command = [*appliance._words("exec", *words), PYTHON, "-SEc", SAYS, appliance.lab.target_ip]
    done = appliance.lab.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.kernel
def test_it_is_governed_bare_and_named(scene: Scene, appliance: Appliance) -> None:
    said = said_by(appliance, "--identity", "ci", "--user", "nobody", "--", NOTIFY_SOCKET="/x", KEPT="yes")
    assert said["7"] == "hello"
    assert said["8"] != "hello" and scene.leaked == []
    assert f"{scene.lab.slice}/ci-exec-" in str(said["cgroup"])
    assert said["uid"] == 65534
    assert said["held"] == ["0" * 16, "0" * 16, "1"]
    assert said["variables"] == {"HOME": "/nonexistent", "USER": "nobody", "NOTIFY_SOCKET": None, "KEPT": "yes"}
    until(lambda: [one["identity"] for one in appliance.json("sessions", "--who", "ci")][:1] == ["ci"])


@pytest.mark.kernel
def test_a_unit_s_own_cgroup_and_root(scene: Scene, appliance: Appliance) -> None:
    said = said_by(appliance, "--identity", "acme")
    assert f"{scene.lab.slice}/acme.service/exec-" in str(said["cgroup"])
    assert (said["7"], said["uid"], said["held"]) == ("hello", 0, ["0" * 16, "0" * 16, "1"])


@pytest.mark.kernel
def test_sudo_s_caller_is_who_it_runs_as(appliance: Appliance) -> None:
    assert said_by(appliance, "--identity", "ci", SUDO_UID="65534")["uid"] == 65534


@pytest.mark.kernel
def test_what_is_left_of_earlier_commands_is_swept(scene: Scene, appliance: Appliance) -> None:
    for _ in range(3):
        said_by(appliance, "--identity", "ci", "--user", "nobody")
    assert len(list(scene.lab.slice_path.glob("ci-exec-*.scope"))) == 1


@pytest.mark.kernel
def test_its_status_is_that_of_the_command(appliance: Appliance) -> None:
    for command, status in ((["sh", "-c", "exit 7"], 7), (["/no/such/program"], 127), (["/etc/passwd"], 127)):
        done = appliance.cli("exec", "--identity", "ci", "--user", "nobody", "--", *command, check=False)
        assert done.returncode == status, done.stderr
    killed = appliance.cli("exec", "--identity", "ci", "--", "sh", "-c", "kill -9 $$", check=False)
    assert killed.returncode == -9


@pytest.mark.kernel
def test_signals_are_as_a_shell_gives_them(appliance: Appliance) -> None:
    done = appliance.cli("exec", "--identity", "ci", "--user", "nobody", "--", "grep", "SigIgn", "/proc/self/status")
    assert int(done.stdout.split()[1], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


@pytest.mark.kernel
def test_options_of_the_command_are_its_own(appliance: Appliance) -> None:
    done = appliance.cli("exec", "--identity", "ci", "--user", "nobody", "echo", "--identity", "-h")
    assert done.stdout == "--identity -h\n"


OUT = """
import ctypes, errno, fcntl, json, os, pathlib, socket, sys
def tried(what):
    try:
        return what() or "done"
    except OSError as error:
        return errno.errorcode[error.errno]
root = [line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup2 " in line][0]
found = {
    "leave": tried(lambda: open(root + "/cgroup.procs", "w").write(str(os.getpid()))),
    "pins": tried(lambda: os.listdir("/sys/fs/bpf")),
    "control": tried(lambda: os.listdir(sys.argv[1])),
    "type": tried(lambda: fcntl.ioctl(0, 0x5412, b"x")),
    "paste": tried(lambda: fcntl.ioctl(0, 0x541C, b"\\3")),
    "vsock": tried(lambda: socket.socket(40, socket.SOCK_STREAM).close()),
    "bluetooth": tried(lambda: socket.socket(31, socket.SOCK_RAW).close()),
    "pair": tried(lambda: socket.socketpair(30, socket.SOCK_STREAM)),
    "ring": errno.errorcode[(ctypes.CDLL(None, use_errno=True).syscall(425, 1, ctypes.create_string_buffer(120)), ctypes.get_errno())[1]],
    "unix": tried(lambda: [one.close() for one in socket.socketpair()] and None),
    "netlink": tried(lambda: socket.socket(16, socket.SOCK_RAW, 0).close()),
    "files": sorted(map(int, os.listdir("/proc/self/fd")))[-1] < 16,
    "cgroup": open("/proc/self/cgroup").read().splitlines()[-1],
}
print(json.dumps(found))
"""


@pytest.mark.kernel
@pytest.mark.parametrize("account", ["root", "nobody"])
def test_ways_out_of_the_slice_are_closed(account: str, scene: Scene, appliance: Appliance) -> None:
    """On a terminal, as the shell of an operator has it; with a file open beyond a limit that was lowered."""
    ours, theirs = os.openpty()
    high = fcntl.fcntl(theirs, fcntl.F_DUPFD, 300)
    words = appliance._words("exec", "--identity", "ci", "--user", account, "--", PYTHON, "-SEc", OUT, str(appliance.home / "run"))
    shell = 'ulimit -S -n 128; exec setsid --ctty --wait "$@"'
    try:
        done = appliance.lab.run(
            ["sh", "-c", shell, "sh", *words], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, pass_fds=[high]
        )
    finally:
        for fd in (ours, theirs, high):
            os.close(fd)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("leave") in (("EROFS",) if account == "root" else ("EROFS", "EACCES"))
    assert f"{scene.lab.slice}/ci-exec-" in said.pop("cgroup")
    assert said == {
        "pins": "EACCES", "control": "EACCES", "type": "EPERM", "paste": "EPERM", "vsock": "EAFNOSUPPORT",
        "bluetooth": "EAFNOSUPPORT", "pair": "EAFNOSUPPORT", "ring": "EPERM", "unix": "done", "netlink": "done", "files": True,
    }  # fmt: skip


@pytest.mark.kernel
def test_hiding_is_the_command_s_alone(appliance: Appliance) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert appliance.cli("exec", "--identity", "ci", "--user", "nobody", "--", "true").returncode == 0
    assert Path("/proc/self/mountinfo").read_text() == before


def test_the_drop_in_of_units_hides_the_same() -> None:
    text = Path(__file__).parents[2].joinpath("systemd/vendor-agent.conf").read_text()
    line = next(line for line in text.splitlines() if line.startswith("InaccessiblePaths="))
    assert sorted(word.lstrip("-") for word in line.partition("=")[2].split()) == sorted(confined.HIDDEN)


def test_calls_of_other_machines_are_not_guessed() -> None:
    assert all(len(code) == 8 for machine in confined.CALLS for code in confined.program(machine))
    with pytest.raises(HostError, match="calls of s390x are not known"):
        list(confined.program("s390x"))


@pytest.mark.kernel
def test_who_has_processes_outside_is_told(appliance: Appliance) -> None:
    other = subprocess.Popen(["sleep", "60"], user=65534)
    try:
        done = appliance.cli("exec", "--identity", "ci", "--user", "nobody", "--", "true")
    finally:
        other.kill()
        other.wait()
    assert "nobody has processes outside the slice (pid " in done.stderr


@pytest.mark.kernel
def test_a_connection_as_input_is_refused(appliance: Appliance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        done = appliance.lab.run(appliance._words("exec", "--identity", "ci", "true"), stdin=sock, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "the standard input is a connection from outside the slice" in done.stderr
    assert "| cat" in done.stderr
