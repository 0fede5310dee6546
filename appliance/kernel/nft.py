"""The steering: one nftables table of ours, replaced in one transaction and removed by name.

The connect hook marks the sockets to inspect; the table redirects what they send to the relay. It is
steering only: with the table gone, the fence drops. Priority -110 is before dstnat (-100), where containers'
chains sit, so that the first address translation is ours.

A translation outlives its connection: when a client is gone before the relay answered, its source port is free and
its entry in conntrack stays (120 s by default). Whoever is given that port next for the same server, the relay itself
or a process outside the slice, would be sent to the relay as if it were that client. So the entries of what is not
answered live for a second, and a connection that falls on one is refused, which is cured by trying again.

Source: nft(8), "NAT statements" and "CT TIMEOUT"; linux/netfilter_ipv4.h, priorities.
"""

import resource
import subprocess

import msgspec

from appliance.kernel import queued
from appliance.model import HostError

TABLE = "vendorgate"
ROOM = 8 << 20  # bytes of data of an nft that reads our table; it takes 3 MB for it
# Seconds; over lo the answer comes at once, or the first is sent again after a second. What has ended, the host would
# keep for two minutes: one vendor at its full rate could fill half of the table that all on the host share.
TIMEOUTS = "protocol tcp; l3proto inet; policy = { syn_sent : 1, syn_recv : 5, time_wait : 2, close : 2 };"
TIMEOUT = 10.0  # seconds; a transaction takes milliseconds, and waits only for other writers


class Chain(msgspec.Struct, frozen=True):
    """A chain and its rules; without a hook, one that others go to."""

    name: str
    hook: str
    rules: tuple[str, ...]

    @property
    def type(self) -> str:
        return f"type {self.hook}; policy accept;" if self.hook else ""


def chains(
    port: int, mark: int, brief: bool = True, queue: int | None = None, native: bool = True
) -> tuple[Chain, ...]:
    """Return what the table holds; those of the packet engine only with the number of its first queue.

    Without `brief`, for a kernel that has no CONFIG_NF_CONNTRACK_TIMEOUT, unanswered entries live as the host says.
    Without `native`, for one that has no CONFIG_NFT_QUEUE, kernel/table.py adds what leads to the queue.
    """
    marked = f"meta mark {mark:#010x}"
    syn = "tcp flags & (fin | syn | rst | ack) == syn"
    stale = f"ct direction original ct status dnat ct reply proto-src {port}"
    keep = (f'{marked} meta l4proto tcp ct timeout set "brief"',) if brief else ()
    return (
        Chain(
            "stale", "filter hook output priority -190",
            (*keep, f"meta mark != {mark:#010x} {syn} {stale} reject with tcp reset"),
        ),
        Chain("steer", "nat hook output priority -110", (f"{marked} meta l4proto tcp redirect to :{port}",)),
        Chain("guard", "filter hook postrouting priority 300", (f'{marked} oifname != "lo" drop',)),
        *(Chain(*chain) for chain in (() if queue is None else queued.chains(queue, native))),
    )  # fmt: skip


def ruleset(port: int, mark: int, brief: bool = True, queue: int | None = None, native: bool = True) -> str:
    """Return the script that puts the table in place of any there was."""
    words = ["\tct timeout brief {", *(f"\t\t{part.strip()}" for part in TIMEOUTS.rstrip(";").split(";")), "\t}"]
    lines = words if brief else []
    for chain in chains(port, mark, brief, queue, native):
        lines += [f"\tchain {chain.name} {{", *([f"\t\t{chain.type}"] if chain.hook else [])]
        lines += [*(f"\t\t{rule}" for rule in chain.rules), "\t}"]
    return f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n" + "\n".join(lines) + "\n}\n"


def filling(port: int, mark: int, brief: bool = True, queue: int | None = None, native: bool = True) -> str:
    """Return the script that fills a table that is there, in place of what it held.

    It does not speak of the table itself: nft would ask for one without the flags that kernel/table.py gave it.
    """
    lines = [f"flush table inet {TABLE}"]
    if brief:
        lines.append(f"add ct timeout inet {TABLE} brief {{ {TIMEOUTS} }}")
    for chain in chains(port, mark, brief, queue, native):
        lines.append(f"add chain inet {TABLE} {chain.name}" + (f" {{ {chain.type} }}" if chain.hook else ""))
        lines += [f"add rule inet {TABLE} {chain.name} {rule}" for rule in chain.rules]
    return "\n".join(lines) + "\n"


def removal() -> str:
    """Return the script that removes the table, whether or not it is there."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def apply(script: str) -> None:
    """Apply the script, whole or not at all.

    Raises:
        HostError: with what nft said.
    """
    result = _nft(["-f", "-"], script)
    if result.returncode:
        raise HostError(f"nft -f: {result.stderr.strip()}", "`vendorgate check` names what the host lacks")


def listing() -> str:
    """Return our table as nft lists it in this network namespace; empty if it is not there, or too large to be it.

    In a namespace of its own a vendor is root, and may fill a table of that name with whatever there is room for.
    """
    result = _nft(["list", "table", "inet", TABLE], "", ROOM)
    return result.stdout if result.returncode == 0 else ""


def present() -> bool:
    """Return whether our table, with its rule, is in force in this network namespace."""
    return "redirect to" in listing()


def _nft(words: list[str], script: str, room: int = 0) -> subprocess.CompletedProcess[str]:
    """Run nft, with `room` bytes of data at most if that is not 0."""
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(["nft", *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                if room:
                    resource.prlimit(process.pid, resource.RLIMIT_DATA, (room, room))
                output, errors = process.communicate(script, TIMEOUT)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(words, process.returncode, output, errors)
    except FileNotFoundError as error:
        raise HostError("nft is not installed", "apt-get install nftables") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"nft did not end within {TIMEOUT:.0f} s") from error
