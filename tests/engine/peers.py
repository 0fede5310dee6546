"""Small servers in the target's namespace, and clients in the host's: threads that enter it."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

from appliance.kernel.networks import inside
from appliance.lab.hosts import NAMESPACES, Lab

PATIENCE = 20.0  # seconds for what must come


def made(lab: Lab, where: str, kind: int, six: bool = False) -> socket.socket:
    """Return a socket of a namespace."""
    namespace = os.open(NAMESPACES / {"host": lab.host, "target": lab.target}[where], os.O_RDONLY)
    try:
        sock = inside(namespace, lambda: socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind))
    finally:
        os.close(namespace)
    sock.settimeout(PATIENCE)
    return sock


@contextlib.contextmanager
def udp(lab: Lab, answer: Callable[[bytes], list[bytes]], six: bool = False) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """A server that answers datagrams; yield its address, and the datagrams that reach it."""
    sock = made(lab, "target", socket.SOCK_DGRAM, six)
    sock.bind((lab.target_ip6 if six else lab.target_ip, 0))
    seen: list[bytes] = []
    sock.settimeout(0.1)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                data, client = sock.recvfrom(70_000)
                seen.append(data)
                for one in answer(data):
                    sock.sendto(one, client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield sock.getsockname()[:2], seen
    finally:
        stop.set()
        thread.join(10)
        sock.close()


@contextlib.contextmanager
def tcp(lab: Lab, serve: Callable[[socket.socket], None], fast: bool = False) -> Iterator[tuple[str, int]]:
    """A server that gives each connection to `serve`, one after the other; with `fast` it takes bytes of a SYN, and waits
    with no part of an answer for another to be acknowledged."""
    listener = made(lab, "target", socket.SOCK_STREAM)
    listener.bind((lab.target_ip, 0))
    if fast:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.listen()
    listener.settimeout(0.1)
    stop = threading.Event()

    def accept() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = listener.accept()
                sock.settimeout(PATIENCE)
                with sock, contextlib.suppress(OSError):
                    serve(sock)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[:2]
    finally:
        stop.set()
        thread.join(PATIENCE + 5)
        listener.close()
