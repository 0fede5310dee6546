"""What of the rules needs the packet engine, and what the kernel is told of it."""

import pytest

from appliance import config
from appliance.policy import Policy, entries
from appliance.policy.judge import TCP
from appliance.policy.packets import needs_engine, needs_pings

TARGETS = """
targets:
  db: {protocol: postgres, address: "10.0.3.2:5432"}
  web: {protocol: http, mode: packet, address: "10.0.3.0/24:80"}
  inner: {protocol: http, address: "10.0.3.7:80"}
  ntp: {protocol: udp, address: "10.0.3.2:123"}
  names: {protocol: dns, address: "10.0.3.2:53"}
  hosts: {protocol: icmp, address: "10.0.3.0/24"}
"""


def policy(rules: str, targets: str = TARGETS) -> Policy:
    return config.rules([("rules.d/a.yaml", f"{targets}\nrules:\n{rules}")], lambda name: [name])


ALONE = "\n".join(line for line in TARGETS.splitlines() if "mode: packet" not in line)

NEEDS = {
    "a connection": ("{id: a, to: db, do: allow}", False, False),
    "facts of a connection": ("{id: a, when: {effect: [read]}, to: db, do: allow}", False, False),
    "datagrams": ("{id: a, to: ntp, do: allow}", True, False),
    "datagrams are asked about": ("{id: a, to: ntp, do: approve, approvers: {group: dba}}", True, False),
    "datagrams are blocked": ("{id: a, to: ntp, do: block}", False, False),
    "names": ("{id: a, to: names, do: allow}", True, False),
    "pings": ("{id: a, to: hosts, do: allow}", True, True),
    "anything": ("{id: a, do: allow}", True, True),
    "in shadow": ("{id: a, to: ntp, do: allow, shadow: true}", False, False),
}


@pytest.mark.parametrize("name", NEEDS)
def test_what_needs_the_engine(name: str) -> None:
    rule, engine, pings = NEEDS[name]
    found = policy(f"  - {rule}", ALONE)
    assert (needs_engine(found), needs_pings(found)) == (engine, pings)
    assert needs_engine(policy(f"  - {rule}")), "a target of packets does"


def test_default_allow_needs_it() -> None:
    found = config.rules([("rules.d/a.yaml", "default: allow\n")], lambda name: [name])
    assert needs_engine(found)
    assert needs_pings(found)


def test_the_kernel_is_told_of_targets_of_packets_the_narrowest_first() -> None:
    found = entries(policy("  - {id: no, to: '10.0.3.9/32:80', do: block}\n  - {id: a, to: web, when: {method: GET}, do: allow}"))
    told = [(one.network, one.low, one.verdict) for one in found if one.protocol == TCP]
    assert told[0] == ("10.0.3.9/32", 80, "deny")
    assert told[1:].index(("10.0.3.7/32", 80, "inspect")) < told[1:].index(("10.0.3.0/24", 80, "queue"))
    assert {verdict for _, _, verdict in told} == {"deny", "inspect", "queue"}


def test_without_such_targets_nothing_is_told() -> None:
    assert all(one.verdict not in ("queue", "inspect") for one in entries(policy("  - {id: a, to: db, do: allow}", ALONE)))
