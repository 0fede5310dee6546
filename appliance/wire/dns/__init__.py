"""DNS, in datagrams and over connections.

Source: RFC 1035; RFC 6891 (EDNS); RFC 7766 (connections); RFC 8914 (why a question was refused); RFC 9460 (services).
Not handled: operations other than QUERY (updates, notices), more than one question, transfers of zones, TSIG, DNS over
TLS, HTTPS or QUIC. What uses them is refused.

Messages of the client: question (the name in `name`, the type in `status`, the class in `cursor`, EDNS options in
`values`). Of the server: answer (the name that was asked in `name`, how many seconds it may be kept in `cursor`; in
`text` the code, the type, the name and what was found, in words; in `values` the addresses that were found, of type 1,
what else it tells, of type 0, and addresses of other names, of type 2), stray (an answer to nothing that was asked: it
is dropped).

A key that would hide a TLS hello (ECH) is taken out of every answer.
"""

from appliance.wire import Opening
from appliance.wire.dns.connection import DNS, DNSStream

__all__ = ["DNS", "OPENING", "DNSStream"]

OPENING = Opening(DNSStream, lambda client, server: False, datagram=DNS, ports=(53,))
