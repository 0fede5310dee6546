"""Rows 20, 25, 26 and 33 of the table of ways round: a process outside the slice that would lend its socket, or its tongue.

Where the kernel takes no LSM programs, the first bytes sent on a socket from outside leave before the sender is killed
(EVASION table, row 20: its residual). What is tried here says so, and no more than that may come.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from appliance.lab.hosts import TARGET_IP
from tests.evasion import rows
from tests.evasion.field import ALL, LENT, NOBODY, ROOT, Field, stay
from tests.evasion.host import ECHO, SECRET
from tests.evasion.wire import MARK
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel
HOW = ("path", "abstract", "relative", "root")


@pytest.fixture(scope="module")
def outside(ground: Field) -> Iterator[Inside]:
    """A thread of this process, which is not governed, on the host's side."""
    inside = Inside(ground.lab.host)
    yield inside
    inside.close()


def unix(name: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(name)
    if not name.startswith("\0"):
        os.chmod(name, 0o777)
    if kind == socket.SOCK_STREAM:
        sock.listen(50)
    return sock


def datagrams() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class Helper:
    """A service of this host, outside the slice, that does what it is asked: by a path, by an abstract name, by datagram."""

    def __init__(self, outside: Inside, path: Path) -> None:
        self._outside, self._sockets = outside, list[socket.socket]()
        for name in (str(path), "\0" + str(path)):
            self._start(outside(unix, name), self._serve)
        self._start(outside(unix, f"{path}.letters", socket.SOCK_DGRAM), self._read)

    def _start(self, sock: socket.socket, what: object) -> None:
        self._sockets.append(sock)
        threading.Thread(target=what, args=(sock,), daemon=True).start()  # type: ignore[arg-type]

    def _serve(self, listener: socket.socket) -> None:
        """Lend a connected socket, and send on what is said."""
        while True:
            try:
                door, _ = listener.accept()
            except OSError:
                return
            with door, self._outside(socket.create_connection, (TARGET_IP, ECHO)) as lent:
                door.settimeout(3)
                try:
                    socket.send_fds(door, [b"."], [lent.fileno()])
                    while said := door.recv(100):
                        lent.sendall(said)
                except OSError:
                    pass

    def _read(self, letters: socket.socket) -> None:
        while said := letters.recv(100):
            with self._outside(datagrams) as sock:
                sock.sendto(said, (TARGET_IP, SECRET))

    def close(self) -> None:
        for sock in self._sockets:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@contextmanager
def helper(outside: Inside, folder: Path, name: str) -> Iterator[Path]:
    for above in (folder, *folder.parents):
        if above != Path("/") and above.stat().st_uid == 0 and not above.stat().st_mode & 1:
            above.chmod(above.stat().st_mode | 0o011)
    path = folder / name
    one = Helper(outside, path)
    try:
        yield path
    finally:
        one.close()
        path.unlink()
        path.with_name(path.name + ".letters").unlink()


def marks(ground: Field) -> int:
    return sum(MARK in frame for frame in ground.leaked())


def arrives(ground: Field, case: str, host: str) -> None:
    """Outside the slice the way is open: else it proves nothing."""
    ground.leaked()
    said = ground.attack([f"{case}@{host}@0"], actor=ROOT, cgroup=None)
    assert marks(ground), said


@pytest.mark.parametrize("how", HOW)
def test_row_20_a_socket_handed_over(ground: Field, outside: Inside, tmp_path: Path, how: str) -> None:
    with helper(outside, tmp_path, "lend.sock") as path:
        arrives(ground, f"handed_{how}", str(path))
        stay(ground, (f"handed_{how}",), (str(path),), ALL, port=1)


@pytest.mark.parametrize("port", [0, 1], ids=["send", "write"])
def test_row_20_a_socket_handed_over_by_who_is_on_the_list(ground: Field, outside: Inside, port: int) -> None:
    """Its use kills, where its receipt cannot be refused."""
    with helper(outside, Path(LENT).parent, Path(LENT).name) as path:
        for actor in ALL:
            ground.leaked()
            (said,) = ground.attack([f"handed_path@{path}@{port}"], actor=actor).values()
            assert said == "killed" or said.startswith("errno")
            assert marks(ground) <= (1 if "lsm" in rows.LACKING else 0)


@pytest.mark.parametrize("name", ["docker.sock", "containerd.sock", "podman.sock", "libvirt-sock"])
def test_row_25_container_engines(ground: Field, outside: Inside, tmp_path: Path, name: str) -> None:
    with helper(outside, tmp_path, name) as path:
        arrives(ground, "said_path", str(path))
        stay(ground, ("said_path",), (str(path),))


@pytest.mark.parametrize("name", ["system_bus_socket", "private", "cron.sock", "io.systemd.Resolve", "nscd"])
def test_row_26_services_that_act_for_others(ground: Field, outside: Inside, tmp_path: Path, name: str) -> None:
    with helper(outside, tmp_path, name) as path:
        stay(ground, ("said_path", "said_root"), (str(path),))


def test_row_33_unix_sockets_by_every_name(ground: Field, outside: Inside, tmp_path: Path) -> None:
    with helper(outside, tmp_path, "r.sock") as path:
        for how in HOW:
            arrives(ground, f"said_{how}", str(path))
            stay(ground, (f"said_{how}",), (str(path),))
        arrives(ground, "said_datagram", f"{path}.letters")
        stay(ground, ("said_datagram",), (f"{path}.letters",))


@pytest.mark.parametrize("how", ["write", "send"])
def test_row_20_a_connection_inherited(ground: Field, outside: Inside, how: str) -> None:
    """By fork, not by a unix socket: nothing is asked before it is used, so the user dies of the first use."""
    with outside(socket.create_connection, (TARGET_IP, ECHO)) as lent:
        os.set_inheritable(lent.fileno(), True)
        ground.leaked()
        process = ground.start(f"inherited_{how}@x@{lent.fileno()}", pass_fds=[lent.fileno()])
        said = process.communicate(timeout=30)[0]
    assert process.returncode == -signal.SIGKILL, said
    assert marks(ground) <= (1 if "lsm" in rows.LACKING else 0)


def test_row_20_a_fresh_socket_inherited(ground: Field, outside: Inside) -> None:
    kept = -1
    with outside(socket.socket) as lent:
        with suppress(OSError):
            kept = os.dup(9)  # this process may have a use for it: pytest's faulthandler does
        os.dup2(lent.fileno(), 9, inheritable=True)
        try:
            ground.leaked()
            process = ground.start(f"inherited_connect@{TARGET_IP}@{SECRET}", NOBODY, pass_fds=[9])
            process.communicate(timeout=30)
            assert ground.leaked() == []
        finally:
            if kept < 0:
                os.close(9)
            else:
                os.dup2(kept, 9, inheritable=False)
                os.close(kept)
