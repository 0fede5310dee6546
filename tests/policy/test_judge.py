"""What the kernel may decide alone: only what the rules prove."""

import pytest

from appliance.config import rules
from appliance.policy import Entry, entries

from .given import policy, resolve

RAW = "{id: raw, to: 10.0.3.2, do: allow, inspect: false}"


def direct(network: str, low: int = 0, high: int = 65535, cgroup: str = "") -> list[Entry]:
    return [Entry(cgroup, network, low, high, protocol, "direct") for protocol in (6, 17)]


def deny(network: str, low: int = 0, high: int = 65535, cgroup: str = "") -> list[Entry]:
    return [Entry(cgroup, network, low, high, protocol, "deny") for protocol in (6, 17)]


CASES = {
    "nothing": ("[]", []),
    "direct": (f"[{RAW}]", direct("10.0.3.2/32")),
    "direct ports": ("[{id: r, to: '10.0.3.0/24:80-90', do: allow, inspect: false}]", direct("10.0.3.0/24", 80, 90)),
    "direct of a target with a protocol is TCP": (
        "[{id: r, to: db, do: allow, inspect: false}]",
        [Entry("", "10.0.3.2/32", 5432, 5432, 6, "direct")],
    ),
    "direct for a cgroup": (
        "[{id: r, who: acme, to: 10.0.3.2, do: allow, inspect: false}]",
        direct("10.0.3.2/32", cgroup="acme.service"),
    ),
    "an executable is not for the kernel": ("[{id: r, who: acme-psql, to: 10.0.3.2, do: allow, inspect: false}]", []),
    "inspected": ("[{id: r, to: 10.0.3.2, do: allow}]", []),
    "shadow": ("[{id: r, to: 10.0.3.2, do: allow, inspect: false, shadow: true}]", []),
    "deny a place": ("[{id: b, to: 10.0.0.0/8, do: block}]", deny("10.0.0.0/8")),
    "deny all": ("[{id: b, do: block}]", deny("0.0.0.0/0") + deny("::/0")),
    "conditional": ("[{id: b, to: db, when: {effect: drop}, do: block}]", []),
    "deny behind an allow that meets it": ("[{id: a, to: db, when: {effect: read}, do: allow}, {id: b, do: block}]", []),
    "deny behind an ask that meets it": (
        "[{id: a, to: db, when: {effect: read}, do: approve, approvers: {group: g}}, {id: b, to: 10.0.0.0/8, do: block}]",
        [],
    ),
    "deny behind a block that meets it": (
        "[{id: b1, to: db, when: {effect: drop}, do: block}, {id: b, to: 10.0.3.0/24, do: block}]",
        deny("10.0.3.0/24"),
    ),
    "deny behind an allow elsewhere": (
        "[{id: a, to: db, do: allow}, {id: b, to: 192.0.2.0/24, do: block}]",
        deny("192.0.2.0/24"),
    ),
    "direct behind a block by name that meets it": (f"[{{id: b, who: acme-psql, to: 10.0.0.0/8, do: block}}, {RAW}]", []),
    "direct behind a condition that meets it": (f"[{{id: b, when: {{effect: drop}}, do: block}}, {RAW}]", []),
    "direct behind a denial in the kernel": (
        f"[{{id: b, who: acme, to: 10.0.0.0/8, do: block}}, {RAW}]",
        deny("10.0.0.0/8", cgroup="acme.service") + direct("10.0.3.2/32"),
    ),
    "direct where a mask is": (f"[{RAW}, {{id: m, who: acme, to: db, when: {{column: c}}, do: mask}}]", []),
    "direct where no mask is": (
        f"[{RAW}, {{id: m, to: 10.9.9.9, when: {{column: c}}, do: mask}}]",
        direct("10.0.3.2/32"),
    ),
    "direct where a shadow looks": (f"[{{id: s, to: db, when: {{effect: drop}}, do: block, shadow: true}}, {RAW}]", []),
}


@pytest.mark.parametrize("name", CASES)
def test_entries(name: str) -> None:
    text, want = CASES[name]
    assert list(entries(policy(f"rules: {text}"))) == want


def test_a_pattern_of_cgroups_is_not_for_the_kernel() -> None:
    text = "identities: {all: {cgroup: 'acme-*'}}\nrules: [{id: b, who: all, to: 10.0.0.0/8, do: block}]"
    assert entries(rules([("a.yaml", text)], resolve)) == ()


def test_two_cgroups() -> None:
    text = "identities: {two: {cgroup: [a, b/c]}}\nrules: [{id: b, who: two, to: 10.0.0.0/8, do: block}]"
    assert list(entries(rules([("a.yaml", text)], resolve))) == [
        *deny("10.0.0.0/8", cgroup="a"),
        *deny("10.0.0.0/8", cgroup="b/c"),
    ]
