"""What takes files to know of an executable: digests, packages of dpkg and rpm, scripts, units, containers."""

import contextlib
import hashlib
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.kernel import finder, image, script, unit
from appliance.kernel.finder import Finder, is_apart
from appliance.kernel.image import Digests
from appliance.kernel.layout import ARGV_UNKNOWN, SEEDED, Executed, Image
from appliance.kernel.package import UNKNOWN, Dpkg, Packages, Rpm, holds, spellings
from appliance.kernel.script import CUT

pytestmark = pytest.mark.kernel
PYTHON = os.path.realpath("/usr/bin/python3")
GONE = 2**22 + 1  # a pid above pid_max


def executed(path: str | Path, *argv: str, pid: int = GONE, cwd: str = "/", flags: int = 0) -> Executed:
    """Return what the kernel would have copied of an exec of a file just now."""
    at = os.stat(path)
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    device = image.device(os.major(at.st_dev), os.minor(at.st_dev))
    return Executed(
        1, pid, 1, 0, flags, device, at.st_ino, now, at.st_size, at.st_ctime_ns, pid, str(path), cwd,
        argv or (str(path),), (),
    )  # fmt: skip


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


SCRIPTS: list[tuple[str, str, str]] = [
    ("python3.11", "python3 run.py a", "run.py"),
    ("python3.11", "python3 -SE -W ignore -Xdev run.py", "run.py"),
    ("python3.11", "python3 -SEc x=1 run.py", "code:"),
    ("python3.11", "python3 -cx=1", "code:"),
    ("python3.11", "python3 -Sm http.server 80", "module:http.server"),
    ("python3.11", "python3 --check-hash-based-pycs always run.py", "run.py"),
    ("python3.11", "python3", "stdin:"),
    ("python3.11", "python3 - run.py", "stdin:"),
    ("python3.11", "python3 -- run.py", "run.py"),
    ("python3.11", f"python3 {CUT}", "?"),
    ("python3.11", f"python3 -c {CUT}", "?"),
    ("python3.11", f"python3 run.py {CUT}", "run.py"),
    ("python3.11", "python3 -c", "?"),
    ("pypy3", "pypy3 run.py", "run.py"),
    ("bash", "bash -ec true run.sh", "code:"),
    ("bash", "bash -c -e true", "code:"),
    ("bash", "bash -eo pipefail run.sh", "run.sh"),
    ("bash", "bash +o posix --rcfile x run.sh", "run.sh"),
    ("bash", "bash -s run.sh", "stdin:"),
    ("bash", "bash - run.sh", "run.sh"),
    ("bash", "-bash", "stdin:"),
    ("dash", "sh run.sh", "run.sh"),
    ("perl", "perl -lane print", "code:"),
    ("perl", "perl -w -T run.pl", "run.pl"),
    ("perl", "perl -MEvil run.pl", "?run.pl"),
    ("perl", "perl -I /tmp run.pl", "?run.pl"),
    ("perl", "perl -d run.pl", "?run.pl"),
    ("ruby3.1", "ruby -w run.rb", "run.rb"),
    ("ruby", "ruby -revil run.rb", "?run.rb"),
    ("ruby", "ruby -e puts", "code:"),
    ("node", "node run.js", "run.js"),
    ("node", "node --max-old-space-size=9 run.js", "run.js"),
    ("node", "node -r ./evil.js run.js", "?run.js"),
    ("node", "node --import=./evil.js run.js", "?run.js"),
    ("node", "node --require ./evil.js -e 1", "?code:"),
    ("nodejs", "node --eval 1", "code:"),
    ("node", "node --eval=1", "code:"),
    ("php8.2", "php -f run.php", "run.php"),
    ("php", "php -d a=b run.php", "run.php"),
    ("php", "php -r 1", "code:"),
]


