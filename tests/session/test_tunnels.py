"""A tunnel that a proxy has opened: what is known inside is of the place beyond, never of the proxy."""

from appliance import config
from appliance.facts.readers import Shared
from appliance.facts.store import Store
from appliance.model import Address, Flow, Process, Received, Side
from appliance.session import Session
from tests.session import pg

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(1, 1, "/usr/bin/psql", ("psql",), "acme.service", 1000)
RULES = """
targets:
  proxy: {protocol: http, address: ["10.0.0.2:3128"]}
  one: {protocol: postgres, address: ["10.0.1.1:5432"]}
  two: {protocol: postgres, address: ["10.0.1.2:5432", "db.internal:5432"]}
rules:
  - {id: ways, to: proxy, when: {method: CONNECT}, do: allow}
  - {id: hide, to: [one, two], when: {column: people.ssn}, do: mask, with: redact}
  - {id: reads, to: [one, two], when: {effect: [read, session]}, do: allow}
"""


def entered(shared: Shared, where: str) -> Session:
    """Return a session in a tunnel to `where`, logged in, in a database that has the same name everywhere."""
    flow = Flow("f1", 1.0, Address("10.0.0.5", 40000), Address("10.0.0.2", 3128), AGENT)
    policy = config.rules([("r.yaml", RULES)], lambda name: ["10.0.1.2"])
    session = Session(flow, lambda: policy, shared)
    session.start(1.0, 1.0)
    asked = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()
    for side, data in (
        (C, asked), (S, b"HTTP/1.1 200 go\r\n\r\n"), (C, pg.startup()), (S, pg.message("R", b"\0\0\0\0") + pg.ready()),
        (C, pg.query("select * from people")),
    ):  # fmt: skip
        session.receive(Received(side, data), 2.0)
    return session


def test_databases_of_one_name_behind_one_proxy_share_no_catalogue() -> None:
    """Else columns of one would be looked up in the other, and a mask would be for others than it names."""
    shared = Shared()
    for where in ("10.0.1.1:5432", "10.0.1.2:5432", "10.0.1.2:5432", "db.internal:5432", "db.internal.:05432"):
        entered(shared, where)
    assert {server for server, _ in shared.of(Store)._entries} == {
        "10.0.1.1:5432 by 10.0.0.2:3128", "10.0.1.2:5432 by 10.0.0.2:3128", "db.internal 10.0.1.2:5432 by 10.0.0.2:3128",
    }  # fmt: skip
