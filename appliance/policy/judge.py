"""What the kernel may decide alone, once per connection: deny it, or let it by with no look at its bytes.

An entry is made only where the rules prove it: no condition on what is said, an identity that is a cgroup and
nothing more, and no earlier rule that could have another word on the same place. All else is inspected.
"""

from typing import Literal

import msgspec

from appliance.policy.policy import Policy
from appliance.policy.rule import Net, Rule, Target

TCP, UDP = 6, 17
NUMBERS = {"tcp": TCP, "udp": UDP}
ANYWHERE = ("0.0.0.0/0", "::/0")


class Entry(msgspec.Struct, frozen=True):
    """The first entry that holds decides. `cgroup` is a path below the slice and covers what is below it."""

    cgroup: str  # "" for any
    network: str
    low: int
    high: int
    protocol: int  # TCP or UDP
    verdict: Literal["direct", "deny", "queue", "inspect"]  # to the packet engine, to the relay


def entries(policy: Policy) -> tuple[Entry, ...]:
    """Return the entries of a policy, in order."""
    out: list[Entry] = []
    before: list[Rule] = []  # rules without an entry, which may say otherwise
    for rule in policy.rules:
        made = _made(policy, rule, before)
        out += made
        if not made and rule.do != "mask":
            before.append(rule)
    return (*out, *_queued(policy))


def _queued(policy: Policy) -> list[Entry]:
    """Return which TCP goes to the packet engine, of what no rule decides alone: by targets, the narrowest first."""
    if all(target.mode == "relay" for target in policy.targets):
        return []
    nets = [(net, target) for target in policy.targets if "tcp" in target.transports for net in target.nets]
    nets.sort(key=lambda one: one[0].narrowness)
    return [
        Entry("", str(net.network), net.low, net.high, TCP, "queue" if target.mode == "packet" else "inspect")
        for net, target in nets
    ]


def _made(policy: Policy, rule: Rule, before: list[Rule]) -> list[Entry]:
    if rule.conditional or rule.shadow or rule.on_incident or rule.do not in ("block", "allow"):
        return []
    direct = rule.do == "allow"
    if direct and (rule.inspect or any(_meet(r, rule) for r in policy.rules if r.do == "mask")):
        return []
    if any(_meet(r, rule) for r in before if direct or r.do != "block"):
        return []
    cgroups = _cgroups(policy, rule)
    verdict: Literal["direct", "deny"] = "direct" if direct else "deny"
    return [
        Entry(cgroup, network, low, high, protocol, verdict)
        for cgroup in cgroups
        for network, low, high, protocols in _places(rule)
        for protocol in protocols
    ]


def _meet(one: Rule, other: Rule) -> bool:
    """Return True if both can be about one connection. Identities may always be those of one process."""
    return not one.to or not other.to or any(t.meets(u) for t in one.to for u in other.to)


def _cgroups(policy: Policy, rule: Rule) -> list[str]:
    """Return the cgroups that are exactly the rule's `who`; none if that is more than cgroups."""
    if not rule.who:
        return [""]
    known = {identity.name: identity for identity in policy.identities}
    out: list[str] = []
    for name in rule.who:
        identity = known[name]
        if set(identity.keys) != {"cgroup"} or any("*" in cgroup for cgroup in identity.cgroup):
            return []
        out += identity.cgroup
    return out


def _places(rule: Rule) -> list[tuple[str, int, int, tuple[int, ...]]]:
    if not rule.to:
        return [(network, 0, 65535, (TCP, UDP)) for network in ANYWHERE]
    return [_place(rule, target, net) for target in rule.to for net in target.nets]


def _place(rule: Rule, target: Target, net: Net) -> tuple[str, int, int, tuple[int, ...]]:
    """A target with a protocol is about what carries that; a denial is about both."""
    carried = target.transports if rule.do == "allow" else NUMBERS
    protocols = tuple(number for name, number in NUMBERS.items() if name in carried)
    return str(net.network), net.low, net.high, protocols
