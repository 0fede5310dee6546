"""The errors that somebody new meets first, each by the real lack of it: what is wrong, and what to do."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.kernel import check, needs, nft
from appliance.kernel.check import dropping_chains
from appliance.lab.hosts import find_cgroup_root
from appliance.model import HostError
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
# All is imported as root, since a checkout may be where nobody else can read.
AS_NOBODY = """
import importlib, os, pkgutil, sys
import appliance.cli, appliance.service.start, appliance.demo
for module in pkgutil.iter_modules(appliance.cli.__path__):
    if module.name != "__main__":
        importlib.import_module(f"appliance.cli.{module.name}")
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(appliance.cli.main(sys.argv[1:]))
"""
SLICE = f"vg-new-{os.getpid()}.slice"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A place anybody may read, with settings and no rules."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
        if folder.name.startswith("pytest-of"):
            break
    (tmp_path / "rules.d").mkdir()
    configure(tmp_path)
    yield tmp_path
    run(tmp_path, "fence", "down")
    root = find_cgroup_root() / SLICE
    if root.exists():
        root.rmdir()


def configure(home: Path, port: int = 0, root: Path | None = None) -> None:
    lines = (f"slice: {SLICE}", f"cgroup_root: {root or find_cgroup_root()}", f"rules: {home}/rules.d", f"state_dir: {home}/state",
             f"runtime_dir: {home}/run", f"relay: {{port: {port or free_port()}, workers: 1, user: nobody}}")  # fmt: skip
    (home / "vendorgate.yaml").write_text("\n".join(lines))


def run(home: Path, *words: str, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, in a network namespace of its own: nothing of this host is touched."""
    command = [sys.executable, "-m", "appliance.cli", "--config", str(home / "vendorgate.yaml"), *words]
    return subprocess.run(["unshare", "--net", "--mount", *before, *command], capture_output=True, text=True, timeout=60)


def sh(code: str) -> tuple[str, ...]:
    return ("sh", "-ec", f'ip link set lo up; {code}; exec "$@"', "sh")


