"""QUIC, as far as anybody between can read it: whom a client says hello to.

Source: RFC 9000, RFC 9001, RFC 9369 (version 2). Not handled: what is said inside, which stays hidden; versions other
than 1 and 2, of which nothing is known.

Messages of the client: hello (the server's name in `name`, plain or encrypted in `status`, the protocols offered in
`values`), partial (of a hello that is not whole: it is held back, and its client sends it again), strange (of another
version), datagram. Of the server: datagram.
"""

from appliance.wire import Opening
from appliance.wire.quic.connection import QUIC
from appliance.wire.quic.packets import begins

__all__ = ["OPENING", "QUIC"]

OPENING = Opening(QUIC, lambda client, server: False, datagram=QUIC, first=begins)
