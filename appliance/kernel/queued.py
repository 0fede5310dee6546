"""The part of our nftables table that gives packets to the packet engine.

    engine    at output, behind all others: what has the mark of a governed socket gets that socket's own mark, which no
              control message changes, and goes to `sink` unless what the socket sends now is direct. Its connection is
              marked too; one that another socket takes over is not marked any more.
    answers   at input: what answers such a connection. What comes over lo with a mark is what the engine says itself.
    sink      to the queue that the mark names (queue00 and so on); and what nobody listens to, the kernel drops.

Steering only: a packet that misses all this has not the mark by which the fence lets it pass.

A kernel without CONFIG_NFT_QUEUE has, or may load, the target NFQUEUE of xtables, and our own table takes it as a rule
of nft_compat, which nft(8) cannot write: `targets` are those rules for netlink.

Source: nft(8), "QUEUE STATEMENT", "SOCKET EXPRESSION"; linux/netfilter/xt_NFQUEUE.h, nf_tables_compat.h.
"""

import struct

from appliance.kernel.layout import QUEUE_DIRECT, QUEUE_MARK, QUEUE_TAG, QUEUE_TURN, QUEUES

SINK = "sink"
LATE = 250  # after address translation (-100), filters (0) and labels (50), before connections are confirmed
CHAIN, EXPRESSIONS, ELEMENT, TABLE = 2, 4, 1, 1  # NFTA_RULE_*, NFTA_LIST_ELEM
NAME, DATA = 1, 2  # NFTA_EXPR_*
TARGET_NAME, TARGET_REVISION, TARGET_INFO = 1, 2, 3  # NFTA_TARGET_*
REVISION = 3  # of struct xt_NFQ_info_v3
NESTED = 0x8000  # NLA_F_NESTED

Base = tuple[str, str, tuple[str, ...]]  # name, hook ("": no base chain), rules


def sink(queue: int, native: bool = True) -> tuple[Base, ...]:
    """Return the chains that lead to the queues from `queue` on. Without `native`, `targets` are yet to be put in."""
    ways = ", ".join(f"{turn << QUEUE_TURN:#010x} : goto {_name(turn)}" for turn in range(QUEUES))
    return (
        *((_name(turn), "", (f"queue num {queue + turn}" if native else "drop",)) for turn in range(QUEUES)),
        (SINK, "", (f"meta mark & {QUEUES - 1 << QUEUE_TURN:#010x} vmap {{ {ways} }}", "drop")),
    )


def chains(queue: int, native: bool = True) -> tuple[Base, ...]:
    """Return the chains, those that others name first. Without `native`, `targets` have yet to be put before `drop`."""
    tag, ours, direct = f"{QUEUE_TAG:#010x}", f"{QUEUE_MARK:#010x}", f"{QUEUE_DIRECT:#010x}"
    return (
        *sink(queue, native),
        (
            "governed", "",
            (
                "meta mark set socket mark",
                f"meta mark & {tag} != {ours} return",
                f"meta mark & {direct} == 0x00000000 ct direction original ct mark set meta mark",
                f"meta mark & {direct} == 0x00000000 goto {SINK}",
            ),
        ),
        (
            "engine", f"filter hook output priority {LATE}",
            (
                f"ct direction original ct mark & {tag} == {ours} ct mark set 0x00000000",
                f"meta mark & {tag} == {ours} goto governed",
            ),
        ),
        (
            "answers", f"filter hook input priority {LATE}",
            (
                'iifname "lo" meta mark != 0x00000000 return',
                f"ct direction reply ct state established ct mark & {tag} == {ours} meta mark set ct mark goto {SINK}",
            ),
        ),
    )  # fmt: skip


def targets(queue: int, table: str) -> tuple[bytes, ...]:
    """Return the attributes of the rules that stand in the chains of `sink` where nft has no `queue`."""
    return tuple(_target(queue + turn, table, _name(turn)) for turn in range(QUEUES))


def _name(turn: int) -> str:
    return f"queue{turn:02}"


def _target(queue: int, table: str, chain: str) -> bytes:
    info = struct.pack("=HHHxx", queue, 1, 0)  # number, how many, flags: no bypass
    data = (
        _attribute(TARGET_NAME, b"NFQUEUE\0")
        + _attribute(TARGET_REVISION, struct.pack("!I", REVISION))
        + _attribute(TARGET_INFO, info)
    )
    expression = _attribute(NAME, b"target\0") + _attribute(DATA | NESTED, data)
    return (
        _attribute(TABLE, table.encode() + b"\0")
        + _attribute(CHAIN, chain.encode() + b"\0")
        + _attribute(EXPRESSIONS | NESTED, _attribute(ELEMENT | NESTED, expression))
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
