"""Who a process is, and what is said when that is not certain."""

import pytest

from appliance.config import rules
from appliance.model import Address
from appliance.policy import UNSURE, Policy

from .given import DB, process, resolve

TEXT = """
identities:
  acme: {cgroup: acme.service}
  any-acme: {cgroup: "acme*.service"}
  acme-psql: {cgroup: acme.service, exe: /usr/bin/psql}
  root: {uid: [0]}
  packaged: {package: vendor-tools}
  from-cron: {parent: /usr/sbin/cron}
"""


@pytest.fixture(scope="module")
def people() -> Policy:
    return rules([("a.yaml", TEXT)], resolve)


def test_most_specific_first(people: Policy) -> None:
    who = people.identify(process(exe="/usr/bin/psql", package="x", parents=("/bin/sh",)))
    assert who == ("acme-psql", "acme", "any-acme")


def test_below_a_cgroup_is_of_it_and_beside_is_not(people: Policy) -> None:
    known = {"package": "x", "parents": ("/bin/sh",)}
    assert "acme" in people.identify(process("acme.service/worker", **known))
    assert "acme" not in people.identify(process("acme.service2", **known))
    assert "any-acme" not in people.identify(process("evil/acme.service", **known))


def test_uid_and_parent(people: Policy) -> None:
    who = people.identify(process("x", uid=0, package="vendor-tools", parents=("/bin/sh", "/usr/sbin/cron")))
    assert set(who) == {"root", "packaged", "from-cron"}


def test_unknown_process_could_be_any(people: Policy) -> None:
    assert people.identify(None) == (UNSURE,)


def test_what_is_not_known_of_a_process_is_uncertain(people: Policy) -> None:
    who = people.identify(process("acme.service", exe=""))
    assert who == ("acme", "any-acme", "?acme-psql", "?packaged", "?from-cron")


def test_a_line_of_descent_that_is_cut_is_uncertain(people: Policy) -> None:
    """Nothing ("") stands for an executable that is not known, or all beyond what the kernel kept: cron may be there."""
    assert "?from-cron" in people.identify(process(package="x", parents=("/bin/sh", "")))
    assert "?from-cron" not in people.identify(process(package="x", parents=("/bin/sh",) * 60))
    assert "from-cron" in people.identify(process(package="x", parents=("", "/usr/sbin/cron")))


def test_no_identities_no_names() -> None:
    assert Policy().identify(process()) == ()


TARGETS = """
targets:
  wide: {address: 10.0.0.0/8}
  db: {protocol: postgres, address: ["10.0.3.2:5432", "[fd00::2]:5432"]}
  ports: {address: "10.0.3.0/24:6000-6010"}
  named: {protocol: postgres, address: "two.internal:5432"}
  mapped: {address: "::ffff:192.0.2.1"}
"""

PLACES = [
    (DB, "db"),
    (Address("10.0.3.2", 5433), "wide"),
    (Address("fd00::2", 5432), "db"),
    (Address("10.0.3.9", 6000), "ports"),
    (Address("10.0.3.9", 6010), "ports"),
    (Address("10.0.3.9", 6011), "wide"),
    (Address("10.0.3.3", 5432), "named"),
    (Address("fd00::3", 5432), "named"),
    (Address("192.0.2.1", 1), "mapped"),
    (Address("11.0.0.1", 5432), None),
]


@pytest.mark.parametrize(("server", "name"), PLACES)
def test_target_is_the_narrowest(server: Address, name: str | None) -> None:
    found = rules([("a.yaml", TARGETS)], resolve).target(server)
    assert (found.name if found else None) == name