# -- no root -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "demo", "fence up", "fence down", "fence status"])
def test_no_root(home: Path, command: str) -> None:
    words = [sys.executable, "-c", AS_NOBODY, "--config", str(home / "vendorgate.yaml"), *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == (
        f"vendorgate {command} needs root: user 65534 is without CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF\n"
        f"hint: sudo vendorgate {command}\n"
    )


def test_root_without_capabilities(home: Path) -> None:
    done = run(home, "run", before=("setpriv", "--bounding-set=-bpf,-perfmon", "--inh-caps=-all"))
    assert (done.returncode, done.stderr) == (
        3, "vendorgate run needs root: root is without CAP_PERFMON, CAP_BPF\nhint: run it outside the container or unit that takes them away\n",
    )  # fmt: skip


def test_a_file_that_may_not_be_written(home: Path) -> None:
    code = AS_NOBODY.replace("sys.exit(", "appliance.cli.cli.commands = {}; sys.exit(")
    words = [sys.executable, "-c", code, "--config", str(home / "vendorgate.yaml"), "learn", "--since", "1h", "-o", "/etc/x.yaml"]
    (home / "state/records").mkdir(parents=True)
    (home / "state").chmod(0o777)
    (home / "state/records").chmod(0o777)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.endswith("/etc/x.yaml: Permission denied\nhint: sudo vendorgate ...\n")


# -- the kernel ----------------------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_a_kernel_that_tells_no_types(home: Path) -> None:
    for command in ("run", "fence up"):
        done = run(home, *command.split(), before=sh("mount -t tmpfs none /sys/kernel/btf"))
        assert done.returncode == 3
        assert done.stderr.endswith("hint: this kernel tells no types (/sys/kernel/btf/vmlinux): boot one with CONFIG_DEBUG_INFO_BTF, as Debian's have\n")


@pytest.mark.parametrize(
    ("release", "text"),
    [
        ("4.19.0-27-amd64", "this kernel is 4.19.0-27-amd64, and 5.18 or later is needed: Debian 12 and 13 have it"),
        ("5.17.9", "5.18 or later is needed"),
        ("5.18.0", "vendorgate check names what this kernel lacks"),
        ("6.1.0-28-amd64", "vendorgate check names what this kernel lacks"),
        ("unheard of", "vendorgate check names what this kernel lacks"),
    ],
)
def test_an_old_kernel(tmp_path: Path, release: str, text: str) -> None:
    (tmp_path / "vmlinux").touch()
    assert text in needs.remedy(release, tmp_path / "vmlinux")


# -- control groups ------------------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_no_cgroup2_where_the_settings_say(home: Path) -> None:
    configure(home, root=home)
    where = find_cgroup_root()
    for command in ("run", "fence up"):
        done = run(home, *command.split())
        assert (done.returncode, done.stderr.removeprefix("vendorgate: ")) == (
            3, f"{home} is not cgroup2 (control groups, version 2)\nhint: it is mounted at {where}: write cgroup_root: {where} into the settings\n",
        )  # fmt: skip
    assert not (home / SLICE).exists()


def test_no_cgroup2_at_all(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n23 22 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")
    with pytest.raises(HostError, match=r"is not cgroup2 .*\nhint: boot with systemd.unified_cgroup_hierarchy=1"):
        needs.cgroup2(Path("/sys/fs/cgroup"), mounts)
    mounts.write_text("22 1 0:21 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    needs.cgroup2(Path("/sys/fs/cgroup"), mounts)
    needs.cgroup2(Path("/sys/fs/cgroup/below"), mounts)


# -- ports and firewalls -------------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_a_port_that_is_taken_names_who_has_it(home: Path) -> None:
    configure(home, port=15001)
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 15001)); print(flush=True); time.sleep(60)"
    taker = f"{sys.executable} -SEc \"{code}\" >{home}/taken & until [ -s {home}/taken ]; do sleep 0.05; done; trap 'kill $!' EXIT"
    words = ("sh", "-c", f'ip link set lo up; {taker}; "$@"', "sh")
    done = run(home, "run", before=words)
    assert done.returncode == 3
    assert "vendorgate: listen on 127.0.0.1 port 15001: Address already in use by python" in done.stderr
    assert "\nhint: choose another relay.port, or stop python" in done.stderr


def test_who_has_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert f"(pid {os.getpid()})" in needs.holder(server.getsockname()[1])
    assert needs.holder(1) == ""


FIREWALL = "nft add table inet fw; nft 'add chain inet fw out {{ type filter hook output priority 0; policy drop; }}'; {more}"


@pytest.mark.kernel
def test_another_firewall_in_the_way_is_named(home: Path) -> None:
    done = run(home, "check", before=sh(FIREWALL.format(more="true")))
    assert done.returncode == 1
    assert "drop by default what is redirected to the relay: inet fw out\n" in done.stdout
    assert "remedy: accept what goes out and comes in over lo\n" in done.stdout


@pytest.mark.kernel
@pytest.mark.parametrize("rule", ['oif lo accept', 'oifname lo accept', 'oifname lo counter accept comment \\"of lo\\"'])
def test_a_firewall_that_accepts_lo_is_not_in_the_way(rule: str) -> None:
    rules = FIREWALL.format(more=f'nft add rule inet fw out "{rule}"')
    done = subprocess.run(["unshare", "--net", *sh(rules), "nft", "-j", "list", "ruleset"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert list(dropping_chains(done.stdout)) == []


@pytest.mark.kernel
@pytest.mark.parametrize("rule", ["tcp dport 22 accept", "oif lo tcp dport 53 accept", "oif lo drop", "iif lo accept"])
def test_a_firewall_that_accepts_less_is(rule: str) -> None:
    rules = FIREWALL.format(more=f"nft 'add chain inet fw other'; nft add rule inet fw other {rule}")
    done = subprocess.run(["unshare", "--net", *sh(rules), "nft", "-j", "list", "ruleset"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert list(dropping_chains(done.stdout)) == ["inet fw out"]


def test_without_nft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for ask in (check.firewalls, nft.listing):
        with pytest.raises(HostError, match="hint: apt-get install nftables"):
            ask()


# -- files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules:\n  - {id: x, do: block\n", "rules.d/10.yaml:2: not YAML: did not find expected ',' or '}'\nhint: check indent, brackets and quotes\n"),
        ("rules:\n\t- id: x\n", "rules.d/10.yaml:2: not YAML: found character that cannot start any token\nhint: check indent, brackets and quotes\n"),
        ("rule:\n  - {id: x, do: block}\n", "rules.d/10.yaml:1: rules file: unknown field `rule`\nhint: did you mean `rules`?\n"),
        ("rules:\n  - {id: x, do: deny}\n", "rules.d/10.yaml:2: rule x: do: unknown value `deny`\nhint: "),
    ],
)
def test_bad_yaml_in_rules(home: Path, text: str, said: str) -> None:
    (home / "rules.d/10.yaml").write_text(text)
    for command in ("run", "rules check"):
        done = run(home, *command.split())
        assert done.returncode == 2
        assert done.stderr.removeprefix("vendorgate: ").startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slice: [\n", "vendorgate.yaml:1: not YAML: did not find expected node content\nhint: check indent, brackets and quotes\n"),
        ("relay: {port: abc}\n", "vendorgate.yaml:1: relay.port: `abc` is not a whole number in range\nhint: write one from 1 to 65535\n"),
        ("rule: /x\n", "vendorgate.yaml:1: settings: unknown field `rule`\nhint: did you mean `rules`?\n"),
    ],
)
def test_bad_yaml_in_settings(home: Path, text: str, said: str) -> None:
    (home / "vendorgate.yaml").write_text(text)
    for command in ("run", "status", "fence up", "adopt"):
        done = run(home, *command.split())
        assert (done.returncode, done.stderr) == (2, f"{home}/{said}")
    configure(home)


def test_settings_that_are_not_there(home: Path) -> None:
    (home / "vendorgate.yaml").unlink()
    done = run(home, "status")
    assert (done.returncode, done.stderr) == (2, f"{home}/vendorgate.yaml: no such file\nhint: --config or VENDORGATE_CONFIG names it\n")
    configure(home)


# -- a checkout that is not built ----------------------------------------------------------------------------------------


def tools(home: Path, *names: str) -> Path:
    """Return a directory with these programs and no others, as a host that lacks the rest has."""
    place = home / "bin"
    place.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, name
        (place / name).symlink_to(found)
    return place


def make(home: Path, path: Path, *, user: bool) -> "subprocess.CompletedProcess[str]":
    shutil.copy(ROOT / "Makefile", home / "Makefile")
    switch = [str(shutil.which("setpriv")), "--reuid=65534", "--regid=65534", "--clear-groups"] if user else []
    words = [*switch, str(shutil.which("make")), "--no-print-directory", "SHELL=/bin/bash", "packages"]
    return subprocess.run(words, cwd=home, capture_output=True, text=True, timeout=60, env={"PATH": str(path)})


def test_without_clang_and_not_root(home: Path) -> None:
    (home / "bin").mkdir()
    (home / "bin/dpkg").write_text("#!/bin/bash\nfor package; do :; done\n[ $package != clang ]\n")  # all is installed but this
    (home / "bin/dpkg").chmod(0o755)
    for name in ("bash", "id", "uname", "apt-get"):
        (home / "bin" / name).symlink_to(str(shutil.which(name)))
    done = make(home, home / "bin", user=True)
    assert done.returncode == 2  # make's own
    assert "make: needs root to install: clang (run: sudo make)\n" in done.stderr


def test_without_clang_on_another_system(home: Path) -> None:
    done = make(home, tools(home, "bash", "id", "uname"), user=False)
    assert done.returncode == 2
    assert "make: no apt-get here: install by hand, by their names on this system: clang llvm " in done.stderr


@pytest.mark.kernel
def test_objects_that_were_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from appliance.kernel import load

    monkeypatch.setattr(load, "OBJECTS", (tmp_path / "bpf", tmp_path / "package"))
    with pytest.raises(HostError, match=r"no .*\.bpf\.o in .*\nhint: make bpf"):
        load.object_directory()
