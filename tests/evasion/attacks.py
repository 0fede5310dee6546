"""What a vendor tries, to get round the fence. Run as a program: `attacks.py ACTOR CASE@HOST@PORT...`, a line for each.

ACTOR `userns` first becomes root of a user namespace of its own. A line says what the kernel said; no test takes
it for proof, what counts is what comes over the wire. Needs only the standard library: it runs under the system's
Python. Every payload carries MARK.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys
import time

MARK = b"VENDORGATE-EVASION"
WAIT = 1.0  # seconds; what the fence drops would be tried again for minutes
NEWUSER, NEWNET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def stream(host):
    sock = socket.socket(family(host), socket.SOCK_STREAM)
    limit = struct.pack("ll", 1, 0)  # not settimeout(): a blocking socket behaves differently with fast open
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return sock


def datagram(host, *protocol):
    sock = socket.socket(family(host), socket.SOCK_DGRAM, *protocol)
    sock.settimeout(WAIT)
    return sock


def talk(sock):
    """Send, and say what comes back."""
    sock.sendall(MARK)
    return "back " + repr(sock.recv(100))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(host, protocol, body, source="10.77.0.99"):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, socket.inet_aton(source), socket.inet_aton(host))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def udp_packet(host, port):
    return ip_packet(host, 17, struct.pack("!HHHH", 40000, port, 8 + len(MARK), 0) + MARK)


def tcp_segment(port, flags):
    return struct.pack("!HHIIBBHHH", 40000, port, 7, 0, 0x50, flags, 1000, 0, 0) + MARK


# -- 1-5: packets of one's own ---------------------------------------------------------------------------------


def raw(protocol):
    def send(host, port):
        with socket.socket(family(host), socket.SOCK_RAW, protocol) as sock:
            body = MARK if protocol != socket.IPPROTO_TCP else tcp_segment(port, 0x10)
            sock.sendto(body, (host, 0))
            return "sent"

    return send


def ip_header(flags):
    def send(host, port):
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
            sock.sendto(ip_packet(host, 6, tcp_segment(port, flags)), (host, 0))
            return "sent"

    return send


def frames(bypass, kind=socket.SOCK_DGRAM, protocol=0x0800):
    def send(host, port):
        with socket.socket(socket.AF_PACKET, kind, 0) as sock:
            if bypass:
                sock.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
            packet = udp_packet(host, port)
            if kind == socket.SOCK_RAW:
                sock.bind(("up0", 0))
                sock.send(b"\xff" * 6 + b"\2\0\0\0\0\1" + struct.pack("!H", protocol) + packet)
            else:
                sock.sendto(packet, ("up0", protocol, 0, 0, b"\xff" * 6))
            return "sent"

    return send


def packet_ring(host, port):
    """AF_PACKET with a ring that the kernel sends from (PACKET_TX_RING)."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.setsockopt(263, 13, struct.pack("IIII", 4096, 1, 2048, 2))  # PACKET_TX_RING
        ring = mmap.mmap(sock.fileno(), 4096)
        frame = b"\xff" * 6 + b"\2\0\0\0\0\1\x08\x00" + udp_packet(host, port)
        at = 32  # TPACKET_HDRLEN of version 1, less the address
        ring[at : at + len(frame)] = frame
        ring[0:12] = struct.pack("LI", 1, len(frame))  # TP_STATUS_SEND_REQUEST, tp_len
        sock.bind(("up0", 0))
        sock.send(b"")
        return "sent"


def xdp(host, port):
    fd = libc.socket(44, socket.SOCK_RAW, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "AF_XDP")
    return "created"


# -- 6, 10, 11, 18: other protocols ----------------------------------------------------------------------------


def ping(host, port):
    six = ":" in host
    with datagram(host, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP) as sock:
        sock.sendto(struct.pack("!BBHHH", 128 if six else 8, 0, 0, 0, 1) + MARK, (host, 0))
        return "back " + repr(sock.recv(100))


def other(kind, protocol):
    def send(host, port):
        with socket.socket(family(host), kind, protocol) as sock:
            sock.settimeout(WAIT)
            sock.connect((host, port))
            sock.send(MARK)
            return "sent"

    return send


def smc(host, port):
    with socket.socket(43, socket.SOCK_STREAM, 0 if "." in host else 1) as sock:
        sock.connect((host, port))
        return "connected"


# -- 9, 12-17: what TCP and UDP offer --------------------------------------------------------------------------


