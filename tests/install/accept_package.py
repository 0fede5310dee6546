"""The package on a Debian of its own, in the order of its life: installed, used, restarted, upgraded, booted, purged.

Each step begins where the one before ended, as on a host. What a step claims of bytes is read on the machine of the
servers.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.lab.hosts import TARGET_IP
from tests.install.machines import DEBS, ROOT, package, wait
from tests.install.site import CLOSED, EARLIER, Site

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
MASKED = "Ada|*******6789\nGrace|*******4321\n"
HUB_SCORE, RELAY_SCORE = 4.0, 2.5  # exposure by systemd-analyze: 0 is closed, 10 open


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as one:
        yield one


# -- the package ---------------------------------------------------------------------------------------------


def test_lintian_finds_no_error() -> None:
    debs = [str(package()), str(package("vendorgate-observe"))]
    done = subprocess.run(["lintian", "--fail-on", "error", "--allow-root", *debs], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_names_no_place_of_its_build(tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", str(package()), str(tmp_path)], check=True)
    named = subprocess.run(["grep", "-rlaF", str(DEBS.parent), str(tmp_path)], capture_output=True, text=True)
    assert named.stdout == ""


# -- installed -----------------------------------------------------------------------------------------------


def test_the_commands_of_the_readme_do_what_it_says(site: Site) -> None:
    """On a Debian that has never seen the project, in this order; the site goes on from there."""
    assert [line.split()[0] for line, _ in site.said_by_readme] == ["apt", *["vendorgate"] * 3, "systemctl"]
    for line, done in site.said_by_readme:
        if line == "vendorgate check":  # says what is lacking by its status: this kernel has no LSM
            assert done.returncode == 0 or re.search("1 of [0-9]+ checks found a lack", done.stderr), done
        else:
            assert done.returncode == 0, (line, done)
    assert site.host.says("systemctl", "show", "--property=ControlGroup", "--value", "acme.service") == "/vendor.slice/acme.service"


def test_installed_it_runs(site: Site) -> None:
    assert site.host.run("dpkg-query", "-Wf", "${Version}", "vendorgate").stdout == EARLIER
    for unit in ("vendorgate-fence.service", "vendor.slice", "vendorgate.service"):
        assert (unit, site.host.says("systemctl", "is-active", unit)) == (unit, "active")
        assert (unit, site.host.says("systemctl", "is-enabled", unit)) == (unit, "enabled")
    assert site.json("status")["ready"] is True


def test_check_finds_nothing_lacking_but_what_this_kernel_lacks(site: Site) -> None:
    found = json.loads(site.host.run("vendorgate", "check", "--json", check=False).stdout)
    lacks = [one["name"] for one in found if not one["ok"]]
    assert set(lacks) <= {"lsm"}, lacks  # CONFIG_BPF_LSM is the kernel's, and no part of the package


def test_accounts_and_files(site: Site) -> None:
    assert re.search(r"^vendorgate:[^:]*:\d+:\d+:.*:/usr/sbin/nologin$", site.host.read("/etc/passwd"), re.MULTILINE)
    assert "\nvendorgate-review:" in site.host.read("/etc/group")
    modes = site.host.run("stat", "-c", "%a %U %n", "/var/lib/vendorgate", "/etc/vendorgate/vendorgate.yaml").stdout
    assert modes == "700 root /var/lib/vendorgate\n644 root /etc/vendorgate/vendorgate.yaml\n"
    assert "/etc/vendorgate/vendorgate.yaml" in site.host.run("dpkg-query", "-Wf", "${Conffiles}", "vendorgate").stdout


def test_exposure_of_the_hub(site: Site) -> None:
    said = site.host.run("systemd-analyze", "security", "--no-pager", "vendorgate.service", check=False).stdout
    assert _exposure(said) <= HUB_SCORE, said


def test_exposure_of_the_relay(site: Site, tmp_path: Path) -> None:
    """Workers live in the hub's unit and give up what is left of it: what they have is scored as a unit of its own."""
    pids = site.host.run("sh", "-c", "cat /sys/fs/cgroup/system.slice/vendorgate.service/relay-*/cgroup.procs").stdout.split()
    assert pids
    uid = site.host.run("id", "-u", "vendorgate").stdout.strip()
    for pid in pids:
        status = dict(line.split(":\t", 1) for line in site.host.run("cat", f"/proc/{pid}/status").stdout.splitlines() if ":\t" in line)
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["Uid"].split(), status["NoNewPrivs"], status["Seccomp"]) == ([uid] * 4, "1", "2")
    # Capabilities and account as the kernel has just said. Without the first, no namespace but one of users can be made,
    # and that is forbidden to the hub already; and the hub's cgroups are not the worker's to write.
    unit = (ROOT / "systemd/vendorgate.service").read_text()
    unit = re.sub(r"^CapabilityBoundingSet=.*$", "CapabilityBoundingSet=\nUser=vendorgate", unit, flags=re.MULTILINE)
    unit = re.sub(r"^RestrictNamespaces=.*$", "RestrictNamespaces=yes", unit, flags=re.MULTILINE)
    unit = re.sub(r"^Delegate=.*$", "", unit, flags=re.MULTILINE)
    (tmp_path / "relay.service").write_text(unit)
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / "relay.service")]
    said = subprocess.run(words, capture_output=True, text=True).stdout
    assert _exposure(said) <= RELAY_SCORE, said


