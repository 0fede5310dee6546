"""The words of `when` for DNS.

    key         values
    qname       the name that is asked for, in small letters, without the dot at its end: "*.evil.example"
    qtype       the type that is asked for: A, AAAA, TXT ...; OTHER for one that has no name here
    qclass      IN, CH ...
    labels      number of labels in the name
    label       bytes of its longest label
    length      bytes of the name on the wire
    entropy     hundredths of a bit a character, of all labels but the last two: random hexadecimal digits have 400
    option      options of EDNS: cookie, client-subnet ...; the number of one that has no name here
    size        bytes of the question
    rate        questions the process sent in the last minute, this one counted
    bytes       bytes of questions and answers of the process in the last hour, this question counted
    unit_rate   as `rate`, of all processes of its unit (or top cgroup) together
    unit_bytes  as `bytes`, of all processes of its unit together
    answer      addresses, names and texts in the answer, of rules that block; also: `10.*`, or the word `internal` for
                any address that is not of the public network (DNS rebinding)
    rcode       the code of the answer, of rules that block: NOERROR, NXDOMAIN ...

International names are written as people do or as "xn--...". `block` may say `reply: nxdomain` (else REFUSED).
"""

from collections.abc import Mapping

from appliance.facts.words import Key
from appliance.facts.words.udp import MOVED

TYPES = (
    "A", "AAAA", "AFSDB", "ANY", "APL", "AVC", "AXFR", "CAA", "CDNSKEY", "CDS", "CERT", "CNAME", "CSYNC", "DHCID",
    "DLV", "DNAME", "DNSKEY", "DS", "EUI48", "EUI64", "HINFO", "HIP", "HTTPS", "IPSECKEY", "ISDN", "IXFR", "KEY", "KX",
    "LOC", "MAILA", "MAILB", "MINFO", "MX", "NAPTR", "NS", "NSEC", "NSEC3", "NSEC3PARAM", "NULL", "NXT", "OPENPGPKEY",
    "OPT", "OTHER", "PTR", "PX", "RP", "RRSIG", "RT", "SIG", "SMIMEA", "SOA", "SPF", "SRV", "SSHFP", "SVCB", "TA",
    "TKEY", "TLSA", "TSIG", "TXT", "URI", "WKS", "X25", "ZONEMD",
)  # fmt: skip

KEYS: Mapping[str, Key] = {
    "qname": Key("name", "the name that is asked for", host=True),
    "qtype": Key("word", "the type that is asked for", TYPES),
    "qclass": Key("text", "the class that is asked for: IN"),
    "labels": Key("number", "number of labels in the name"),
    "label": Key("number", "bytes of the longest label"),
    "length": Key("number", "bytes of the name"),
    "entropy": Key("number", "hundredths of a bit a character, of all labels but the last two"),
    "option": Key("text", "options of EDNS"),
    "size": Key("number", "bytes of the message"),
    **MOVED,
    "answer": Key("text", "what the answer tells; internal: an address that is not public", late=True),
    "rcode": Key("text", "the code of the answer", late=True),
}