def tcp(host, port):
    with stream(host) as sock:
        sock.connect((host, port))
        return talk(sock)


def udp(host, port):
    with datagram(host) as sock:
        sock.sendto(MARK, (host, port))
        return "back " + repr(sock.recv(100))


def udp_connected(host, port):
    with datagram(host) as sock:
        sock.connect((host, port))
        sock.send(MARK)
        return "back " + repr(sock.recv(100))


def udp_large(host, port):
    with datagram(host) as sock:
        sock.sendto(MARK + bytes(60000), (host, port))
        return "sent"


def udp_segments(host, port):
    """One send, many datagrams (UDP_SEGMENT)."""
    with datagram(host) as sock:
        sock.sendmsg([MARK * 100], [(17, 103, struct.pack("H", 500))], 0, (host, port))
        return "sent"


def udp_corked(host, port):
    with datagram(host) as sock:
        sock.sendto(MARK, socket.MSG_MORE, (host, port))
        sock.sendto(MARK, (host, port))
        return "sent"


def quic(host, port):
    with datagram(host) as sock:
        sock.sendto(b"\xc3\0\0\0\1\x08" + MARK + bytes(1182), (host, port))
        return "sent"


def mapped(what):
    return lambda host, port: what("::ffff:" + host, port)


SOURCE_ROUTE = bytes([131, 7, 4, 10, 77, 0, 2, 0])  # loose, one address, padded


def source_route(host, port):
    with stream(host) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 4, SOURCE_ROUTE)
        sock.connect((host, port))
        return talk(sock)


def source_route_datagram(host, port):
    with datagram(host) as sock:
        sock.sendmsg([MARK], [(socket.IPPROTO_IP, socket.IP_RETOPTS, SOURCE_ROUTE)], 0, (host, port))
        return "sent"


ROUTING = struct.pack("BBBBBBH", 0, 2, 4, 0, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, "fd77::2")  # segment routing


def routing_header(host, port):
    with stream(host) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, 57, ROUTING)
        sock.connect((host, port))
        return talk(sock)


def routing_header_datagram(host, port):
    with datagram(host) as sock:
        sock.sendmsg([MARK], [(socket.IPPROTO_IPV6, 57, ROUTING)], 0, (host, port))
        return "sent"


def link_local(host, port):
    with stream("::") as sock:
        sock.connect((host, port, 0, socket.if_nametoindex("up0")))
        return talk(sock)


def link_local_datagram(host, port):
    with datagram("::") as sock:
        sock.sendto(MARK, (host, port, 0, socket.if_nametoindex("up0")))
        return "sent"


def fast_open(host, port):
    with stream(host) as sock:
        sock.sendto(MARK, socket.MSG_FASTOPEN, (host, port))
        return "back " + repr(sock.recv(100))


def fast_open_connect(host, port):
    with stream(host) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        sock.connect((host, port))
        return talk(sock)


def bound(what, option):
    """Bind to the device before `what`."""

    def send(host, port):
        make = socket.socket

        def tied(*words):
            sock = make(*words)
            if option == 25:
                sock.setsockopt(socket.SOL_SOCKET, 25, b"up0\0")
            elif option == 62:
                sock.setsockopt(socket.SOL_SOCKET, 62, socket.if_nametoindex("up0"))
            else:
                index = socket.if_nametoindex("up0")
                six = words[0] == socket.AF_INET6
                sock.setsockopt(41 if six else 0, 76 if six else 50, struct.pack("!I", index))  # *_UNICAST_IF
            return sock

        socket.socket = tied
        try:
            return what(host, port)
        finally:
            socket.socket = make

    return send


def packet_info(host, port):
    index = socket.if_nametoindex("up0")
    with datagram(host) as sock:
        if ":" in host:
            info = (41, 50, socket.inet_pton(socket.AF_INET6, "fd77::1") + struct.pack("I", index))
        else:
            info = (0, 8, struct.pack("I4s4s", index, socket.inet_aton("10.77.0.1"), bytes(4)))
        sock.sendmsg([MARK], [info], 0, (host, port))
        return "sent"


def rebound(host, port):
    """Bind to the device between the handshake and the first byte."""
    with stream(host) as sock:
        sock.connect((host, port))
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, 25, b"up0\0")
        return talk(sock)


# -- 19: io_uring ----------------------------------------------------------------------------------------------


