"""Our nftables table, kept by us: no `nft flush ruleset` takes it, nobody else may change it, and it outlives us.

A table with the flag `owner` belongs to the netlink socket that claimed it, and with `persist` it stays when that
socket is closed, as an orphan that whoever comes next may claim, or flush. So the table is made persistent, filled by
nft while it is an orphan, and then claimed. nft(8) can set neither flag from a script: this speaks netlink for that.

Where the kernel has no `persist` (before linux 6.9), the table is everybody's, as any other: a flush is seen and undone
by the hub within a second, and the fence drops meanwhile.

Source: linux/netfilter/nf_tables.h, NFT_TABLE_F_*; net/netfilter/nf_tables_api.c, nf_tables_updtable; nfnetlink(7).
"""

import errno
import hashlib
import os
import re
import socket
import struct
import time
from itertools import count
from typing import Protocol

from appliance.kernel import nft, queued
from appliance.model import HostError

NETFILTER = 12  # NETLINK_NETFILTER
SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
INET = 1  # NFPROTO_INET
BEGIN, END = 16, 17  # NFNL_MSG_BATCH_*
NEW, DELETE, NEW_RULE = 0, 2, 6  # NFT_MSG_*TABLE, NFT_MSG_NEWRULE
REQUEST, ACK, CREATE = 1, 4, 0x400  # NLM_F_*; a rule that is created without APPEND is the first
ERROR = 2  # NLMSG_ERROR
NAME, FLAGS = 1, 2  # NFTA_TABLE_*
OWNER, PERSIST = 2, 4  # NFT_TABLE_F_*
HEADER = struct.Struct("=IHHII")
WAIT_S = 10.0  # for the kernel's answer; another writer's transaction may come first
ROOM = 65536  # bytes of one answer
LEFT_S = 2.0  # for the claim of one that was killed: its children that are just starting hold it too
DIGEST = 32  # hexadecimal digits that name a table

_numbers = count(1)  # of messages: what is left unread of one batch is not taken for the next one's
Step = tuple[int, int, int | None]  # message, flags of the message, flags of the table


class Script(Protocol):
    """nft.filling or nft.ruleset."""

    def __call__(self, port: int, mark: int, brief: bool, queue: int | None, native: bool) -> str: ...


