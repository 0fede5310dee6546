"""Targets by how they are carried, and by the names DNS told."""

import ipaddress

import pytest

from appliance.config import rules
from appliance.facts import Facts
from appliance.model import Address, ConfigError, Place
from appliance.policy import Policy, entries
from appliance.policy.rule import Host, Net, Target

OTHER = Facts("udp", {"size": frozenset(("48",))})


def policy(text: str, **hosts: str) -> Policy:
    return rules([("r.yaml", text)], lambda host: [hosts[host.split(".")[0]]])


@pytest.mark.parametrize(
    ("protocol", "carried"),
    [
        ("postgres", ["tcp"]),
        ("http", ["tcp"]),
        ("dns", ["tcp", "udp"]),
        ("udp", ["udp"]),
        ("icmp", ["icmp"]),
        ("", ["icmp", "tcp", "udp"]),
    ],
)
def test_a_target_is_of_the_transports_that_carry_its_protocol(protocol: str, carried: list[str]) -> None:
    target = Target("there", protocol, (Net(ipaddress.ip_network("10.0.0.0/8")),))
    found = [name for name in ("icmp", "tcp", "udp") if target.holds(Place("10.0.0.1", 0 if name == "icmp" else 53, name))]
    assert found == carried


def test_an_address_alone_is_spoken_to_in_tcp() -> None:
    udp = Target("there", "udp", (Net(ipaddress.ip_network("10.0.0.0/8")),))
    assert not udp.holds(Address("10.0.0.1", 123))


def test_a_port_of_a_place_is_not_icmp() -> None:
    found = policy("rules: [{id: a, to: 10.0.0.0/8:443, do: allow}]")
    assert found.decide((), Place("10.0.0.1", 0, "icmp"), OTHER).verdict == "block"
    assert found.decide((), Place("10.0.0.1", 443, "udp"), OTHER).verdict == "allow"


def test_what_allows_a_target_allows_its_transport_and_what_blocks_one_blocks_all() -> None:
    text = "targets: {db: {protocol: postgres, address: 10.0.0.1:5432}}\nrules: [{id: r, to: db, do: %s}]\ndefault: %s"
    there = Place("10.0.0.1", 5432, "udp")
    assert policy(text % ("allow", "block")).decide((), there, OTHER).rule == "default"
    assert policy(text % ("block", "allow")).decide((), there, OTHER).rule == "r"


def test_icmp_has_no_ports() -> None:
    with pytest.raises(ConfigError, match="icmp has no ports"):
        policy("targets: {all: {protocol: icmp, address: '10.0.0.0/8:7'}}")


def test_the_kernel_lets_by_what_carries_a_protocol() -> None:
    text = "targets: {t: {protocol: %s, address: '10.0.0.1:53'}}\nrules: [{id: a, to: t, do: allow, inspect: false}]"
    assert [e.protocol for e in entries(policy(text % "dns"))] == [6, 17]
    assert [e.protocol for e in entries(policy(text % "udp"))] == [17]
    assert [e.protocol for e in entries(policy(text % "redis"))] == [6]


NAMED = "targets: {api: {protocol: http, address: 'api.example:443'}}\nrules: [{id: a, to: api, do: allow}]"


def test_a_target_by_name_is_where_dns_told_the_process_it_is() -> None:
    found = policy(NAMED, api="1.1.1.1")
    told = Place("9.9.9.9", 443, names=("api.example",))
    assert found.target(told) is not None
    assert found.target(Address("1.1.1.1", 443)) is not None, "where it was when rules were read"
    assert found.target(Address("9.9.9.9", 443)) is None
    assert found.target(Place("9.9.9.9", 80, names=("api.example",))) is None, "another port"
    assert found.target(Place("9.9.9.9", 443, names=("other.example",))) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "fe80::1", "224.0.0.1", "0.0.0.0"])
def test_a_public_name_cannot_be_pointed_at_what_is_inside(host: str) -> None:
    told = Place(host, 443, names=("api.example",))
    assert policy(NAMED, api="1.1.1.1").target(told) is None
    assert policy(NAMED, api="10.0.0.9").target(told) is not None, "an internal name may move inside"


def test_a_name_is_worth_more_than_a_network() -> None:
    text = NAMED.replace("targets: {", "targets: {wide: {address: '0.0.0.0/0'}, ")
    target = policy(text, api="1.1.1.1").target(Place("9.9.9.9", 443, names=("api.example",)))
    assert target is not None
    assert target.name == "api"


def test_a_host_that_may_be_anywhere_hides_nothing_and_meets_all_on_its_ports() -> None:
    api = Target("api", "http", (), hosts=(Host("api.example", 443, 443),))
    wide = Target("wide", "", (Net(ipaddress.ip_network("0.0.0.0/0"), 443, 443),))
    narrow = Target("narrow", "", (Net(ipaddress.ip_network("0.0.0.0/0"), 80, 80),))
    assert not wide.covers(api)
    assert wide.meets(api)
    assert api.meets(wide)
    assert not narrow.meets(api)
    inside = Target("inside", "", (Net(ipaddress.ip_network("10.0.0.0/8"), 443, 443),))
    assert not inside.meets(api), "a public name is never believed to be there"
    assert inside.meets(Target("db", "http", (), hosts=(Host("db.internal", 443, 443, internal=True),)))


def test_a_bare_name_in_small_letters_without_its_dot() -> None:
    [target] = policy("targets: {api: {address: 'API.Example.:443'}}", API="1.1.1.1").targets
    assert target.hosts == (Host("api.example", 443, 443, False, target.hosts[0].found),) and target.hosts[0].found


SHARED = """
targets:
  api: {protocol: http, address: "db.internal:443"}
  net: {protocol: http, address: ["two.internal:443", "10.0.3.3:444", "10.0.3.0/24:445"]}
rules:
  - {id: api, to: api, do: allow}
  - {id: net, to: net, do: allow}
  - {id: rest, do: allow, inspect: true, when: {method: "*"}}
"""

# rule, server, the names that its TLS is for -> whether the rule is about it
CALLED = [
    ("api", Place("10.0.3.2", 443), {"db.internal"}, True),
    ("api", Place("10.0.3.2", 443), {"db.internal", "other.example"}, True),
    ("api", Place("10.0.3.2", 443), {"other.example"}, False),  # another customer at the same address
    ("net", Place("10.0.3.3", 443), {"other.example"}, False),
    ("net", Place("10.0.3.3", 444), {"other.example"}, True),
    ("net", Place("10.0.3.77", 445), {"other.example"}, True),  # written by address: whoever is there
    ("net", Place("10.0.3.3", 443), {"two.internal"}, True),
    ("rest", Place("10.0.3.2", 443), {"other.example"}, True),
]


@pytest.mark.parametrize(("rule", "server", "names", "about"), CALLED)
def test_a_target_by_name_is_the_one_of_that_name(rule: str, server: Place, names: set[str], about: bool) -> None:
    named = policy(SHARED, db="10.0.3.2", two="10.0.3.3")
    assert named.called(rule, server, frozenset(names)) is about
