"""Targets with `mode: packet`, whose connections are judged without being terminated: what cannot be done there."""

from collections.abc import Iterable, Sequence
from typing import Literal

from appliance.config import document
from appliance.config.document import Node
from appliance.model import ConfigError, Trust
from appliance.policy.packets import changes_length, masked
from appliance.policy.rule import TRANSPORTS, Rule, Target

MODES = ("relay", "packet")
Mode = Literal["relay", "packet"]


def mode(fields: dict[str, Node], what: str, protocol: str, trust: Trust) -> Mode:
    """Return how connections of a target are judged."""
    if "mode" not in fields or document.choice(fields["mode"], f"{what}: mode", MODES) == "relay":
        return "relay"
    if "tcp" not in TRANSPORTS.get(protocol, ("tcp",)):
        hint = "leave `mode` out"
        fields["mode"].fail(f"{what}: mode: packet is for TCP; {protocol} is judged by packets anyway", hint)
    if "tls" in fields and not trust.passes:
        hint = "write tls: pass, or take `mode: packet` out"
        fields["tls"].fail(f"{what}: tls: cannot be opened in mode: packet, nobody terminates it", hint)
    return "packet"


def refuse_lengths(rules: Sequence[Rule], targets: Iterable[Target]) -> None:
    """
    Raises:
        ConfigError: at the first mask that would make an answer longer or shorter where that cannot be.
    """
    packets = [target for target in targets if target.mode == "packet"]
    for rule in rules:
        found = next((target for target in packets if changes_length(rule) and masked(rule, target)), None)
        if found is not None:
            name = rule.method.name if rule.method else "redact"
            what = f"rule {rule.id}: with: {name} changes the length of answers of {found.name} ({found.where}), "
            hint = f"write with: keep-last-4, give the rule a `to` without {found.name}, or take its `mode: packet` out"
            raise ConfigError(rule.where, what + "which is mode: packet: its peers count the bytes", hint)
