"""What a vendor's process may try. Run as a program: `vendor.py CASE HOST PORT`, prints one line.

The line is what came back, or `errno N`. Needs only the standard library: it runs under the system's Python.
"""

import ctypes
import os
import resource
import select
import socket
import struct
import sys
import tempfile
import time

TIMEOUT = 2.0  # seconds; what the fence drops would retry for minutes
MPTCP, UDPLITE = 262, 136
FASTOPEN, FASTOPEN_CONNECT = 23, 30
CLONE_NEWNET, CLONE_NEWUSER, CLONE_NEWNS = 0x40000000, 0x10000000, 0x20000
libc = ctypes.CDLL(None, use_errno=True)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def tcp(host):
    sock = socket.socket(family(host), socket.SOCK_STREAM)
    # Not settimeout(), which makes the socket non-blocking: fast open behaves differently then.
    limit = struct.pack("ll", 2, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return sock


def answer(sock):
    sock.sendall(b"hello")
    return sock.recv(100).decode()


def connect(host, port):
    with tcp(host) as sock:
        sock.connect((host, port))
        return answer(sock)


def fast_open(host, port):
    with tcp(host) as sock:
        sock.sendto(b"hello", socket.MSG_FASTOPEN, (host, port))
        return sock.recv(100).decode()


def fast_open_connect(host, port):
    with tcp(host) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, FASTOPEN_CONNECT, 1)
        sock.connect((host, port))
        return answer(sock)


def bound_device(host, port):
    with tcp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"up0\0")
        sock.connect((host, port))
        return answer(sock)


def bound_device_fast_open(host, port):
    with tcp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"up0\0")
        sock.sendto(b"hello", socket.MSG_FASTOPEN, (host, port))
        return sock.recv(100).decode()


def marked(host, port):
    with tcp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
        sock.connect((host, port))
        return answer(sock)


def rebound(host, port):
    """Bind to a device in the middle of a flow."""
    with tcp(host) as sock:
        sock.connect((host, port))
        first = answer(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"up0\0")
        try:
            return first + answer(sock)
        except BlockingIOError:
            return first + "silence"


# IP options: loose source and record route, pointer 4, by way of 10.77.0.2; padded to a multiple of four.
SOURCE_ROUTE = bytes([131, 7, 4, 10, 77, 0, 2, 0])


def source_route(host, port):
    with tcp(host) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 4, SOURCE_ROUTE)
        sock.connect((host, port))
        return answer(sock)


def source_route_datagram(host, port):
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"hello"], [(socket.IPPROTO_IP, socket.IP_RETOPTS, SOURCE_ROUTE)], 0, (host, port))
        return "sent"


def link_local(host, port):
    with tcp("::") as sock:
        sock.connect(("fe80::1", port, 0, socket.if_nametoindex("up0")))
        return answer(sock)


def shared_port(host, port):
    """Two connections from one source port, to two servers."""
    said = []
    with tcp(host) as one, tcp(host) as two:
        for sock, to in ((one, port), (two, port + 1)):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", 40404))
            sock.connect((host, to))
            said.append(answer(sock))
    return " ".join(said)


def datagram(host, port):
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendto(b"hello", (host, port))
        return sock.recv(100).decode()


def connected_datagram(host, port):
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((host, port))
        sock.send(b"hello")
        return sock.recv(100).decode()


def send_file(host, port):
    """Send pages of a file, which may be changed behind whoever has read them."""
    with tcp(host) as sock, tempfile.TemporaryFile() as file:
        sock.connect((host, port))
        file.write(b"hello" * 100)
        file.flush()
        os.sendfile(sock.fileno(), file.fileno(), 0, 500)
        return sock.recv(100).decode()


def zero_copy(host, port):
    """Send pages of one's own: MSG_ZEROCOPY."""
    with tcp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
        sock.connect((host, port))
        sock.send(b"hello" * 10000, 0x4000000)
        return sock.recv(6).decode()  # the server answers each piece it reads


