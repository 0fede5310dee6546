"""The right process every time: what is recorded of who opened a connection, through the whole appliance."""

import hashlib
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from tests.kernel.programs import CONNECT, PORT, PYTHON, Seen, compiled, connect, copied, wait_for

pytestmark = pytest.mark.kernel

REAL = os.path.realpath(PYTHON)
NUMBER = 1000
CUT = "…"
CODE = ("agent", PYTHON, "-SE")


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def rules(storm: Path) -> str:
    """Identities, the ones tried first are the most specific; no rule allows anything."""
    return f"""
identities:
  other-digest: {{sha256: {'0' * 64}}}
  scripted: {{script: "**/agent.py"}}
  by-content: {{script: "sha256:{hashlib.sha256(CONNECT.encode()).hexdigest()}"}}
  packaged: {{package: "python3.*-minimal"}}
  served: {{unit: served@*.service}}
  boxed: {{container: {'ab' * 6}}}
  memory: {{image: memfd}}
  digest: {{sha256: {sha256(storm)}}}
"""


@pytest.fixture(scope="module")
def storm() -> Iterator[Path]:
    with compiled() as program:
        yield program


@pytest.fixture(scope="module")
def scripts(storm: Path) -> Path:
    """A folder of scripts that everybody may read."""
    texts = {
        "agent.py": f"#!{PYTHON} -SE\n{CONNECT}\n",
        "agent.sh": 'exec 3<>"/dev/tcp/$1/$2"\n',
        "agent.pl": 'use IO::Socket::INET; IO::Socket::INET->new("$ARGV[0]:$ARGV[1]");\n',
    }
    for name, text in texts.items():
        (storm.parent / name).write_text(text)
        (storm.parent / name).chmod(0o755)
    (storm.parent / "link.py").symlink_to("agent.py")
    return storm.parent


