"""The site of the acceptance: a machine with servers, a machine with a vendor's agent, a wire between them.

    host     10.77.0.1   installs vendorgate and governs acme@NAME (vagrant/host)
    targets  10.77.0.2   PostgreSQL, nginx and OpenSSH (vagrant/targets), and a port that no rule allows

Neither has a network beyond the wire: what an installation needs, it has.
"""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from appliance.lab.hosts import TARGET_IP, Lab
from tests.install.machines import ROOT, Machine, package, wait

CLOSED = 8080  # a port of the targets for which there is no rule
EARLIER = "0.0.9~earlier"  # the version that is upgraded from
OUTPUT = "[Service]\nStandardOutput=truncate:/var/log/acme-%i.log\nStandardError=inherit\n"
# A unit of a vendor's that runs already when it is adopted.
UNIT = "[Service]\nDynamicUser=yes\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
# Counts who gets through to the port: a line each.
LISTENER = f"""
import socket
server = socket.create_server(("", {CLOSED}), backlog=64)
print("listening", flush=True)
while True:
    sock, peer = server.accept()
    print("reached", peer[0], flush=True)
    sock.sendall(b"reached")
    sock.close()
"""


class Site:
    """Context manager; `host` and `targets` are machines, `earlier` a package of an earlier version."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lab = Lab()
        self.targets, self.host = Machine("targets", self.lab.target), Machine("host", self.lab.host)
        self.earlier = home / f"vendorgate_{EARLIER}.deb"
        self.said_by_readme: list[tuple[str, subprocess.CompletedProcess[str]]] = []
        self._reached = home / "reached"

    def __enter__(self) -> "Site":
        self.lab.__enter__()
        try:
            with ThreadPoolExecutor(4) as pool:
                waiting = [pool.submit(repacked, package(), EARLIER, self.earlier)]
                for machine in (self.targets, self.host):
                    machine.__enter__()
                waiting += [pool.submit(self._provision_targets), pool.submit(self._provision_host, waiting[0])]
                for one in waiting:
                    one.result()
            self._listen()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for machine in (self.host, self.targets):
            machine.__exit__(None, None, None)
        self.lab.close()

    def reached(self) -> int:
        """Return how many connections came through to the port that no rule allows."""
        return self._reached.read_text().count("reached")

    def requests(self) -> str:
        """Return what nginx of the targets has read, a line each."""
        return self.targets.read("/var/log/nginx/access.log")

    def json(self, *words: str) -> Any:
        """Return what a command of vendorgate says with --json."""
        return json.loads(self.host.run("vendorgate", *words, "--json").stdout)

    def agent(self, name: str, script: str) -> None:
        """Give the vendor a program, to be run as acme@NAME, under control."""
        self.host.write(f"/opt/acme/{name}", script, 0o755)
        self.host.run("vendorgate", "adopt", f"acme@{name}.service", "--yes")

    def acme(self, name: str) -> tuple[bool, str]:
        """Run a program of the vendor's to its end; return whether it went well, and what it said."""
        done = self.host.run("systemctl", "start", f"acme@{name}.service", check=False)
        return done.returncode == 0, self.said(name)

    def said(self, name: str) -> str:
        """Return what a program of the vendor's said the last time it ran."""
        return self.host.read(f"/var/log/acme-{name}.log")

    def ready(self) -> bool:
        """Tell whether the service serves."""
        return self.host.says("systemctl", "is-active", "vendorgate.service") == "active"

    def _provision_targets(self) -> None:
        self.targets.copy(ROOT / "vagrant", "/lab")
        self.targets.run("sh", "/lab/vagrant/targets")

    def _provision_host(self, earlier: Any) -> None:
        earlier.result()
        self.host.copy(ROOT / "vagrant", "/lab")
        self.host.write("/etc/systemd/system/acme.service", UNIT)
        self.host.run("systemctl", "daemon-reload")
        self.host.run("systemctl", "start", "acme.service")
        self.host.write("/etc/apt/apt.conf.d/91yes", 'APT::Get::Assume-Yes "true";\n')
        self.host.copy(self.earlier, "/root/build/deb/latest")
        self.said_by_readme = [(line, self.host.shell(f"cd /root && {line}", check=False)) for line in readme()]
        self.host.write("/etc/systemd/system/acme@.service.d/output.conf", OUTPUT)
        self.host.run("sh", "/lab/vagrant/host", f"/root/build/deb/latest/{self.earlier.name}", TARGET_IP)

    def _listen(self) -> None:
        with self._reached.open("wb") as log:
            self.lab.popen([sys.executable, "-c", LISTENER], where="target", stdout=log)
        wait("the closed port listens", lambda: "listening" in self._reached.read_text())


def readme() -> list[str]:
    """Return the commands of the README's section on installing, for root, after the one that builds the package."""
    section = (ROOT / "README.md").read_text().split("\n## Install\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.split(" #", 1)[0].strip() for line in section.split("```")[1].strip().splitlines()]
    assert lines[0] == "sudo make deb", "that is what made the package under test"
    return [line.removeprefix("sudo ") for line in lines[1:]]


def repacked(deb: Path, version: str, into: Path) -> Path:
    """Make the same package of another version, with other bpf objects: their build is told by their bytes."""
    tree = into.with_suffix(".tree")
    subprocess.run(["dpkg-deb", "-R", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text("\n".join(f"Version: {version}" if line.startswith("Version:") else line for line in lines) + "\n")
    for path in (tree / "usr/lib/vendorgate/bpf").iterdir():
        path.write_bytes(path.read_bytes() + b"\0")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", str(tree), str(into)], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return into
