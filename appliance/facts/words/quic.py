"""The words of `when` for QUIC, which carries HTTP/3.

    key         values
    sni         the server's name as the client asks for it, in small letters; "-" where it names none
    alpn        protocols the client offers: h3, doq ...
    hello       plain; encrypted: another hello may be hidden in it (ECH), and `sni` be a front's
    size        bytes of the datagram
    rate        datagrams the process sent in the last minute, this one counted
    bytes       bytes the process sent and got in the last hour, this datagram counted
    unit_rate   as `rate`, of all processes of its unit (or top cgroup) together
    unit_bytes  as `bytes`, of all processes of its unit together

What is said inside is never read. Where nothing allows it, clients go back to TCP, and that is.
"""

from collections.abc import Mapping

from appliance.facts.words import Key
from appliance.facts.words.udp import MOVED

KEYS: Mapping[str, Key] = {
    "sni": Key("text", "the server's name as the client asks for it; - where it names none"),
    "alpn": Key("text", "protocols the client offers"),
    "hello": Key("word", "whether another hello may be hidden in the client's", ("plain", "encrypted")),
    "size": Key("number", "bytes of the message"),
    **MOVED,
}