def _exposure(said: str) -> float:
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return float(found[1])


# -- used ----------------------------------------------------------------------------------------------------


def test_the_vendor_is_governed_and_nobody_else(site: Site) -> None:
    assert site.acme("report") == (True, MASKED + "in stock: 7\n")
    free = site.host.run("env", "PGPASSWORD=secret", "/opt/acme/report").stdout
    assert free == "Ada|123-45-6789\nGrace|987-65-4321\nin stock: 7\n"


def test_sessions_name_the_process(site: Site) -> None:
    found = {one["process"]["exe"]: one for one in site.json("sessions")}
    psql = next(exe for exe in found if exe.endswith("/psql"))
    assert set(found) == {psql, "/usr/bin/curl"}
    assert {one["process"]["cgroup"] for one in found.values()} == {"acme@report.service"}
    assert {one["identity"] for one in found.values()} == {"acme-agents"}


def test_a_rule_is_edited_and_reloaded(site: Site) -> None:
    place = "/etc/vendorgate/rules.d/10-shop.yaml"
    before = site.host.read(place)
    site.host.write(place, before.replace("path: /internal.txt", "path: /stock.txt"))
    site.host.run("systemctl", "reload", "vendorgate")
    _well, said = site.acme("report")
    assert said.startswith(MASKED) and "in stock" not in said and "403" in said, said
    site.host.write(place, before)
    site.host.run("systemctl", "reload", "vendorgate")
    assert site.acme("report") == (True, MASKED + "in stock: 7\n")


def test_a_bad_rule_fails_the_reload_and_changes_nothing(site: Site) -> None:
    place = "/etc/vendorgate/rules.d/20-bad.yaml"
    revision = site.json("status")["rules_revision"]
    site.host.write(place, "rules:\n  - {id: odd, acton: block}\n")
    assert site.host.run("systemctl", "reload", "vendorgate", check=False).returncode
    said = site.host.run("journalctl", "-u", "vendorgate", "-n", "20", "-o", "cat", "--no-pager").stdout
    assert "20-bad.yaml:2" in said and "acton" in said
    assert site.json("status")["rules_revision"] == revision
    assert site.acme("report") == (True, MASKED + "in stock: 7\n")
    (site.host.root / place.lstrip("/")).unlink()
    site.host.run("systemctl", "reload", "vendorgate")


def test_stopped_the_fence_is_closed(site: Site) -> None:
    site.agent("knock", f"#!/bin/sh\ncurl -sS --max-time 5 http://{TARGET_IP}:{CLOSED}/ http://{TARGET_IP}/stock.txt\n")
    before = len(site.requests())
    site.host.run("systemctl", "stop", "vendorgate.service", "vendorgate-fence.service")
    # A unit that wants the fence starts it; the one that is put there by hand does not even say that it does.
    well, said = site.acme("knock")
    assert not well and "in stock" not in said, said
    script = "systemd-run --quiet --pipe --wait --collect -p Slice=vendor.slice -p User=acme /opt/acme/knock"
    done = site.host.shell(script, check=False)
    assert done.returncode and "in stock" not in done.stdout
    assert (len(site.requests()), site.reached()) == (before, 0)
    site.host.run("systemctl", "start", "vendorgate.service")
    wait("the service is back", site.ready)
    assert site.acme("report") == (True, MASKED + "in stock: 7\n")


# -- under load ----------------------------------------------------------------------------------------------


