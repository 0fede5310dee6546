"""Where the rows of the table of ways round are tried: an appliance in force, a vendor, and a capture on the far side."""

import functools
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.kernel import pins
from appliance.lab.appliance import Appliance
from appliance.lab.hosts import TARGET_IP, TARGET_IP6, Lab
from tests.evasion import rows
from tests.evasion.host import ECHO, PYTHON, SECRET, Scene, ask, running
from tests.evasion.wire import MARK, Wire

ROOT, NOBODY, USERNS = "root", "nobody", "userns"
ALL = (NOBODY, USERNS, ROOT)
LATER = "errno|silence|sent"  # where the packet engine judges, send() has taken what is then refused
V4, V6, BOTH = (TARGET_IP,), (TARGET_IP6,), (TARGET_IP, TARGET_IP6)
LENT = "/tmp/vendorgate-lent.sock"  # the only unix socket that governed processes may speak to
DIRECT = """
identities:
  direct: {{cgroup: direct.service}}
targets:
  direct: {{address: ["{v4}:7", "[{v6}]:7"]}}
rules:
  - {{id: direct, who: direct, to: direct, do: allow, inspect: false}}
"""  # judged in the kernel, TCP and UDP


@functools.cache
def attacks() -> Path:
    """Return a copy of attacks.py that every user may read: the checkout may be below /root."""
    directory = Path(tempfile.mkdtemp(prefix="vg-attacks-"))
    directory.chmod(0o755)
    copy = directory / "attacks.py"
    copy.write_bytes((Path(__file__).parent / "attacks.py").read_bytes())
    copy.chmod(0o644)
    return copy


def forget() -> None:
    """Remove the copy."""
    if attacks.cache_info().currsize:
        shutil.rmtree(attacks().parent, ignore_errors=True)
        attacks.cache_clear()


class Field:
    """`attack` runs cases of attacks.py; `leaked` is what came over the wire since the last look."""

    def __init__(self, scene: Scene, appliance: Appliance, wire: Wire) -> None:
        self.scene, self.appliance, self.wire = scene, appliance, wire
        self.lab = scene.lab

    def words(self, actor: str, *specs: str) -> list[str]:
        return [PYTHON, "-SE", str(attacks()), actor, *specs]

    def attack(self, specs: Sequence[str], actor: str = NOBODY, cgroup: str | None = "acme.service") -> dict[str, str]:
        """Run cases, each `case@host@port`, to their end; return what each printed last."""
        user = None if actor == ROOT else "nobody"
        done = self.lab.run(self.words(actor, *specs), cgroup=cgroup, user=user, capture_output=True, text=True, timeout=120)
        assert done.returncode == (0 if len(specs) > 1 else done.returncode) and not done.stderr, done.stderr
        if len(specs) == 1 and done.returncode == -signal.SIGKILL:
            return {specs[0]: "killed"}
        assert done.returncode == 0
        if len(specs) == 1:
            return {specs[0]: str(done.stdout).strip().rpartition("\n")[2]}
        lines = (line.partition(" ") for line in str(done.stdout).splitlines())
        found = {spec: said for spec, _, said in lines if spec in specs}
        assert found.keys() == set(specs), done.stdout
        return found

    def start(self, spec: str, actor: str = NOBODY, cgroup: str = "acme.service", **options: Any) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        user = None if actor == ROOT else "nobody"
        return self.lab.popen(self.words(actor, spec), cgroup=cgroup, user=user, stdin=pipe, stdout=pipe, text=True, **options)

    def link_local(self) -> str:
        """Return the target's address that holds on the wire only."""
        listing = self.lab.run(["ip", "-6", "-o", "addr", "show", "dev", "up0", "scope", "link"], where="target", capture_output=True, text=True)
        return str(listing.stdout).split()[3].partition("/")[0]

    def leaked(self) -> list[bytes]:
        frames = self.wire.frames()
        assert self.wire.lost() == 0, "the capture was too small"
        return frames


@contextmanager
def field(scene: Scene, home: Path, **settings: Any) -> Iterator[Field]:
    """An appliance in force with the rules of this table."""
    wire = Wire(scene.lab)
    try:
        with running(scene, home, **settings) as appliance:
            scene.lab.cgroup("direct.service")
            appliance.rule("05-direct.yaml", DIRECT.format(v4=scene.lab.target_ip, v6=scene.lab.target_ip6))
            ask(appliance, "/reload", "POST")
            directory = pins.directory(scene.lab.place().instance)
            load = pins.current(directory) if directory else None
            assert load
            rows.LACKING |= {path.name.removeprefix("lacks_") for path in load.glob("lacks_*")}
            yield Field(scene, appliance, wire)
    finally:
        wire.close()


def opened(lab: Lab) -> Scene:
    """A scene whose kernel lets everybody make ping sockets and busy rings: it is the fence that must refuse."""
    scene = Scene(lab)
    lab.run(["sh", "-c", "echo 0 65535 >/proc/sys/net/ipv4/ping_group_range; echo 1023 >/proc/sys/net/ipv4/tcp_fastopen"])
    return scene


def arrive(ground: Field, cases: Sequence[str], hosts: Sequence[str], port: int = ECHO) -> None:
    """Show that each case, made by root outside the slice, puts the mark on the wire."""
    for host in hosts:
        for case in cases:
            ground.leaked()
            said = ground.attack([f"{case}@{host}@{port}"], actor=ROOT, cgroup=None)
            assert any(MARK in frame for frame in ground.leaked()), (case, host, said)


def stay(
    ground: Field,
    cases: Sequence[str],
    hosts: Sequence[str] = BOTH,
    actors: Sequence[str] = ALL,
    *,
    port: int = SECRET,
    says: str = "errno",
) -> None:
    """Show that nothing of the cases comes over the wire, and that none is told of success."""
    ground.leaked()
    specs = [f"{case}@{host}@{port}" for case in cases for host in hosts]
    for actor in actors:
        said = ground.attack(specs, actor=actor)
        leaked = ground.leaked()
        assert not leaked, (actor, said, len(leaked), leaked[0][14:80])
        wrong = {spec: words for spec, words in said.items() if not words.startswith(tuple(says.split("|")))}
        assert not wrong, (actor, wrong)
