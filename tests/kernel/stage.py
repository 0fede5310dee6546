"""A lab with the fence up, steering on, a stand-in relay in the host namespace and echo servers in the target's.

The threads here enter a namespace each by setns(2), which is per thread; sockets stay in the one they were made in.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from appliance.kernel import fence, nft
from appliance.kernel.fence import Fence, Place, Status
from appliance.kernel.judge import Judge
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.original import original
from appliance.kernel.peers import Peer, Peers
from appliance.lab.hosts import NAMESPACES, Lab
from appliance.model import Address

T = TypeVar("T")
PYTHON = "/usr/bin/python3"
RELAY = 15001
PORT = 7007
EVERY = 0x0003  # ETH_P_ALL


@functools.cache
def vendor() -> Path:
    """Return a copy of vendor.py that every user may read: the checkout may be below /root."""
    directory = Path(tempfile.mkdtemp(prefix="vg-vendor-"))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    copy = directory / "vendor.py"
    copy.write_bytes((Path(__file__).parent / "vendor.py").read_bytes())
    copy.chmod(0o644)
    return copy


class Accepted(NamedTuple):
    """What the relay saw of one connection."""

    peer: Address
    original: Address | None
    found: Peer | None


class Inside:
    """A thread that lives in a namespace."""

    def __init__(self, namespace: str) -> None:
        self._pool = ThreadPoolExecutor(1, initializer=self._enter, initargs=(namespace,))

    @staticmethod
    def _enter(namespace: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(NAMESPACES / namespace, os.O_RDONLY)
        assert libc.setns(fd, 0) == 0, os.strerror(ctypes.get_errno())
        os.close(fd)

    def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        return self._pool.submit(function, *arguments).result(60)

    def close(self) -> None:
        self._pool.shutdown()


class Listener:
    """Answers every connection and datagram on its sockets with `word`, in a thread, until closed."""

    def __init__(self, sockets: list[socket.socket], word: bytes, seen: Callable[[socket.socket], None]) -> None:
        self._sockets, self._word, self._seen = sockets, word, seen
        self._stop, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poll = selectors.DefaultSelector()
        for sock in self._sockets:
            sock.setblocking(False)
            poll.register(sock, selectors.EVENT_READ, "datagram" if sock.type == socket.SOCK_DGRAM else "listen")
        poll.register(self._wake, selectors.EVENT_READ, "stop")
        while True:
            for key, _ in poll.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data == "stop":
                    for other in list(poll.get_map().values()):
                        other.fileobj.close()  # type: ignore[union-attr]
                    return
                with contextlib.suppress(OSError):
                    self._serve(poll, sock, key.data)

    def _serve(self, poll: selectors.BaseSelector, sock: socket.socket, what: str) -> None:
        if what == "datagram":
            _, peer = sock.recvfrom(2000)
            sock.sendto(self._word, peer)
        elif what == "listen":
            flow, _ = sock.accept()
            self._seen(flow)
            poll.register(flow, selectors.EVENT_READ, "flow")
        elif sock.recv(2000):
            sock.send(self._word)
        else:
            poll.unregister(sock)
            sock.close()

    def close(self) -> None:
        self._stop.send(b".")
        self._thread.join()
        self._stop.close()


class Stage:
    """The lab and all that runs in it. `accepted` is what came to the relay, `reached` what came to the target."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.accepted: list[Accepted] = []
        self.reached: list[Address] = []
        self.host, self.target = Inside(lab.host), Inside(lab.target)
        self.place: Place = lab.place(RELAY)
        self.fence: Fence
        self.raise_fence()
        self._listeners: list[Listener] = []

    def raise_fence(self) -> None:
        """Put the fence up, where a test has taken it down too."""
        self.fence = self.host(fence.up, self.place)
        self.judge = Judge(self.fence)
        self.judge.write(())
        self.peers = self.host(Peers, self.fence.peers, self.place.cgroup)

    def open(self) -> None:
        # Let everybody make ping sockets: it is the fence that must refuse.
        self.host(Path("/proc/sys/net/ipv4/ping_group_range").write_text, "0 65535")
        self.steer()
        listening = self.host(lambda: [bound("127.0.0.1", RELAY), bound("::1", RELAY)])
        self._listeners.append(Listener(listening, b"relay", self._accept))
        ports = [("0.0.0.0", PORT), ("::", PORT), ("0.0.0.0", PORT + 1)]
        servers = self.target(lambda: [bound(*at) for at in ports] + [bound(*at, socket.SOCK_DGRAM) for at in ports])
        self._listeners.append(Listener(servers, b"target", self._reach))

    def steer(self) -> None:
        self.host(nft.apply, nft.ruleset(RELAY, STEER_MARK))

    def _accept(self, sock: socket.socket) -> None:
        peer = Address.of(*sock.getpeername()[:2])
        to = original(sock)
        self.accepted.append(Accepted(peer, to, self.peers.find(peer, to)))

    def _reach(self, sock: socket.socket) -> None:
        self.reached.append(Address.of(*sock.getpeername()[:2]))

    def vendor(
        self, case: str, host: str, port: int = PORT, cgroup: str | None = "acme.service", user: str | None = None
    ) -> str:
        """Run a case of vendor.py to its end and return its line."""
        words = self.words(case, host, port)
        done = self.lab.run(words, cgroup=cgroup, user=user, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return str(done.stdout).strip()

    @staticmethod
    def words(case: str, host: str, port: int = PORT) -> list[str]:
        return [PYTHON, "-SE", str(vendor()), case, host, str(port)]

    def start(self, case: str, host: str, port: int = PORT, cgroup: str | None = "acme.service") -> "subprocess.Popen[str]":
        words = self.words(case, host, port)
        pipe = subprocess.PIPE
        return self.lab.popen(words, cgroup=cgroup, stdin=pipe, stdout=pipe, text=True)

    def arrived(self, number: int = 1) -> list[Accepted]:
        """Return what the relay saw, once it saw so many: a client may be gone before accept()."""
        until = time.monotonic() + 20
        while len(self.accepted) < number and time.monotonic() < until:
            time.sleep(0.005)
        return self.accepted

    def status(self) -> Status:
        return self.host(fence.status, self.place)

    @contextlib.contextmanager
    def wire(self) -> Iterator[list[bytes]]:
        """Collect the IP packets that come over the wire to the target, but neighbour discovery's."""
        found: list[bytes] = []
        sock = self.target(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY)))
        sock.setblocking(False)
        with sock:
            yield found
            with contextlib.suppress(BlockingIOError):
                self._read(sock, found)

    @staticmethod
    def _read(sock: socket.socket, found: list[bytes]) -> None:
        while True:
            data, (_device, _protocol, direction, *_) = sock.recvfrom(4096)
            icmp6 = data[0] >> 4 == 6 and (data[6] in (0, 58))
            if direction == socket.PACKET_HOST and data[0] >> 4 in (4, 6) and not icmp6:
                found.append(data)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self.fence.close()
        self.host.close()
        self.target.close()


def bound(host: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket that listens."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN
    sock.bind((host, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(128)
    return sock
