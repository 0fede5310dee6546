"""The kernel's table says what the entries say: first match, for every address, port and cgroup."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel import layout
from appliance.kernel.judge import VERDICTS, lines, matches, network, reduced, table
from appliance.kernel.layout import INET, INET6, Judgement
from appliance.model import HostError
from tests.kernel.entry import Entry

INSPECT, DENY, DIRECT, HERE, QUEUE = Judgement


def by_table(entries: list[Entry], cgroup: str | None, host: str, port: int, protocol: int = 6) -> Judgement:
    """Answer as the kernel does: the longest prefix, then its first range."""
    address = ipaddress.ip_address(host)
    family = INET if address.version == 4 else INET6
    best: tuple[int, tuple[tuple[int, int, int, Judgement], ...]] = (-1, ())
    for (fam, packed, length), found in table(lines(entries, cgroup)).items():
        size = 4 if fam == INET else 16
        net = ipaddress.ip_network((packed[:size], length))
        if fam == family and address in net and length > best[0]:
            best = (length, found)
    for low, high, proto, judgement in best[1]:
        if proto == protocol and low <= port <= high:
            return judgement
    return INSPECT


def by_entries(entries: list[Entry], cgroup: str, host: str, port: int, protocol: int = 6) -> Judgement:
    """Answer as the rules do: the first entry that holds."""
    address = ipaddress.ip_address(host)
    for e in entries:
        if e.cgroup and not (cgroup == e.cgroup or cgroup.startswith(e.cgroup + "/")):
            continue
        net = ipaddress.ip_network(e.network)
        if address in net and e.low <= port <= e.high and e.protocol == protocol:
            return HERE if e.verdict == "direct" and net.num_addresses == 1 else VERDICTS[e.verdict]
    return INSPECT


nets = st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "::/0", "fd00::/8", "fd00::1/128"])
some = st.builds(
    lambda net, verdict, cgroup, a, b, protocol: Entry(net, verdict, cgroup, min(a, b), max(a, b), protocol),
    nets, st.sampled_from(["direct", "deny"]), st.sampled_from(["", "a", "b", "a/c"]),
    st.integers(0, 9), st.integers(0, 9), st.sampled_from([6, 17]),
)  # fmt: skip


@given(
    st.lists(some, max_size=8), st.sampled_from(["a", "b", "a/c", "ab", ""]),
    st.sampled_from(["10.1.1.1", "10.1.1.2", "10.9.9.9", "8.8.8.8", "fd00::1", "fe80::1"]), st.integers(0, 9), st.sampled_from([6, 17]),
)  # fmt: skip
def test_the_table_says_what_the_entries_say(
    entries: list[Entry], cgroup: str, host: str, port: int, protocol: int
) -> None:
    assert by_table(entries, cgroup, host, port, protocol) == by_entries(entries, cgroup, host, port, protocol)


@given(st.lists(some, max_size=8), st.sampled_from(["10.1.1.1", "8.8.8.8", "fd00::1"]), st.integers(0, 9))
def test_nothing_is_direct_for_an_unknown_cgroup(entries: list[Entry], host: str, port: int) -> None:
    assert by_table(entries, None, host, port) not in (DIRECT, HERE)


def test_what_one_cgroup_is_denied_is_inspected_for_an_unknown_one() -> None:
    entries = [Entry("10.0.0.0/8", "direct", "a"), Entry("10.0.0.0/8", "deny"), Entry("11.0.0.0/8", "deny")]
    assert by_table(entries, None, "10.0.0.1", 1) == INSPECT
    assert by_table(entries, None, "11.0.0.1", 1) == DENY


def test_a_longer_prefix_does_not_hide_an_earlier_shorter_one() -> None:
    entries = [Entry("10.0.0.0/8", "deny", low=22, high=22), Entry("10.1.0.0/16", "direct")]
    assert by_table(entries, "a", "10.1.0.1", 22) == DENY
    assert by_table(entries, "a", "10.1.0.1", 80) == DIRECT
    assert by_table(entries, "a", "10.2.0.1", 80) == INSPECT


def test_only_a_direct_rule_that_names_it_means_a_listener_on_this_host() -> None:
    for written in ("127.0.0.0/8", "127.0.0.1/32", "10.1.0.1/32", "::1/128", "fd00::1/128"):
        assert by_table([Entry(written, "direct")], "a", written.split("/")[0].replace("127.0.0.0", "127.0.0.9"), 1) == HERE
    for written, host in (("0.0.0.0/0", "127.0.0.1"), ("10.1.0.0/24", "10.1.0.1"), ("::/0", "::1")):
        assert by_table([Entry(written, "direct")], "a", host, 1) == DIRECT


def test_the_families_do_not_mix() -> None:
    assert by_table([Entry("::/0", "direct")], "a", "10.0.0.1", 1) == INSPECT
    assert by_table([Entry("0.0.0.0/0", "direct")], "a", "fd00::1", 1) == INSPECT


def test_a_mapped_network_is_ipv4() -> None:
    assert str(network("::ffff:10.0.0.0/104")) == "10.0.0.0/8"
    assert str(network("10.0.0.7/8")) == "10.0.0.0/8"


def test_more_ranges_than_the_map_holds_are_inspected() -> None:
    many = [Entry("10.0.0.0/8", "deny", low=2 * i, high=2 * i) for i in range(layout.RANGES + 1)]
    assert by_table(many, "a", "10.0.0.1", 2 * (layout.RANGES - 1)) == DENY
    assert by_table(many, "a", "10.0.0.1", 2 * layout.RANGES) == INSPECT
    with pytest.raises(HostError, match="port ranges"):
        layout.ranges([(i, i, 6, DENY) for i in range(layout.RANGES + 1)])


def test_hidden_ranges_take_no_room() -> None:
    assert reduced([(0, 9, 6, DENY), (3, 4, 6, DIRECT), (3, 4, 17, DIRECT)]) == ((0, 9, 6, DENY), (3, 4, 17, DIRECT))


def test_a_cgroup_covers_what_is_below_it() -> None:
    assert matches("a", "a") and matches("a", "a/b")
    assert not matches("a", "ab") and not matches("a/b", "a")


def test_a_verdict_that_is_none() -> None:
    with pytest.raises(KeyError):
        lines([Entry("10.0.0.0/8", "allow")], "a")
