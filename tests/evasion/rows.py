"""The table of ways round a host gateway, row by row: where each is tried, and what this kernel or this part cannot host.

Every row has a test named after it (`test_row_NN_...`) in test_rows_*.py, or is in COVERED (tests with other names), or in
ELSEWHERE (another part of the product judges it). PARTS lists what only some kernels host; test_rows.py holds the list
against what the kernel itself says, and the summary of a run prints it.
"""

import gzip
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROWS = range(1, 55)

# Rows whose tests have other names: file::function, relative to tests/.
COVERED = {
    7: (
        "peer/test_dns.py::test_a_tunnel_is_stopped_within_its_bytes_though_each_question_has_a_process_of_its_own",
        "peer/test_dns.py::test_a_stub_on_the_host_is_no_way_round",
        "peer/test_dns.py::test_a_server_that_no_rule_names_is_not_asked",
        "facts/dns/test_facts.py::test_a_tunnel_is_stopped_within_its_bytes_whatever_processes_it_starts",
    ),
    36: (
        "wire/test_dialogues.py::test_cuts_change_nothing",
        "evasion/test_rows_packets.py::test_row_02_a_header_of_ones_own",
    ),
    39: (
        "wire/dns/test_session.py::test_ech_is_taken_out_of_answers",
        "wire/dns/test_second_opinion.py::test_what_we_write_without_ech_it_reads_as_before_but_for_that",
        "wire/quic/test_quic.py::test_a_hello_for_another_is_refused",
        "peer/test_dns.py::test_tls_that_names_no_server_is_with_the_one_dns_named",
        "peer/tls/test_tls_names.py::test_a_front_is_asked_only_for_whom_tls_was_opened",
    ),
    40: (
        "peer/tls/test_tls.py::test_a_client_that_does_not_trust_us_is_told_of",
        "session/test_unread.py::test_a_second_hello_for_another_server_does_not_go_up",
    ),
    41: (
        "peer/test_tunnels.py::test_requests_inside_are_judged_and_masked",
        "peer/test_tunnels.py::test_another_protocol_inside_in_its_own_words",
    ),
    43: ("chaos/test_processes.py::test_killed", "chaos/test_processes.py::test_stopped", "chaos/test_processes.py::test_out_of_memory"),
    44: ("chaos/test_firewall.py::test_flush_ruleset", "chaos/test_firewall.py::test_base_chain_churn"),
    46: ("chaos/test_fence.py::test_cgroup_recreated",),
    47: (
        "evasion/test_host.py::test_a_flood_of_connects_names_nobody_wrongly_and_starves_nobody",
        "evasion/test_host_luck.py::test_what_a_vendor_left_in_conntrack_catches_nobody_else",
        "kernel/test_fence.py::test_more_peers_than_the_map_holds_forget_the_oldest",
        "kernel/test_queue.py::test_length_is_a_limit_and_what_is_beyond_is_counted",
        "kernel/test_queue.py::test_room_is_a_limit_and_what_is_beyond_is_counted",
        "kernel/test_queued.py::test_share_is_a_limit_and_leaves_others_theirs",
    ),
    48: (
        "control/test_approvals.py::test_limit_of_one_process",
        "control/test_approvals.py::test_limit_of_one_identity",
        "relay/test_limits.py::test_share_leaves_something_for_whoever_comes_next",
    ),
    52: (
        "kernel/test_lineage.py::test_a_deleted_file_is_a_class_of_its_own",
        "kernel/test_lineage.py::test_a_memory_file_is_a_class_of_its_own",
        "kernel/test_lineage.py::test_a_script_is_its_interpreter_with_the_script_in_argv",
    ),
}

# Tests beside those named after a row: what the packet engine would judge is given to it, and to nobody else.
ENGINE = {
    6: ("kernel/test_queued.py::test_ping_that_a_rule_denies_in_the_kernel",),
    8: ("config/test_packs_datagrams.py::test_the_port_of_dns_over_tls_is_refused_before_its_first_byte",),
    9: (
        "kernel/test_queued.py::test_what_is_dropped_never_arrives",
        "peer/test_dns.py::test_quic_is_judged_by_the_name_in_its_hello_and_what_is_refused_goes_back_to_tcp",
    ),
    14: ("facts/dns/test_facts.py::test_which_addresses_anybody_may_have",),
    28: ("kernel/test_queued.py::test_marks_of_a_control_message_name_nobody_else_and_let_nothing_by",),
    30: ("kernel/test_queued.py::test_who_is_given_the_port_of_a_closed_socket_is_not_taken_for_it",),
    37: (
        "kernel/test_queue.py::test_a_large_datagram_comes_whole",
        "kernel/test_queue.py::test_what_does_not_fit_into_a_message_is_dropped_whatever_is_said",
        "kernel/test_queued.py::test_several_datagrams_in_one_are_not_let_by_as_one",
    ),
    43: ("kernel/test_queued.py::test_a_dead_engine_is_silence",),
    44: ("kernel/test_queued.py::test_a_flushed_table_is_no_way_round",),
    53: ("kernel/test_queued.py::test_direct_and_judged_over_one_socket",),
    54: ("kernel/test_queued.py::test_tcp_in_packets_is_cut_when_a_rule_denies_it",),
}