class Uring:
    """One operation at a time. Source: linux/io_uring.h."""

    def __init__(self, flags):
        params = bytearray(120)
        struct.pack_into("III", params, 8, flags, 0, 1000)
        buffer = (ctypes.c_char * 120).from_buffer(params)
        self.fd = libc.syscall(425, 8, buffer)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        entries, self.flags = struct.unpack_from("I", params, 0)[0], flags
        self.sq = struct.unpack_from("7I", params, 40)  # head tail mask entries flags dropped array
        self.cq = struct.unpack_from("6I", params, 80)  # head tail mask entries overflow cqes
        self.ring = mmap.mmap(self.fd, max(self.sq[6] + entries * 4, self.cq[5] + entries * 32), offset=0)
        self.sqes = mmap.mmap(self.fd, entries * 64, offset=0x10000000)
        self.kept = []

    def do(self, opcode, fd, offset=0, address=None, length=0, *, sqe_flags=0):
        if address is not None:
            self.kept.append(ctypes.create_string_buffer(address, len(address)))
            address = ctypes.addressof(self.kept[-1])
        tail = struct.unpack_from("I", self.ring, self.sq[1])[0]
        slot = tail & struct.unpack_from("I", self.ring, self.sq[2])[0]
        struct.pack_into("BBHiQQIIQ24x", self.sqes, slot * 64, opcode, sqe_flags, 0, fd, offset, address or 0, length, 0, 1)
        struct.pack_into("I", self.ring, self.sq[6] + slot * 4, slot)
        struct.pack_into("I", self.ring, self.sq[1], tail + 1)
        libc.syscall(426, self.fd, 1, 0, 2 if self.flags & 2 else 0, None, 0)
        end = time.monotonic() + 2 * WAIT
        while time.monotonic() < end:
            head, done = (struct.unpack_from("I", self.ring, self.cq[n])[0] for n in (0, 1))
            if head != done:
                at = self.cq[5] + (head & struct.unpack_from("I", self.ring, self.cq[2])[0]) * 16
                result = struct.unpack_from("i", self.ring, at + 8)[0]
                struct.pack_into("I", self.ring, self.cq[0], head + 1)
                if result < 0:
                    raise OSError(-result, "io_uring")
                return result
            time.sleep(0.001)
        raise TimeoutError


def address(host, port):
    if ":" in host:
        return struct.pack("=H", 10) + struct.pack("!HI", port, 0) + socket.inet_pton(socket.AF_INET6, host) + bytes(4)
    return struct.pack("=H", 2) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def uring(setup, sqe_flags, kind=socket.SOCK_STREAM):
    def send(host, port):
        ring, to = Uring(setup), address(host, port)
        fd = ring.do(45, family(host), kind, sqe_flags=sqe_flags)  # SOCKET
        ring.do(16, fd, len(to), to, sqe_flags=sqe_flags)  # CONNECT
        ring.do(26, fd, 0, MARK, len(MARK), sqe_flags=sqe_flags)  # SEND
        return "sent"

    return send


# -- 24: a network of one's own --------------------------------------------------------------------------------


def become(flags):
    """Enter a user namespace as its root, with others of `flags`."""
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(NEWUSER | flags):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def own_network(host, port):
    become(NEWNET)
    return tcp(host, port)


def slirp(host, port):
    """As slirp and pasta do: a tunnel in a network of its own, whose packets a process outside it sends on."""
    ours = os.pipe()
    if not (child := os.fork()):
        try:
            become(NEWNET)
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH14x", b"t0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for request, address in ((0x8916, "10.77.0.77"), (0x891C, "255.255.255.0")):  # SIOCSIFADDR, ...NETMASK
                    fcntl.ioctl(sock, request, struct.pack("16sH2x4s8x", b"t0", 2, socket.inet_aton(address)))
                fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"t0", 0x41))  # SIOCSIFFLAGS: up and running
            with datagram(host) as sock:
                sock.sendto(MARK, (host, port))
            os.write(ours[1], os.read(tun, 2000))
        except OSError as error:
            os.write(ours[1], f"errno {error.errno} ".encode() + MARK)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    said = [repr(packet := os.read(ours[0], 2000))]
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        try:
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.settimeout(WAIT)
                sock.connect((host, port))
                sock.sendall(packet)
                said.append(repr(sock.recv(100)))
        except OSError as error:
            said.append(f"errno {error.errno}")
    return " ".join(said)


# -- 28-31, 42, 53 ---------------------------------------------------------------------------------------------


def marked(value):
    def send(host, port):
        with stream(host) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, value)
            sock.connect((host, port))
            return talk(sock)

    return send


