"""Numbers of DNS that have names.

Source: IANA, "Domain Name System (DNS) Parameters"; RFC 8914 for what an error tells besides its code.
"""

TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 11: "WKS", 12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX",
    16: "TXT", 17: "RP", 18: "AFSDB", 19: "X25", 20: "ISDN", 21: "RT", 24: "SIG", 25: "KEY", 26: "PX", 28: "AAAA",
    29: "LOC", 30: "NXT", 33: "SRV", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL", 43: "DS",
    44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM",
    52: "TLSA", 53: "SMIMEA", 55: "HIP", 59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD",
    64: "SVCB", 65: "HTTPS", 99: "SPF", 108: "EUI48", 109: "EUI64", 249: "TKEY", 250: "TSIG", 251: "IXFR",
    252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY", 256: "URI", 257: "CAA", 258: "AVC", 32768: "TA", 32769: "DLV",
}  # fmt: skip
OTHER = "OTHER"  # a type without a name here
A, NS, CNAME, PTR, TXT, AAAA, DNAME, OPT, SVCB, HTTPS, IXFR, AXFR = 1, 2, 5, 12, 16, 28, 39, 41, 64, 65, 251, 252
IN = 1
CLASSES = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}

CODES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET",
    8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 16: "BADVERS", 22: "BADTRUNC", 23: "BADCOOKIE",
}  # fmt: skip
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5

OPTIONS = {
    1: "llq", 2: "update-lease", 3: "nsid", 5: "dau", 6: "dhu", 7: "n3u", 8: "client-subnet", 9: "expire",
    10: "cookie", 11: "keepalive", 12: "padding", 13: "chain", 14: "key-tag", 15: "error",
}  # fmt: skip
EDE, BLOCKED = 15, 15  # the option of RFC 8914, and its code for what an operator's policy blocks
ECH, MANDATORY, IPV4HINT, IPV6HINT = 5, 0, 4, 6  # SvcParamKeys of RFC 9460


def type_name(number: int) -> str:
    return TYPES.get(number, OTHER)


def code_name(number: int) -> str:
    return CODES.get(number, f"RCODE{number}")


def class_name(number: int) -> str:
    return CLASSES.get(number, f"CLASS{number}")


def option_name(number: int) -> str:
    return OPTIONS.get(number, str(number))
