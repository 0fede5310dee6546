"""What a fuzzer does with captures: files of any bytes, read, put together, judged. Only ConfigError may come out."""

import io
import logging

from appliance import config
from appliance.model import Address, ConfigError, Side
from appliance.service.foreign.capture import Capture
from appliance.service.foreign.flows import Flows
from appliance.service.foreign.found import Finder, Found
from tests.foreign.files import pcap, pcapng, talk
from tests.packet.make import pieces, udp
from tests.record.dialogue import LOGIN, READ
from tests.wire.tls.test_hello import real

C, S = Side.CLIENT, Side.SERVER
RULES = """
targets:
  db: {protocol: postgres, address: ["10.0.0.2:5432"]}
rules:
  - {id: hide, to: db, when: {column: [public.users.ssn]}, do: mask, with: redact}
  - {id: cards, when: {detect: [credit_card]}, do: block}
  - {id: name, when: {certificate: "*.evil.example"}, do: block}
  - {id: all, do: allow}
"""
POLICY = config.rules([("rules.yaml", RULES)], lambda name: [name])


class Faults(logging.Handler):
    """A fault of ours ends one flow only; here it ends the run."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(self.format(record))


logging.getLogger("vendorgate.pcap").addHandler(Faults())


def corpus() -> list[bytes]:
    redis = talk((C, b"SET a 1\r\n"), (S, b"+OK\r\n"), (C, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"), (S, b"$1\r\n1\r\n"))
    said = [(note.side, note.raw) for note in (*LOGIN, *READ) if note.side and note.raw]
    postgres = talk(*said, server=Address("10.0.0.2", 5432))
    http = talk((C, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), (S, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
                server=Address("10.0.0.2", 80))  # fmt: skip
    tls = talk((C, real()), (S, b"\x16\3\3\0\x04\2\0\0\0"), server=Address("10.0.0.2", 443))
    datagram = udp("10.0.0.5", "10.0.0.2", (40000, 53), b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1" + bytes(40))
    fragments = [(1.0, piece) for piece in pieces(datagram, [(0, 24), (24, len(datagram) - 20)])]
    files = [pcap(redis), pcapng(postgres), pcap(http, order=">"), pcapng(tls, order=">"), pcap([(1.0, datagram), *fragments])]
    return [*files, pcap([(t, bytes(12) + b"\x81\0\0\1\x08\0" + data) for t, data in redis], linktype=1), pcap(redis[::-1])]


def run(data: bytes) -> list[Found]:
    """Read a file as the command does."""
    found: list[Found] = []
    flows = Flows(POLICY, "f", iter(map(str, range(1 << 30))).__next__, Finder(found.append))
    try:
        for caught in Capture(io.BytesIO(data), "f"):
            flows.give(caught)
    except ConfigError:
        pass
    flows.end()
    return found
