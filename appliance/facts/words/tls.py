"""The words of `when` for TLS that is not opened: what both sides say before all is hidden.

    key          values
    sni          the server's name as the client asks for it, in small letters; "-" where it names none
    alpn         protocols the client offers: h2, http/1.1, dot ...
    offered      versions the client offers: TLSv1.2, TLSv1.3
    hello        plain; encrypted: another hello may be hidden in it (ECH), and `sni` be a front's
    ja3          fingerprint of the client's hello: MD5, 32 hexadecimal digits
    ja4          the same by another method: t13d1516h2_8daaf6152771_e5627efa2ab1
    version      the version agreed on, of rules that block: TLSv1.2
    certificate  names and addresses in the server's certificate, of rules that block. TLS 1.3 hides it

What is said inside is not known: a rule that blocks by the words of another protocol blocks. A hello is what a client
wants to say: where names matter, open TLS, or allow no address but the server's own.
"""

from collections.abc import Mapping

from appliance.facts.words import Key

KEYS: Mapping[str, Key] = {
    "sni": Key("text", "the server's name as the client asks for it; - where it names none"),
    "alpn": Key("text", "protocols the client offers"),
    "offered": Key("text", "versions the client offers: TLSv1.3"),
    "hello": Key("word", "whether another hello may be hidden in the client's", ("plain", "encrypted")),
    "ja3": Key("text", "fingerprint of the client's hello, JA3"),
    "ja4": Key("text", "fingerprint of the client's hello, JA4"),
    "version": Key("text", "the version agreed on: TLSv1.2"),
    "certificate": Key("text", "names and addresses in the server's certificate, up to TLS 1.2"),
}