class Load:
    """The vendor's busy agent, from entry to exit; then `found` is what came of it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.found: dict[str, Any] = {}

    def __enter__(self) -> "Load":
        site = self._site
        site.host.write("/opt/acme/load.py", (ROOT / "tests/install/load.py").read_text(), 0o755)
        site.agent("load", f"#!/bin/sh\nexec /opt/acme/load.py {TARGET_IP} {CLOSED}\n")
        site.host.run("systemctl", "start", "--no-block", "acme@load")
        self.more(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._site.host.run("systemctl", "stop", "acme@load")
        said = self._site.said("load").splitlines()
        self.found = json.loads(said[-1])

    def more(self, count: int) -> None:
        """Return when so many more requests were served, as the server says."""
        until = self._site.requests().count("/stock.txt") + count
        wait(f"{count} more are served", lambda: self._site.requests().count("/stock.txt") >= until, 60)


def _nothing_lost(site: Site, load: Load) -> None:
    found = load.found
    print(found)
    assert found.get("served", 0) > 100 and found.get("denied", 0) > 10 and found.get("kept in", 0) > 10, found
    assert found.get("refused", 0) == 0, found
    assert found.get("leaked", 0) == 0, found
    assert found.get("broken", 0) == 0, found
    assert "/internal.txt" not in site.requests()
    assert site.reached() == 0


def test_a_restart_under_load_refuses_nobody_and_leaks_nothing(site: Site) -> None:
    main = site.host.says("systemctl", "show", "--property=MainPID", "--value", "vendorgate")
    with Load(site) as load:
        for _ in range(2):
            site.host.run("systemctl", "restart", "vendorgate")
            load.more(50)
    assert site.host.says("systemctl", "show", "--property=MainPID", "--value", "vendorgate") != main
    _nothing_lost(site, load)


def test_an_upgrade_under_load_refuses_nobody_and_leaks_nothing(site: Site) -> None:
    settings = site.host.read("/etc/vendorgate/vendorgate.yaml")
    edited = settings + "relay: {workers: 2}\n"
    site.host.write("/etc/vendorgate/vendorgate.yaml", edited)
    for name in ("vendorgate", "vendorgate-observe"):
        site.host.copy(package(name), "/deb")
    with Load(site) as load:
        site.host.run("apt-get", "install", "-y", *(f"/deb/{package(name).name}" for name in ("vendorgate", "vendorgate-observe")))
        load.more(50)
    _nothing_lost(site, load)
    version = site.host.run("dpkg-query", "-Wf", "${Version}", "vendorgate").stdout
    assert version == package().name.split("_")[1] != EARLIER
    assert site.host.read("/etc/vendorgate/vendorgate.yaml") == edited  # an operator's file is the operator's
    assert site.json("status")["ready"] is True
    site.host.run("test", "-e", "/usr/lib/vendorgate/bpf/observe.bpf.o")
    assert site.acme("report") == (True, MASKED + "in stock: 7\n")


# -- booted --------------------------------------------------------------------------------------------------

FIRST = """\
[Unit]
Description=Connects as its first act, before most of the system is there
DefaultDependencies=no
After=local-fs.target

[Service]
Type=oneshot
Slice=vendor.slice
ExecStart=/opt/acme/first

[Install]
WantedBy=sysinit.target
"""


def test_booted_a_unit_that_connects_first_of_all_is_governed(site: Site) -> None:
    site.host.write("/opt/acme/first", "#!/bin/sh\n/opt/acme/knock && echo through || echo kept in\ndate +%s >/var/lib/first\n", 0o755)
    site.host.write("/etc/systemd/system/first.service", FIRST)
    site.host.write("/etc/systemd/system/acme@.service.d/boot.conf", "[Install]\nWantedBy=multi-user.target\n")
    site.host.run("systemctl", "daemon-reload")
    site.host.run("systemctl", "enable", "--quiet", "first.service", "acme@report.service")
    before = site.requests().count("/stock.txt")
    site.host.write("/var/log/acme-report.log", "")
    site.host.reboot()
    wait("the unit has run", lambda: site.host.read("/var/lib/first"))
    said = site.host.run("journalctl", "-b", "-u", "first.service", "-o", "cat", "--no-pager").stdout
    assert "kept in" in said and "through" not in said and "in stock" not in said, said
    order = [site.host.says("systemctl", "show", "--property=ExecMainStartTimestampMonotonic", "--value", unit)
             for unit in ("vendorgate-fence.service", "first.service", "vendorgate.service")]  # fmt: skip
    assert sorted(map(int, order[:2])) == [int(one) for one in order[:2]], order
    assert site.said("report") == MASKED + "in stock: 7\n"
    assert site.requests().count("/stock.txt") == before + 1  # the report's own
    assert site.reached() == 0


# -- gone ----------------------------------------------------------------------------------------------------


def test_removed_the_fence_stays_and_purged_the_records_stay(site: Site) -> None:
    kept = site.host.run("find", "/var/lib/vendorgate/records", "-type", "f").stdout.split()
    assert kept
    said = site.host.run("apt-get", "remove", "-y", "vendorgate").stdout
    assert "the fence stays" in said, said
    script = "systemd-run --quiet --pipe --wait --collect -p Slice=vendor.slice -p User=acme /opt/acme/knock"
    assert "in stock" not in site.host.shell(script, check=False).stdout
    assert site.reached() == 0
    said = site.host.run("apt-get", "purge", "-y", "vendorgate").stdout
    assert "/var/lib/vendorgate" in said and "acme@report.service.d/vendorgate.conf" in said, said
    assert set(kept) <= set(site.host.run("find", "/var/lib/vendorgate", "-type", "f").stdout.split())
    gone = "/etc/vendorgate /usr/lib/vendorgate /usr/bin/vendorgate /run/vendorgate /run/vendorgate-bpf /sys/fs/bpf/vendorgate"
    for path in [*gone.split(), "/var/lib/vendorgate/keys/authority.key", "/lib/systemd/system/vendor.slice"]:
        assert site.host.run("test", "!", "-e", path, check=False).returncode == 0, path
    assert "vendorgate" not in site.host.read("/etc/passwd") + site.host.read("/etc/group")
    # An agent that was under control does not run free for that: its unit wants a fence that is no more.
    started = site.host.run("systemctl", "start", "acme@report", check=False)
    assert started.returncode and "vendorgate-fence.service not found" in started.stderr