@pytest.fixture(scope="module")
def appliance(rights: None, storm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with Lab() as lab, Appliance(lab, tmp_path_factory.mktemp("appliance"), {"a.yaml": rules(storm)}) as appliance:
        yield appliance


@pytest.fixture
def lab(appliance: Appliance) -> Lab:
    return appliance.lab


@pytest.fixture
def seen(appliance: Appliance) -> Seen:
    return Seen(appliance)


def test_a_thousand_processes_of_all_kinds_are_a_thousand_exact_records(lab: Lab, storm: Path, seen: Seen) -> None:
    words = [str(storm), "many", lab.target_ip, str(PORT), str(NUMBER)]
    done = lab.run(words, cgroup="acme.service", user="nobody", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = [line.split() for line in done.stdout.splitlines()]
    assert len(made) == NUMBER and len({mode for _, mode, _ in made}) == 9
    expected: Counter[tuple[int, str, tuple[str, ...]]] = Counter()
    for pid, mode, word in made:
        argv = ("agent", mode, lab.target_ip, str(PORT), word)
        if mode in ("fork", "thread"):  # no exec: what forked it, or it is a thread of
            argv = tuple(words)
        expected[int(pid), str(storm), (*argv, CUT) if mode == "long" else argv] += 1
    found = [session["process"] for session in seen.sessions(NUMBER)]
    assert Counter((p["pid"], p["exe"], tuple(p["argv"])) for p in found) == expected
    digest = sha256(storm)
    assert {(p["cgroup"], p["unit"], p["sha256"], p["package"]) for p in found} == {
        ("acme.service", "acme.service", digest, "")
    }


def test_losses_are_told_and_there_are_none(appliance: Appliance) -> None:
    losses = appliance.json("status")["losses"]
    assert {losses[name] for name in ("lost_process", "unknown_process", "lost_event", "unattributed")} == {0}


def test_a_pid_that_is_used_again_is_another_process(lab: Lab, storm: Path, seen: Seen) -> None:
    """The number is forced: the next process of this pid namespace gets the one that was just free."""
    code = """
import os, sys
def run(word, pid=0):
    if pid:
        open("/proc/sys/kernel/ns_last_pid", "w").write(str(pid - 1))
    return os.posix_spawn(sys.argv[1], ["agent", "one", *sys.argv[2:4], word], {})
for attempt in range(50):
    first = run(f"first {attempt}")
    os.waitpid(first, 0)
    second = run(f"second {attempt}", first)
    os.waitpid(second, 0)
    if first == second:
        break
"""
    words = [PYTHON, "-SEc", code, str(storm), lab.target_ip, str(PORT)]
    done = lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made = [(int(pid), word) for pid, _, *word in map(str.split, done.stdout.splitlines())]
    assert made[-1][0] == made[-2][0], "the pid was not given again"
    found = [session["process"] for session in seen.sessions(len(made))]
    assert sorted((p["pid"], p["argv"][4].split()) for p in found) == sorted(made)


def test_an_exec_while_another_thread_connects_is_either_image_never_both(lab: Lab, storm: Path, seen: Seen) -> None:
    other = copied(storm, "storm-raced")
    for i in range(20):
        words = [str(storm), "race", lab.target_ip, str(PORT), str(i), str(other)]
        done = lab.run(words, cgroup=f"race{i % 4}.service", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    images = {(p["exe"], p["argv"][1]) for p in (s["process"] for s in seen.sessions(20))}
    assert images <= {(str(storm), "race"), (str(other), "raced")} and len(images) == 2


def test_what_connected_and_what_it_became_are_both_recorded(
    appliance: Appliance, lab: Lab, storm: Path, seen: Seen
) -> None:
    other = copied(storm, "storm-handed")
    words = [str(storm), "hand", lab.target_ip, str(PORT), "word", str(other)]
    done = lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    session = seen.one()
    assert session["process"]["exe"] == str(storm)
    shown = appliance.cli("show", session["id"]).stdout
    assert f"{storm}, uid" in shown and str(other) in shown


def test_the_digest_is_of_what_was_executed_not_of_what_is_there_now(lab: Lab, storm: Path, seen: Seen) -> None:
    """A vendor that replaces its program after the exec changes nothing."""
    mine = copied(storm, "storm-mine")
    agent = lab.popen(
        [str(mine), "later", lab.target_ip, str(PORT), "word"], cgroup="acme.service", user="nobody",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: os.readlink(f"/proc/{agent.pid}/exe") == str(mine))
    shutil.copy("/bin/true", mine.with_name("true"))
    mine.with_name("true").rename(mine)
    agent.communicate("x", timeout=60)
    process = seen.one()["process"]
    assert process["exe"] == str(mine) and process["sha256"] == sha256(storm)


def test_a_digest_names_a_copy_wherever_it_is(lab: Lab, storm: Path, seen: Seen) -> None:
    connect(lab, str(copied(storm, "elsewhere")), "one")
    session = seen.one()
    assert session["identity"] == "digest" and session["process"]["sha256"] == sha256(storm)


def test_a_package_is_that_of_the_file(lab: Lab, seen: Seen) -> None:
    connect(lab, PYTHON, "-SEc", CONNECT)
    process = seen.one()["process"]
    owner = subprocess.run(["dpkg", "-S", REAL], capture_output=True, text=True, check=True).stdout.split(":")[0]
    assert process["package"] == owner and process["sha256"] == sha256(REAL)


def test_a_copy_belongs_to_no_package(lab: Lab, storm: Path, seen: Seen) -> None:
    copy = Path(shutil.copy(REAL, storm.with_name("python3")))
    connect(lab, str(copy), "-SEc", CONNECT)
    session = seen.one()
    assert session["process"]["package"] == "" and session["process"]["sha256"] == sha256(REAL)
    assert session["identity"] == "by-content"


@pytest.mark.parametrize("case", [
    ((PYTHON, "-SE", "agent.py"), "{home}/agent.py", "scripted"),
    (("./agent.py",), "{home}/agent.py", "scripted"),
    ((PYTHON, "link.py"), "{home}/agent.py", "scripted"),
    ((PYTHON, "-SEc", CONNECT), "code:", "by-content"),
    ((PYTHON, "-m", "agent"), "module:agent", "packaged"),
    (("bash", "agent.sh"), "{home}/agent.sh", ""),
    (("perl", "agent.pl"), "{home}/agent.pl", ""),
])  # fmt: skip
def test_the_script_of_an_interpreter(
    lab: Lab, scripts: Path, seen: Seen, case: tuple[tuple[str, ...], str, str]
) -> None:
    words, script, identity = case
    connect(lab, *words, cwd=scripts)
    session = seen.one()
    process = session["process"]
    assert (process["script"], session["identity"]) == (script.format(home=scripts), identity)
    if script.startswith("{home}"):
        assert process["script_sha256"] == sha256(process["script"])


def test_a_memory_file_has_a_digest_and_is_a_class(lab: Lab, storm: Path, seen: Seen) -> None:
    code = f"""
import os, sys
fd = os.memfd_create("agent", 0)
os.write(fd, open({str(storm)!r}, "rb").read())
os.execve(fd, ["agent", "stay", *sys.argv[-2:], "x"], {{}})
"""
    connect(lab, PYTHON, "-SEc", code)
    session = seen.one()
    assert session["process"]["exe"].startswith("memfd:agent") and session["process"]["package"] == ""
    assert session["process"]["sha256"] == sha256(storm) and session["identity"] == "memory"


@pytest.mark.parametrize("mount", [
    "mount -t tmpfs none {home}/box",
    "mount -t tmpfs none {home}/box && mkdir {home}/box/a {home}/box/b {home}/box/c"
    " && cp {storm} {home}/box/a/agent && mount -t overlay -o lowerdir={home}/box/a,upperdir={home}/box/b,"
    "workdir={home}/box/c none {home}/box",
])  # fmt: skip
def test_a_program_that_only_its_container_sees_has_a_digest_and_no_package(
    lab: Lab, storm: Path, seen: Seen, mount: str
) -> None:
    home = storm.parent
    (home / "box").mkdir(exist_ok=True)
    enter = mount.format(home=home, storm=storm)
    code = f'{enter} && {{ [ -e {home}/box/agent ] || cp {storm} {home}/box/agent; }} && exec {home}/box/agent stay "$@"'
    words = ["unshare", "--mount", "sh", "-c", code, "sh", lab.target_ip, str(PORT), "word"]
    done = lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    process = seen.one()["process"]
    assert (process["exe"], process["sha256"], process["package"]) == (f"{home}/box/agent", sha256(storm), "")


@pytest.mark.parametrize("case", [
    ("served@1.service", "served@1.service", "", "served"),
    ("a.slice/served@2.service/worker", "served@2.service", "", "served"),
    (f"docker-{'ab' * 32}.scope", f"docker-{'ab' * 32}.scope", "ab" * 32, "boxed"),
    (f"plain/{'ab' * 32}", "", "ab" * 32, "boxed"),
    ("plain", "", "", "digest"),
])  # fmt: skip
def test_unit_and_container_by_the_cgroup(lab: Lab, seen: Seen, storm: Path, case: tuple[str, str, str, str]) -> None:
    cgroup, unit, container, identity = case
    connect(lab, str(copied(storm, "in-cgroup")), "one", cgroup=cgroup)
    session = seen.one()
    process = session["process"]
    assert (process["cgroup"], process["unit"], process["container"]) == (cgroup, unit, container)
    assert session["identity"] == identity


def test_a_cgroup_that_its_user_made_names_nothing(lab: Lab, seen: Seen, storm: Path) -> None:
    made = lab.cgroup(f"plain/docker-{'ab' * 32}.scope")
    os.chown(made, 65534, 65534)
    connect(lab, str(storm), "one", cgroup=f"plain/docker-{'ab' * 32}.scope")
    process = seen.one()["process"]
    assert (process["unit"], process["container"]) == ("", "")


def test_what_is_recorded_survives_a_new_hub(appliance: Appliance, lab: Lab, storm: Path) -> None:
    """A program that ran before the hub started: its script was found out at its exec."""
    home = storm.parent
    (home / "waits.py").write_text(f"input()\n{CONNECT}\n")
    agent = lab.popen(
        [PYTHON, "-SE", str(home / "waits.py"), lab.target_ip, str(PORT)], cgroup="acme.service", user="nobody",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = Seen(appliance)
    connect(lab, str(storm), "one")  # when this is recorded, so is what came before it
    first.one()
    appliance.stop()
    (home / "waits.py").write_text("another text")
    appliance.start()
    seen = Seen(appliance)
    agent.communicate("\n", timeout=60)
    process: dict[str, Any] = seen.one()["process"]
    assert process["script"] == str(home / "waits.py")
    assert process["script_sha256"] == hashlib.sha256(f"input()\n{CONNECT}\n".encode()).hexdigest()


def test_shown(appliance: Appliance, lab: Lab, storm: Path, seen: Seen) -> None:
    home = storm.parent
    (home / "shown.py").write_text(CONNECT)
    connect(lab, PYTHON, "-SE", str(home / "shown.py"))
    shown = appliance.cli("show", seen.one()["id"]).stdout
    for text in (f"script    {home}/shown.py (sha256 {sha256(home / 'shown.py')})", f"sha256    {sha256(REAL)}"):
        assert text in shown
    assert "unit      acme.service" in shown