@pytest.mark.parametrize(("name", "line", "text"), SCRIPTS)
def test_what_an_interpreter_runs(name: str, line: str, text: str) -> None:
    for exe in (f"/usr/bin/{name}", f"deleted:/opt/{name}"):
        found = script.script(exe, line.split())
        assert found and found.text == text
        assert bool(found.code) == text.endswith("code:")


def test_what_is_no_interpreter_runs_no_script() -> None:
    assert script.script("/usr/bin/psql", ("psql", "run.py")) is None
    assert script.script("/usr/bin/mypython", ("x", "run.py")) is None
    assert script.script("/usr/bin/python3", ("python3", "x"), known=False) == script.Script("?")
    assert script.script("/usr/bin/python3", ()) == script.Script("?")


def test_a_digest_is_of_the_very_file(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    path.write_bytes(b"one")
    who = executed(path)
    assert Digests().find(who) == sha256(b"one")
    path.write_bytes(b"two")  # as long as before
    assert Digests().find(who) == ""
    assert Digests().find(executed(path)) == sha256(b"two")


def test_a_digest_of_a_fresh_file_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the clock of files a change may not show."""
    path = tmp_path / "agent"
    path.write_bytes(b"one")
    digests = Digests()
    assert digests.find(executed(path)) and digests.known(executed(path)) == ""
    monkeypatch.setattr(image, "SETTLED_NS", 0)
    assert digests.find(executed(path)) == digests.known(executed(path)) == sha256(b"one")


def test_kept_digests_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "SETTLED_NS", 0)
    monkeypatch.setattr(image, "MAX_KEPT", 2)
    digests = Digests()
    for i in range(5):
        (tmp_path / str(i)).write_bytes(b"%d" % i)
        digests.find(executed(tmp_path / str(i)))
    assert len(digests._kept) <= 2


def test_a_file_over_the_limit_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent"
    path.write_bytes(bytes(4096))
    with open(path, "rb") as file:
        assert image.hashed(file.fileno(), 4095) == "" and image.hashed(file.fileno(), 4096)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "agent")
    assert Digests().find(executed(tmp_path / "agent")) == ""


def test_a_mount_of_the_users_own_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    path.write_bytes(b"one")
    for kind in ("userns:", "detached:"):
        who = msgspec.structs.replace(executed(path, pid=os.getpid()), exe=f"{kind}{path}")
        assert list(image.places(who)) == []


def test_a_device_that_stat_makes_up_is_found_by_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on btrfs: stat(2) says a device of its own for each subvolume."""
    path = tmp_path / "agent"
    path.write_bytes(b"one")
    who = executed(path)
    with open(path, "rb") as file:
        monkeypatch.setattr(os, "minor", lambda _: 4095)
        assert image.is_it(file.fileno(), who)
        assert not image.is_it(file.fileno(), msgspec.structs.replace(who, device=who.device + 1))


DPKG = {
    "bash.list": "/.\n/bin\n/bin/bash\n/etc/bash.bashrc\n",
    "libc6:amd64.list": "/.\n/lib/x86_64-linux-gnu/libc.so.6\n",
    "vendor-tools.list": "/.\n/opt/vendor/tool\n/opt/vendor/tool2\n",
    "empty.list": "",
    "psql-wrapper.list": "/.\n/usr/bin/psql\n",
    "psql-real.list": "/.\n/usr/bin/psql\n",
    "bash.md5sums": "/opt/vendor/other\n",
}


@pytest.fixture
def dpkg(tmp_path: Path) -> Path:
    (tmp_path / "info").mkdir()
    for name, text in DPKG.items():
        (tmp_path / "info" / name).write_text(text)
    (tmp_path / "status").write_text("")
    (tmp_path / "diversions").write_text("/usr/bin/psql\n/usr/bin/psql.real\npsql-wrapper\n")
    return tmp_path


@pytest.mark.parametrize(("path", "package"), [
    ("/opt/vendor/tool", "vendor-tools"),
    ("/opt/vendor/too", ""),
    ("/vendor/tool", ""),
    ("/opt/vendor/other", ""),
    ("/lib/x86_64-linux-gnu/libc.so.6", "libc6"),
    ("/usr/bin/psql", "psql-wrapper"),
    ("/usr/bin/psql.real", "psql-real"),
])  # fmt: skip
def test_a_package_of_dpkg(dpkg: Path, path: str, package: str) -> None:
    assert Dpkg(dpkg).owner(path) == package


def test_paths_before_and_after_the_merge_of_usr(dpkg: Path) -> None:
    merged = os.path.realpath("/bin") == "/usr/bin"
    assert spellings("/usr/bin/bash") == ["/usr/bin/bash", *(["/bin/bash"] if merged else [])]
    assert spellings("/usr/share/bin/x") == ["/usr/share/bin/x"] and spellings("/opt/x") == ["/opt/x"]
    if merged:
        assert Dpkg(dpkg).owner("/usr/bin/bash") == "bash"


def test_answers_are_kept_until_the_database_changes(dpkg: Path) -> None:
    packages = Packages((Dpkg(dpkg),))
    assert packages.owner("/opt/new") == ""
    list_ = dpkg / "info/new.list"
    list_.write_text("/.\n/opt/new\n")
    os.utime(dpkg / "info", ns=(1, 1))
    assert packages.owner("/opt/new") == "new"


def test_no_database_is_not_the_same_as_no_package(tmp_path: Path) -> None:
    assert Packages((Dpkg(tmp_path), Rpm(tmp_path / "rpmdb.sqlite"))).owner("/bin/sh") == UNKNOWN
    (tmp_path / "rpmdb.sqlite").write_text("this is no database")
    assert Packages((Rpm(tmp_path / "rpmdb.sqlite"),)).owner("/bin/sh") == UNKNOWN


SPEC = """
Name: vendor-tools
Version: 1.2
Release: 3
Summary: tools
License: x
BuildArch: noarch
%description
tools
%install
mkdir -p %{buildroot}/opt/vendor %{buildroot}/usr/bin
for f in tool tool2; do echo $f >%{buildroot}/opt/vendor/$f; done
echo x >%{buildroot}/usr/bin/vendor-tool
%files
/opt/vendor/tool
/opt/vendor/tool2
/usr/bin/vendor-tool
"""


@pytest.fixture(scope="module")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database as rpm itself writes it, with one package."""
    home = tmp_path_factory.mktemp("rpm")
    (home / "spec").write_text(SPEC)
    define = ["--define", f"_topdir {home}", "--define", "_db_backend sqlite", "--dbpath", str(home / "db")]
    for words in (
        ["rpmbuild", "--quiet", "-bb", *define, str(home / "spec")],
        ["rpm", *define, "--justdb", "--nodeps", "-i", str(home / "RPMS/noarch/vendor-tools-1.2-3.noarch.rpm")],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    yield home / "db/rpmdb.sqlite"


@pytest.mark.parametrize(("path", "package"), [
    ("/opt/vendor/tool", "vendor-tools"),
    ("/opt/vendor/tool2", "vendor-tools"),
    ("/usr/bin/vendor-tool", "vendor-tools"),
    ("/usr/bin/tool", ""),
    ("/opt/vendor/none", ""),
])  # fmt: skip
def test_a_package_of_rpm(rpm: Path, path: str, package: str) -> None:
    assert Packages((Rpm(rpm),)).owner(path) == package


def test_both_databases_are_asked(rpm: Path, dpkg: Path) -> None:
    (dpkg / "info/vendor-tools.list").unlink()
    assert Packages((Dpkg(dpkg), Rpm(rpm))).owner("/opt/vendor/tool") == "vendor-tools"


@pytest.mark.parametrize("blob", [b"", b"\xff" * 8, b"\0\0\0\1\0\0\0\0" + bytes(16)], ids=["empty", "huge", "no tags"])
def test_rubbish_is_no_header(blob: bytes) -> None:
    with contextlib.suppress(ValueError, struct.error):  # what Packages takes for a database that cannot be read
        assert holds(blob, 0, "/", "x") == ""


def test_a_script_is_found_from_where_it_was_started(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("x = 1")
    found = Finder().find(executed(PYTHON, "python3", "run.py", cwd=str(tmp_path)))
    assert found.script == str(tmp_path / "run.py") and found.script_sha256 == sha256(b"x = 1")


@pytest.mark.parametrize("how", ["changed", "link", "seeded", "gone", "fifo"])
def test_a_script_that_may_be_another_is_not_certain(tmp_path: Path, how: str) -> None:
    path = tmp_path / "run.py"
    path.write_text("x = 1")
    (tmp_path / "link.py").symlink_to("run.py")
    who = executed(PYTHON, "python3", "link.py" if how == "link" else "run.py", cwd=str(tmp_path))
    time.sleep(0.05)  # more than a tick of the clock of files
    match how:
        case "changed":
            path.write_text("x = 2")
        case "link":
            (tmp_path / "link.py").unlink()
            (tmp_path / "link.py").symlink_to("run.py")
        case "seeded":
            who = msgspec.structs.replace(who, flags=SEEDED)
        case "gone":
            path.unlink()
        case "fifo":
            path.unlink()
            os.mkfifo(path)
    assert Finder().find(who).script == f"?{path}"


@pytest.mark.parametrize("way", ["link/run.py", "link/../theirs/run.py", "hop/run.py", "shared/link/run.py"])
@pytest.mark.parametrize("how", ["still", "swapped", "renamed"])
def test_a_way_that_may_have_led_elsewhere_is_not_certain(tmp_path: Path, way: str, how: str) -> None:
    """The interpreter has opened a file of the vendor's own; when we look, its path leads to one of somebody else's."""
    for folder in ("theirs", "shared", "other"):
        (tmp_path / folder).mkdir(mode=0o755)
    tmp_path.chmod(0o777)  # root's is believed
    path = tmp_path / "theirs/run.py"
    path.write_text("x = 1")
    for link, to in (("link", "theirs"), ("hop", "link"), ("shared/link", "../theirs"), ("other/link", "../theirs")):
        (tmp_path / link).symlink_to(to)
    time.sleep(0.05)  # more than a tick of the clock of files
    who = executed(PYTHON, "python3", str(tmp_path / way))
    time.sleep(0.05)
    moved = tmp_path / ("shared" if way.startswith("shared") else "link")
    match how:
        case "swapped" if moved.name == "link":
            moved.unlink()
            moved.symlink_to("theirs")
        case "swapped" | "renamed":
            moved.rename(tmp_path / "away")
            (tmp_path / "away" if moved.name == "link" else tmp_path / "other").rename(moved)
    found = Finder().find(who)
    assert found.script == ("" if how == "still" else "?") + str(path)
    assert found.script_sha256 == sha256(b"x = 1")


def test_a_path_that_leads_in_circles_ends(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    time.sleep(0.05)
    assert not finder._way_before(executed(PYTHON, pid=os.getpid()), str(tmp_path / "link"))


def test_a_command_line_or_a_directory_that_is_not_known() -> None:
    assert Finder().find(executed(PYTHON, "python3", "run.py", flags=ARGV_UNKNOWN)).script == "?"
    assert Finder().find(executed(PYTHON, "python3", "run.py", cwd="")).script == "?run.py"


def test_scripts_over_the_limit_have_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.py").write_bytes(b"#" * 100)
    monkeypatch.setattr(finder, "MAX_SCRIPT", 99)
    found = Finder().find(executed(PYTHON, "python3", str(tmp_path / "run.py")))
    assert (found.script, found.script_sha256) == (f"?{tmp_path}/run.py", "")


def test_links_in_a_root_of_its_own_stay_in_it(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/agent").write_text("mine")
    (tmp_path / "link").symlink_to("/opt/agent")
    root = os.open(tmp_path, os.O_PATH)
    fd = finder.openat2(root, "/link")
    assert os.read(fd, 10) == b"mine"
    os.close(fd)
    os.close(root)


def test_another_view_of_files_has_no_package_of_the_host() -> None:
    agent = subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert agent.stdin and agent.stdout
        agent.stdin.write(b"x")
        agent.stdin.flush()
        assert agent.stdout.read(1) == b"x"
        assert is_apart(agent.pid) and not is_apart(GONE)
        other = msgspec.structs.replace(executed("/bin/sh", pid=agent.pid), exe="/usr/bin/elsewhere")
        assert Finder().find(other).package == ""
        assert Finder().find(msgspec.structs.replace(other, pid=GONE)).package == UNKNOWN
    finally:
        agent.communicate()


def test_what_was_found_once_is_found_without_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "SETTLED_NS", 0)
    shutil.copy("/bin/true", tmp_path / "agent")
    who, looks = executed(tmp_path / "agent"), Finder()
    assert looks.at_once(who) is None
    assert looks.find(who) == looks.at_once(who)
    monkeypatch.setattr(finder, "KEPT_S", -1.0)
    assert looks.at_once(who) is None
    script_ = executed(PYTHON, "python3", "-c", "1")
    looks.find(script_)
    assert looks.at_once(script_) is None  # each command line is looked at


PATHS = [
    ("acme.service", "acme.service", ""),
    ("a.slice/a-b.slice/acme@1.service/x.service", "acme@1.service", ""),
    ("user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "user@1000.service", ""),
    ("", "", ""),
    ("a.slice", "", ""),
    ("plain/acme.service", "", ""),
    (f"docker-{'a1' * 32}.scope", f"docker-{'a1' * 32}.scope", "a1" * 32),
    (f"a.slice/cri-containerd-{'a1' * 32}.scope/x", f"cri-containerd-{'a1' * 32}.scope", "a1" * 32),
    (f"acme.service/libpod-payload-{'a1' * 32}", "acme.service", "a1" * 32),
    (f"libpod-conmon-{'a1' * 32}.scope", f"libpod-conmon-{'a1' * 32}.scope", ""),
    (f"docker/{'a1' * 32}", "", "a1" * 32),
    (r"machine-my\x2dbox.scope/payload", r"machine-my\x2dbox.scope", "my-box"),
    ("systemd-nspawn@box.service/payload", "systemd-nspawn@box.service", "box"),
    ("lxc.payload.box", "", "box"),
    ("docker-short.scope", "docker-short.scope", ""),
]


@pytest.mark.parametrize(("cgroup", "name", "container"), PATHS)
def test_names_in_cgroups(cgroup: str, name: str, container: str) -> None:
    assert (unit.unit(cgroup), unit.container(cgroup)) == (name, container)


def test_names_are_believed_as_far_as_root_made_them(tmp_path: Path) -> None:
    (tmp_path / "a.slice/acme.service/docker/x").mkdir(parents=True)
    os.chown(tmp_path / "a.slice/acme.service/docker", 65534, 65534)
    assert unit.believed(tmp_path, "a.slice/acme.service/docker/x") == "a.slice/acme.service"
    assert unit.believed(tmp_path, "a.slice/acme.service") == "a.slice/acme.service"
    assert unit.believed(tmp_path, "a.slice/gone.service") == "a.slice" and unit.believed(tmp_path, "") == ""


def test_an_image_that_does_not_fit_is_not_certain_and_never_cut() -> None:
    found = Image.unpack(Image("ab" * 32, "", "p" * 200, "/" + "x" * 300).pack())
    assert found == Image("ab" * 32, "", "?", "?")
    whole = Image("ab" * 32, "cd" * 32, "bash", "/x")
    assert Image.unpack(whole.pack()) == whole
