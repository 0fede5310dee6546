"""One end of some connections that say much both ways, and what its host sent and received of them.

Run as `python -m tests.packet.lossy ROLE FOLDER ADDRESS PORT COUNT SIZE`, the server first: it writes "listens". Each
end writes what it read of a connection to ROLE-CLIENTPORT, and all packets of its link to ROLE.pcap.
"""

import fcntl
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from random import Random

import dpkt

from tests.packet.link import DEVICE

ETH_P_ALL, SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 3, 263, 6, 33
SIOCOUTQ = 0x5411  # bytes that are not acknowledged, the end among them
ROOM = 256 << 20  # bytes of packets that wait to be read after all is over
RAW_IP = 101
LIMIT_S = 120.0


def text(role: str, port: int, size: int) -> bytes:
    """What an end says."""
    return Random(f"{role} {port}").randbytes(size)


def talk(peer: socket.socket, role: str, port: int, size: int, folder: Path) -> None:
    """Say all while reading all, then read to the end."""
    said = threading.Thread(target=say, args=(peer, text(role, port, size)))
    said.start()
    read = b"".join(iter(lambda: peer.recv(65_536), b""))
    said.join()
    until = time.monotonic() + LIMIT_S
    while fcntl.ioctl(peer, SIOCOUTQ, bytes(4)) != bytes(4) and time.monotonic() < until:
        time.sleep(0.01)  # what is lost is sent again, and is to be in the capture
    peer.close()
    (folder / f"{role}-{port}").write_bytes(read)


def say(peer: socket.socket, data: bytes) -> None:
    peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)


def main() -> None:
    role, folder, host, port, count, size = sys.argv[1], Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:7])
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    capture.bind((DEVICE, ETH_P_ALL))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    peers = []
    if role == "server":
        with socket.create_server((host, port), family=family, backlog=count) as listener:
            listener.settimeout(LIMIT_S)
            print("listens", flush=True)
            peers = [listener.accept()[0] for _ in range(count)]
    else:
        peers = [socket.create_connection((host, port), LIMIT_S) for _ in range(count)]
    threads = []
    for peer in peers:
        peer.settimeout(LIMIT_S)
        number = (peer.getpeername() if role == "server" else peer.getsockname())[1]
        threads.append(threading.Thread(target=talk, args=(peer, role, number, size, folder)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    write(capture, folder / f"{role}.pcap")


def write(capture: socket.socket, path: Path) -> None:
    """Write the packets that wait; it is an error if some did not fit."""
    capture.settimeout(0.5)  # the last ones of the other end
    with path.open("wb") as file:
        pcap = dpkt.pcap.Writer(file, linktype=RAW_IP, snaplen=1 << 18)
        try:
            for number in range(10**9):
                data, (_, protocol, *_) = capture.recvfrom(1 << 18)
                if protocol in (0x0800, 0x86DD):
                    pcap.writepkt(data, 1_700_000_000 + number / 100_000)
        except TimeoutError:
            pass
    _, lost = struct.unpack("II", capture.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    assert not lost, f"{lost} packets were not captured"


if __name__ == "__main__":
    main()