class Table:
    """`put`, as often as need be; `release` at the end: the table stays."""

    def __init__(self, port: int, mark: int, queue: int | None = None) -> None:
        """`queue` is the number of the packet engine's first; None: there is no engine."""
        self._port, self._mark, self.queue = port, mark, queue
        self._socket: socket.socket | None = None

    def put(self) -> str:
        """Put the table in force, claim it where the kernel lets us, and return how nft lists it.

        Raises:
            HostError: nft or the kernel refuses it.
        """
        self.release()
        sock = _opened()
        try:
            if _persistent(sock):
                self._apply(sock, nft.filling)
                claimed = not _ask(sock, (NEW, 0, OWNER | PERSIST))
                self._socket = sock.dup() if claimed else None
            else:
                self._apply(sock, nft.ruleset)
        finally:
            sock.close()
        return nft.listing()

    @property
    def claim(self) -> socket.socket | None:
        """What owns the table, while it is ours alone."""
        return self._socket

    def digest(self) -> str:
        """Return what names the table that is in force, and the one that `put` would make."""
        listing = re.sub("# progname .*", "", nft.listing())  # nft's guess of who owns it, by the number of a socket
        text = nft.filling(self._port, self._mark, queue=self.queue) + listing
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]

    def adopt(self, claim: socket.socket) -> None:
        """Own the table by a claim of an earlier life, which must have put the same (`digest`)."""
        self.release()
        self._socket = claim

    def _apply(self, sock: socket.socket, script: Script) -> None:
        apply(script, self._port, self._mark, self.queue, sock)

    def release(self) -> None:
        """Let go of the table, which stays in force."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def remove() -> None:
    """Remove the table; one that is not there is fine.

    Raises:
        HostError: another process of ours holds it.
    """
    with _opened() as sock:
        number = _ask(sock, (DELETE, 0, None))
    if number not in (0, errno.ENOENT):
        raise HostError(f"remove table inet {nft.TABLE}: {os.strerror(number)}", "stop vendorgate first")


def apply(script: Script, port: int, mark: int, queue: int | None = None, sock: socket.socket | None = None) -> None:
    """Apply a script of our table in this network namespace, without what this kernel has not.

    Raises:
        HostError: nft or the kernel refuses what must be there.
    """
    ways = [(brief, native) for native in ((True, False) if queue is not None else (True,)) for brief in (True, False)]
    for number, (brief, native) in enumerate(ways, 1):
        try:
            nft.apply(script(port, mark, brief, queue, native))
            break
        except HostError:
            if number == len(ways):
                raise
    if queue is not None and not native:
        _sink(queue, sock)


def _sink(queue: int, sock: socket.socket | None) -> None:
    """Lead to the queues by the target of xtables."""
    with sock.dup() if sock else _opened() as own:
        own.settimeout(WAIT_S)
        number = _send(own, *((NEW_RULE, CREATE, rule) for rule in queued.targets(queue, nft.TABLE)))
    if number:
        hint = "a kernel with CONFIG_NFT_QUEUE, or with CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE"
        raise HostError(f"lead packets to queues from {queue} on: {os.strerror(number)}", hint)


def _persistent(sock: socket.socket) -> bool:
    """Have a table that outlives its owner, in place of one that would not. False when the kernel knows none such."""
    until = time.monotonic() + LEFT_S
    while (number := _ask(sock, (NEW, CREATE, PERSIST))) == errno.EPERM and time.monotonic() < until:
        time.sleep(LEFT_S / 20)
    if number == errno.EPERM:
        raise HostError("another vendorgate is running: it holds the nftables table of this namespace", "stop it first")
    return not number or not _ask(sock, (DELETE, 0, None), (NEW, CREATE, PERSIST))


def _opened() -> socket.socket:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
        sock.bind((0, 0))
        sock.settimeout(WAIT_S)
    except OSError as error:
        raise HostError(f"open netlink: {error.strerror}", "a kernel with CONFIG_NF_TABLES") from error
    return sock


def _ask(sock: socket.socket, *steps: Step) -> int:
    """Do the steps in one transaction; return 0, or the errno of the first that failed."""
    name = _attribute(NAME, nft.TABLE.encode() + b"\0")
    messages = []
    for kind, flags, table in steps:
        body = name if table is None else name + _attribute(FLAGS, struct.pack("!I", table))
        messages.append((kind, flags, body))
    return _send(sock, *messages)


def _send(sock: socket.socket, *messages: tuple[int, int, bytes]) -> int:
    """Send messages (kind, flags, attributes) as one transaction; return 0, or the errno of the first that failed."""
    begin, *numbers, end = (next(_numbers) for _ in range(len(messages) + 2))
    batch = _message(BEGIN, REQUEST, begin, bytes(2) + struct.pack("!H", SUBSYSTEM))
    for number, (kind, flags, attributes) in zip(numbers, messages, strict=True):
        body = bytes((INET, 0, 0, 0)) + attributes
        batch += _message(SUBSYSTEM << 8 | kind, REQUEST | ACK | flags, number, body)
    batch += _message(END, REQUEST, end, bytes(2) + struct.pack("!H", SUBSYSTEM))
    try:
        sock.send(batch)
        for number in numbers:
            if said := _answer(sock, number):
                return said
    except TimeoutError as error:
        raise HostError(f"nftables did not answer within {WAIT_S:.0f} s") from error
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _answer(sock: socket.socket, wanted: int) -> int:
    """Return the errno of one message; a batch that fails is not answered to its end."""
    while True:
        data = sock.recv(ROOM)
        _length, kind, _flags, number, _port = HEADER.unpack_from(data)
        if kind == ERROR and number >= wanted:
            return -int(struct.unpack_from("=i", data, HEADER.size)[0])


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, number, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
