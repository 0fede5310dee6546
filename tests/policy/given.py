"""What tests of rules start from: short ways to write facts, processes and policies."""

from collections.abc import Iterable

from appliance.config import rules
from appliance.facts import Facts
from appliance.model import Address, Process
from appliance.policy import Policy

DB = Address("10.0.3.2", 5432)
ELSEWHERE = Address("203.0.113.9", 443)
ACME = ("acme",)

NAMES = """
identities:
  acme: {cgroup: acme.service}
  acme-psql: {cgroup: acme.service, exe: /usr/bin/psql}
targets:
  db: {protocol: postgres, address: "10.0.3.2:5432"}
"""


def resolve(host: str) -> list[str]:
    known = {"db.internal": ["10.0.3.2"], "two.internal": ["10.0.3.3", "fd00::3"]}
    if host not in known:
        raise OSError("Name or service not known")
    return known[host]


def policy(text: str, key: bytes = b"") -> Policy:
    """Return the policy of one file with the names above."""
    return rules([("10.yaml", NAMES + text)], resolve, key)


def facts(*unknown: str, protocol: str = "postgres", subject: str = "", **values: Iterable[str]) -> Facts:
    """Return facts; a value may be one word."""
    sets = {k: frozenset([v] if isinstance(v, str) else v) for k, v in values.items()}
    return Facts(protocol, sets, frozenset(unknown), "it cannot be told" if unknown else "", subject=subject)


def process(cgroup: str = "acme.service", exe: str = "/usr/bin/python3", **more: object) -> Process:
    return Process(pid=7, started_ns=7, exe=exe, argv=(exe,), cgroup=cgroup, uid=int(str(more.pop("uid", 1000))), **more)  # type: ignore[arg-type]