# Rows that are judged by another part, or by none: why.
ELSEWHERE = {
    27: "files, not the network: systemd/vendor-agent.conf, ProtectSystem=strict",
    49: "inherent to what is allowed; rules of each protocol",
}


class Part(NamedTuple):
    """A part of a row that needs something of the kernel."""

    row: int
    what: str
    hosted: Callable[[], bool]  # by trying
    says: Callable[[], bool | None]  # by the kernel's own word; None: it does not say
    without: str  # why its absence is no way round


def takes(family: int, kind: int, protocol: int) -> Callable[[], bool]:
    """Return whether such a socket can be made, outside the slice."""

    def look() -> bool:
        try:
            socket.socket(family, kind, protocol).close()
        except OSError:
            return False
        return True

    return look


def configured(*names: str) -> Callable[[], bool | None]:
    """Return whether the kernel was built with the options, by its own configuration."""

    def look() -> bool | None:
        built, there = Path("/proc/config.gz"), Path(f"/boot/config-{os.uname().release}")
        if built.exists():
            text = gzip.decompress(built.read_bytes()).decode()
        elif there.exists():
            text = there.read_text()
        else:
            return None
        # A module counts: it is loaded when the first socket is made, unless the host forbids it.
        return True if all(f"\n{name}=y\n" in text for name in names) else None if all(f"\n{name}=m\n" in text for name in names) else False

    return look


NONE = "the kernel has no such protocol, and socket() says so"
PARTS = (
    Part(10, "UDP-Lite", takes(socket.AF_INET, socket.SOCK_DGRAM, 136), lambda: listed("UDP-Lite"), NONE),
    Part(11, "SCTP", takes(socket.AF_INET, socket.SOCK_STREAM, 132), configured("CONFIG_IP_SCTP"), NONE),
    Part(11, "DCCP", takes(socket.AF_INET, 6, 33), configured("CONFIG_IP_DCCP"), NONE),
    Part(11, "L2TP", takes(socket.AF_INET, socket.SOCK_DGRAM, 115), configured("CONFIG_L2TP", "CONFIG_L2TP_IP"), NONE),
    Part(11, "SMC", takes(43, socket.SOCK_STREAM, 0), configured("CONFIG_SMC"), NONE),
    Part(18, "MPTCP", takes(socket.AF_INET, socket.SOCK_STREAM, 262), configured("CONFIG_MPTCP"), NONE),
    Part(5, "AF_XDP", takes(44, socket.SOCK_RAW, 0), configured("CONFIG_XDP_SOCKETS"), NONE),
    Part(34, "AF_VSOCK", takes(socket.AF_VSOCK, socket.SOCK_STREAM, 0), configured("CONFIG_VSOCKETS"), NONE),
)


LACKING: set[str] = set()  # parts of the fence that this kernel did not take; set when one is up
DROPIN = "systemd/vendor-agent.conf stands in for it"


def taken(part: str) -> Callable[[], bool]:
    """Return whether the kernel took an object of the fence."""
    return lambda: part not in LACKING


def release(*least: int) -> Callable[[], bool]:
    """Return whether the kernel is at least of this release."""
    return lambda: tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2]) >= least


def modules() -> bool | None:
    """Return False if the kernel's list of security modules has no BPF; a host may forbid it though it is there."""
    words = ["unshare", "--mount", "sh", "-c", "mount -t securityfs none /sys/kernel/security && cat /sys/kernel/security/lsm"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return None if done.returncode or "bpf" in done.stdout.strip().split(",") else False


PARTS += (
    Part(3, "packet sockets of root in the slice, refused", taken("lsm"), modules, "the first send kills the sender; one frame leaves"),
    Part(33, "unix sockets by a list of names", taken("unix"), release(6, 7), DROPIN),
    Part(20, "connect with a socket from outside, refused", taken("handed"), release(6, 2), "its first send kills the sender"),
    Part(20, "receive of a socket from outside, refused", taken("lsm"), modules, "its first send kills the sender; the first bytes leave"),
    Part(54, "a revoked flow is cut, not only dropped", taken("revoke"), release(6, 5), "its program hangs, nothing leaves"),
)


def listed(name: str) -> bool:
    """Return whether the kernel lists a protocol."""
    return any(line.split()[0] == name for line in Path("/proc/net/protocols").read_text().splitlines())


def absent() -> list[Part]:
    """Return the parts that this kernel does not host."""
    return [part for part in PARTS if not part.hosted()]


def summary() -> list[str]:
    """Return what is not tried by tests named after the rows, for people."""
    lines = [f"row {part.row:>2} {part.what}: not hosted by this kernel: {part.without}" for part in absent()]
    lines += [f"row {row:>2}: {why}" for row, why in sorted(ELSEWHERE.items())]
    tried = len(ROWS) - len(ELSEWHERE)
    return [f"{tried} of {len(ROWS)} rows tried, {len(absent())} parts not hosted, {len(ELSEWHERE)} rows elsewhere", *lines]
