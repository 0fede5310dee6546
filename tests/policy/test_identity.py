"""Who a process is, and what is said when that is not certain."""

import pytest

from appliance.config import rules
from appliance.model import Address
from appliance.policy import UNSURE, Policy
from appliance.policy.rule import KEYS as IDENTITY_KEYS

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


A, B = "a" * 64, "b" * 64
ID = "0123456789abcdef" * 4
KEYS = {
    "sha256": f"{{sha256: [{A.upper()}, {'c' * 64}]}}",
    "script": "{script: [/opt/agent/run.py, '**/jobs/*.py']}",
    "module": "{script: 'module:http.*'}",
    "code": "{script: 'code:'}",
    "content": f"{{script: 'sha256:{B}'}}",
    "package": "{package: postgresql-client-*}",
    "unit": "{unit: acme@*.service}",
    "container": f"{{container: {ID[:12]}}}",
    "machine": "{container: web-*}",
    "memfd": "{image: memfd}",
    "file": "{image: [file]}",
}
# identity, what is known of the process, whether it is that: None is not certain
MATCHES: list[tuple[str, dict[str, object], bool | None]] = [
    ("sha256", {"sha256": A}, True),
    ("sha256", {"sha256": B, "resolved": True}, False),
    ("sha256", {"resolved": True}, None),  # every file has a digest: it could not be had
    ("script", {"script": "/opt/agent/run.py"}, True),
    ("script", {"script": "/srv/jobs/x.py"}, True),
    ("script", {"script": "/opt/agent/run.py.bak"}, False),
    ("script", {"script": "?/opt/agent/run.py"}, None),
    ("script", {"script": "?", "resolved": True}, None),
    ("script", {"script": "", "resolved": True}, False),  # it is no interpreter
    ("script", {"script": ""}, None),
    ("script", {"script": "code:"}, False),
    ("module", {"script": "module:http.server"}, True),
    ("module", {"script": "/module:http.server"}, False),
    ("code", {"script": "code:"}, True),
    ("code", {"script": "stdin:"}, False),
    ("content", {"script": "/x", "script_sha256": B}, True),
    ("content", {"script": "/x", "script_sha256": A}, False),
    ("content", {"script": "/x"}, None),
    ("content", {"script": "", "resolved": True}, False),
    ("package", {"package": "postgresql-client-15"}, True),
    ("package", {"package": "postgresql-15"}, False),
    ("package", {"package": "?"}, None),
    ("package", {"package": "", "resolved": True}, False),
    ("package", {"package": ""}, None),
    ("unit", {"unit": "acme@7.service"}, True),
    ("unit", {"unit": ""}, False),
    ("container", {"container": ID}, True),
    ("container", {"container": "f" * 64}, False),
    ("container", {"container": ""}, False),
    ("machine", {"container": "web-1"}, True),
    ("machine", {"container": ""}, False),
    ("memfd", {"exe": "memfd:x"}, True),
    ("memfd", {"exe": "/usr/bin/x"}, False),
    ("memfd", {"exe": ""}, None),
    ("file", {"exe": "/usr/bin/x"}, True),
    ("file", {"exe": "deleted:/usr/bin/x"}, False),
]


@pytest.mark.parametrize(("name", "known", "answer"), MATCHES)
def test_what_an_executable_is(name: str, known: dict[str, object], answer: bool | None) -> None:
    made = rules([("a.yaml", f"identities:\n  {name}: {KEYS[name]}\n")], resolve)
    who = made.identify(process(**known))  # type: ignore[arg-type]
    assert who == {True: (name,), False: (), None: (UNSURE + name,)}[answer]


def test_every_key_is_in_the_table() -> None:
    tried = {key for text in KEYS.values() for key in text[1:].split(":")[0].split()}
    assert tried | {"cgroup", "exe", "uid", "parent"} == set(IDENTITY_KEYS)


BECAME: list[tuple[str, str, bool | None]] = [
    ("/usr/bin/psql", "/usr/bin/psql", True),
    ("/usr/bin/psql", "/bin/bash", True),
    ("/bin/bash", "/usr/bin/psql", None),
    ("/bin/bash", "/bin/sh", False),
]


@pytest.mark.parametrize(("exe", "became", "answer"), BECAME)
def test_what_became_another_program_may_be_that_too(exe: str, became: str, answer: bool | None) -> None:
    """bash connects and then execs psql with the connection: no rule allows it as psql, and one that blocks psql holds."""
    made = rules([("a.yaml", "identities: {psql: {cgroup: acme.service, exe: /usr/bin/psql}, acme: {cgroup: acme.service}}")], resolve)
    who = made.identify(process(exe=exe, became=process(exe=became)))
    expected = {True: ("psql", "acme"), False: ("acme",), None: ("acme", UNSURE + "psql")}[answer]
    assert who == expected


def test_unknown_matches_for_block_and_not_for_allow() -> None:
    text = """
identities: {{digest: {{sha256: {digest}}}}}
rules:
  - {{id: a, who: digest, to: 10.0.3.2:5432, do: {do}}}
default: {default}
"""
    for do, default, verdict in (("allow", "block", "block"), ("block", "allow", "block"), ("block", "block", "block")):
        made = rules([("a.yaml", text.format(digest=A, do=do, default=default))], resolve)
        assert made.admit(made.identify(process()), DB).verdict == verdict
    made = rules([("a.yaml", text.format(digest=A, do="allow", default="block"))], resolve)
    assert made.admit(made.identify(process(sha256=A)), DB).verdict == "allow"


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
