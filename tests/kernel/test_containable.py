"""Vendors that the fence cannot hold are named, with what to change; those that it can are not."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli.check import vendors
from appliance.kernel import containable, unit
from appliance.kernel.containable import Gap, gaps
from appliance.lab.hosts import Lab
from tests.kernel.programs import PYTHON, wait_for

pytestmark = pytest.mark.kernel
USER = 47110  # nobody else's on any host
BARE = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
ALONE = [*BARE, f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
WAITS = "print(1, flush=True); input()"
FILTERS = """
import ctypes, os, struct, sys
allow = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))  # BPF_RET, SECCOMP_RET_ALLOW
program = ctypes.create_string_buffer(struct.pack("HP", 1, ctypes.addressof(allow)))
assert ctypes.CDLL(None).prctl(22, 2, program) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def upcall(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the kernel would find the program of keyutils: not installed."""
    path = tmp_path / "request-key"
    monkeypatch.setattr(containable, "UPCALL", path)
    return path


@contextlib.contextmanager
def running(lab: Lab, *words: str, cgroup: str = "acme.service") -> Iterator[set[Gap]]:
    """Run a program in the slice; yield the ways out it has."""
    pipe = subprocess.PIPE
    agent = lab.popen([*words, PYTHON, "-SEc", WAITS], cgroup=cgroup, stdin=pipe, stdout=pipe, text=True)
    assert agent.stdout and agent.stdout.readline()
    try:
        yield set(gaps(lab.place()))
    finally:
        agent.communicate("\n")


def said(found: set[Gap]) -> str:
    return "\n".join(str(gap) for gap in sorted(found))


def test_an_account_of_its_own_without_rights_is_held(lab: Lab) -> None:
    with running(lab, "setpriv", *ALONE) as found:
        assert found == set()
        [finding] = vendors(lab.place())
        assert finding.ok


@pytest.mark.parametrize("name", ["CAP_NET_ADMIN", "CAP_BPF", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_RAW"])
def test_a_capability_is_named_with_what_it_does(lab: Lab, name: str) -> None:
    cap = name.removeprefix("CAP_").lower()
    words = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", f"--inh-caps=-all,+{cap}", f"--ambient-caps=-all,+{cap}"]
    with running(lab, "setpriv", *words, "--no-new-privs") as found:
        assert f"acme.service is not contained: python3 holds {name} (" in said(found)
        assert "CapabilityBoundingSet=" in said(found)


def test_root_is_named_even_without_capabilities(lab: Lab) -> None:
    with running(lab, "setpriv", *BARE, "--no-new-privs") as found:
        assert "python3 runs as root" in said(found) and "can leave the slice" in said(found)


def test_read_only_cgroups_are_no_way_out(lab: Lab) -> None:
    words = f"mount -o remount,ro,bind {lab.cgroup_root} && exec setpriv {' '.join(BARE)} --no-new-privs -- \"$@\""
    with running(lab, "unshare", "--mount", "sh", "-c", words, "sh") as found:
        assert "python3 runs as root" in said(found) and "can leave" not in said(found)


def test_rights_that_could_be_gained(lab: Lab) -> None:
    with running(lab, "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups") as found:
        assert "may gain capabilities by a setuid program; set NoNewPrivileges=yes" in said(found)


def test_names_that_the_kernel_has_looked_up_outside_the_slice(lab: Lab, upcall: Path) -> None:
    upcall.touch(0o755)
    with running(lab, "setpriv", *ALONE) as found:
        assert said(found) == (
            "acme.service is not contained: python3 may have names looked up outside the slice (request_key); "
            "set SystemCallFilter=~request_key"
        )
    with running(lab, "setpriv", *ALONE, PYTHON, "-SEc", FILTERS) as found:
        assert said(found) == ""


def test_capabilities_over_its_own_namespace_are_none(lab: Lab) -> None:
    with running(lab, "setpriv", *ALONE, "unshare", "--user", "--map-root-user") as found:
        assert "holds" not in said(found)


def test_a_user_that_also_runs_outside_is_named(lab: Lab) -> None:
    outside = subprocess.Popen(
        ["setpriv", *ALONE, PYTHON, "-SEc", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert outside.stdout and outside.stdout.readline()
        with running(lab, "setpriv", *ALONE) as found:
            assert f"it shares user {USER} with python3 outside the slice" in said(found)
    finally:
        outside.communicate("\n")


def test_each_unit_is_named_once(lab: Lab) -> None:
    with running(lab, cgroup="a.slice/one.service/x"), running(lab, cgroup="a.slice/one.service/y"):
        with running(lab, cgroup="two.service") as found:
            assert {gap.unit for gap in found} == {"one.service", "two.service"}
            names = [finding.name for finding in vendors(lab.place())]
            assert names == sorted(names) and all(not finding.ok for finding in vendors(lab.place()))


def test_a_process_that_is_gone_is_no_finding() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    wait_for(lambda: containable.rights(pid) is None)


def test_one_look_is_limited(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containable, "MAX_LOOKED", 0)
    with running(lab) as found:
        assert found == set()


def test_names_of_units() -> None:
    assert unit.unit("a.slice/one.service/x") == "one.service" and unit.unit("plain/two.service") == ""
    assert unit.unit("_my.service") == "my.service"
