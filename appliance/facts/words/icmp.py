"""The words of `when` for ICMP, of both versions.

    key         values
    type        echo, echo-reply, timestamp ...; other for one that has no name here
    code        the number beside it
    size        bytes of the message, from its type on; ping(8) sends 64
    rate        messages the process sent in the last minute, this one counted
    bytes       bytes the process sent and got in the last hour, this message counted
    unit_rate   as `rate`, of all processes of its unit (or top cgroup) together
    unit_bytes  as `bytes`, of all processes of its unit together

Targets of ICMP are addresses without ports. Errors about what a process sent come to it without a rule.
"""

from collections.abc import Mapping

from appliance.facts.words import Key
from appliance.facts.words.udp import MOVED

TYPES = (
    "echo", "echo-reply", "extended-echo", "extended-echo-reply", "information", "information-reply", "listener-done",
    "listener-query", "listener-report", "mask", "mask-reply", "neighbour-advertisement", "neighbour-solicitation",
    "other", "parameter-problem", "quench", "redirect", "router-advertisement", "router-solicitation", "time-exceeded",
    "timestamp", "timestamp-reply", "unreachable",
)  # fmt: skip

KEYS: Mapping[str, Key] = {
    "type": Key("word", "the type by its name", TYPES),
    "code": Key("number", "the number beside the type"),
    "size": Key("number", "bytes of the message"),
    **MOVED,
}
