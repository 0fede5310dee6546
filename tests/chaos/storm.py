"""Live traffic while something dies: a vendor that works, a vendor that tries, and a neighbour who must not notice.

    works   one new connection after another through the relay to the server that echoes
    tries   TCP and UDP, both families, to where no rule lets it; every byte carries the mark
    near    outside the slice: one long connection and short ones, none of which may fail

`Storm.end` stops them and gives the proof: no frame with the mark came over the wire, the neighbour saw no error, and the
vendor that works is served again.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from tests.evasion.host import PYTHON, Scene, running, until
from tests.evasion.wire import MARK, Wire

WORKS = """
import json, select, socket, sys
done = failed = 0
print(flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0]:
    try:
        with socket.create_connection((sys.argv[1], 7), 1) as sock:
            sock.sendall(b"works")
            done += sock.recv(10) == b"works"
    except OSError:
        failed += 1
print(json.dumps({"done": done, "failed": failed}))
"""
TRIES = """
import json, select, socket, sys
MARK = b"VENDORGATE-EVASION"
tried = 0
print(flush=True)
socks = []
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for host in sys.argv[1:]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(family, kind)
            sock.setblocking(False)
            socks.append(sock)
            try:
                sock.connect((host, 8))
            except OSError:
                pass
    for sock in socks:
        tried += 1
        try:
            sock.send(MARK)
        except OSError:
            pass
    while len(socks) > 40:
        socks.pop(0).close()
print(json.dumps({"done": tried, "failed": 0}))
"""
NEAR = """
import json, select, socket, sys
done = failed = 0
why = ""
long = socket.create_connection((sys.argv[1], 7), 20)
print(flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0]:
    try:
        long.sendall(b"near")
        done += long.recv(10) == b"near"
        with socket.create_connection((sys.argv[1], 7), 20) as sock:
            sock.sendall(b"near")
            done += sock.recv(10) == b"near"
    except OSError as error:
        failed, why = failed + 1, repr(error)
print(json.dumps({"done": done, "failed": failed, "why": why}))
"""


class Seen(msgspec.Struct, frozen=True):
    """What one program of the traffic says at its end."""

    done: int
    failed: int
    why: str = ""


class Storm:
    """The traffic, from its start to `end`."""

    def __init__(self, scene: Scene, appliance: Appliance, wire: Wire) -> None:
        self.scene, self.appliance, self.wire = scene, appliance, wire
        lab = scene.lab
        wire.frames()
        self._works = scene.start(WORKS, lab.target_ip)
        self._tries = scene.start(TRIES, lab.target_ip, lab.target_ip6)
        self._near = near(lab, NEAR, lab.target_ip)

    def served(self, cgroup: str = "acme.service") -> None:
        """Wait until a vendor is served (again)."""
        until(lambda: self.scene.hello(cgroup) == "hello", 40)

    def check(self) -> None:
        """Nothing has leaked so far, and whoever works is served."""
        self.served()
        self.look()
        assert self.scene.leaked == []

    def look(self) -> None:
        """Nothing has leaked so far. Much traffic is looked at as it comes: the capture has room for some of it."""
        leaked = [frame for frame in self.wire.frames() if MARK in frame]
        assert not leaked, leaked[0]

    def end(self) -> None:
        works, tries, around = (_said(process) for process in (self._works, self._tries, self._near))
        self.check()
        assert (around.failed, around.why) == (0, "")
        assert around.done > 10
        assert tries.done > 0
        assert works.done > 0

    def kill(self) -> None:
        for process in (self._works, self._tries, self._near):
            process.kill()
            process.communicate()


def near(lab: Lab, code: str, *arguments: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    process = lab.popen([PYTHON, "-SEc", code, *arguments], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout
    process.stdout.readline()
    return process


def _said(process: "subprocess.Popen[str]") -> Seen:
    out, _ = process.communicate("\n", 60)
    return msgspec.json.decode(out, type=Seen)


@contextmanager
def storm(scene: Scene, home: Path, **settings: Any) -> Iterator[Storm]:
    """An appliance under traffic; the proof is taken at the end, and the ledger balances (`running`)."""
    wire = Wire(scene.lab)
    try:
        with running(scene, home, **settings) as appliance:
            live = Storm(scene, appliance, wire)
            try:
                live.served()
                yield live
                live.end()
            finally:
                live.kill()
    finally:
        wire.close()