def splice_datagram(host, port):
    """A datagram out of a file."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock, tempfile.TemporaryFile() as file:
        sock.settimeout(TIMEOUT)
        sock.connect((host, port))
        file.write(b"hello" * 100)
        file.flush()
        os.sendfile(sock.fileno(), file.fileno(), 0, 500)
        return sock.recv(100).decode()


def from_port(host, port):
    """A datagram from a port that others had before."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.bind(("", 40405))
        sock.sendto(b"hello", (host, port))
        return sock.recv(100).decode()


def one_by_one(host, port):
    """More sockets, one after the other, than may be open; then a datagram."""
    for _ in range(5000):
        socket.socket(family(host), socket.SOCK_DGRAM).close()
    return datagram(host, port)


def shared_datagrams(host, port):
    """A datagram from a port that another has at the same time."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("", 40406))
        print("ready", flush=True)
        sys.stdin.readline()
        sock.sendto(b"hello", (host, port))
        return "sent"


def fire(host, port):
    """Send and be gone."""
    sock = socket.socket(family(host), socket.SOCK_DGRAM)
    sock.sendto(b"hello", (host, port))
    os._exit(0)


def marks(host, port):
    """Send with each mark of stdin by a control message, then tell what came back."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        for line in sys.stdin:
            control = [(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", int(line)))]
            try:
                sock.sendmsg([b"forged"], control, 0, (host, port))
            except PermissionError:  # dropped
                pass
        try:
            return sock.recv(100).decode()
        except TimeoutError:
            return "silence"


def seen_mark(host, port):
    """Ask to be told the mark of what comes in; then guess at it by a filter: BPF's ancillary data has it, unprivileged."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        try:
            sock.setsockopt(socket.SOL_SOCKET, 75, 1)  # SO_RCVMARK
            return "told"
        except PermissionError:
            pass
        load, keep, drop = (0x20, 0, 0, 0xFFFFF000 + 20), (6, 0, 0, 0xFFFF), (6, 0, 0, 0)  # SKF_AD_MARK
        steps = b"".join(struct.pack("HBBI", *step) for step in (load, (0x15, 0, 1, 0), keep, drop))
        code = ctypes.create_string_buffer(steps)
        sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxQ", 4, ctypes.addressof(code)))  # if it is 0, take it
        sock.sendto(b"hello", (host, port))
        return sock.recv(100).decode()


def segments(host, port):
    """Several datagrams in one call: UDP_SEGMENT."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendmsg([b"one..", b"two.."], [(17, 103, struct.pack("=H", 5))], 0, (host, port))
        return sock.recv(100).decode()


def ping(host, port):
    """An echo request, as ping(8) sends it."""
    with socket.socket(family(host), socket.SOCK_DGRAM, 58 if ":" in host else 1) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendto(bytes([128 if ":" in host else 8, 0, 0, 0, 0, 0, 0, 1]) + b"hello", (host, 0))
        return sock.recv(100)[-5:].decode()


def many(host, port):
    """Open sockets until one may not send; tell how many could. The others stay open until stdin ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))
    socks = []
    while len(socks) < 9000:
        socks.append(socket.socket(family(host), socket.SOCK_DGRAM))
        try:
            socks[-1].sendto(b"hello", (host, port))
        except PermissionError:
            break
    print(len(socks) - 1, flush=True)
    sys.stdin.read()
    return "done"


def receive(host, port):
    """Wait for whoever sends."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        sock.settimeout(TIMEOUT)
        print("listening", flush=True)
        return sock.recv(100).decode()


def slow_datagrams(host, port):
    """For each line on stdin, a port, send there over the one socket and tell what came back."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                sock.sendto(b"hello", (host, int(line)))
                print(sock.recv(100).decode(), flush=True)
            except OSError as error:
                print(f"errno {error.errno}" if error.errno else "silence", flush=True)
        return "done"


def slow_connected_datagrams(host, port):
    """The same over a connected socket, to one port: each line says how often."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((host, port))
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                for _ in range(int(line)):
                    sock.send(b"hello")
                    said = sock.recv(100).decode()
                print(said, flush=True)
            except OSError as error:
                print(f"errno {error.errno}" if error.errno else "silence", flush=True)
        return "done"


def kind(*words):
    def create(host, port):
        with socket.socket(family(host), *words):
            return "created"

    return create


def bind_relay(host, port):
    with tcp(host) as sock:
        sock.bind((host, port))
        return "bound"


def other_namespace(host, port):
    if libc.unshare(CLONE_NEWNET | CLONE_NEWUSER):
        return f"unshare {ctypes.get_errno()}"
    return connect(host, port)


def reconnect(host, port):
    """Be judged for one destination, then connect the same socket to another."""
    with tcp(host) as sock:
        sock.connect((host, port))
        first = answer(sock)
        # connect() to AF_UNSPEC takes the connection off the socket.
        libc.connect(sock.fileno(), ctypes.create_string_buffer(16), 16)
        sock.connect((host, port + 1))
        return first + " " + answer(sock)


def slow(host, port):
    """Speak, wait for a line on stdin, speak again."""
    with tcp(host) as sock:
        sock.connect((host, port))
        print(answer(sock), flush=True)
        sys.stdin.readline()
        return answer(sock)


def wait(host, port):
    """Connect when told."""
    print("ready", flush=True)
    sys.stdin.readline()
    return connect(host, port)


def fork_connect(host, port):
    """Connect in a child that never ran exec."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        os.write(write, connect(host, port).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return os.read(read, 100).decode()


def serve(host, port):
    """Accept from outside the slice."""
    with tcp(host) as sock:
        sock.bind((host, port))
        sock.listen()
        print("listening", flush=True)
        time.sleep(TIMEOUT * 2)
        return "done"


def serve_answer(host, port):
    """Answer whoever calls, until stdin ends."""
    with tcp(host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
        print("listening", flush=True)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(0, select.POLLIN)
        while 0 not in dict(poll.poll()):
            with sock.accept()[0] as flow:
                flow.settimeout(TIMEOUT)
                try:
                    if flow.recv(100):
                        flow.sendall(b"inside")
                except OSError:
                    pass
        return "done"


def handed_over(host, port):
    """Begin a connection to a listener of one's own that does not take it, and let somebody else have the port."""
    with tcp(host) as server, tcp(host) as first, tcp(host) as second:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(0)
        first.connect((host, port))  # and now the queue is full
        second.setblocking(False)
        second.connect_ex((host, port))
        print("begun", flush=True)
        sys.stdin.readline()
        first.close()
        server.close()
        print("free", flush=True)
        select.select([], [second], [], 2 * TIMEOUT)  # its SYN is sent again after one second, and after three
        second.setblocking(True)
        return answer(second)


def serve_datagrams(host, port):
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        print("listening", flush=True)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(0, select.POLLIN)
        while 0 not in dict(poll.poll()):
            _, peer = sock.recvfrom(100)
            try:
                sock.sendto(b"inside", peer)
            except OSError:
                pass
        return "done"


def stream(host, port):
    """Send 100,000 bytes in pieces, read until the other side is done."""
    with socket.socket(family(host)) as sock:
        sock.settimeout(60)  # it may be on a bad line
        sock.connect((host, port))
        for _ in range(100):
            sock.sendall(b"x" * 1000)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
        return "sent"


def unix(host, port):
    """Connect to the unix socket named; a leading @ is an abstract name, and a % in that a NUL."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + host[1:].replace("%", "\0") if host[0] == "@" else host)
        return "connected"


def unix_unended(host, port):
    """The same, with an address as long as its path: no NUL behind it."""
    name = struct.pack("H", socket.AF_UNIX) + host.encode()
    with socket.socket(socket.AF_UNIX) as sock:
        if libc.connect(sock.fileno(), name, len(name)):
            raise OSError(ctypes.get_errno(), host)
        return "connected"


def unix_beside(host, port):
    """Bind a name like somebody else's, one character shorter; then connect to theirs, as long as its path."""
    with listener(socket.SOCK_STREAM, host[:-1]):
        return unix_unended(host, port)


def unix_longer(host, port):
    """The same with one that is a character longer; sun_path has room for no more."""
    with socket.socket(socket.AF_UNIX) as sock:
        name = struct.pack("H", socket.AF_UNIX) + (host + "x").encode()
        if libc.bind(sock.fileno(), name, len(name)):
            raise OSError(ctypes.get_errno(), host)
        sock.listen()
        return unix(host, port)


def unix_datagram(host, port):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", host)
        return "sent"


def listener(kind, host):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind("\0" + host[1:] if host[0] == "@" else host)
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def unix_serve(host, port):
    """Listen on a unix socket until stdin ends."""
    with listener(socket.SOCK_STREAM, host), listener(socket.SOCK_DGRAM, host + ".letters"):
        print("listening", flush=True)
        sys.stdin.readline()
        return "done"


def unix_replaced(host, port):
    """Bind one's own, put a link to somebody else's in its place, connect by the name that was one's own."""
    own = os.path.dirname(host) + "/mine"
    with listener(socket.SOCK_STREAM, own):
        os.rename(own, own + ".away")
        os.symlink(host, own)
        return unix(own, port)


def unix_renamed(host, port):
    """The same by the directory: one's own is still there under that name, and another is found by it."""
    folder, name = os.path.split(host)
    mine = f"{os.path.dirname(folder)}/mine"
    os.mkdir(mine)
    with listener(socket.SOCK_STREAM, f"{mine}/{name}"):
        os.rename(mine, mine + ".away")
        os.symlink(folder, mine)
        return unix(f"{mine}/{name}", port)


def unix_chroot(host, port):
    """In a user namespace of its own chroot is for everybody: a path then means what the process likes."""
    if libc.unshare(CLONE_NEWUSER):
        return f"unshare {ctypes.get_errno()}"
    os.chroot(os.path.dirname(host))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("/" + os.path.basename(host))
        return "connected"


def unix_mount(host, port):
    """The same by a mount namespace of its own: bind the directory of the socket over /mnt."""
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        return f"unshare {ctypes.get_errno()}"
    if libc.mount(os.path.dirname(host).encode(), b"/mnt", None, 4096, None):
        return f"mount {ctypes.get_errno()}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("/mnt/" + os.path.basename(host))
        return "connected"


def handed(host, port):
    """Take a socket from whoever calls on the unix socket named `host`, then send over it, twice."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(host)
        data, fds, *_ = socket.recv_fds(sock, 100, 1)
    with socket.socket(fileno=fds[0]) as given:
        to = data.decode().split()
        if to[0] == "connect":
            given.connect((to[1], port))
        for word in (b"first", b"second"):
            given.sendto(word, (to[1], port)) if to[0] == "sendto" else given.send(word)
            time.sleep(0.05)
        return "sent"


CASES = {
    **{f.__name__: f for f in (
        connect, fast_open, fast_open_connect, bound_device, bound_device_fast_open, marked, rebound,
        source_route, source_route_datagram, link_local, shared_port, datagram, connected_datagram,
        slow_datagrams, slow_connected_datagrams, fire, marks, from_port, one_by_one, shared_datagrams,
        send_file, zero_copy, splice_datagram, seen_mark, segments, many, receive, bind_relay, other_namespace, reconnect, slow, wait,
        fork_connect, serve, serve_answer, serve_datagrams, handed_over, stream, unix, unix_datagram, unix_chroot, unix_mount,
        unix_serve, unix_replaced, unix_renamed, unix_unended, unix_beside, unix_longer, handed,
    )},
    "mptcp": kind(socket.SOCK_STREAM, MPTCP),
    "udp_lite": kind(socket.SOCK_DGRAM, UDPLITE),
    "raw": kind(socket.SOCK_RAW, socket.IPPROTO_TCP),
    "ping": kind(socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    "echo": ping,
}  # fmt: skip

if __name__ == "__main__":
    try:
        print(CASES[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
    except (TimeoutError, BlockingIOError):  # of connect (EINPROGRESS), of recv (EAGAIN)
        print("silence")
    except OSError as error:
        print(f"errno {error.errno}")