def marked_after(host, port):
    with stream(host) as sock:
        sock.connect((host, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0)
        return talk(sock)


def marked_message(value, connected):
    """The mark as a control message: cgroup/setsockopt does not see it."""

    def send(host, port):
        control = [(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", value))]
        if connected:
            with stream(host) as sock:
                sock.connect((host, port))
                sock.sendmsg([MARK], control)
                return "back " + repr(sock.recv(100))
        with datagram(host) as sock:
            sock.sendmsg([MARK], control, 0, (host, port))
            return "sent"

    return send


def reuse_port(host, port):
    """Take a share of the port of the relay."""
    with stream(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
        sock.settimeout(3 * WAIT)
        print("listening", flush=True)
        return "took " + repr(sock.accept()[0].recv(100))


def port_range(host, port):
    """Be given the port of the relay by the kernel, where no hook of bind is asked."""
    with stream(host) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 51, struct.pack("I", port << 16 | port))  # IP_LOCAL_PORT_RANGE
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN
        sock.listen()
        got = sock.getsockname()[1]
        print(f"listening on {got}", flush=True)
        if got != port:
            return "another port"
        sock.settimeout(4 * WAIT)
        return "took " + repr(sock.accept()[0].recv(100))


def broadcast(host, port):
    with datagram(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        said = []
        for to in ("255.255.255.255", "10.77.0.255"):
            try:
                sock.sendto(MARK, (to, port))
                said.append("sent")
            except OSError as error:
                said.append(str(error.errno))
        return " ".join(said)


def multicast(host, port):
    with datagram(host) as sock:
        if ":" in host:
            sock.setsockopt(41, 17, socket.if_nametoindex("up0"))  # IPV6_MULTICAST_IF
        else:
            sock.setsockopt(0, 32, struct.pack("4s4si", bytes(4), bytes(4), socket.if_nametoindex("up0")))
        sock.sendto(MARK, (host, port))
        return "sent"


GROUP, GROUP6 = "234.86.71.77", "ff15::5645:4e44:4f52"


def join(host, port):
    """Have the kernel announce a group whose address is our message."""
    index = socket.if_nametoindex("up0")
    with datagram(host) as sock:
        if ":" in host:
            sock.setsockopt(41, 20, socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("I", index))
        else:
            sock.setsockopt(0, 35, struct.pack("4s4si", socket.inet_aton(GROUP), bytes(4), index))
        return "joined"


def join_group(host, port):
    """The same by MCAST_JOIN_GROUP."""
    index, to = socket.if_nametoindex("up0"), address(GROUP6 if ":" in host else GROUP, 0)
    with datagram(host) as sock:
        sock.setsockopt(41 if ":" in host else 0, 42, struct.pack("I4x", index) + to + bytes(128 - len(to)))
        return "joined"


def join_source(host, port):
    """The same by MCAST_JOIN_SOURCE_GROUP, with a source that is a message too."""
    index, six = socket.if_nametoindex("up0"), ":" in host
    group, source = (address(a, 0) for a in ((GROUP6, "fd77::99") if six else (GROUP, "10.77.0.99")))
    with datagram(host) as sock:
        sock.setsockopt(41 if six else 0, 46, struct.pack("I4x", index) + group + bytes(128 - len(group)) + source + bytes(128 - len(source)))
        return "joined"


def anycast(host, port):
    with datagram("::") as sock:
        sock.setsockopt(41, 27, socket.inet_pton(socket.AF_INET6, "fd77::99") + struct.pack("I", socket.if_nametoindex("up0")))
        return "joined"


def elsewhere(host, port):
    """Connect where it is direct, then send somewhere else with the same socket."""
    with datagram(host) as sock:
        sock.connect((host, 7))
        sock.sendto(MARK, (host, port))
        return "sent"


def disconnected(host, port):
    with datagram(host) as sock:
        sock.connect((host, 7))
        libc.connect(sock.fileno(), ctypes.create_string_buffer(16), 16)  # AF_UNSPEC
        sock.connect((host, port))
        sock.send(MARK)
        return "sent"


def reconnected(host, port):
    """The same over TCP: judged for one destination, then connected to another."""
    with stream(host) as sock:
        sock.connect((host, 7))
        libc.connect(sock.fileno(), ctypes.create_string_buffer(16), 16)
        sock.connect((host, port))
        return talk(sock)


# -- 21, 34, 35, 50: what is no socket of the internet ---------------------------------------------------------


def take_descriptor(host, port):
    """Take a connected socket out of a process of another user: `host` is its pid, `port` the descriptor."""
    pidfd = os.pidfd_open(int(host))
    fd = libc.syscall(438, pidfd, port, 0)  # pidfd_getfd
    if fd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    with socket.socket(fileno=fd) as sock:
        return talk(sock)


def trace(host, port):
    if libc.ptrace(16, int(host), 0, 0):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
    return "attached"


def write_memory(host, port):
    local = ctypes.create_string_buffer(MARK)
    words = (ctypes.c_uint64 * 2)(ctypes.addressof(local), len(MARK))
    if libc.process_vm_writev(int(host), words, 1, words, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_writev")
    return "written"


def opened(path, flags):
    def write(host, port):
        fd = os.open(host + path, flags)
        os.write(fd, b"%d" % os.getpid())
        return "written"

    return write


def vsock(host, port):
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.settimeout(WAIT)
        sock.connect((2, port))
        return talk(sock)


def netlink(host, port):
    """Ask for a route of our own: RTM_NEWROUTE to `host`, by the wire."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        index = struct.pack("HHI", 8, 4, socket.if_nametoindex("up0"))
        to = struct.pack("HH4s", 8, 1, socket.inet_aton(host))
        body = struct.pack("BBBBBBBBI", 2, 32, 0, 0, 254, 3, 253, 1, 0) + to + index
        sock.send(struct.pack("IHHII", 16 + len(body), 24, 0x605, 1, 0) + body)
        error = struct.unpack_from("i", sock.recv(4096), 16)[0]
        if error:
            raise OSError(-error, "RTM_NEWROUTE")
        return "routed"


def bpf(host, port):
    """Make a sockmap, and load a program that lets all pass."""
    said = []
    for command, words in ((0, struct.pack("5I", 15, 4, 4, 1, 0)), (5, struct.pack("II", 8, 2))):
        buffer = ctypes.create_string_buffer(words, 128)
        if libc.syscall(321, command, buffer, 128) >= 0:
            return f"bpf command {command} was done"
        said.append(str(ctypes.get_errno()))
    return " ".join(said)


# -- 20, 33: sockets and bytes by way of others -----------------------------------------------------------------


def handed(how):
    """Use a socket that a process outside the slice hands over: `host` is the path of its unix socket."""

    def send(host, port):
        path = {"abstract": "\0" + host, "relative": os.path.basename(host), "root": "/proc/self/root" + host}.get(how, host)
        if how == "relative":
            os.chdir(os.path.dirname(host))
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(WAIT)
            door.connect(path)
            _, fds, *_ = socket.recv_fds(door, 1, 1)
            with socket.socket(fileno=fds[0]) as sock:
                sock.settimeout(WAIT)
                os.write(sock.fileno(), MARK) if port else sock.send(MARK)
                return "sent"

    return send


def said_to(how):
    """Say the bytes to a process outside the slice that sends them on: `host` is the path of its unix socket."""

    def send(host, port):
        path = {"abstract": "\0" + host, "relative": os.path.basename(host), "root": "/proc/self/root" + host}.get(how, host)
        if how == "relative":
            os.chdir(os.path.dirname(host))
        kind = socket.SOCK_DGRAM if how == "datagram" else socket.SOCK_STREAM
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.settimeout(WAIT)
            if how == "datagram":
                sock.sendto(MARK, path)
            else:
                sock.connect(path)
                sock.sendall(MARK)
                sock.recv(10)
            return "sent"

    return send


def inherited(how):
    """Use the socket that is descriptor `port`, from before we were governed; twice, and say so in between."""

    def send(host, port):
        fd = port
        for number in range(2):
            if how == "write":
                os.write(fd, MARK)
            else:
                socket.socket(fileno=os.dup(fd)).send(MARK)
            print("sent", number, flush=True)
            time.sleep(0.2)
        return "alive"

    return send


def inherited_connect(host, port):
    """Connect a socket that was made outside: descriptor 9."""
    sock = socket.socket(fileno=9)
    sock.settimeout(WAIT)
    sock.connect((host, port))
    return talk(sock)


def later(host, port):
    """Make a socket, wait for a line, then connect it; a new one after that."""
    with stream(host) as sock:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            sock.connect((host, port))
            return talk(sock)
        except OSError as error:
            return f"errno {error.errno}"


def steady(host, port):
    """Send a line, wait to be told, send again for as long as it goes."""
    with stream(host) as sock:
        sock.connect((host, port))
        print(talk(sock), flush=True)
        sys.stdin.readline()
        return talk(sock)


def steady_datagram(host, port):
    with datagram(host) as sock:
        sock.connect((host, port))
        sock.send(MARK)
        print("sent", flush=True)
        sys.stdin.readline()
        sock.send(MARK)
        return "sent"


S, D = socket.SOCK_STREAM, socket.SOCK_DGRAM
CASES = {
    "raw_icmp": raw(socket.IPPROTO_ICMP), "raw_tcp": raw(socket.IPPROTO_TCP), "raw_udp": raw(socket.IPPROTO_UDP),
    "raw_253": raw(253), "header_syn": ip_header(0x02), "header_ack": ip_header(0x10),
    "packet": frames(False), "packet_raw": frames(False, socket.SOCK_RAW), "packet_other": frames(False, socket.SOCK_RAW, 0x88B5),
    "packet_bypass": frames(True), "packet_raw_bypass": frames(True, socket.SOCK_RAW),
    "packet_other_bypass": frames(True, socket.SOCK_RAW, 0x88B5), "packet_ring": packet_ring, "xdp": xdp,
    "ping": ping, "udp_lite": other(D, 136), "sctp": other(S, 132), "sctp_packets": other(socket.SOCK_SEQPACKET, 132),
    "dccp": other(6, 33), "l2tp": other(D, 115), "smc": smc, "mptcp": other(S, 262),
    "tcp": tcp, "udp": udp, "udp_connected": udp_connected, "udp_large": udp_large, "udp_segments": udp_segments,
    "udp_corked": udp_corked, "quic": quic, "mapped_tcp": mapped(tcp), "mapped_udp": mapped(udp),
    "mapped_fast_open": mapped(fast_open), "source_route": source_route, "source_route_datagram": source_route_datagram,
    "routing_header": routing_header, "routing_header_datagram": routing_header_datagram,
    "link_local": link_local, "link_local_datagram": link_local_datagram,
    "fast_open": fast_open, "fast_open_connect": fast_open_connect,
    **{f"{name}_{option}": bound(what, option) for option in (25, 62, 50) for name, what in (
        ("bound", tcp), ("bound_udp", udp), ("bound_fast_open", fast_open), ("bound_link_local", link_local))},
    "packet_info": packet_info, "rebound": rebound,
    "uring": uring(0, 0), "uring_async": uring(0, 16), "uring_poll": uring(2, 0), "uring_udp": uring(0, 0, D),
    "own_network": own_network, "slirp": slirp,
    "marked_0": marked(0), "marked_7": marked(7), "marked_steer": marked(0x56470001), "marked_after": marked_after,
    "message_0": marked_message(0, True), "message_7": marked_message(7, True), "message_datagram": marked_message(7, False),
    "reuse_port": reuse_port, "port_range": port_range, "broadcast": broadcast, "multicast": multicast,
    "join": join, "join_group": join_group, "join_source": join_source, "anycast": anycast,
    "elsewhere": elsewhere, "disconnected": disconnected, "reconnected": reconnected,
    "take_descriptor": take_descriptor, "trace": trace, "write_memory": write_memory, "vsock": vsock, "netlink": netlink,
    "bpf": bpf, "leave": opened("/cgroup.procs", os.O_WRONLY),
    **{f"handed_{how}": handed(how) for how in ("path", "abstract", "relative", "root")},
    **{f"said_{how}": said_to(how) for how in ("path", "abstract", "relative", "root", "datagram")},
    "inherited_write": inherited("write"), "inherited_send": inherited("send"), "inherited_connect": inherited_connect,
    "later": later, "steady": steady, "steady_datagram": steady_datagram,
}  # fmt: skip

def tried(case, host, port):
    """Return what came of one case."""
    try:
        return CASES[case](host, int(port))
    except (TimeoutError, BlockingIOError):  # of connect (EINPROGRESS), of recv (EAGAIN)
        return "silence"
    except OSError as error:
        return f"errno {error.errno}"


def main(actor, *wanted):
    """Run one case here, or each of several in a child of its own."""
    if actor == "userns":
        become(0)
    for one in wanted:
        if len(wanted) == 1:
            print(tried(*one.split("@")), flush=True)
        elif child := os.fork():
            os.waitpid(child, 0)
        else:
            try:
                print(one, tried(*one.split("@")), flush=True)
            finally:
                os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
