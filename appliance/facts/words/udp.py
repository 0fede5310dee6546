"""The words of `when` for datagrams that no protocol here reads.

    key         values
    size        bytes of the datagram, without headers
    begins      its first 16 bytes in hexadecimal digits: "1b*"
    rate        datagrams the process sent in the last minute, this one counted
    bytes       bytes the process sent and got in the last hour, this datagram counted
    unit_rate   as `rate`, of all processes of its unit (or top cgroup) together
    unit_bytes  as `bytes`, of all processes of its unit together

Where they go is what `to` says. What a process moved over DNS, ICMP or QUIC is counted there, not here.
"""

from collections.abc import Mapping

from appliance.facts.words import Key

MOVED: Mapping[str, Key] = {
    "rate": Key("number", "what the process sent in the last minute"),
    "bytes": Key("number", "bytes the process moved in the last hour"),
    "unit_rate": Key("number", "what all processes of the unit sent in the last minute"),
    "unit_bytes": Key("number", "bytes all processes of the unit moved in the last hour"),
}

KEYS: Mapping[str, Key] = {
    "size": Key("number", "bytes of the message"),
    "begins": Key("text", "the first 16 bytes in hexadecimal digits"),
    **MOVED,
}
