"""Bulk of a flow that is passed unread is moved in the kernel: every byte still counts, and new rules still end it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from tests.evasion.host import Scene, ask, running, until, workers

pytestmark = pytest.mark.kernel

MIB = 16
BULK = """
import hashlib, socket, sys, threading
block = bytes(range(256)) * 4096
size = int(sys.argv[2]) * len(block)
with socket.create_connection((sys.argv[1], 7), 30) as sock:
    def say():
        for _ in range(int(sys.argv[2])):
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)
    threading.Thread(target=say).start()
    found = bytearray()
    while data := sock.recv(1 << 20):
        found += data
print(len(found) == size, found == block * int(sys.argv[2]))
"""
ENDLESS = """
import socket, sys, threading
block = bytes(1 << 20)
with socket.create_connection((sys.argv[1], 7), 30) as sock:
    def say():
        try:
            while True:
                sock.sendall(block)
        except OSError:
            pass
    threading.Thread(target=say, daemon=True).start()
    print("begun", flush=True)
    got = 0
    try:
        while data := sock.recv(1 << 20):
            if got < 8 << 20 <= got + len(data):
                print("bulk", flush=True)
            got += len(data)
        print("ended", flush=True)
    except OSError as error:
        print("cut off", flush=True)
"""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)


@pytest.fixture(scope="module")
def appliance(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running(scene, tmp_path_factory.mktemp("bulk")) as appliance:  # which ends with the ledger balanced
        yield appliance


def pipes(appliance: Appliance) -> int:
    """Return how many ends of pipes the workers have."""
    found = 0
    for pid in workers(appliance):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found += os.readlink(link).startswith("pipe:")
            except FileNotFoundError:
                pass  # closed meanwhile
    return found


def test_bulk_is_moved_by_workers_without_rights_and_counted(scene: Scene, appliance: Appliance) -> None:
    before = pipes(appliance)
    assert scene.run(BULK, scene.lab.target_ip, str(MIB)) == "True True"
    assert pipes(appliance) > before, "it was read and written"
    said = f"{MIB << 20} bytes passed unread"
    until(lambda: appliance.cli("show", "last").stdout.count(said) == 2)


@contextmanager
def endless(scene: Scene) -> "Iterator[subprocess.Popen[str]]":
    """A vendor's program that says and hears without an end, when it has come to bulk."""
    with scene.start(ENDLESS, scene.lab.target_ip) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "bulk\n"
            yield process
        finally:
            process.kill()


def test_rules_that_no_longer_pass_it_end_it(scene: Scene, appliance: Appliance) -> None:
    with endless(scene) as process:
        assert process.stdout
        appliance.rule("10-echo.yaml", scene.rules().replace("who: [acme, other]", "who: other"))
        ask(appliance, "/reload", "POST")
        assert process.stdout.readline() in ("cut off\n", "ended\n")
    appliance.rule("10-echo.yaml", scene.rules())
    ask(appliance, "/reload", "POST")
    until(lambda: scene.hello() == "hello")


def test_a_frozen_process_does_not_keep_others_from_theirs(scene: Scene, appliance: Appliance) -> None:
    """What it does not read stops its own server. Thawed, it goes on where it was."""
    with endless(scene) as process:
        appliance.cli("freeze", "acme")
        assert scene.hello("other.service") == "hello"
        appliance.cli("thaw", "acme")
        assert scene.hello() == "hello"
        assert process.poll() is None
